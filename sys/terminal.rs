//! The caller's terminal, while a container's terminal is joined to it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::termios::{OutputFlags, SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

use super::error::{Errno, Result, SysError, check};

/// A terminal in raw mode, which gets its old mode back when this is dropped.
pub struct Raw {
    fd: OwnedFd,
    old: Termios,
}

/// Makes `fd` raw; `None` if it is no terminal.
pub fn make_raw(fd: BorrowedFd) -> Result<Option<Raw>> {
    let old = match tcgetattr(fd) {
        Err(Errno::ENOTTY | Errno::EINVAL | Errno::ENODEV) => return Ok(None),
        Err(errno) => return Err(SysError::new("tcgetattr", errno)),
        Ok(old) => old,
    };
    let fd = fd.try_clone_to_owned().map_err(|_| SysError::last("fcntl"))?;
    let mut raw = old.clone();
    cfmakeraw(&mut raw);
    // What a container's terminal leaves of newlines gets its carriage returns here.
    raw.output_flags |= OutputFlags::OPOST | OutputFlags::ONLCR;
    tcsetattr(&fd, SetArg::TCSANOW, &raw).map_err(|errno| SysError::new("tcsetattr", errno))?;
    Ok(Some(Raw { fd, old }))
}

impl Drop for Raw {
    fn drop(&mut self) {
        // The terminal may be gone by now.
        let _ = tcsetattr(self.fd.as_fd(), SetArg::TCSANOW, &self.old);
    }
}

/// Gives the terminal `to` the size of the terminal `from`.
pub fn copy_size(from: BorrowedFd, to: BorrowedFd) -> Result<()> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: `size` is what the request fills.
    let ret = unsafe { libc::ioctl(from.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    check("ioctl TIOCGWINSZ", ret.into())?;
    // SAFETY: `size` is what the request reads.
    let ret = unsafe { libc::ioctl(to.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    check("ioctl TIOCSWINSZ", ret.into()).map(drop)
}

/// Lets reads and writes of `fd` return EAGAIN where they would wait.
pub fn set_nonblocking(fd: BorrowedFd) -> Result<()> {
    let flags = fcntl(fd, FcntlArg::F_GETFL).map_err(|errno| SysError::new("fcntl", errno))?;
    let flags = OFlag::from_bits_retain(flags) | OFlag::O_NONBLOCK;
    fcntl(fd, FcntlArg::F_SETFL(flags)).map(drop).map_err(|errno| SysError::new("fcntl", errno))
}

/// Writes as much as `to` takes at once.
pub fn write_some(to: BorrowedFd, bytes: &[u8]) -> Result<usize> {
    nix::unistd::write(to, bytes).map_err(|errno| SysError::new("write", errno))
}

/// Bytes on their way from one descriptor to another, so that neither is waited for while the other one could go on.
pub struct Flow {
    buffer: Box<[u8; 4096]>,
    start: usize,
    end: usize,
}

impl Default for Flow {
    fn default() -> Self {
        Self { buffer: Box::new([0; 4096]), start: 0, end: 0 }
    }
}

impl Flow {
    /// Whether bytes that were read wait to be written.
    pub fn is_pending(&self) -> bool {
        self.start < self.end
    }

    /// Reads what is there; false at the end. A terminal whose last user is gone reads as EIO.
    pub fn fill(&mut self, from: BorrowedFd) -> Result<bool> {
        match nix::unistd::read(from, self.buffer.as_mut_slice()) {
            Err(Errno::EINTR | Errno::EAGAIN) => Ok(true),
            Err(Errno::EIO) | Ok(0) => Ok(false),
            Err(errno) => Err(SysError::new("read", errno)),
            Ok(len) => {
                (self.start, self.end) = (0, len);
                Ok(true)
            }
        }
    }

    /// Writes as much as `to` takes at once: up to 4096 bytes, which a pipe that polls as writable takes (pipe(7)).
    pub fn drain(&mut self, to: BorrowedFd) -> Result<()> {
        match nix::unistd::write(to, self.buffer.get(self.start..self.end).unwrap_or_default()) {
            Err(Errno::EINTR | Errno::EAGAIN) => Ok(()),
            Err(errno) => Err(SysError::new("write", errno)),
            Ok(written) => {
                self.start += written;
                Ok(())
            }
        }
    }
}
