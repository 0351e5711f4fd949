//! What each mount of an image is to show when CRIU has made it, by config.json where it is of the host; and what a process
//! of an image may be.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::container::checkpoint::image::{Origin, Point};
use crate::container::checkpoint::mount_entry::{MountEntry, is_root};
use crate::container::checkpoint::numbers::May;
use crate::container::checkpoint::paths::kind_name;
use crate::container::checkpoint::targets::Source;
use crate::container::verify::copies::{Planned, Shows};
use crate::container::verify::{Namespace, Wanted};

/// `mounts` are those of the images, `points` ocirt's own of them, `sources` the paths of external ones by their names.
pub fn planned(
    mounts: &[MountEntry],
    points: &[Point],
    sources: &BTreeMap<String, Source>,
    rootfs: &Path,
) -> Result<Vec<Planned>> {
    let one = |mount: &MountEntry| -> Result<Planned> {
        let shows = match &mount.ext_key {
            Some(key) => external(key, points, sources)?,
            None if is_root(mount, mounts) => Shows::Host(rootfs.to_owned()),
            None if mount.root == "/" => Shows::New(kind_name(mount.kind).context("kind of a mount")?),
            None => {
                let bases = mounts.iter().filter(|base| mount.is_part_of(base, mounts));
                Shows::Part(bases.filter_map(|base| Some((base.id, mount.below(base)?.to_owned()))).collect())
            }
        };
        Ok(Planned { id: mount.id, at: PathBuf::from(&mount.at), shows })
    };
    mounts.iter().map(|mount| one(mount).with_context(|| format!("mount {:?}", mount.at))).collect()
}

/// What the container may that is like this.
pub fn may(wanted: &Wanted) -> May {
    let is_hosts = |kind: &str| matches!(wanted.namespaces.get(kind), None | Some(Namespace::Runtime));
    May {
        capabilities: wanted.reachable(),
        hosts_users: is_hosts("user"),
        hosts_network: is_hosts("net"),
        own_processes: wanted.has_new("pid"),
        own_names: wanted.has_new("uts"),
        user: wanted.user.uid,
        keeps_user: wanted.keeps_user(),
        filter_flags: wanted.seccomp_flags,
        hostname: wanted.hostname.clone(),
        domainname: wanted.domainname.clone(),
    }
}

fn external(key: &str, points: &[Point], sources: &BTreeMap<String, Source>) -> Result<Shows> {
    let mut all = points.iter().filter_map(|point| point.external.as_ref());
    let external = all.find(|external| external.name == key).context("no such external mount")?;
    match external.origin {
        Origin::Cgroup(_) => Ok(Shows::Cgroup),
        Origin::Mount(_) | Origin::Device(_) => Ok(Shows::Host(sources.get(key).context("no source")?.path.clone())),
    }
}
