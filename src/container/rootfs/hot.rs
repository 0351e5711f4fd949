//! Mounts that come and go while the container runs: crun's `mounts add` and `mounts remove`.
//!
//! The container's processes are at work meanwhile, so everything in it is as hostile as below any rootfs. A mount goes
//! onto what was resolved; what goes again, at once after an error or later, is that very mount: by its descriptor while
//! it is held, then by its identity ([`Added`]), wherever it is by then. Its destination is never looked up again.

use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Result, ensure};
use oci_spec::runtime;
use serde::{Deserialize, Serialize};

use super::context::Context;
use super::idmap::{Mappings, UserNamespaces};
use super::mask::LateReadonly;
use super::mount::Mount;
use super::target::destination;
use crate::sys::file::{self, MountId};
use crate::sys::mount::detach_descriptor;
use crate::sys::mountinfo::{self, Mounted};
use crate::sys::path::RootFd;
use crate::sys::{Errno, Fault};

/// A mount for a running container.
#[derive(Debug)]
pub struct HotMount {
    mount: Mount,
    late: Option<LateReadonly>,
}

/// A mount to be removed, by where it was mounted.
#[derive(PartialEq, Eq, Debug)]
pub struct Unmount {
    path: CString,
}

/// A mount that was added: which one it is, and where it was meant to be.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Added {
    destination: String,
    /// The number in mountinfo, which another mount may have later.
    number: u64,
    /// Unique as long as the machine is up; Linux 6.8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    unique: Option<u64>,
    /// The inode of the mount namespace.
    namespace: u64,
    /// Device and inode of what it shows.
    file: (u32, u32, u64),
}

/// What belongs to namespaces that a process is born into, or shows what the container may not see.
const ONLY_AT_CREATION: &[&str] = &["proc", "cgroup", "cgroup2"];

/// How often something that moves or is covered is looked for again.
const TRIES: u32 = 64;

impl HotMount {
    /// One entry, the mappings of the user namespace that it asks for (the one with number `next`), and warnings.
    pub fn compile(
        mount: &runtime::Mount,
        context: &Context,
        next: usize,
    ) -> Result<(Self, Option<Mappings>, Vec<String>)> {
        let kind = mount.typ().as_deref().unwrap_or_default();
        ensure!(!ONLY_AT_CREATION.contains(&kind), "type: {kind}: can only be mounted when the container is created");
        let compiled = Mount::compile(mount, context, next, &[])?;
        let is_remount = matches!(compiled.mount, Mount::Remount(_));
        ensure!(!is_remount, "options: remount: not for a running container");
        if let Mount::Filesystem(filesystem) = &compiled.mount {
            let old = filesystem.needs_mount_point();
            ensure!(!old, "options: iversion, silent and long options are not for a running container");
        }
        let hot = Self { mount: compiled.mount, late: compiled.late };
        Ok((hot, compiled.mappings, compiled.warnings))
    }

    /// Whether it starts with a copy of what is there.
    pub fn copies(&self) -> bool {
        matches!(&self.mount, Mount::Filesystem(filesystem) if filesystem.copies())
    }

    /// The detached mount of what only the host has: a source, a device, other layers.
    pub fn open(&self, namespaces: UserNamespaces) -> Result<Option<OwnedFd>, Fault> {
        match &self.mount {
            Mount::Filesystem(filesystem) => filesystem.open_outside(namespaces),
            other => other.open(namespaces),
        }
    }

    /// Mounts it below `root` and returns the mount, or leaves none; none it is too if a symlink was made. `opened` is
    /// what [`HotMount::open`] returned, `own` the caller's /proc/PID of the host, and `copy` copies a directory into
    /// another, so that it is charged to the container. `announce` hears which mount is about to be attached.
    pub fn apply(
        &self,
        root: &RootFd,
        opened: Option<OwnedFd>,
        own: BorrowedFd,
        copy: impl FnOnce(BorrowedFd, BorrowedFd) -> Result<(), Fault>,
        announce: impl FnOnce(MountId) -> Result<(), Fault>,
    ) -> Result<Option<OwnedFd>, Fault> {
        let Some(prepared) = self.mount.prepare(root, opened)? else { return Ok(None) };
        if let Some(hidden) = prepared.hidden()? {
            copy(hidden.as_fd(), prepared.mount.as_fd())?;
        }
        announce(MountId::of(prepared.mount.as_fd())?)?;
        prepared.attach()?;
        let late = || self.late.as_ref().map_or(Ok(()), |late| late.apply_to(prepared.mount.as_fd()));
        match self.mount.settle(root, &prepared).and_then(|()| late()) {
            Ok(()) => Ok(Some(prepared.mount)),
            Err(fault) => {
                // The first error is the one to tell.
                let _ = detach(prepared.mount.as_fd(), own);
                Err(fault)
            }
        }
    }
}

/// Unmounts the mount whose root `mount` is open on, with all that is mounted on it, and looks whether it is gone. `own`
/// is the caller's /proc/PID of the host.
pub fn detach(mount: BorrowedFd, own: BorrowedFd) -> Result<(), Fault> {
    let id = MountId::of(mount)?;
    for _ in 0..TRIES {
        // What somebody has mounted over it goes first: with ours it would go as well.
        detach_descriptor(mount, own)?;
        // No other mount has its number as long as it is held open.
        if !mountinfo::parse(&mountinfo::of(own)?).any(|mounted| mounted.number == id.number) {
            return Ok(());
        }
    }
    Err(Fault::new("umount2", Errno::EBUSY, "something is mounted over it all the time"))
}

impl Unmount {
    pub fn compile(mount: &runtime::Mount) -> Result<Self> {
        Ok(Self { path: destination(mount.destination())? })
    }

    /// Which of `added` is meant, as its index: the last that was mounted there.
    pub fn choose(&self, added: &[Added]) -> Option<usize> {
        added.iter().rposition(|added| added.destination.as_bytes() == self.path.to_bytes())
    }

    /// Why there is nothing to choose. `mountinfo` is the container's.
    pub fn unknown(&self, mountinfo: &[u8]) -> Fault {
        match mountinfo::parse(mountinfo).any(|mounted| *mounted.at == *self.path.to_bytes()) {
            true => Fault::new("umount2", Errno::EPERM, "only what `mounts add` has mounted can be removed"),
            false => Fault::new("umount2", Errno::EINVAL, "nothing is mounted there"),
        }
    }
}

impl Added {
    /// `namespace` is the inode of the mount namespace that `id` was mounted in.
    pub fn new(mount: &runtime::Mount, id: MountId, namespace: u64) -> Result<Self> {
        let destination = destination(mount.destination())?.into_string()?;
        Ok(Self { destination, number: id.number, unique: id.unique, namespace, file: id.file })
    }

    /// The number in mountinfo.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Whether a mount with this identity leaves no room for this one: numbers are given to one mount at a time.
    pub fn is_outlived_by(&self, other: &Self) -> bool {
        self.number == other.number
    }

    /// Whether `other` was mounted at the same place.
    pub fn is_below(&self, other: &Self) -> bool {
        self.destination == other.destination
    }

    /// The mount, open on its root, wherever below `root` it is by now. `namespace` is the inode of the caller's mount
    /// namespace, `own` the caller's /proc/PID of the host. EINVAL: it is gone.
    pub fn locate(&self, root: &RootFd, namespace: u64, own: BorrowedFd) -> Result<OwnedFd, Fault> {
        const GONE: &str = "what was mounted there is gone";
        if self.namespace != namespace {
            return Err(Fault::new("umount2", Errno::EINVAL, GONE));
        }
        for _ in 0..TRIES {
            let text = mountinfo::of(own)?;
            let all: Vec<_> = mountinfo::parse(&text).collect();
            let Some(mounted) = all.iter().find(|mounted| mounted.number == self.number) else {
                return Err(Fault::new("umount2", Errno::EINVAL, GONE));
            };
            self.check_place(mounted, &all)?;
            // A path that processes inside can change at any time, so what it leads to has to be the mount.
            let Ok(there) = root.open_exactly(&mounted.at) else { continue };
            match MountId::of(there.as_fd())? {
                id if !file::stat(there.as_fd())?.is_mount_root || id.number != self.number => {}
                id if (self.unique.is_none() || id.unique == self.unique) && id.file == self.file => return Ok(there),
                _ => return Err(Fault::new("umount2", Errno::EINVAL, GONE)),
            }
        }
        Err(Fault::new("umount2", Errno::ESTALE, "it is covered by another mount, or moved all the time"))
    }

    /// Of a kernel that gives numbers twice, one of a mask or a read-only path is not taken for that of the mount.
    fn check_place(&self, mounted: &Mounted, all: &[Mounted]) -> Result<(), Fault> {
        let parent = all.iter().find(|other| other.number == mounted.parent);
        let is_kernels = parent.is_some_and(|parent| matches!(parent.kind, b"proc" | b"sysfs"));
        let is_meant = ["/proc/", "/sys/"].iter().any(|above| self.destination.starts_with(above));
        if self.unique.is_none() && is_kernels && !is_meant {
            return Err(Fault::new("umount2", Errno::EPERM, "that number is another mount's, on procfs or sysfs"));
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::sys::mount::{Depth, attach, copy_path};
    use crate::sys::scratch::{Directory, c_path, in_mount_namespace};

    /// A mount of `from` on `to`, both below `dir`, as it is saved.
    fn mounted(dir: &Directory, from: &str, to: &str, namespace: u64) -> (OwnedFd, Added) {
        let mount = copy_path(&c_path(&dir.join(from)), Depth::One).unwrap();
        attach(mount.as_fd(), file::open_path(&c_path(&dir.join(to))).unwrap().as_fd()).unwrap();
        let entry: runtime::Mount = serde_json::from_value(serde_json::json!({ "destination": "/to" })).unwrap();
        let id = MountId::of(mount.as_fd()).unwrap();
        (mount, Added::new(&entry, id, namespace).unwrap())
    }

    #[test]
    fn a_mount_that_was_added_is_found_by_what_it_is() {
        in_mount_namespace(|| {
            let dir = Directory::new();
            for name in ["from", "other", "to", "elsewhere"] {
                fs::create_dir(dir.join(name)).unwrap();
            }
            let root = RootFd::new(file::open_directory(c"/").unwrap());
            let own = file::open_directory(c"/proc/thread-self/.").unwrap();
            let (mount, added) = mounted(&dir, "from", "to", 7);
            let find = |added: &Added| added.locate(&root, 7, own.as_fd()).map(|fd| MountId::of(fd.as_fd()).unwrap());
            let id = MountId::of(mount.as_fd()).unwrap();
            for saved in [added.clone(), Added { unique: None, ..added.clone() }] {
                assert_eq!(find(&saved), Ok(id));
            }
            for (wrong, what) in [
                (Added { number: u64::MAX, ..added.clone() }, "another number"),
                (Added { unique: Some(1), ..added.clone() }, "another id"),
                (Added { namespace: 8, ..added.clone() }, "another namespace"),
                (Added { file: (id.file.0, id.file.1, 1), ..added.clone() }, "another file"),
            ] {
                assert_eq!(find(&wrong).unwrap_err().errno, Errno::EINVAL, "{what}");
            }
            let (cover, covering) = mounted(&dir, "other", "to", 7);
            assert_eq!(find(&added).unwrap_err().errno, Errno::ESTALE, "covered");
            detach(cover.as_fd(), own.as_fd()).unwrap();
            assert_eq!(find(&covering).unwrap_err().errno, Errno::EINVAL, "gone");
            detach(mount.as_fd(), own.as_fd()).unwrap();
            assert_eq!(find(&added).unwrap_err().errno, Errno::EINVAL, "gone");
            assert_eq!(detach(mount.as_fd(), own.as_fd()).unwrap_err().errno, Errno::EINVAL);
        });
    }

    #[test]
    fn what_covers_a_mount_goes_first_and_the_mount_goes_too() {
        in_mount_namespace(|| {
            let dir = Directory::new();
            for name in ["from", "other", "to"] {
                fs::create_dir(dir.join(name)).unwrap();
            }
            let own = file::open_directory(c"/proc/thread-self/.").unwrap();
            let (mount, _) = mounted(&dir, "from", "to", 7);
            let _covers = [mounted(&dir, "other", "to", 7), mounted(&dir, "other", "to", 7)];
            detach(mount.as_fd(), own.as_fd()).unwrap();
            let at = dir.join("to").display().to_string();
            assert!(!fs::read_to_string("/proc/thread-self/mountinfo").unwrap().contains(&at));
        });
    }
}
