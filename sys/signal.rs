//! Signals, heard through a descriptor, and their numbers.

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::error::{Result, SysError};

/// Blocks every signal and returns the descriptor on which they are heard.
pub fn listen() -> Result<Signals> {
    let all = SigSet::all();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&all), None).map_err(|errno| SysError::new("sigprocmask", errno))?;
    let fd = SignalFd::with_flags(&all, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
        .map_err(|errno| SysError::new("signalfd", errno))?;
    Ok(Signals(fd))
}

/// Every signal sent to this process, as a descriptor to poll and read.
pub struct Signals(SignalFd);

impl Signals {
    /// The number of the next signal, if one has come.
    pub fn next(&self) -> Result<Option<i32>> {
        let info = self.0.read_signal().map_err(|errno| SysError::new("read", errno))?;
        Ok(info.map(|info| info.ssi_signo as i32))
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
