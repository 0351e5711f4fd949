//! Directories that several processes work in: their lock, and entries that are renamed and removed.

use core::cell::Cell;
use core::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};

use super::error::{Errno, Result, SysError, check};

/// The most directories that a thread has, or had, locked and still open: a command changes one container.
const MAX_LOCKED: usize = 4;
/// No descriptor.
const NONE: RawFd = -1;

thread_local! {
    /// The descriptors of the directories that this thread has locked, or tried to.
    static LOCKED: Cell<[RawFd; MAX_LOCKED]> = const { Cell::new([NONE; MAX_LOCKED]) };
}

/// A directory that can be locked (flock(2)).
///
/// The lock belongs to the open file description: a child would have it with its copy of the descriptor, and the kernel
/// gives it back when the last copy is closed. So that it ends with this process, and not with a child that hangs in a
/// file system, every child that `sys` makes closes its copies before it does anything else.
#[derive(Debug)]
pub struct Lockable(OwnedFd);

impl Lockable {
    pub fn new(fd: OwnedFd) -> Self {
        Self(fd)
    }

    /// Takes the exclusive lock; false if another process has it.
    pub fn try_lock(&self) -> Result<bool> {
        // From now on for good: a child of the time between two locks would share the second.
        let fd = self.0.as_raw_fd();
        if !LOCKED.get().contains(&fd) && !replace_in_list(NONE, fd) {
            return Err(SysError::new("flock", Errno::ENOLCK));
        }
        match flock(self.0.as_fd(), libc::LOCK_EX | libc::LOCK_NB) {
            Err(error) if error.errno == Errno::EWOULDBLOCK => Ok(false),
            result => result.map(|()| true),
        }
    }

    /// Gives the lock back, whoever else has a copy of the descriptor.
    pub fn unlock(&self) -> Result<()> {
        flock(self.0.as_fd(), libc::LOCK_UN)
    }
}

impl AsFd for Lockable {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl Drop for Lockable {
    fn drop(&mut self) {
        // The number may be another file's soon.
        replace_in_list(self.0.as_raw_fd(), NONE);
    }
}

/// Replaces `old` in the list by `new`; false if it is not there.
fn replace_in_list(old: RawFd, new: RawFd) -> bool {
    let mut list = LOCKED.get();
    let place = list.iter_mut().find(|fd| **fd == old);
    let is_there = place.is_some();
    if let Some(place) = place {
        *place = new;
    }
    LOCKED.set(list);
    is_there
}

/// In a child that was just cloned, and that never returns to the code that owns the descriptors: closes its copies of
/// those of lockable directories. Uses no heap.
pub(super) fn leave_locks_to_parent() {
    for fd in LOCKED.replace([NONE; MAX_LOCKED]).into_iter().filter(|fd| *fd != NONE) {
        // SAFETY: the child does not use it any more, and never drops its owner.
        unsafe { libc::close(fd) };
    }
}

fn flock(fd: BorrowedFd, operation: libc::c_int) -> Result<()> {
    // SAFETY: takes integers only.
    let ret = unsafe { libc::flock(fd.as_raw_fd(), operation) };
    check("flock", ret.into()).map(drop)
}

/// Renames `from` in `dir` to `to`, which it replaces.
pub fn rename_at(dir: BorrowedFd, from: &CStr, to: &CStr) -> Result<()> {
    let dir = dir.as_raw_fd();
    // SAFETY: both names are NUL-terminated and outlive the call.
    let ret = unsafe { libc::renameat(dir, from.as_ptr(), dir, to.as_ptr()) };
    check("renameat", ret.into()).map(drop)
}

/// Removes the empty directory `name` in `dir`.
pub fn remove_at(dir: BorrowedFd, name: &CStr) -> Result<()> {
    // SAFETY: `name` is NUL-terminated and outlives the call.
    let ret = unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), libc::AT_REMOVEDIR) };
    check("rmdir", ret.into()).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::Guard;
    use crate::process::{Cloned, clone_process, ends_within, exit_now, poll};
    use crate::scratch::Directory;
    use crate::testing::{Outcome, in_a_child};

    fn open(directory: &Directory) -> Lockable {
        Lockable::new(std::fs::File::open(directory.path()).expect("a directory").into())
    }

    #[test]
    fn a_lock_ends_with_its_holder_though_a_child_lives() {
        in_a_child(|| -> Outcome {
            let directory = Directory::new();
            let (first, second) = (open(&directory), open(&directory));
            assert!(first.try_lock()? && first.try_lock()?, "it is ours");
            assert!(!second.try_lock()?, "it is the other's");
            let child = match clone_process(0, None)? {
                Cloned::Runtime(child) => Guard::new(child),
                Cloned::Child => {
                    let _ = poll([], None);
                    exit_now(0)
                }
            };
            drop(first);
            // The child may not have begun yet.
            let is_free = || second.try_lock() == Ok(true) || poll([], Some(10)).is_err();
            assert!((0..1000).any(|_| is_free()), "the child has it");
            assert!(!ends_within(child.pidfd.as_fd(), 0)?);
            Ok(())
        });
    }

    #[test]
    fn a_child_does_not_share_a_lock_that_is_taken_later_nor_lose_another_file() {
        in_a_child(|| -> Outcome {
            let directory = Directory::new();
            let ours = open(&directory);
            assert!(ours.try_lock()?);
            ours.unlock()?;
            assert_eq!(LOCKED.get(), [ours.0.as_raw_fd(), NONE, NONE, NONE]);
            drop(ours);
            assert_eq!(LOCKED.get(), [NONE; MAX_LOCKED], "the number may be another file's");
            Ok(())
        });
    }
}
