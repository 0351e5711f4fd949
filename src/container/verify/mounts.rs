//! What is true of a container's mounts: each entry of config.json has its mount, and each mount its entry.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::life::Life;
use super::row::Row;
use super::table::{Host, Line, Shown, View};
use super::{Mount, MountKind, Propagation, Wanted, place};
use crate::error::field;
use crate::sys::file;
use crate::sys::path::{Links, RootFd};
use crate::sys::{Errno, SysError};

/// Filesystems of which a namespace has one: it is the host's where the namespace is.
pub(super) const ONE_FOR_A_NAMESPACE: [(&str, &str); 3] = [("proc", "pid"), ("sysfs", "net"), ("mqueue", "ipc")];

/// What the mounts of `view`, the container's, are like; the host's are those of the caller.
pub struct Table<'a> {
    pub wanted: &'a Wanted,
    pub life: Life,
    pub view: &'a View,
    /// The container's cgroups as /proc/PID/cgroup writes them.
    pub cgroups: &'a BTreeMap<String, String>,
    /// The numbers of mounts that were added later.
    pub added: &'a [u64],
}

impl Table<'_> {
    pub fn compare(&self) -> Result<Vec<Row>> {
        let Self { wanted, life, view, cgroups, added } = *self;
        let root = RootFd::new(view.root.try_clone()?);
        let number = file::stat(root.as_fd())?.mount;
        let claimed = view.lines.iter().map(|line| added.contains(&line.id)).collect();
        let (host, lines) = (Host::read()?, view.lines.as_slice());
        let mut look = Look { wanted, life, host, cgroups, lines, root, number, claimed, rows: vec![] };
        look.all()?;
        Ok(look.rows)
    }
}

pub(super) struct Look<'a> {
    pub(super) wanted: &'a Wanted,
    pub(super) life: Life,
    pub(super) host: Host,
    pub(super) cgroups: &'a BTreeMap<String, String>,
    pub(super) lines: &'a [Line],
    pub(super) root: RootFd,
    /// Of the mount that is the root.
    pub(super) number: u64,
    /// The mounts for which an entry of config.json has been found.
    pub(super) claimed: Vec<bool>,
    pub(super) rows: Vec<Row>,
}

/// What is at a path of the container.
pub(super) enum Place {
    Nothing,
    /// The mount that begins there, as its index.
    Mount(usize),
    /// Something in a mount that begins elsewhere.
    Inside,
    /// What leads there may never answer.
    Silent,
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
        self.device_nodes();
        self.copies();
        self.strangers();
        Ok(())
    }

    pub(super) fn note(&mut self, field: &str, wanted: impl Into<String>, found: impl Into<String>, holds: bool) {
        self.rows.push(Row::new(field, wanted, found, holds));
    }

    pub(super) fn differ(&mut self, field: &str, wanted: impl Into<String>, found: impl Into<String>) {
        self.note(field, wanted, found, false);
    }

    /// A place that is not looked at.
    pub(super) fn silent(&mut self, field: &str, wanted: String) {
        self.rows.push(Row::unknown(field, wanted, "a file system on the way that may never answer"));
    }

    pub(super) fn claim(&mut self, index: usize) {
        if let Some(claimed) = self.claimed.get_mut(index) {
            *claimed = true;
        }
    }

    pub(super) fn is_claimed(&self, index: usize) -> bool {
        self.claimed.get(index).copied().unwrap_or_default()
    }

    /// By the table of mounts; only where no mount is at the path itself, it is looked up.
    pub(super) fn place(&self, path: &Path) -> Result<Place> {
        let is_quiet = |line: &Line| line.id == self.number || place::is_quiet(&self.host, line);
        let Some(led) = place::follow(self.lines, self.number, path, is_quiet) else { return Ok(Place::Nothing) };
        if led.is_mount {
            return Ok(Place::Mount(led.last));
        }
        if !led.is_quiet || !self.line(Some(led.last)).is_some_and(is_quiet) {
            return Ok(Place::Silent);
        }
        let what = || path.display().to_string();
        let name = CString::new(path.as_os_str().as_bytes())?;
        match self.root.open(&name, Links::Refuse) {
            Err(SysError { errno: Errno::ENOENT | Errno::ENOTDIR, .. }) => Ok(Place::Nothing),
            // Where a symlink leads, no table tells.
            Err(SysError { errno: Errno::ELOOP, .. }) if self.lines.iter().all(is_quiet) => self.linked(&name),
            Err(SysError { errno: Errno::ELOOP, .. }) => Ok(Place::Silent),
            found => found.map(|_| Place::Inside).with_context(what),
        }
    }

    fn linked(&self, path: &CString) -> Result<Place> {
        let fd = match self.root.open(path, Links::Follow) {
            Err(SysError { errno: Errno::ENOENT | Errno::ENOTDIR, .. }) => return Ok(Place::Nothing),
            fd => fd.with_context(|| path.to_string_lossy().into_owned())?,
        };
        let stat = file::stat(fd.as_fd())?;
        let index = self.lines.iter().position(|line| line.id == stat.mount).filter(|_| stat.is_mount_root);
        Ok(index.map_or(Place::Inside, Place::Mount))
    }

    pub(super) fn line(&self, index: Option<usize>) -> Option<&Line> {
        self.lines.get(index?)
    }

    fn mount(&mut self, field: &str, mount: &Mount) -> Result<()> {
        if mount.kind == MountKind::Link {
            return Ok(());
        }
        let at = mount.destination.display();
        let place = match self.place(&mount.destination)? {
            Place::Silent => {
                self.silent(field, format!("a mount on {at}"));
                return Ok(());
            }
            Place::Mount(index) => Some(index),
            Place::Nothing | Place::Inside => None,
        };
        if mount.kind == MountKind::Remount {
            let line = self.line(place).cloned();
            self.flags(field, mount, line.as_ref());
            return Ok(());
        }
        let index = self.unclaimed(place, &mount.destination);
        let Some((index, line)) = index.and_then(|index| Some((index, self.lines.get(index)?.clone()))) else {
            self.differ(field, format!("a mount on {at}"), "none");
            return Ok(());
        };
        self.claim(index);
        let before = self.rows.len();
        if let Some(wanted) = self.problem(field, mount, &line, index)? {
            self.differ(field, format!("{wanted} on {at}"), line.to_string());
        }
        self.flags(field, mount, Some(&line));
        if self.rows.len() == before {
            self.note(field, format!("a mount on {at}"), line.to_string(), true);
        }
        Ok(())
    }

    /// What the mount should show and does not.
    fn problem(&mut self, field: &str, mount: &Mount, line: &Line, index: usize) -> Result<Option<String>> {
        Ok(match &mount.kind {
            MountKind::Bind(source) => self.bind(field, source, line)?,
            MountKind::Cgroup => self.cgroup(line, index),
            MountKind::Filesystem(kind) => self.filesystem(line, kind),
            MountKind::Remount | MountKind::Link => None,
        })
    }

    fn bind(&self, field: &str, source: &Path, line: &Line) -> Result<Option<String>> {
        let wanted = match self.host.shown(source) {
            // The source was removed, or renamed, since; its name at that time is still there.
            Err(_) if self.life == Life::Running && is_removed(&line.shown) => return Ok(None),
            wanted => wanted.with_context(|| field!("{field}"))?,
        };
        let shows = line.shown == wanted
            || self.life == Life::Running && line.shown.device == wanted.device && was(&line.shown, &wanted.root);
        Ok((!shows).then(|| format!("{} of device {}", wanted.root.display(), wanted.device)))
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

    pub(super) fn is_own_cgroup(&self, line: &Line) -> bool {
        is_cgroup_of(line, self.cgroups)
    }

    /// What config.json forbids on the mount is forbidden, and nothing that is mounted inside reaches the host.
    fn flags(&mut self, field: &str, mount: &Mount, line: Option<&Line>) {
        let at = mount.destination.display().to_string();
        let Some(line) = line else {
            self.differ(field, format!("a mount on {at}"), "none");
            return;
        };
        let missing: Vec<&str> = mount.restrictions.iter().filter(|flag| !line.has(flag)).map(String::as_str).collect();
        if !missing.is_empty() {
            self.differ(field, format!("{} on {at}", missing.join(",")), line.to_string());
        }
        let reaches = line.shared.is_some_and(|group| self.host.has_group(group));
        let is_private = line.shared.is_none() && line.master.is_none();
        let holds = match mount.propagation {
            Some(Propagation::Shared) => true,
            // It is made of the host's, whose mounts it gets.
            Some(Propagation::Private) if mount.kind == MountKind::Cgroup => !reaches,
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
    }

    fn root_mount(&mut self) -> Result<()> {
        let wanted = self.host.shown(&self.wanted.rootfs).context(field!("root.path"))?;
        let id = file::stat(self.root.as_fd())?.mount;
        let index = self.lines.iter().position(|line| line.id == id);
        let Some(line) = self.line(index).cloned() else {
            self.differ("root.path", self.wanted.rootfs.display().to_string(), "no mount");
            return Ok(());
        };
        self.note("root.path", self.wanted.rootfs.display().to_string(), line.to_string(), line.shown == wanted);
        if self.wanted.read_only_root {
            self.note("root.readonly", "true", line.to_string(), line.has("ro"));
        }
        if line.shared.is_some_and(|group| self.host.has_group(group)) && !self.wanted.shared_root {
            self.differ("linux.rootfsPropagation", "nothing that is shared with the host", "shared");
        }
        index.into_iter().for_each(|index| self.claim(index));
        Ok(())
    }
}

/// Whether it shows one of these cgroups, as /proc/PID/cgroup writes them, or one below.
pub(super) fn is_cgroup_of(line: &Line, cgroups: &BTreeMap<String, String>) -> bool {
    let is_cgroup = matches!(line.kind.as_str(), "cgroup" | "cgroup2");
    let mut own = cgroups.values().filter(|path| path.len() > 1);
    is_cgroup && own.any(|path| line.shown.root.starts_with(path)) && !has_dots(&line.shown.root)
}

/// What the kernel writes behind the path of what has no name any more.
const REMOVED: &str = "//deleted";

fn is_removed(shown: &Shown) -> bool {
    shown.root.as_os_str().as_bytes().ends_with(REMOVED.as_bytes())
}

/// Whether it had this path until it was removed, as a file that is written anew and renamed over the old one.
fn was(shown: &Shown, root: &Path) -> bool {
    shown.root.as_os_str().as_bytes().strip_suffix(REMOVED.as_bytes()) == Some(root.as_os_str().as_bytes())
}

/// What lies outside of the reader's cgroup namespace, the kernel writes with `..`.
pub(super) fn has_dots(path: &Path) -> bool {
    path.components().any(|part| part == std::path::Component::ParentDir)
}

/// A destination of config.json as mountinfo would write it, if no link is on the way.
fn clean(path: &Path) -> PathBuf {
    let parts = path.components().filter(|part| matches!(part, std::path::Component::Normal(_)));
    Path::new("/").join(parts.collect::<PathBuf>())
}
