//! What CRIU's own copies of a container's mounts show, before anything is opened or made in them. CRIU makes them by the
//! paths of an image, through links that the container left in its files: each must show what its place in the image says,
//! and no other file system or directory. Where a mount belongs, and with which flags, is looked at when they are in place.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Result;

use super::Wanted;
use super::mounts::{ONE_FOR_A_NAMESPACE, is_cgroup_of};
use super::row::Row;
use super::table::{Host, Line, Shown, join};

/// Where CRIU makes them: `/tmp/.criu.mntns.RANDOM/mnt-NUMBER`, or, with `mntns-compat-mode`,
/// `/tmp/.criu.mntns.RANDOM/NAMESPACE/MOUNT-POINT`.
const PLACE: &str = "/tmp/.criu.";

/// A mount of the image.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Planned {
    /// Its number in the image.
    pub id: u32,
    pub at: PathBuf,
    pub shows: Shows,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Shows {
    /// What the host has there: the rootfs, or a source of config.json.
    Host(PathBuf),
    Cgroup,
    /// A new file system of this kind.
    New(&'static str),
    /// One of these mounts of the image has it, at this path.
    Part(Vec<(u32, PathBuf)>),
}

/// What is not as it is planned among `lines`, the mounts that CRIU has.
///
/// `cgroups`: the container's cgroups as /proc/PID/cgroup writes them.
pub fn compare(
    wanted: &Wanted,
    lines: &[Line],
    planned: &[Planned],
    cgroups: &BTreeMap<String, String>,
) -> Result<Vec<Row>> {
    let copies = lines.iter().filter_map(|line| Some((line, place(line)?)));
    let copies: Vec<_> = copies.map(|(line, id)| (line, meant(id, planned))).collect();
    let look = Look { wanted, host: Host::read()?, cgroups, copies: &copies };
    let (mut differences, mut roots) = (Vec::new(), 0);
    for (line, mounts) in &copies {
        let mut holds = look.is_crius(line);
        for mount in mounts {
            let is_it = look.holds(line, mount)?;
            holds |= is_it;
            roots += usize::from(is_it && mount.at == Path::new("/"));
        }
        if !holds {
            let at = mounts.first().filter(|_| mounts.len() == 1).map_or(&line.at, |mount| &mount.at);
            differences.push(difference(format!("on {} what its image says", at.display()), line.to_string()));
        }
    }
    if roots == 0 {
        differences.push(difference(format!("criu's mounts below {PLACE}"), "none".to_owned()));
    }
    Ok(differences)
}

fn difference(wanted: String, found: String) -> Row {
    Row::new("mounts", wanted, found, false)
}

/// The number in the mount point of a copy, if there is one; None for what is none.
fn place(line: &Line) -> Option<Option<u32>> {
    let inside = line.at.to_str()?.strip_prefix(PLACE)?;
    let name = inside.split_once('/').map_or("", |(_, name)| name);
    Some(name.strip_prefix("mnt-").and_then(|number| number.parse().ok()))
}

/// The mounts of the image that a copy may be.
fn meant(id: Option<u32>, planned: &[Planned]) -> Vec<&Planned> {
    planned.iter().filter(|mount| id.is_none_or(|id| id == mount.id)).collect()
}

struct Look<'a> {
    wanted: &'a Wanted,
    host: Host,
    cgroups: &'a BTreeMap<String, String>,
    copies: &'a [(&'a Line, Vec<&'a Planned>)],
}

impl Look<'_> {
    /// The directory of all copies, and what CRIU needs besides.
    fn is_crius(&self, line: &Line) -> bool {
        place(line) == Some(None) && self.is_new(line, "tmpfs")
    }

    fn is_new(&self, line: &Line, kind: &str) -> bool {
        let shares = |(name, namespace): &(&str, &str)| *name == kind && !self.wanted.has_new(namespace);
        let is_own = !self.host.has_device(&line.shown.device) || ONE_FOR_A_NAMESPACE.iter().any(shares);
        line.kind == kind && line.shown.root == Path::new("/") && is_own
    }

    fn holds(&self, line: &Line, mount: &Planned) -> Result<bool> {
        Ok(match &mount.shows {
            Shows::Host(path) => line.shown == self.host.shown(path)?,
            Shows::Cgroup => is_cgroup_of(line, self.cgroups),
            Shows::New(kind) => self.is_new(line, kind),
            Shows::Part(all) => {
                let mut is_one = false;
                for (id, inside) in all {
                    is_one = is_one || self.is_part(line, *id, inside)?;
                }
                is_one
            }
        })
    }

    /// Whether it is `inside` in a copy of the mount `id`.
    fn is_part(&self, line: &Line, id: u32, inside: &Path) -> Result<bool> {
        for (whole, mounts) in self.copies {
            let Some(mount) = mounts.iter().find(|mount| mount.id == id) else { continue };
            let shown = Shown { device: whole.shown.device.clone(), root: join(&whole.shown.root, inside) };
            if line.shown == shown && !matches!(mount.shows, Shows::Part(_)) && self.holds(whole, mount)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_copy_is_told_by_its_number() {
        let line = |at: &str| Line {
            id: 1,
            parent: 0,
            shown: Shown { device: "0:999999".to_owned(), root: PathBuf::from("/") },
            at: PathBuf::from(at),
            flags: Vec::new(),
            shared: None,
            master: None,
            kind: "tmpfs".to_owned(),
        };
        assert_eq!(place(&line("/tmp/.criu.mntns.vhKq1Z/mnt-0000000159")), Some(Some(159)));
        assert_eq!(place(&line("/tmp/.criu.mntns.vhKq1Z")), Some(None));
        assert_eq!(place(&line("/tmp/.criu.mntns.vhKq1Z/13/dev/shm")), Some(None));
        assert_eq!(place(&line("/tmp")), None);
        assert_eq!(place(&line("/proc")), None);
        let planned = [1, 2].map(|id| Planned { id, at: PathBuf::from("/x"), shows: Shows::Cgroup });
        assert_eq!(meant(Some(2), &planned), [&planned[1]]);
        assert_eq!(meant(Some(3), &planned).len(), 0);
        assert_eq!(meant(None, &planned).len(), 2);
    }
}
