//! The caller's terminal, while a container's terminal is joined to it.

use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::sys::termios::{SetArg, Termios, cfmakeraw, tcgetattr, tcsetattr};

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

/// Copies what is there to read; false at the end of `from`. A terminal whose last user is gone reads as EIO.
pub fn copy_some(from: BorrowedFd, to: BorrowedFd) -> Result<bool> {
    let mut buffer = [0; 32 * 1024];
    let len = loop {
        match nix::unistd::read(from, &mut buffer) {
            Err(Errno::EINTR) => continue,
            Err(Errno::EIO) | Ok(0) => return Ok(false),
            Err(errno) => return Err(SysError::new("read", errno)),
            Ok(len) => break len,
        }
    };
    let mut rest = buffer.get(..len).unwrap_or_default();
    while !rest.is_empty() {
        match nix::unistd::write(to, rest) {
            Err(Errno::EINTR) => continue,
            Err(errno) => return Err(SysError::new("write", errno)),
            Ok(written) => rest = rest.get(written..).unwrap_or_default(),
        }
    }
    Ok(true)
}
