//! Standard input, output and error of this process.

use std::os::fd::{AsRawFd, BorrowedFd};

use super::error::{Result, check};
use super::file::owned;

/// The descriptors 0, 1 and 2, as far as they are open.
#[cfg(any(test, feature = "testing"))]
pub fn copies() -> [Option<std::os::fd::OwnedFd>; 3] {
    [0, 1, 2].map(|fd| {
        // SAFETY: takes integers only; a closed descriptor is an error that becomes None.
        let ret = unsafe { libc::fcntl(fd, libc::F_DUPFD_CLOEXEC, 3) };
        owned("fcntl", ret.into()).ok()
    })
}

/// Lets `to` be standard output and error, of a process that is about to be another program.
pub fn become_output(to: BorrowedFd) -> Result<()> {
    for target in 1..=2 {
        // SAFETY: takes integers only; 1 and 2 are nobody's `OwnedFd`, and `to` is neither.
        let ret = unsafe { libc::dup2(to.as_raw_fd(), target) };
        check("dup2", ret.into())?;
    }
    Ok(())
}

/// Lets `from` be standard input, output and error as well; they survive exec.
///
/// By way of a descriptor above them: dup2(2) of one of them to itself would leave it close-on-exec.
pub fn become_all(from: BorrowedFd) -> Result<()> {
    // SAFETY: takes integers only.
    let ret = unsafe { libc::fcntl(from.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3) };
    let from = owned("fcntl", ret.into())?;
    for target in 0..=2 {
        // SAFETY: takes integers only; 0, 1 and 2 are nobody's `OwnedFd`.
        let ret = unsafe { libc::dup2(from.as_raw_fd(), target) };
        check("dup2", ret.into())?;
    }
    Ok(())
}
