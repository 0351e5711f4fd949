//! The rootfs becomes `/`, and the host's root goes away.

use std::ffi::{CString, OsString};
use std::fmt;
use std::os::fd::AsFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::enter::RootSetup;
use super::propagation::Propagation;
use super::target::c_path;
use crate::sys::mount::{Depth, FsContext, Sharing, attach, detach, detach_here, pivot_root_here, set_sharing};
use crate::sys::mountinfo::{self, Mounted};
use crate::sys::path::RootFd;
use crate::sys::{Errno, Fault, file};

/// How the rootfs becomes the root.
#[derive(PartialEq, Eq, Debug)]
pub enum PivotRoot {
    /// pivot_root(2). The old root's mounts are made slaves before they are unmounted, where they could be peers of
    /// the host's.
    Pivot { peers: bool },
    /// Moving the mount over the old root, for hosts that run from an initramfs (`--no-pivot`). The host's procfs and
    /// sysfs stay below it, so they are hidden: a fully visible one would let a nested user namespace mount another.
    Move { hide: Vec<CString> },
    /// chroot(2), in the runtime's mount namespace.
    Chroot,
}

impl PivotRoot {
    /// The usual way.
    pub fn compile(place: RootSetup, propagation: &Propagation) -> Self {
        match place {
            RootSetup::OwnNamespace => Self::Pivot { peers: propagation.leaves_peers() },
            RootSetup::RuntimeNamespace => Self::Chroot,
        }
    }

    /// The way without pivot_root(2). `mountinfo` is the text of proc_pid_mountinfo(5), which has the host's mounts
    /// that are to be hidden; those in `rootfs` are the container's.
    pub fn compile_no_pivot(place: RootSetup, mountinfo: &[u8], rootfs: &Path) -> anyhow::Result<Self> {
        if place == RootSetup::RuntimeNamespace {
            return Ok(Self::Chroot);
        }
        // Whole ones alone: no part of them lets anybody mount another.
        let is_revealing = |mounted: &Mounted| *mounted.root == *b"/" && matches!(mounted.kind, b"proc" | b"sysfs");
        let paths = mountinfo::parse(mountinfo).filter(is_revealing).map(|mounted| mounted.at);
        let hide = paths
            .map(|at| OsString::from_vec(at.into_owned()).into())
            .filter(|path: &PathBuf| !path.starts_with(rootfs));
        let hide = hide.map(|path| c_path(&path));
        Ok(Self::Move { hide: hide.collect::<anyhow::Result<_>>().context("mountinfo")? })
    }

    pub fn apply(&self, root: &RootFd) -> Result<(), Fault> {
        match self {
            Self::Pivot { peers } => pivot(root, *peers),
            Self::Move { hide } => move_over(root, hide),
            Self::Chroot => {
                file::enter(root.as_fd())?;
                Ok(file::chroot_here()?)
            }
        }
    }
}

fn pivot(root: &RootFd, peers: bool) -> Result<(), Fault> {
    let old = file::open_directory(c"/")?;
    file::enter(root.as_fd())?;
    pivot_root_here().map_err(|error| match error.errno {
        Errno::EINVAL => error.about(c"the host's root may be an initramfs: --no-pivot works there"),
        _ => error.into(),
    })?;
    // Now the old root is stacked on the new one.
    file::enter(old.as_fd())?;
    if peers {
        // Else the unmounts would reach the host.
        set_sharing(old.as_fd(), Sharing::Slave, Depth::Tree)?;
    }
    detach_here()?;
    Ok(file::enter_root()?)
}

fn move_over(root: &RootFd, hide: &[CString]) -> Result<(), Fault> {
    for path in hide {
        hide_host_mount(path)
            .map_err(|fault| Fault { detail: crate::sys::Text::from_bytes(path.as_bytes()), ..fault })?;
    }
    let old = file::open_directory(c"/")?;
    attach(root.as_fd(), old.as_fd())?;
    file::enter(root.as_fd())?;
    Ok(file::chroot_here()?)
}

/// Unmounts the host's procfs or sysfs at `path`; where it is locked, covers it.
fn hide_host_mount(path: &CString) -> Result<(), Fault> {
    let mount = match file::open_directory(path) {
        Err(error) if error.errno == Errno::ENOENT => return Ok(()),
        opened => opened?,
    };
    set_sharing(mount.as_fd(), Sharing::Slave, Depth::Tree)?;
    match detach(path) {
        Err(error) if matches!(error.errno, Errno::EINVAL | Errno::EPERM) => {
            let tmpfs = FsContext::open(c"tmpfs")?;
            tmpfs.create()?;
            Ok(attach(tmpfs.mount(0)?.as_fd(), mount.as_fd())?)
        }
        done => Ok(done?),
    }
}

impl fmt::Display for PivotRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Pivot { .. } => f.write_str("pivot_root"),
            Self::Move { hide } if hide.is_empty() => f.write_str("move the rootfs over /"),
            Self::Move { hide } => {
                f.write_str("move the rootfs over /, hiding")?;
                hide.iter()
                    .try_for_each(|path| write!(f, " {}", std::ffi::OsStr::from_bytes(path.as_bytes()).display()))
            }
            Self::Chroot => f.write_str("chroot"),
        }
    }
}

#[cfg(test)]
mod tests;
