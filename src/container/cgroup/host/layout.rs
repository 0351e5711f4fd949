//! How this host has its cgroups mounted: v1, v2 or hybrid, which v1 hierarchies, and where the runtime itself is in
//! them. Two system calls on v2, seven on v1; the list of mounts is read only on hosts with unusual mount points.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::{Deserialize, Serialize};

use super::file;
use super::path::{CgroupPath, CgroupPlace};
use crate::sys::cgroup::{self as sys, CgroupFilesystem};
use crate::sys::mountinfo;

/// Where cgroups are mounted everywhere, and where runc and the engines look.
pub const ROOT: &str = "/sys/fs/cgroup";
pub const UNIFIED: &str = "unified";

/// The v1 controllers that a container joins, as runc does; hierarchies of others are left alone.
const CONTROLLERS: [&str; 13] = [
    "cpuset",
    "cpu",
    "cpuacct",
    "blkio",
    "memory",
    "devices",
    "freezer",
    "net_cls",
    "perf_event",
    "net_prio",
    "hugetlb",
    "pids",
    "rdma",
];
/// Hierarchies that a container joins although nothing in its configuration is for them.
const ALSO: [&str; 2] = ["misc", "name=systemd"];

/// Which kind of cgroups the host has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Layout {
    V1,
    V2,
    /// v1 hierarchies with the controllers, and a v2 hierarchy beside them (at `unified`).
    Hybrid,
}

/// An absolute path of the host for a directory that is relative to [`ROOT`] or absolute.
pub fn absolute(directory: &str) -> String {
    if directory.starts_with('/') { directory.to_owned() } else { format!("{ROOT}/{directory}") }
}

/// One hierarchy that containers join.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Hierarchy {
    /// As the kernel writes it in /proc/PID/cgroup: `cpu,cpuacct`, `name=systemd`; empty for v2.
    pub controllers: String,
    /// The mount point, below [`ROOT`] or absolute; empty for v2's, which is ROOT itself.
    pub mount: String,
    /// Where the runtime is in it, as this mount shows it.
    pub own: CgroupPath,
}

impl Hierarchy {
    pub fn is_v2(&self) -> bool {
        self.controllers.is_empty()
    }

    pub fn has(&self, controller: &str) -> bool {
        self.controllers.split(',').any(|name| name == controller)
    }
}

/// The host's hierarchies, and ROOT as a directory to go on from.
pub struct CgroupHost {
    pub root: OwnedFd,
    pub layout: Layout,
    pub hierarchies: Vec<Hierarchy>,
}

impl CgroupHost {
    /// Looks at the host as far as `place` needs it.
    pub fn look(place: &CgroupPlace) -> Result<Self> {
        let root = sys::open_location(sys::here(), c"/sys/fs/cgroup").context("cgroup root /sys/fs/cgroup")?;
        let kind = sys::filesystem(root.as_fd()).context("cgroup root /sys/fs/cgroup")?;
        if kind == CgroupFilesystem::Cgroup2 {
            let own =
                if matches!(place, CgroupPlace::Root(_)) { CgroupPath::default() } else { own_v2(&own_cgroups()?)? };
            let hierarchy = Hierarchy { controllers: String::new(), mount: String::new(), own };
            return Ok(Self { root, layout: Layout::V2, hierarchies: vec![hierarchy] });
        }
        let own = if matches!(place, CgroupPlace::Root(_)) { own_controllers()? } else { own_cgroups()? };
        let mut hierarchies = v1(&root, &own, place)?;
        let hybrid = own.contains("0::") && is_cgroup2(UNIFIED);
        if hybrid {
            let own = if matches!(place, CgroupPlace::Root(_)) { CgroupPath::default() } else { own_v2(&own)? };
            hierarchies.push(Hierarchy { controllers: String::new(), mount: UNIFIED.to_owned(), own });
        }
        if hierarchies.is_empty() {
            bail!("no cgroup hierarchy is mounted below {ROOT}");
        }
        let layout = if hybrid { Layout::Hybrid } else { Layout::V1 };
        Ok(Self { root, layout, hierarchies })
    }
}

fn is_cgroup2(name: &str) -> bool {
    let path = CString::new(format!("{ROOT}/{name}"));
    path.is_ok_and(|path| matches!(sys::filesystem_at(&path), Ok(CgroupFilesystem::Cgroup2)))
}

fn own_cgroups() -> Result<String> {
    file::read_to_end(sys::here(), c"/proc/self/cgroup").context("/proc/self/cgroup")
}

/// The same for somebody who does not ask where the runtime is: that may have a name that is no text.
fn own_controllers() -> Result<String> {
    let bytes = file::read_bytes(sys::here(), c"/proc/self/cgroup").context("/proc/self/cgroup")?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// Where a process is in the v2 hierarchy, by the text of its /proc/PID/cgroup.
fn own_v2(own: &str) -> Result<CgroupPath> {
    let path = lines(own).find(|(controllers, _)| controllers.is_empty()).map_or("/", |(_, path)| path);
    own_path(path)
}

/// The v1 hierarchies of /proc/self/cgroup that a container joins, with their mount points.
fn v1(root: &OwnedFd, own: &str, place: &CgroupPlace) -> Result<Vec<Hierarchy>> {
    let mut names = Vec::new();
    sys::list(root.as_fd(), c".", |name| names.push(name.to_string_lossy().into_owned())).context(ROOT)?;
    let mut mounts = LazyMountinfo::default();
    let mut hierarchies = Vec::new();
    for (controllers, path) in lines(own).filter(|(controllers, _)| joined(controllers)) {
        let Some(mount) = mount_name(controllers, &names).or_else(|| mounts.point_of(controllers)) else { continue };
        let mut hierarchy = Hierarchy { controllers: controllers.to_owned(), mount, own: CgroupPath::default() };
        if !matches!(place, CgroupPlace::Root(_)) {
            hierarchy.own = own_in(root, &hierarchy, path, &mut mounts)?;
        }
        hierarchies.push(hierarchy);
    }
    Ok(hierarchies)
}

fn joined(controllers: &str) -> bool {
    ALSO.contains(&controllers) || controllers.split(',').any(|name| CONTROLLERS.contains(&name))
}

/// The directory below ROOT where a hierarchy is mounted by convention: `cpu,cpuacct` in any order, one of its
/// controllers (a link, or the only one), the name of a named one.
fn mount_name(controllers: &str, names: &[String]) -> Option<String> {
    let bare = controllers.strip_prefix("name=").unwrap_or(controllers);
    let mut wanted: Vec<&str> = bare.split(',').collect();
    wanted.sort_unstable();
    let same = |name: &&String| {
        let mut parts: Vec<&str> = name.split(',').collect();
        parts.sort_unstable();
        parts == wanted
    };
    let link = |name: &&String| wanted.contains(&name.as_str());
    names.iter().find(same).or_else(|| names.iter().find(link)).cloned()
}

/// Where the runtime is in a hierarchy as the mount shows it. In a container without a cgroup namespace, the mount
/// starts at that container's cgroup while /proc/self/cgroup tells the host's path: then the mount's root is cut off.
fn own_in(root: &OwnedFd, hierarchy: &Hierarchy, path: &str, mounts: &mut LazyMountinfo) -> Result<CgroupPath> {
    let own = own_path(path)?;
    let shown = CString::new(own.under(&hierarchy.mount))?;
    if own.is_root() || sys::exists(root.as_fd(), &shown) {
        return Ok(own);
    }
    let mount_root = mounts.root_of(&hierarchy.controllers);
    Ok(own.below(&mount_root).unwrap_or_default())
}

/// A path of /proc/self/cgroup; one outside the cgroup namespace (`/../x`) counts as the namespace's root.
fn own_path(path: &str) -> Result<CgroupPath> {
    let outside = path.split('/').any(|component| component == "..");
    CgroupPath::clean(Path::new(if outside { "/" } else { path }))
}

/// Controllers and path of each line of /proc/PID/cgroup (cgroups(7)); a path may hold colons.
fn lines(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.lines().filter_map(|line| {
        let mut fields = line.splitn(3, ':').skip(1);
        Some((fields.next()?, fields.next()?))
    })
}

/// /proc/self/mountinfo, read when somebody asks.
#[derive(Default)]
struct LazyMountinfo(Option<Vec<u8>>);

impl LazyMountinfo {
    fn point_of(&mut self, controllers: &str) -> Option<String> {
        self.find(controllers).map(|(_, point)| point)
    }

    fn root_of(&mut self, controllers: &str) -> CgroupPath {
        let root = self.find(controllers).map_or_else(|| "/".to_owned(), |(root, _)| root);
        CgroupPath::clean(Path::new(&root)).unwrap_or_default()
    }

    fn find(&mut self, controllers: &str) -> Option<(String, String)> {
        cgroup_mount(self.0.get_or_insert_with(|| mountinfo::of_self().unwrap_or_default()), controllers)
    }
}

/// Root and mount point of the first v1 mount of these controllers; one that is no text is passed over.
fn cgroup_mount(text: &[u8], controllers: &str) -> Option<(String, String)> {
    mountinfo::parse(text).filter(|mounted| mounted.kind == b"cgroup").find_map(|mounted| {
        let has = |name: &str| mounted.options.split(|byte| *byte == b',').any(|option| option == name.as_bytes());
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        if controllers.split(',').all(has) { Some((text(&mounted.root)?, text(&mounted.at)?)) } else { None }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> Vec<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    #[test]
    fn co_mounted_controllers_are_found_in_any_order_or_by_their_link() {
        assert_eq!(mount_name("cpu,cpuacct", &names(&["cpu", "cpuacct,cpu"])).as_deref(), Some("cpuacct,cpu"));
        assert_eq!(mount_name("cpu,cpuacct", &names(&["cpuacct"])).as_deref(), Some("cpuacct"));
        assert_eq!(mount_name("name=systemd", &names(&["systemd"])).as_deref(), Some("systemd"));
        assert_eq!(mount_name("pids", &names(&["cpu"])), None);
    }

    #[test]
    fn only_the_hierarchies_that_runc_joins_are_joined() {
        assert!(joined("cpu,cpuacct") && joined("name=systemd") && joined("misc"));
        assert!(!joined("name=elogind") && !joined("") && !joined("debug"));
    }

    #[test]
    fn paths_with_colons_stay_whole() {
        let parsed: Vec<_> = lines("4:memory:/a:b:c\n0::/x\n").collect();
        assert_eq!(parsed, [("memory", "/a:b:c"), ("", "/x")]);
    }

    #[test]
    fn a_place_outside_the_namespace_counts_as_its_root() {
        assert!(own_path("/../../x").unwrap().is_root());
        assert_eq!(own_path("/a/b").unwrap().to_string(), "/a/b");
    }

    #[test]
    fn a_mount_is_found_by_its_controllers() {
        let line = b"36 31 0:33 /docker/x /sys/fs/cg\\040roup/devices rw,relatime - cgroup cgroup rw,devices";
        let expected = ("/docker/x".to_owned(), "/sys/fs/cg roup/devices".to_owned());
        assert_eq!(cgroup_mount(line, "devices"), Some(expected));
        assert_eq!(cgroup_mount(line, "memory"), None);
        assert_eq!(cgroup_mount(b"41 31 0:38 / /x rw - cgroup2 cgroup2 rw,devices", "devices"), None);
        let first = [&b"35 31 0:32 / /\xff rw - cgroup cgroup rw,devices\n"[..], line].concat();
        assert_eq!(cgroup_mount(&first, "devices").unwrap().1, "/sys/fs/cg roup/devices");
    }
}
