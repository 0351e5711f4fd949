//! Signals, heard through a descriptor, and their numbers.

use std::os::fd::{AsRawFd, OwnedFd};

use super::error::{Errno, Result, check};
use super::file::owned;
use super::proc_self::SIGSET_BYTES;

/// Every signal, those too that the C library would keep to itself: musl takes 34, which is SIGRTMIN for everybody else.
const ALL: u64 = u64::MAX;

/// Blocks every signal and returns the descriptor on which they are heard.
pub fn listen() -> Result<Signals> {
    let (all, none) = (ALL, core::ptr::null_mut::<u64>());
    // SAFETY: `all` is a signal set of that many bytes; no old one is asked for.
    let ret = unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const all, none, SIGSET_BYTES) };
    check("rt_sigprocmask", ret)?;
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: as above.
    let ret = unsafe { libc::syscall(libc::SYS_signalfd4, -1, &raw const all, SIGSET_BYTES, flags) };
    owned("signalfd", ret).map(Signals)
}

/// Every signal sent to this process, as a descriptor to poll and read.
pub struct Signals(OwnedFd);

impl Signals {
    /// The number of the next signal, if one has come.
    pub fn next(&self) -> Result<Option<i32>> {
        // SAFETY: signalfd_siginfo is plain data, for which all zeroes is a valid value.
        let mut info: libc::signalfd_siginfo = unsafe { core::mem::zeroed() };
        let size = size_of::<libc::signalfd_siginfo>();
        // SAFETY: `info` has room for that many bytes, and outlives the call.
        let ret = unsafe { libc::read(self.0.as_raw_fd(), (&raw mut info).cast(), size) };
        match check("read", ret as libc::c_long) {
            Ok(_) => Ok(Some(info.ssi_signo as i32)),
            Err(error) if error.errno == Errno::EAGAIN => Ok(None),
            Err(error) => Err(error),
        }
    }
}

impl std::os::fd::AsFd for Signals {
    fn as_fd(&self) -> std::os::fd::BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Whether a program that leaves its signals alone is ended by this one, and a user sends it for that.
pub fn asks_to_end(number: i32) -> bool {
    [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT].contains(&number)
}

pub const KILL: i32 = libc::SIGKILL;
pub const TERM: i32 = libc::SIGTERM;
pub const CHLD: i32 = libc::SIGCHLD;
pub const WINCH: i32 = libc::SIGWINCH;
pub const URG: i32 = libc::SIGURG;
pub const SYS: i32 = libc::SIGSYS;
