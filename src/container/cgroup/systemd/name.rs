//! Names of units: `linux.cgroupsPath` as `slice:prefix:name`, and where in the hierarchy the unit's cgroup is.

use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::error::field;

/// systemd's UNIT_NAME_MAX, without the terminating NUL.
const LONGEST: usize = 255;

/// A unit of systemd that a container is to be.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnitName {
    /// The unit itself: `prefix-name.scope`, or a slice.
    pub unit: String,
    /// The slice that it is in: `system.slice`.
    pub slice: String,
    /// The container's part of the name, for people.
    pub container: String,
}

impl UnitName {
    /// `linux.cgroupsPath`, or runc's names where it is absent. `slice` is what an empty first part stands for.
    pub fn compile(cgroups_path: Option<&Path>, id: &str, slice: &str) -> Result<Self> {
        let path = cgroups_path.filter(|path| !path.as_os_str().is_empty());
        // The one character of ids that units do not have, as systemd-escape(1) writes it.
        let Some(path) = path else {
            return Self::new(slice, "runc", &id.replace('+', "\\x2b")).context(field!("linux.cgroupsPath"));
        };
        let parts: Vec<&str> = path.to_str().unwrap_or_default().split(':').collect();
        let [own_slice, prefix, name] = parts.as_slice() else {
            bail!(field!("linux.cgroupsPath"; "expected \"slice:prefix:name\" for systemd cgroups, got {path:?}"));
        };
        let slice = if own_slice.is_empty() { slice } else { own_slice };
        Self::new(slice, prefix, name).with_context(|| field!("linux.cgroupsPath"; "{path:?}"))
    }

    fn new(slice: &str, prefix: &str, name: &str) -> Result<Self> {
        expand(slice)?;
        ensure!(!name.is_empty(), "the name is empty");
        let is_slice = name.ends_with(".slice");
        let unit = if is_slice { name.to_owned() } else { format!("{prefix}-{name}.scope") };
        check(&unit)?;
        if is_slice {
            let (own, parent) = (expand(&unit)?, expand(slice)?);
            let inside = own.strip_prefix(&parent).is_some_and(|rest| rest.starts_with('/') && !rest.ends_with('/'));
            let direct = inside && own.matches('/').count() == parent.matches('/').count() + 1;
            ensure!(direct, "slice {unit} is not right below {slice}: the dashes of its name say where it is");
        }
        Ok(Self { unit, slice: slice.to_owned(), container: name.to_owned() })
    }

    pub fn is_slice(&self) -> bool {
        self.unit.ends_with(".slice")
    }

    /// The cgroup below systemd's own: `/system.slice/runc-web1.scope`.
    pub fn cgroup(&self) -> Result<String> {
        Ok(format!("{}/{}", expand(&self.slice)?, self.unit))
    }
}

/// The characters of unit names (systemd.unit(5)). A backslash starts an escape there, so it is let through.
fn check(unit: &str) -> Result<()> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    if let Some(bad) = unit.chars().find(|c| !allowed(*c)) {
        bail!("{unit:?} cannot be the name of a systemd unit, because of {bad:?}");
    }
    ensure!(unit.len() <= LONGEST, "{unit:?} is longer than {LONGEST} bytes, too long for a systemd unit");
    Ok(())
}

/// The cgroup of a slice: `a-b.slice` is in `a.slice` (systemd.slice(5)). That of the root slice `-.slice` is empty.
pub fn expand(slice: &str) -> Result<String> {
    let Some(name) = slice.strip_suffix(".slice") else { bail!("invalid slice name: {slice:?}") };
    if name == "-" {
        return Ok(String::new());
    }
    check(slice)?;
    let (mut path, mut prefix) = (String::new(), String::new());
    for part in name.split('-') {
        ensure!(!part.is_empty(), "invalid slice name: {slice:?}");
        prefix.push_str(part);
        path.push_str(&format!("/{prefix}.slice"));
        prefix.push('-');
    }
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(path: Option<&str>) -> Result<UnitName> {
        UnitName::compile(path.map(Path::new), "web1", "system.slice")
    }

    #[test]
    fn the_unit_is_named_as_runc_names_it() {
        for (path, unit, cgroup) in [
            (None, "runc-web1.scope", "/system.slice/runc-web1.scope"),
            (Some(""), "runc-web1.scope", "/system.slice/runc-web1.scope"),
            (Some("system.slice:docker:0a"), "docker-0a.scope", "/system.slice/docker-0a.scope"),
            (Some(":libpod:0a"), "libpod-0a.scope", "/system.slice/libpod-0a.scope"),
            (Some("-.slice:a:b"), "a-b.scope", "/a-b.scope"),
            (Some("a-b-c.slice:cri:x"), "cri-x.scope", "/a.slice/a-b.slice/a-b-c.slice/cri-x.scope"),
            (Some("pod.slice::pod-x.slice"), "pod-x.slice", "/pod.slice/pod-x.slice"),
        ] {
            let name = name(path).unwrap();
            assert_eq!((name.unit.as_str(), name.cgroup().unwrap().as_str()), (unit, cgroup), "{path:?}");
        }
    }

    #[test]
    fn every_id_is_the_name_of_a_unit() {
        let name = UnitName::compile(None, "a_b-C+9.x", "user.slice").unwrap();
        assert_eq!((name.unit.as_str(), name.slice.as_str()), ("runc-a_b-C\\x2b9.x.scope", "user.slice"));
    }

    #[test]
    fn what_systemd_would_not_take_is_told_by_its_field() {
        for path in [
            "/a/b",
            "a",
            "a:b",
            "a:b:c:d",
            "system.slice:a:",
            "system:a:b",
            ".slice:a:b",
            "a--b.slice:a:b",
            "-a.slice:a:b",
            "a-.slice:a:b",
            "a/b.slice:a:b",
            "..slice/../x.slice:a:b",
            "system.slice:a/../..:b",
            "system.slice:a:b/c",
            "system.slice:a:b c",
            "system.slice:a:b\n",
            "system.slice:ä:b",
            "system.slice:a:other.slice",
            "system.slice:a:a+b",
        ] {
            let error = format!("{:#}", name(Some(path)).expect_err(path));
            assert!(error.starts_with("linux.cgroupsPath: ") && !error.contains('\n'), "{error}");
        }
        let long = format!("system.slice:a:{}", "x".repeat(250));
        let error = format!("{:#}", name(Some(&long)).expect_err("too long"));
        assert!(error.starts_with("linux.cgroupsPath: "), "{error}");
    }
}
