//! `root.path`: the directory becomes a mount of its own, and the one through which all else is reached.

use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::Context as _;

use super::propagation::Propagation;
use super::target::c_path;
use crate::error::field;
use crate::sys::mount::{Depth, Sharing, attach, copy_tree, set_sharing};
use crate::sys::path::RootFd;
use crate::sys::{Errno, Fault};
use crate::sys::{Text, file};

/// Deeper than any path: PATH_MAX bytes are at most this many components.
const MAX_DEPTH: u32 = 2048;

/// Opens the rootfs, as a mount of its own if the container has a mount namespace of its own.
#[derive(PartialEq, Eq, Debug)]
pub struct EnterRootfs {
    path: CString,
    place: RootSetup,
    /// Whether the host's mounts are still peers: a copy of one would be a peer too.
    peers: bool,
}

/// Where the container's files will be seen from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RootSetup {
    /// A mount namespace of its own: pivot_root(2) wants the root to be a mount.
    OwnNamespace,
    /// The runtime's mount namespace: nothing may be mounted, chroot(2) has to do.
    RuntimeNamespace,
}

impl EnterRootfs {
    /// `path` is absolute: the bundle joined with `root.path`.
    pub fn compile(path: &Path, place: RootSetup, propagation: &Propagation) -> anyhow::Result<Self> {
        // Without a trailing slash, behind which the kernel would follow a symlink.
        let path: std::path::PathBuf = path.components().collect();
        let peers = propagation.leaves_peers();
        Ok(Self { path: c_path(&path).context(field!("root.path"))?, place, peers })
    }

    /// The directory. Fails with ENOTDIR if the path is a symlink or anything else but a directory.
    pub fn open(&self) -> Result<OwnedFd, Fault> {
        file::open_directory(&self.path).map_err(|error| error.about(&self.path))
    }

    /// The container's root, made of the `directory` that [`EnterRootfs::open`] returned.
    pub fn apply(&self, directory: OwnedFd) -> Result<RootFd, Fault> {
        if self.place == RootSetup::RuntimeNamespace {
            return Ok(RootFd::new(directory));
        }
        if self.peers {
            make_parent_private(directory.as_fd())
                .map_err(|fault| Fault { detail: Text::about(&self.path), ..fault })?;
        }
        let tree = copy_tree(directory.as_fd(), Depth::Tree).map_err(|error| error.about(&self.path))?;
        attach(tree.as_fd(), directory.as_fd()).map_err(|error| error.about(&self.path))?;
        Ok(RootFd::new(tree))
    }
}

/// Makes the mount private that `directory` lies on: pivot_root(2) refuses a root whose parent is shared, and a mount
/// on a shared one would appear on the host.
fn make_parent_private(directory: BorrowedFd) -> Result<(), Fault> {
    let mut above = None;
    for _ in 0..MAX_DEPTH {
        let here = above.as_ref().map_or(directory, |fd: &OwnedFd| fd.as_fd());
        match set_sharing(here, Sharing::Private, Depth::One) {
            // Not the root of a mount: further up.
            Err(error) if error.errno == Errno::EINVAL => above = Some(file::directory_above(here)?),
            done => return Ok(done?),
        }
    }
    Err(Fault::new("mount_setattr", Errno::EINVAL, "the rootfs is on no mount of this namespace"))
}

impl fmt::Display for EnterRootfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "enter rootfs {}", self.path.to_string_lossy())
    }
}
