//! A mount that a later step changes: held open from the step that makes it. Its path may lead elsewhere by then, in a
//! volume that another container writes, or through a symlink of the image.

use std::cell::{Cell, OnceCell};
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use crate::sys::{Errno, Fault};

/// The mount of one entry, once it is made.
#[derive(Default, Debug)]
pub struct Held {
    /// Whether a later step changes it; else it is closed at once.
    is_wanted: Cell<bool>,
    mount: OnceCell<OwnedFd>,
}

impl Held {
    pub(super) fn want(&self) {
        self.is_wanted.set(true);
    }

    /// Takes the mount that was made; `None`: the entry makes none.
    pub fn keep(&self, mount: Option<OwnedFd>) {
        if let Some(mount) = mount.filter(|_| self.is_wanted.get()) {
            // A step is taken once.
            let _ = self.mount.set(mount);
        }
    }

    pub(super) fn get(&self) -> Option<BorrowedFd<'_>> {
        self.mount.get().map(AsFd::as_fd)
    }

    /// The mount; ENOENT: the entry has made none.
    pub(super) fn mount(&self) -> Result<BorrowedFd<'_>, Fault> {
        self.get().ok_or(Fault::new("openat2", Errno::ENOENT, "nothing was mounted there"))
    }
}

/// An entry that comes earlier in config.json: where it is mounted, and the mount.
#[derive(Debug)]
pub struct Earlier {
    pub(super) path: CString,
    pub(super) mount: Rc<Held>,
}
