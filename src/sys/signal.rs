//! Signals: what a new program must not inherit from us, and hearing them through a descriptor.

use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::error::{Result, SysError};

/// Gives every signal its default action back and unblocks all: Rust ignores SIGPIPE, and an ignored signal stays
/// ignored across execve(2).
pub fn reset() {
    // SAFETY: the default action runs no code of ours. SIGPIPE is the one signal that this program ignores; those a
    // caller had set to ignored are the caller's choice, as with nohup(1).
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    // Only fails for an unknown `how`.
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}

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

pub const KILL: i32 = libc::SIGKILL;
pub const TERM: i32 = libc::SIGTERM;
pub const CHLD: i32 = libc::SIGCHLD;
pub const WINCH: i32 = libc::SIGWINCH;
pub const URG: i32 = libc::SIGURG;
