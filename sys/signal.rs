//! Signals, heard through a descriptor, and their numbers.

use core::mem::MaybeUninit;
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

/// The number of a signal that [`asks_to_end`], and that is pending because it is blocked; sigpending(2). It stays so.
pub fn pending_end() -> Result<Option<i32>> {
    let mut pending = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the pointer is to a set, which the call fills.
    let ret = unsafe { libc::sigpending(pending.as_mut_ptr()) };
    check("sigpending", ret.into())?;
    let is_there = |signal: &i32| {
        // SAFETY: the call has filled the set, and the number is one of a signal.
        unsafe { libc::sigismember(pending.as_ptr(), *signal) == 1 }
    };
    Ok(TO_END.into_iter().find(is_there))
}

/// Whether a program that leaves its signals alone is ended by this one, and a user sends it for that.
pub fn asks_to_end(number: i32) -> bool {
    TO_END.contains(&number)
}

const TO_END: [i32; 4] = [libc::SIGTERM, libc::SIGINT, libc::SIGHUP, libc::SIGQUIT];

pub const KILL: i32 = libc::SIGKILL;
pub const TERM: i32 = libc::SIGTERM;
pub const CHLD: i32 = libc::SIGCHLD;
pub const WINCH: i32 = libc::SIGWINCH;
pub const URG: i32 = libc::SIGURG;
pub const SYS: i32 = libc::SIGSYS;
