//! A mount that is made and not yet attached.

use core::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::copy_up::copy_up;
use crate::sys::file::{self, Stat};
use crate::sys::mount::{Depth, Sharing, attach, set_sharing};
use crate::sys::{Errno, Fault, SysError};

/// A mount with all its flags, still detached, and the directory or file that it goes onto.
pub(super) struct Prepared<'a> {
    pub mount: OwnedFd,
    /// What the mount shows.
    pub stat: Stat,
    pub at: OwnedFd,
    /// For messages.
    pub path: &'a CStr,
    /// Whether it starts with a copy of what it hides.
    pub copies: bool,
}

impl Prepared<'_> {
    /// What a tmpfs is to have a copy of: the directory that it will be mounted on, and no other.
    pub fn hidden(&self) -> Result<Option<OwnedFd>, Fault> {
        let list = || file::list_at(self.at.as_fd(), c".").map_err(|error| error.about(self.path));
        self.copies.then(list).transpose()
    }

    pub fn copy_up(&self) -> Result<(), Fault> {
        match self.hidden()? {
            Some(hidden) => copy_up(hidden.as_fd(), self.mount.as_fd()),
            None => Ok(()),
        }
    }

    pub fn attach(&self) -> Result<(), Fault> {
        attach(self.mount.as_fd(), self.at.as_fd()).map_err(|error| self.explain(error))
    }

    /// move_mount(2) says EINVAL of a file on a directory. Engines know the words of ENOTDIR.
    fn explain(&self, error: SysError) -> Fault {
        match file::stat(self.at.as_fd()) {
            Ok(at) if error.errno == Errno::EINVAL && at.is_directory() && !self.stat.is_directory() => {
                Fault::of_parts(
                    error.call,
                    Errno::ENOTDIR,
                    &[self.path.to_bytes(), b" is a directory, and the source is a file"],
                )
            }
            _ => error.about(self.path),
        }
    }
}

/// Sets the propagation of what has been attached, in the order of the options.
pub(super) fn propagate(mount: BorrowedFd, wanted: &[(Sharing, Depth)]) -> Result<(), Fault> {
    for (sharing, depth) in wanted {
        set_sharing(mount, *sharing, *depth)?;
    }
    Ok(())
}
