//! Terminals: a pty of the test's own, and the console socket that receives one.

use crate::user;
use crate::wait::eventually;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// A pty of `rows` × `columns`: master and slave.
pub fn pty(rows: u16, columns: u16) -> (File, File) {
    let (mut master, mut slave) = (0, 0);
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: two valid pointers for the descriptors, a valid size, null where openpty allows it.
    let ret = unsafe { libc::openpty(&mut master, &mut slave, std::ptr::null_mut(), std::ptr::null(), &size) };
    assert_eq!(ret, 0, "openpty");
    // SAFETY: openpty just made both, and nobody else owns them.
    unsafe { (File::from_raw_fd(master), File::from_raw_fd(slave)) }
}

/// What comes out of a terminal until its other end is gone or `enough` says so; `\r\n` as `\n`.
pub fn read_until(terminal: &mut File, enough: impl Fn(&str) -> bool) -> String {
    let mut text = String::new();
    // SAFETY: sets a flag on our own descriptor.
    unsafe { libc::fcntl(terminal.as_raw_fd(), libc::F_SETFL, libc::O_NONBLOCK) };
    eventually("output on the terminal", || {
        let mut buffer = [0u8; 4096];
        match terminal.read(&mut buffer) {
            Ok(0) => return true,
            Ok(count) => text += &String::from_utf8_lossy(buffer.get(..count).unwrap_or_default()).replace('\r', ""),
            // EIO: the last holder of the other end is gone.
            Err(error) if error.raw_os_error() == Some(libc::EIO) => return true,
            Err(_) => {}
        }
        enough(&text)
    });
    text
}

/// A listening socket for `--console-socket` or `--pidfd-socket`.
pub struct Receiver {
    pub path: PathBuf,
    listener: UnixListener,
}

impl Receiver {
    /// A socket at `path`, which is made short enough for sun_path.
    pub fn new(path: &Path) -> Self {
        let listener = UnixListener::bind(path).expect("socket");
        listener.set_nonblocking(true).expect("socket");
        user::give_in_suite(path);
        Receiver { path: path.to_owned(), listener }
    }

    /// The descriptor that the next connection brings, and the bytes beside it.
    #[track_caller]
    pub fn receive(&self) -> (OwnedFd, String) {
        let mut stream = None;
        eventually("connection to the socket", || {
            stream = self.listener.accept().ok();
            stream.is_some()
        });
        receive(&stream.expect("stream").0)
    }
}

/// One SCM_RIGHTS message (unix(7)).
fn receive(stream: &UnixStream) -> (OwnedFd, String) {
    let (mut bytes, mut control) = ([0u8; 256], [0u64; 8]);
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: an all-zero msghdr is a valid value.
    let mut message: libc::msghdr = unsafe { std::mem::zeroed() };
    message.msg_iov = &mut part;
    message.msg_iovlen = 1;
    message.msg_control = control.as_mut_ptr().cast();
    message.msg_controllen = size_of_val(&control) as _;
    stream.set_nonblocking(false).expect("socket");
    // SAFETY: all pointers in the message are to live buffers of the lengths given.
    let count = unsafe { libc::recvmsg(stream.as_raw_fd(), &mut message, libc::MSG_CMSG_CLOEXEC) };
    assert!(count >= 0, "recvmsg: {}", std::io::Error::last_os_error());
    // SAFETY: the kernel filled the control buffer; one header with one descriptor is what we made room for.
    let fd = unsafe {
        let header = libc::CMSG_FIRSTHDR(&message);
        assert!(!header.is_null() && (*header).cmsg_type == libc::SCM_RIGHTS, "no descriptor in the message");
        OwnedFd::from_raw_fd(libc::CMSG_DATA(header).cast::<i32>().read_unaligned())
    };
    let text = bytes.get(..usize::try_from(count).unwrap_or(0)).unwrap_or_default();
    (fd, String::from_utf8_lossy(text).into_owned())
}
