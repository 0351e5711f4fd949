//! Mounts that come and go while the container runs: crun's `mounts add` and `mounts remove`.
//!
//! The container's processes are at work meanwhile, so everything in it is as hostile as below any rootfs: paths are
//! resolved in its root only, and what is attached or removed is what was resolved.

use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Result, ensure};
use oci_spec::runtime;

use super::idmap::{Mappings, UserNamespaces};
use super::mask::LateReadonly;
use super::mount::{Context, Mount, destination};
use crate::sys::mount::detach_descriptor;
use crate::sys::path::{Links, RootFd};
use crate::sys::{Errno, Fault, file};

/// A mount for a running container.
#[derive(PartialEq, Debug)]
pub struct HotMount {
    mount: Mount,
    late: Option<LateReadonly>,
    place: Unmount,
}

/// A mount to be removed, by where it is.
#[derive(PartialEq, Eq, Debug)]
pub struct Unmount {
    path: CString,
}

/// What belongs to namespaces that a process is born into, or shows what the container may not see.
const ONLY_AT_CREATION: &[&str] = &["proc", "cgroup", "cgroup2"];

impl HotMount {
    /// One entry, the mappings of the user namespace that it asks for (the one with number `next`), and warnings.
    pub fn compile(
        mount: &runtime::Mount,
        context: &Context,
        next: usize,
    ) -> Result<(Self, Option<Mappings>, Vec<String>)> {
        let kind = mount.typ().as_deref().unwrap_or_default();
        ensure!(!ONLY_AT_CREATION.contains(&kind), "type: {kind}: can only be mounted when the container is created");
        let compiled = Mount::compile(mount, context, next)?;
        let is_remount = matches!(compiled.mount, Mount::Remount(_));
        ensure!(!is_remount, "options: remount: not for a running container");
        if let Mount::Filesystem(filesystem) = &compiled.mount {
            let old = filesystem.needs_mount_point();
            ensure!(!old, "options: iversion, silent and long options are not for a running container");
        }
        let hot = Self { mount: compiled.mount, late: compiled.late, place: Unmount::compile(mount)? };
        Ok((hot, compiled.mappings, compiled.warnings))
    }

    /// The detached mount of what only the host has: a source, a device, other layers.
    pub fn open(&self, namespaces: UserNamespaces) -> Result<Option<OwnedFd>, Fault> {
        match &self.mount {
            Mount::Filesystem(filesystem) => filesystem.open_outside(namespaces),
            other => other.open(namespaces),
        }
    }

    /// Mounts it below `root`, or leaves no mount. `opened` is what [`HotMount::open`] returned, `descriptors` the
    /// caller's /proc/self/fd.
    pub fn apply(&self, root: &RootFd, opened: Option<OwnedFd>, descriptors: BorrowedFd) -> Result<(), Fault> {
        let before = self.place.mount_at(root).map(|(_, mount)| mount);
        let mounted = self.mount.apply(root, opened);
        let done = mounted.and_then(|()| self.late.as_ref().map_or(Ok(()), |late| late.apply(root)));
        if let (Err(_), Some((there, mount))) = (&done, self.place.mount_at(root))
            && before != Some(mount)
            && file::stat(there.as_fd()).is_ok_and(|stat| stat.is_mount_root)
        {
            // The first error is the one to tell.
            let _ = detach_descriptor(there.as_fd(), descriptors);
        }
        done
    }

    /// Removes it again.
    pub fn undo(&self, root: &RootFd, descriptors: BorrowedFd) -> Result<(), Fault> {
        self.place.detach(self.place.find(root)?.as_fd(), descriptors)
    }
}

impl Unmount {
    pub fn compile(mount: &runtime::Mount) -> Result<Self> {
        Ok(Self { path: destination(mount.destination())? })
    }

    /// What is mounted there. ENOENT: there is no such path; EINVAL: it is not a mount point.
    pub fn find(&self, root: &RootFd) -> Result<OwnedFd, Fault> {
        let there = root.open(&self.path, Links::Follow).map_err(|error| error.about(&self.path))?;
        if file::stat(there.as_fd())?.is_mount_root {
            return Ok(there);
        }
        Err(Fault::new("umount2", Errno::EINVAL, "nothing is mounted there"))
    }

    /// Unmounts what [`Unmount::find`] returned, with all that is mounted below.
    pub fn detach(&self, there: BorrowedFd, descriptors: BorrowedFd) -> Result<(), Fault> {
        detach_descriptor(there, descriptors).map_err(|error| error.about(&self.path))
    }

    /// The path, and the mount that it is on.
    fn mount_at(&self, root: &RootFd) -> Option<(OwnedFd, u64)> {
        let there = root.open(&self.path, Links::Follow).ok()?;
        let stat = file::stat(there.as_fd()).ok()?;
        Some((there, stat.mount))
    }
}

impl fmt::Display for HotMount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.mount.fmt(f)
    }
}

impl fmt::Display for Unmount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "unmount {}", self.path.to_string_lossy())
    }
}
