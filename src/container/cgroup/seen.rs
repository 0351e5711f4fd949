//! The container's cgroups as /proc/PID/cgroup writes them: below the root of the hierarchy, not of the mount.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::paths::Paths;
use crate::sys::mountinfo;

impl Paths {
    /// Path by controllers.
    pub fn as_seen(&self) -> Result<BTreeMap<String, String>> {
        if self.directories.is_empty() {
            return Ok(BTreeMap::new());
        }
        let text = mountinfo::of_self().context("/proc/self/mountinfo")?;
        let mounts = mounts(&text);
        let one = |(controllers, directory): (&String, &String)| -> Result<(String, String)> {
            // The mount point may be a link to that of several controllers.
            let real = std::fs::canonicalize(directory).with_context(|| directory.clone())?;
            let seen = seen(&mounts, &real).with_context(|| format!("{directory}: below no mount of cgroups"))?;
            Ok((controllers.clone(), seen))
        };
        self.directories.iter().map(one).collect()
    }
}

/// Mount point and root of each mount of cgroups; one that is no text is passed over.
fn mounts(text: &[u8]) -> Vec<(PathBuf, String)> {
    let text_of = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
    mountinfo::parse(text)
        .filter(|mounted| mounted.kind == b"cgroup" || mounted.kind == b"cgroup2")
        .filter_map(|mounted| Some((PathBuf::from(text_of(&mounted.at)?), text_of(&mounted.root)?)))
        .collect()
}

fn seen(mounts: &[(PathBuf, String)], directory: &Path) -> Option<String> {
    let (at, root) = mounts.iter().rfind(|(at, _)| directory.starts_with(at))?;
    let inside = directory.strip_prefix(at).ok()?.to_str()?;
    Some(match (root.trim_end_matches('/'), inside) {
        ("", inside) => format!("/{inside}"),
        (root, "") => root.to_owned(),
        (root, inside) => format!("{root}/{inside}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cgroup_is_seen_below_the_root_of_its_hierarchy() {
        let text = b"30 1 0:30 / /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n\
                     31 1 0:31 /docker/x /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                     32 1 0:32 / /tmp rw - tmpfs tmpfs rw\n";
        let mounts = mounts(text);
        let seen = |path: &str| seen(&mounts, Path::new(path));
        assert_eq!(seen("/sys/fs/cgroup/pids/a/b").as_deref(), Some("/a/b"));
        assert_eq!(seen("/sys/fs/cgroup/pids").as_deref(), Some("/"));
        assert_eq!(seen("/sys/fs/cgroup/cpu/a").as_deref(), Some("/docker/x/a"));
        assert_eq!(seen("/sys/fs/cgroup/cpu").as_deref(), Some("/docker/x"));
        assert_eq!(seen("/tmp/x"), None);
    }
}
