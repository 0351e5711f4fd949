//! Where in a hierarchy a container's cgroup is: `linux.cgroupsPath`, made safe.

use std::ffi::OsStr;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result, bail};

use crate::error::field;

/// A path below the root of a hierarchy, without `.`, `..` or empty components. It never leaves the hierarchy: `..` at
/// the top stays at the top, as in a root directory.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct CgroupPath(Vec<String>);

impl CgroupPath {
    /// The components of `path`, cleaned lexically; cgroups have no symbolic links.
    pub fn clean(path: &Path) -> Result<Self> {
        let mut components: Vec<String> = Vec::new();
        for component in path.as_os_str().as_bytes().split(|byte| *byte == b'/') {
            match component {
                b"" | b"." => {}
                b".." => drop(components.pop()),
                name => components.push(name_of(name)?),
            }
        }
        Ok(Self(components))
    }

    /// `path` below this one.
    pub fn join(&self, path: &Self) -> Self {
        Self(self.0.iter().chain(&path.0).cloned().collect())
    }

    /// The path without its last component; the root's parent is the root.
    pub fn parent(&self) -> Self {
        let kept = self.0.len().saturating_sub(1);
        Self(self.0.iter().take(kept).cloned().collect())
    }

    /// What remains of this path below `base`.
    pub fn below(&self, base: &Self) -> Option<Self> {
        self.0.strip_prefix(base.0.as_slice()).map(|rest| Self(rest.to_vec()))
    }

    pub fn is_root(&self) -> bool {
        self.0.is_empty()
    }

    /// Every path from the first component down to this one.
    pub fn prefixes(&self) -> impl Iterator<Item = Self> + '_ {
        (1..=self.0.len()).map(|length| Self(self.0.iter().take(length).cloned().collect()))
    }

    /// The path below the directory `mount`, which may be empty for "right here".
    pub fn under(&self, mount: &str) -> String {
        let mut parts: Vec<&str> = Vec::with_capacity(self.0.len() + 1);
        if !mount.is_empty() {
            parts.push(mount);
        }
        parts.extend(self.0.iter().map(String::as_str));
        if parts.is_empty() { ".".to_owned() } else { parts.join("/") }
    }
}

impl fmt::Display for CgroupPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}", self.0.join("/"))
    }
}

/// Where `linux.cgroupsPath` says the cgroup is. With this driver `slice:prefix:name` is a name like any other, as in
/// runc.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CgroupPlace {
    /// An absolute path: below the root of each hierarchy (config-linux.md, "Cgroups Path").
    Root(CgroupPath),
    /// A relative path: below the runtime's own cgroup, so that its limits hold for the container too.
    Own(CgroupPath),
    /// No path: below the runtime's own cgroup, with the container's id as name.
    Default(CgroupPath),
}

impl CgroupPlace {
    pub fn compile(cgroups_path: Option<&Path>, id: &str) -> Result<Self> {
        let Some(path) = cgroups_path.filter(|path| !path.as_os_str().is_empty()) else {
            return CgroupPath::clean(Path::new(id)).map(Self::Default);
        };
        let clean = CgroupPath::clean(path).context(field!("linux.cgroupsPath"))?;
        if clean.is_root() {
            bail!(field!("linux.cgroupsPath"; "{path:?} is the root of the hierarchy, which has no limits"));
        }
        Ok(if path.is_absolute() { Self::Root(clean) } else { Self::Own(clean) })
    }
}

fn name_of(component: &[u8]) -> Result<String> {
    let name =
        std::str::from_utf8(component).with_context(|| format!("{:?} is not UTF-8", OsStr::from_bytes(component)))?;
    if name.contains(['\0', '\n']) {
        bail!("{name:?} cannot be the name of a cgroup");
    }
    Ok(name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clean(path: &str) -> String {
        CgroupPath::clean(Path::new(path)).unwrap().to_string()
    }

    #[test]
    fn dots_are_cleaned_and_never_escape() {
        assert_eq!(clean("/a/./b//c/"), "/a/b/c");
        assert_eq!(clean("../../etc"), "/etc");
        assert_eq!(clean("/a/../../b"), "/b");
        assert_eq!(clean("a/b/../../.."), "/");
    }

    #[test]
    fn three_parts_with_colons_are_one_name() {
        assert_eq!(
            CgroupPlace::compile(Some(Path::new("a:b:c")), "x").unwrap(),
            CgroupPlace::Own(CgroupPath(vec!["a:b:c".into()]))
        );
    }

    #[test]
    fn absolute_relative_and_absent_are_told_apart() {
        let at = |path: Option<&str>| CgroupPlace::compile(path.map(Path::new), "web1").unwrap();
        assert!(matches!(at(Some("/x/y")), CgroupPlace::Root(path) if path.to_string() == "/x/y"));
        assert!(matches!(at(Some("x/y")), CgroupPlace::Own(path) if path.to_string() == "/x/y"));
        assert!(matches!(at(None), CgroupPlace::Default(path) if path.to_string() == "/web1"));
        assert!(matches!(at(Some("")), CgroupPlace::Default(path) if path.to_string() == "/web1"));
    }

    #[test]
    fn the_root_itself_is_refused() {
        let error = CgroupPlace::compile(Some(Path::new("/..")), "x").unwrap_err();
        assert_eq!(error.to_string(), "linux.cgroupsPath: \"/..\" is the root of the hierarchy, which has no limits");
    }

    #[test]
    fn below_compares_components_not_text() {
        let path = |text| CgroupPath::clean(Path::new(text)).unwrap();
        assert_eq!(path("/a/b/c").below(&path("/a")), Some(path("b/c")));
        assert_eq!(path("/ab/c").below(&path("/a")), None);
    }
}
