//! The system calls that no crate has a safe function for, and short forms of others.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::wait::{Id, WaitPidFlag, WaitStatus, waitid};

/// A descriptor of a child that has not been waited for, so that the pid is still its own.
pub fn pidfd_open(pid: u32) -> io::Result<OwnedFd> {
    // SAFETY: pidfd_open takes two numbers.
    let fd = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just returned this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Sends a signal to exactly this process.
pub fn pidfd_send_signal(pidfd: BorrowedFd<'_>, signal: u32) -> io::Result<()> {
    let nothing = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open, and a null pointer means the information that kill(2) would give.
    let result = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, nothing, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The status of a process that has ended, which it is asked for once: 128 and the signal, if one ended it.
pub fn wait(pidfd: BorrowedFd<'_>) -> Option<u32> {
    status(&waitid(Id::PIDFd(pidfd), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG).ok()?)
}

fn status(status: &WaitStatus) -> Option<u32> {
    match status {
        WaitStatus::Exited(_, code) => Some(*code as u32),
        WaitStatus::Signaled(_, signal, _) => Some(128 + *signal as u32),
        _ => None,
    }
}

/// A child that has ended, and is not waited for by this.
pub fn ended_child() -> Option<nix::unistd::Pid> {
    waitid(Id::All, WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT).ok()?.pid()
}

pub fn reap(pid: nix::unistd::Pid) {
    // It is there, since ended_child has just seen it; what it was is nobody's question.
    let _ = waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG);
}

pub fn set_nonblocking(fd: impl AsFd) -> io::Result<()> {
    let flags = OFlag::from_bits_truncate(fcntl(&fd, FcntlArg::F_GETFL)?);
    fcntl(&fd, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(())
}

pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: this option takes a number.
    let result = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
