//! Directories that several processes work in: their lock, and entries that are renamed and removed.

use core::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::error::{Errno, Result, check};

/// Takes the exclusive lock of the file that `fd` is open on; false if another has it (flock(2)).
///
/// It belongs to the open file description: a child has it with its copy of the descriptor, and the kernel gives it back
/// when the last copy is closed.
pub fn try_lock(fd: BorrowedFd) -> Result<bool> {
    match flock(fd, libc::LOCK_EX | libc::LOCK_NB) {
        Err(error) if error.errno == Errno::EWOULDBLOCK => Ok(false),
        result => result.map(|()| true),
    }
}

/// Gives the lock back, whoever else has a copy of the descriptor.
pub fn unlock(fd: BorrowedFd) -> Result<()> {
    flock(fd, libc::LOCK_UN)
}

fn flock(fd: BorrowedFd, operation: libc::c_int) -> Result<()> {
    // SAFETY: takes integers only.
    let ret = unsafe { libc::flock(fd.as_raw_fd(), operation) };
    check("flock", ret.into()).map(drop)
}

/// Closes the copy of its parent's descriptor that a cloned child has, which shall not share the lock. For a child that
/// never returns to the code that owns the descriptor; uses no heap.
pub fn close_copy(fd: BorrowedFd) {
    // SAFETY: the child does not use it any more, and never drops its owner.
    unsafe { libc::close(fd.as_raw_fd()) };
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
