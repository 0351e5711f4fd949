//! `linux.uidMappings` and `linux.gidMappings`: which ids a new user namespace knows (config-linux.md, "User namespace
//! mappings"; user_namespaces(7)). Written by the runtime, from outside.

use anyhow::{Context, Result, bail};
use oci_spec::runtime::LinuxIdMapping;

use crate::sys::SysError;

/// The most lines the kernel takes (Linux 4.15).
const MOST_LINES: usize = 340;

/// Both maps, as the kernel reads them.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IdMaps {
    uids: String,
    gids: String,
}

/// Prepares the maps of a new user namespace: both must be there.
pub fn compile(uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> Result<IdMaps> {
    Ok(IdMaps { uids: lines("linux.uidMappings", uids)?, gids: lines("linux.gidMappings", gids)? })
}

fn lines(field: &str, mappings: &[LinuxIdMapping]) -> Result<String> {
    if mappings.is_empty() {
        bail!("{field}: missing (a new user namespace needs mappings)");
    }
    if mappings.len() > MOST_LINES {
        bail!("{field}: more than {MOST_LINES} mappings");
    }
    let mut text = String::new();
    for (index, mapping) in mappings.iter().enumerate() {
        let (inside, outside, size) = (mapping.container_id(), mapping.host_id(), mapping.size());
        if size == 0 {
            bail!("{field}[{index}].size: is zero");
        }
        if inside.checked_add(size).is_none() || outside.checked_add(size).is_none() {
            bail!("{field}[{index}].size: {size} ids from {inside} and {outside} go past the last id");
        }
        for (other, earlier) in mappings.iter().take(index).enumerate() {
            let overlap = |a: u32, b: u32| a < b.saturating_add(earlier.size()) && b < a.saturating_add(size);
            if overlap(inside, earlier.container_id()) || overlap(outside, earlier.host_id()) {
                bail!("{field}[{index}]: overlaps {field}[{other}]");
            }
        }
        text.push_str(&format!("{inside} {outside} {size}\n"));
    }
    Ok(text)
}

impl IdMaps {
    /// Gives the user namespace of process `pid` its maps.
    pub fn write(&self, pid: i32) -> Result<()> {
        for (field, name, lines) in
            [("linux.uidMappings", "uid_map", &self.uids), ("linux.gidMappings", "gid_map", &self.gids)]
        {
            std::fs::write(format!("/proc/{pid}/{name}"), lines)
                .map_err(|error| SysError::io("write", &error))
                .with_context(|| format!("{field}: write {:?} to {name}", lines.trim_end()))?;
        }
        Ok(())
    }
}

impl std::fmt::Display for IdMaps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "uids {}; gids {}", self.uids.trim_end().replace('\n', ", "), self.gids.trim_end().replace('\n', ", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn maps(text: &str) -> Result<IdMaps> {
        let mappings: Vec<LinuxIdMapping> = serde_json::from_str(text).unwrap();
        compile(&mappings, &mappings)
    }

    #[test]
    fn maps_are_lines_of_inside_outside_and_size() {
        let maps = maps(r#"[{"containerID":0,"hostID":1000,"size":1},{"containerID":1,"hostID":100000,"size":9}]"#);
        assert_eq!(maps.unwrap().uids, "0 1000 1\n1 100000 9\n");
    }

    #[test]
    fn what_the_kernel_would_refuse_is_refused_with_the_field() {
        let error = |text| format!("{:#}", maps(text).unwrap_err());
        assert_eq!(error("[]"), "linux.uidMappings: missing (a new user namespace needs mappings)");
        assert_eq!(error(r#"[{"containerID":0,"hostID":1,"size":0}]"#), "linux.uidMappings[0].size: is zero");
        let overlap = r#"[{"containerID":0,"hostID":10,"size":5},{"containerID":4,"hostID":90,"size":2}]"#;
        assert_eq!(error(overlap), "linux.uidMappings[1]: overlaps linux.uidMappings[0]");
        let last = r#"[{"containerID":4294967295,"hostID":1,"size":1}]"#;
        assert!(error(last).starts_with("linux.uidMappings[0].size: 1 ids from"));
    }
}
