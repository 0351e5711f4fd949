//! What is true of a container's mounts: each entry of config.json has its mount, and each mount its entry.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use caps::Capability;

use super::table::{Host, Line, Shown, View, join};
use super::{Difference, Mount, MountKind, OWN_KINDS, Propagation, Wanted};
use crate::error::field;
use crate::sys::file::{self, Stat};
use crate::sys::path::{Links, RootFd};
use crate::sys::{Errno, SysError};

/// Filesystems of which a namespace has one: it is the host's where the namespace is.
pub(super) const ONE_FOR_A_NAMESPACE: [(&str, &str); 3] = [("proc", "pid"), ("sysfs", "net"), ("mqueue", "ipc")];

/// What is not as it is wanted among the mounts of `view`, the container's; the host's are those of the caller.
///
/// `cgroups`: the container's cgroups as /proc/PID/cgroup writes them.
pub fn compare(wanted: &Wanted, view: &View, cgroups: &BTreeMap<String, String>) -> Result<Vec<Difference>> {
    let root = RootFd::new(view.root.try_clone()?);
    let host = Host::read()?;
    let mut look =
        Look { wanted, host, cgroups, lines: &view.lines, root, claimed: vec![false; view.lines.len()], found: vec![] };
    look.all()?;
    Ok(look.found)
}

struct Look<'a> {
    wanted: &'a Wanted,
    host: Host,
    cgroups: &'a BTreeMap<String, String>,
    lines: &'a [Line],
    root: RootFd,
    /// The mounts for which an entry of config.json has been found.
    claimed: Vec<bool>,
    found: Vec<Difference>,
}

/// What is at a path of the container.
struct Place {
    fd: OwnedFd,
    stat: Stat,
    /// The mount that begins there.
    index: Option<usize>,
}

impl Look<'_> {
    /// From what `create` mounts last to what it mounts first: what is over another is found first.
    fn all(&mut self) -> Result<()> {
        for (index, path) in self.wanted.masked.iter().enumerate() {
            self.masked(&format!("linux.maskedPaths[{index}]"), path)?;
        }
        for (index, path) in self.wanted.read_only.iter().enumerate() {
            self.read_only(&format!("linux.readonlyPaths[{index}]"), path)?;
        }
        for (index, mount) in self.wanted.mounts.iter().enumerate().rev() {
            self.mount(&format!("mounts[{index}]"), mount)?;
        }
        self.root_mount()?;
        self.terminal();
        self.copies();
        self.strangers();
        Ok(())
    }

    fn differ(&mut self, field: &str, wanted: impl Into<String>, found: impl Into<String>) {
        self.found.push(Difference { field: field.to_owned(), wanted: wanted.into(), found: found.into(), pid: None });
    }

    fn claim(&mut self, index: usize) {
        if let Some(claimed) = self.claimed.get_mut(index) {
            *claimed = true;
        }
    }

    fn is_claimed(&self, index: usize) -> bool {
        self.claimed.get(index).copied().unwrap_or_default()
    }

    fn place(&self, path: &Path) -> Result<Option<Place>> {
        let what = || path.display().to_string();
        let fd = match self.root.open(&CString::new(path.as_os_str().as_bytes())?, Links::Follow) {
            Err(SysError { errno: Errno::ENOENT | Errno::ENOTDIR, .. }) => return Ok(None),
            fd => fd.with_context(what)?,
        };
        let stat = file::stat(fd.as_fd()).with_context(what)?;
        let index = self.lines.iter().position(|line| line.id == stat.mount).filter(|_| stat.is_mount_root);
        Ok(Some(Place { fd, stat, index }))
    }

    fn line(&self, index: Option<usize>) -> Option<&Line> {
        self.lines.get(index?)
    }

    /// A file that reads as empty, or an empty directory; what is missing need not be masked.
    fn masked(&mut self, field: &str, path: &Path) -> Result<()> {
        let Some(place) = self.place(path)? else { return Ok(()) };
        let is_masked = match self.line(place.index) {
            None => false,
            Some(line) if place.stat.is_directory() => {
                let is_own = line.shown.root == Path::new("/") && !self.host.has_device(&line.shown.device);
                is_own && line.kind == "tmpfs" && line.has("ro") && is_empty(&place)?
            }
            Some(_) => place.stat.is_character(1, 3),
        };
        match (is_masked, place.index) {
            (true, Some(index)) => self.claim(index),
            (_, index) => {
                let found = self.line(index).map_or_else(|| "no mask".to_owned(), Line::to_string);
                self.differ(field, format!("{} masked", path.display()), found);
            }
        }
        Ok(())
    }

    /// A mount of what lies there, read-only.
    fn read_only(&mut self, field: &str, path: &Path) -> Result<()> {
        let Some(place) = self.place(path)? else { return Ok(()) };
        if place.index.is_some_and(|index| self.is_claimed(index)) {
            return Ok(());
        }
        let holds = match self.line(place.index) {
            None => false,
            Some(line) => line.has("ro") && self.below(line).as_ref() == Some(&line.shown),
        };
        match (holds, place.index) {
            (true, Some(index)) => self.claim(index),
            (_, index) => {
                let found = self.line(index).map_or_else(|| "no mount there".to_owned(), Line::to_string);
                self.differ(field, format!("{} read-only", path.display()), found);
            }
        }
        Ok(())
    }

    /// What one would see at the mount point without the mount.
    fn below(&self, line: &Line) -> Option<Shown> {
        let parent = self.lines.iter().find(|parent| parent.id == line.parent)?;
        let inside = line.at.strip_prefix(&parent.at).ok()?;
        Some(Shown { device: parent.shown.device.clone(), root: join(&parent.shown.root, inside) })
    }

    fn mount(&mut self, field: &str, mount: &Mount) -> Result<()> {
        if mount.kind == MountKind::Link {
            return Ok(());
        }
        let place = self.place(&mount.destination)?;
        if mount.kind == MountKind::Remount {
            let line = self.line(place.and_then(|place| place.index)).cloned();
            return self.flags(field, mount, line.as_ref());
        }
        let index = self.unclaimed(place.and_then(|place| place.index), &mount.destination);
        let Some((index, line)) = index.and_then(|index| Some((index, self.lines.get(index)?.clone()))) else {
            self.differ(field, format!("a mount on {}", mount.destination.display()), "none");
            return Ok(());
        };
        self.claim(index);
        let problem = match &mount.kind {
            MountKind::Bind(source) => {
                let wanted = self.host.shown(source).with_context(|| field!("{field}"))?;
                (line.shown != wanted).then(|| format!("{} of device {}", wanted.root.display(), wanted.device))
            }
            MountKind::Cgroup => self.cgroup(&line, index),
            MountKind::Filesystem(kind) => self.filesystem(&line, kind),
            MountKind::Remount | MountKind::Link => None,
        };
        if let Some(wanted) = problem {
            self.differ(field, format!("{wanted} on {}", mount.destination.display()), line.to_string());
        }
        self.flags(field, mount, Some(&line))
    }

    /// The mount at a place, or one that is under it where another entry has claimed that.
    fn unclaimed(&self, index: Option<usize>, destination: &Path) -> Option<usize> {
        let at = self.line(index).map_or_else(|| clean(destination), |line| line.at.clone());
        index.filter(|index| !self.is_claimed(*index)).or_else(|| {
            let here = |index: &usize| self.line(Some(*index)).is_some_and(|line| line.at == at);
            (0..self.lines.len()).rev().find(|index| here(index) && !self.is_claimed(*index))
        })
    }

    /// A filesystem of the container's own: none of the host's devices.
    fn filesystem(&self, line: &Line, kind: &str) -> Option<String> {
        let shares = |(name, namespace): &(&str, &str)| *name == kind && !self.wanted.has_new(namespace);
        let is_own = !self.host.has_device(&line.shown.device) || ONE_FOR_A_NAMESPACE.iter().any(shares);
        let holds = line.kind == kind && line.shown.root == Path::new("/") && is_own;
        (!holds).then(|| format!("a {kind} of its own"))
    }

    /// The container's own cgroup; v1 has them below a tmpfs.
    fn cgroup(&mut self, line: &Line, index: usize) -> Option<String> {
        if line.kind != "tmpfs" {
            return (!self.is_own_cgroup(line)).then(|| "the container's cgroup".to_owned());
        }
        let problem = self.filesystem(line, "tmpfs");
        let id = self.line(Some(index)).map(|line| line.id);
        let inside: Vec<usize> = (0..self.lines.len())
            .filter(|index| self.line(Some(*index)).is_some_and(|inner| Some(inner.parent) == id))
            .filter(|index| self.line(Some(*index)).is_some_and(|inner| self.is_own_cgroup(inner)))
            .collect();
        let writable = |index: &usize| self.line(Some(*index)).is_some_and(|inner| line.has("ro") && !inner.has("ro"));
        let is_writable = inside.iter().any(writable);
        inside.into_iter().for_each(|index| self.claim(index));
        problem.or_else(|| is_writable.then(|| "read-only cgroups".to_owned()))
    }

    fn is_own_cgroup(&self, line: &Line) -> bool {
        is_cgroup_of(line, self.cgroups)
    }

    /// What config.json forbids on the mount is forbidden, and nothing that is mounted inside reaches the host.
    fn flags(&mut self, field: &str, mount: &Mount, line: Option<&Line>) -> Result<()> {
        let at = mount.destination.display().to_string();
        let Some(line) = line else {
            self.differ(field, format!("a mount on {at}"), "none");
            return Ok(());
        };
        let missing: Vec<&str> = mount.restrictions.iter().filter(|flag| !line.has(flag)).map(String::as_str).collect();
        if !missing.is_empty() {
            self.differ(field, format!("{} on {at}", missing.join(",")), line.to_string());
        }
        let reaches = line.shared.is_some_and(|group| self.host.has_group(group));
        let is_private = line.shared.is_none() && line.master.is_none();
        let holds = match mount.propagation {
            Some(Propagation::Shared) => true,
            Some(Propagation::Private) => is_private,
            Some(Propagation::Slave) | None => !reaches,
        };
        if !holds {
            let wanted = match mount.propagation {
                None => "not shared",
                Some(Propagation::Shared) => "shared",
                Some(Propagation::Slave) => "slave",
                Some(Propagation::Private) => "private",
            };
            let group = |group: Option<u64>| group.map_or_else(|| "none".to_owned(), |group| group.to_string());
            let found = format!("shared with group {}, slave of {}", group(line.shared), group(line.master));
            self.differ(field, format!("{wanted} on {at}"), found);
        }
        Ok(())
    }

    fn root_mount(&mut self) -> Result<()> {
        let wanted = self.host.shown(&self.wanted.rootfs).context(field!("root.path"))?;
        let id = file::stat(self.root.as_fd())?.mount;
        let index = self.lines.iter().position(|line| line.id == id);
        let Some(line) = self.line(index).cloned() else {
            self.differ("root.path", self.wanted.rootfs.display().to_string(), "no mount");
            return Ok(());
        };
        if line.shown != wanted {
            self.differ("root.path", self.wanted.rootfs.display().to_string(), line.to_string());
        }
        if self.wanted.read_only_root && !line.has("ro") {
            self.differ("root.readonly", "true", line.to_string());
        }
        if line.shared.is_some_and(|group| self.host.has_group(group)) && !self.wanted.shared_root {
            self.differ("linux.rootfsPropagation", "nothing that is shared with the host", "shared");
        }
        index.into_iter().for_each(|index| self.claim(index));
        Ok(())
    }

    /// /dev/console is one of the container's own terminals.
    fn terminal(&mut self) {
        let own: Vec<String> = (0..self.lines.len())
            .filter(|index| self.is_claimed(*index))
            .filter_map(|index| self.line(Some(index)))
            .filter(|line| line.kind == "devpts")
            .map(|line| line.shown.device.clone())
            .collect();
        let is_console = |line: &Line| line.at == Path::new("/dev/console") && own.contains(&line.shown.device);
        let index = self.lines.iter().position(is_console).filter(|_| self.wanted.terminal);
        index.into_iter().for_each(|index| self.claim(index));
    }

    /// Mounts that were below a path when that was mounted once more, to be read-only: they lie twice.
    fn copies(&mut self) {
        for index in 0..self.lines.len() {
            let Some(line) = self.line(Some(index)) else { continue };
            let is_same = |other: &Line| other.at == line.at && other.shown == line.shown && is_tighter(line, other);
            let has_twin = (0..self.lines.len())
                .any(|other| other != index && self.is_claimed(other) && self.line(Some(other)).is_some_and(is_same));
            if has_twin {
                self.claim(index);
            }
        }
    }

    /// A mount that nothing in config.json explains. One with CAP_SYS_ADMIN makes mounts by itself, but of nothing that
    /// is the host's.
    fn strangers(&mut self) {
        let mounts_itself = self.wanted.can_have(Capability::CAP_SYS_ADMIN);
        for index in 0..self.lines.len() {
            let Some(line) = self.line(Some(index)).filter(|_| !self.is_claimed(index)).cloned() else { continue };
            if !(mounts_itself && self.is_the_containers(&line)) {
                self.differ("mounts", format!("no mount on {}", line.at.display()), line.to_string());
            }
        }
    }

    fn is_the_containers(&self, line: &Line) -> bool {
        let is_inside = |index: usize| {
            self.is_claimed(index) && self.line(Some(index)).is_some_and(|own| line.shown.is_within(&own.shown))
        };
        is_new(&self.host, line)
            || self.is_own_cgroup(line)
            || (0..self.lines.len()).any(is_inside) && !has_dots(&line.shown.root)
    }
}

/// Whether it shows one of these cgroups, as /proc/PID/cgroup writes them, or one below.
pub(super) fn is_cgroup_of(line: &Line, cgroups: &BTreeMap<String, String>) -> bool {
    let is_cgroup = matches!(line.kind.as_str(), "cgroup" | "cgroup2");
    let mut own = cgroups.values().filter(|path| path.len() > 1);
    is_cgroup && own.any(|path| line.shown.root.starts_with(path)) && !has_dots(&line.shown.root)
}

/// Whether a filesystem was made for the container. By its options, one of another kind can show anything of the host, on a
/// device of its own.
fn is_new(host: &Host, line: &Line) -> bool {
    OWN_KINDS.contains(&line.kind.as_str()) && !host.has_device(&line.shown.device)
}

fn is_empty(place: &Place) -> Result<bool> {
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&place.fd));
    Ok(std::fs::read_dir(&path).context(path)?.next().is_none())
}

/// Whether `line` has every restriction that `other` has.
fn is_tighter(line: &Line, other: &Line) -> bool {
    ["ro", "nosuid", "nodev", "noexec"].iter().all(|flag| line.has(flag) || !other.has(flag))
}

/// What lies outside of the reader's cgroup namespace, the kernel writes with `..`.
fn has_dots(path: &Path) -> bool {
    path.components().any(|part| part == std::path::Component::ParentDir)
}

/// A destination of config.json as mountinfo would write it, if no link is on the way.
fn clean(path: &Path) -> PathBuf {
    let parts = path.components().filter(|part| matches!(part, std::path::Component::Normal(_)));
    Path::new("/").join(parts.collect::<PathBuf>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_filesystem_is_the_containers_only_if_its_options_name_nothing_of_the_host() {
        let line = |kind: &str| {
            let shown = Shown { device: "0:999999".to_owned(), root: PathBuf::from("/") };
            let (at, kind, flags) = (PathBuf::from("/x"), kind.to_owned(), Vec::new());
            Line { id: 1, parent: 0, shown, at, flags, shared: None, master: None, kind }
        };
        let host = Host::read().unwrap();
        for kind in OWN_KINDS {
            assert!(is_new(&host, &line(kind)), "{kind}");
        }
        for kind in ["overlay", "ext4", "fuse.sshfs", "nfs4", "9p", "devtmpfs", "cgroup", "cgroup2", ""] {
            assert!(!is_new(&host, &line(kind)), "{kind}");
        }
    }
}
