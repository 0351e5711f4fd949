//! The id maps of a user namespace that is there already, and what config.json says of them.

use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime::{LinuxIdMapping, LinuxIdMappingBuilder};

use crate::error::field;

/// Both maps, in the runtime's ids.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ExistingMaps {
    pub uids: Vec<LinuxIdMapping>,
    pub gids: Vec<LinuxIdMapping>,
}

/// The maps of the user namespace that process `pid` is in.
pub fn read(pid: i32) -> Result<ExistingMaps> {
    let map = |name| {
        let path = format!("/proc/{pid}/{name}");
        let text = std::fs::read_to_string(&path).with_context(|| path.clone())?;
        parse(&text).context(path)
    };
    Ok(ExistingMaps { uids: map("uid_map")?, gids: map("gid_map")? })
}

/// A map as the kernel shows it: user_namespaces(7).
fn parse(text: &str) -> Result<Vec<LinuxIdMapping>> {
    let parse = |line: &str| {
        let numbers = line.split_ascii_whitespace().map(str::parse).collect::<Result<Vec<u32>, _>>()?;
        let [inside, outside, size] = numbers[..] else { bail!("not three numbers: {line}") };
        Ok(LinuxIdMappingBuilder::default().container_id(inside).host_id(outside).size(size).build()?)
    };
    text.lines().map(parse).collect()
}

/// What Podman writes beside a path since runc (before 1.2) wanted mappings there: it means nothing.
const PLACEHOLDER: &[(u32, u32, u32)] = &[(0, 0, 1)];

impl ExistingMaps {
    /// Checks what config.json has beside the path of the namespace: nothing, or the same mappings in any order, which
    /// containerd and CRI-O write.
    pub fn agree_with(&self, uids: &[LinuxIdMapping], gids: &[LinuxIdMapping]) -> Result<()> {
        for (field, given, own) in [("uidMappings", uids, &self.uids), ("gidMappings", gids, &self.gids)] {
            let given = sorted(given);
            ensure!(
                given.is_empty() || given == sorted(own) || given == PLACEHOLDER,
                field!("linux.{field}"; "not those of the user namespace that is joined, which has {}", text(own))
            );
        }
        Ok(())
    }

    /// Checks that there is a root inside: it is who sets the container up.
    pub fn have_root(&self) -> Result<()> {
        for (ids, map) in [("uid", &self.uids), ("gid", &self.gids)] {
            ensure!(map.iter().any(|range| range.container_id() == 0), "{ids} 0 is not mapped in it");
        }
        Ok(())
    }
}

fn sorted(map: &[LinuxIdMapping]) -> Vec<(u32, u32, u32)> {
    let mut all: Vec<_> = map.iter().map(|range| (range.container_id(), range.host_id(), range.size())).collect();
    all.sort_unstable();
    all
}

/// `0 100000 10 + 10 200000 5`
fn text(map: &[LinuxIdMapping]) -> String {
    let ranges = map.iter().map(|range| format!("{} {} {}", range.container_id(), range.host_id(), range.size()));
    ranges.collect::<Vec<_>>().join(" + ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn existing(text: &str) -> ExistingMaps {
        ExistingMaps { uids: parse(text).expect("map"), gids: parse("0 7 1").expect("map") }
    }

    #[test]
    fn mappings_beside_a_path_are_the_same_or_none() {
        let namespace = existing("         0     100000         10\n        10     200000          5\n");
        let (swapped, less) = (parse("10 200000 5\n0 100000 10").expect("map"), parse("0 100000 10").expect("map"));
        namespace.agree_with(&[], &[]).expect("none");
        let placeholder = parse("0 0 1").expect("map");
        namespace.agree_with(&placeholder, &placeholder).expect("Podman's");
        namespace.agree_with(&swapped, &namespace.gids).expect("the same");
        let error = namespace.agree_with(&less, &[]).expect_err("fewer").to_string();
        let words = "not those of the user namespace that is joined, which has 0 100000 10 + 10 200000 5";
        assert_eq!(error, format!("linux.uidMappings: {words}"));
        let error = namespace.agree_with(&swapped, &less).expect_err("others").to_string();
        assert!(error.starts_with("linux.gidMappings: not those"), "{error}");
    }

    #[test]
    fn without_a_root_inside_nobody_could_set_it_up() {
        existing("0 1000 1").have_root().expect("root");
        for map in ["", "1 1000 1"] {
            assert_eq!(existing(map).have_root().expect_err(map).to_string(), "uid 0 is not mapped in it");
        }
    }

    #[test]
    fn the_callers_own_maps_are_read() {
        let own = read(std::process::id() as i32).expect("maps");
        let lines = std::fs::read_to_string("/proc/self/uid_map").expect("map");
        assert_eq!(own.uids.len(), lines.lines().count());
        assert!(parse("0 1").is_err() && parse("a b c").is_err());
    }
}
