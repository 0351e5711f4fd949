//! A procfs that nobody else can reach.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::error::{Errno, Result, SysError};
use super::file::{self, magic};
use super::mount::{self, Depth, FsContext, attr};

/// A procfs of our own that is mounted nowhere: what the container mounts over its `/proc` does not lead writes of
/// sysctls and labels astray (CVE-2019-16884, CVE-2025-52881). To be opened in the container's namespaces, before
/// pivot_root.
pub struct ProcFd(OwnedFd);

impl AsFd for ProcFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl ProcFd {
    /// A detached procfs of the caller's pid namespace, else, where a user namespace may not have one, a copy of the
    /// `/proc` that the host has.
    pub fn open() -> Result<Self> {
        let proc = Self::mounted().or_else(|error| match error.errno {
            Errno::EPERM | Errno::EACCES => mount::copy_path(c"/proc", Depth::One)
                .or_else(|_| mount::copy_path(c"/proc", Depth::Tree))
                .or_else(|_| file::open_directory(c"/proc")),
            _ => Err(error),
        })?;
        Self::from_fd(proc)
    }

    /// Takes `proc` if it is open on the root of a procfs, else ENOTSUP.
    pub fn from_fd(proc: OwnedFd) -> Result<Self> {
        let is_root = file::stat(proc.as_fd())?.inode == PROC_ROOT_INODE;
        if file::fs_type(proc.as_fd())? != magic::PROC || !is_root {
            return Err(SysError::new("fstatfs", Errno::ENOTSUP));
        }
        Ok(Self(proc))
    }

    fn mounted() -> Result<OwnedFd> {
        let context = FsContext::open(c"proc")?;
        context.create()?;
        context.mount(attr::NOSUID | attr::NODEV | attr::NOEXEC)
    }
}

/// PROC_ROOT_INO of linux/proc_fs.h.
const PROC_ROOT_INODE: u64 = 1;

#[cfg(test)]
mod tests;
