//! Pseudoterminals: ioctl_tty(2), pty(7).

use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};

use super::error::{Result, check};
use super::file::owned;

/// Rows and columns of a terminal.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Size {
    pub rows: u16,
    pub columns: u16,
}

/// Lets the other end of `master` be opened, as unlockpt(3).
pub fn unlock(master: BorrowedFd) -> Result<()> {
    let lock: libc::c_int = 0;
    // SAFETY: TIOCSPTLCK reads one int, which outlives the call.
    let ret = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCSPTLCK, &raw const lock) };
    check("ioctl TIOCSPTLCK", ret.into()).map(drop)
}

/// The other end of `master`, opened without any path: no symlink in `/dev/pts` can stand in for it
/// (CVE-2025-52565). Linux 4.13.
pub fn peer(master: BorrowedFd) -> Result<OwnedFd> {
    let flags = libc::O_RDWR | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: TIOCGPTPEER takes its flags by value.
    let ret = unsafe { libc::ioctl(master.as_raw_fd(), libc::TIOCGPTPEER, flags) };
    owned("ioctl TIOCGPTPEER", ret.into())
}

/// Lets a newline that is written to the other end of `master` come out as it is: without ONLCR of termios(3).
pub fn keep_newlines(master: BorrowedFd) -> Result<()> {
    let mut modes = modes(master)?;
    modes.c_oflag &= !libc::ONLCR;
    // SAFETY: reads one struct termios, which outlives the call.
    let ret = unsafe { libc::tcsetattr(master.as_raw_fd(), libc::TCSANOW, &raw const modes) };
    check("tcsetattr", ret.into()).map(drop)
}

/// The character that ends the input at the other end of `master`; None: it has none.
pub fn end_character(master: BorrowedFd) -> Result<Option<u8>> {
    let modes = modes(master)?;
    Ok(modes.c_cc.get(libc::VEOF).copied().filter(|end| *end != libc::_POSIX_VDISABLE))
}

fn modes(terminal: BorrowedFd) -> Result<libc::termios> {
    // SAFETY: termios is plain data, for which all zeroes is a valid value.
    let mut modes: libc::termios = unsafe { core::mem::zeroed() };
    // SAFETY: writes one struct termios, which outlives the call.
    let ret = unsafe { libc::tcgetattr(terminal.as_raw_fd(), &raw mut modes) };
    check("tcgetattr", ret.into())?;
    Ok(modes)
}

/// Tells `terminal` how large its window is.
pub fn set_size(terminal: BorrowedFd, size: Size) -> Result<()> {
    let size = libc::winsize { ws_row: size.rows, ws_col: size.columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCSWINSZ reads one struct winsize, which outlives the call.
    let ret = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    check("ioctl TIOCSWINSZ", ret.into()).map(drop)
}

/// How large the window of `terminal` is; ENOTTY if it is no terminal.
pub fn size(terminal: BorrowedFd) -> Result<Size> {
    let mut size = libc::winsize { ws_row: 0, ws_col: 0, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: TIOCGWINSZ writes one struct winsize, which outlives the call.
    let ret = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCGWINSZ, &raw mut size) };
    check("ioctl TIOCGWINSZ", ret.into())?;
    Ok(Size { rows: size.ws_row, columns: size.ws_col })
}

/// Makes standard input the controlling terminal of the session that the caller leads.
pub fn control_stdin() -> Result<()> {
    // SAFETY: TIOCSCTTY takes an integer; 0 does not steal the terminal from another session.
    let ret = unsafe { libc::ioctl(libc::STDIN_FILENO, libc::TIOCSCTTY, 0) };
    check("ioctl TIOCSCTTY", ret.into()).map(drop)
}
