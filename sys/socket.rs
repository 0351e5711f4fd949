//! Unix sockets: the pair that runtime and init talk over, the start gate, and descriptors that travel.
//!
//! A socket in a directory is named through the directory's descriptor (`/proc/self/fd/N/name`): a state directory's
//! path may be longer than the 108 bytes of a socket address.

use core::ffi::CStr;
use core::mem::{size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use nix::sys::time::{TimeVal, TimeValLike};

use super::error::{Errno, Fault, Result, SysError, check};
use super::timed_io::TIMEOUT;

/// What a connection that is not accepted waits for; the words name [`TIMEOUT`].
const NOT_ACCEPTED: &str = "nobody has accepted a connection within 10 s, and the queue is full";

/// The most descriptors that one message of ours carries.
pub const MAX_FDS: usize = 64;

/// Two connected ends that keep message boundaries and tell when the peer is gone.
pub fn pair() -> Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    // SAFETY: room for two descriptors.
    let ret =
        unsafe { libc::socketpair(libc::AF_UNIX, libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC, 0, fds.as_mut_ptr()) };
    check("socketpair", ret.into())?;
    let [one, other] = fds;
    // SAFETY: the kernel just made it for us.
    let one = unsafe { OwnedFd::from_raw_fd(one) };
    // SAFETY: and this one.
    let other = unsafe { OwnedFd::from_raw_fd(other) };
    Ok((one, other))
}

/// Listens on the new socket `name` in `directory`, for one connection at a time.
pub fn listen_in(directory: BorrowedFd, name: &CStr) -> Result<OwnedFd> {
    let socket = unconnected(libc::SOCK_SEQPACKET)?;
    let (address, len) = address_in(directory, name)?;
    // What bind(2) makes has the socket's own mode, less the mask.
    // SAFETY: no pointers.
    let ret = unsafe { libc::fchmod(socket.as_raw_fd(), 0o600) };
    check("fchmod", ret.into())?;
    // SAFETY: `address` is a sockaddr_un of which `len` bytes count.
    let ret = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) };
    check("bind", ret.into())?;
    // SAFETY: no pointers.
    let ret = unsafe { libc::listen(socket.as_raw_fd(), 1) };
    check("listen", ret.into())?;
    Ok(socket)
}

/// Binds a datagram socket to the new name `name` in `directory`, to which everybody may send.
pub fn bind_datagram_in(directory: BorrowedFd, name: &CStr) -> Result<OwnedFd> {
    let socket = unconnected(libc::SOCK_DGRAM)?;
    let (address, len) = address_in(directory, name)?;
    // SAFETY: no pointers.
    let ret = unsafe { libc::fchmod(socket.as_raw_fd(), 0o666) };
    check("fchmod", ret.into())?;
    // SAFETY: `address` is a sockaddr_un of which `len` bytes count.
    let ret = unsafe { libc::bind(socket.as_raw_fd(), (&raw const address).cast(), len) };
    check("bind", ret.into())?;
    Ok(socket)
}

/// Connects to the socket `name` in `directory`, as [`connect_stream`] does. ENOENT: no such socket; ECONNREFUSED: nobody
/// listens any more.
pub fn connect_in(directory: BorrowedFd, name: &CStr) -> core::result::Result<OwnedFd, Fault> {
    let (address, len) = address_in(directory, name)?;
    connect(unconnected(libc::SOCK_SEQPACKET)?, &address, len)
}

fn unconnected(kind: libc::c_int) -> Result<OwnedFd> {
    // SAFETY: no pointers.
    let ret = unsafe { libc::socket(libc::AF_UNIX, kind | libc::SOCK_CLOEXEC, 0) };
    let fd = check("socket", ret.into())?;
    // SAFETY: the kernel just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn address_in(directory: BorrowedFd, name: &CStr) -> Result<(libc::sockaddr_un, libc::socklen_t)> {
    // SAFETY: sockaddr_un is plain data, for which all zeroes is a valid value.
    let mut address: libc::sockaddr_un = unsafe { zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    let mut path = super::Text::default();
    let _ = core::fmt::write(&mut path, format_args!("/proc/self/fd/{}/", directory.as_raw_fd()));
    path.push(name.to_bytes());
    if path.as_bytes().len() >= address.sun_path.len() {
        return Err(SysError::new("bind", Errno::ENAMETOOLONG));
    }
    for (slot, byte) in address.sun_path.iter_mut().zip(path.as_bytes()) {
        *slot = *byte as libc::c_char;
    }
    Ok((address, size_of::<libc::sockaddr_un>() as libc::socklen_t))
}

/// The next connection to a listening socket.
pub fn accept(listener: BorrowedFd) -> Result<OwnedFd> {
    loop {
        // SAFETY: the peer's address is not asked for.
        let ret = unsafe {
            libc::accept4(listener.as_raw_fd(), core::ptr::null_mut(), core::ptr::null_mut(), libc::SOCK_CLOEXEC)
        };
        match check("accept4", ret.into()) {
            Err(error) if error.errno == Errno::EINTR => continue,
            Err(error) => return Err(error),
            // SAFETY: the kernel just made it for us.
            Ok(fd) => return Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) }),
        }
    }
}

/// What the C library makes of the length of a control message: the kernel's is a usize. Ours are a few hundred bytes.
#[cfg(target_env = "gnu")]
type Length = usize;
#[cfg(not(target_env = "gnu"))]
type Length = libc::socklen_t;

/// A control message with [`MAX_FDS`] descriptors, as cmsg(3) lays it out: the data follow the header at once, which is
/// a multiple of the alignment that CMSG_DATA asks for.
#[repr(C)]
struct Control {
    header: libc::cmsghdr,
    fds: [libc::c_int; MAX_FDS],
}

impl Control {
    const HEADER: usize = size_of::<libc::cmsghdr>();
    const FULL: usize = Self::HEADER + MAX_FDS * size_of::<libc::c_int>();

    fn empty() -> Self {
        // SAFETY: cmsghdr and the descriptors are plain numbers, for which zero is a valid value.
        unsafe { zeroed() }
    }

    fn with(fds: &[BorrowedFd]) -> Result<Self> {
        if fds.len() > MAX_FDS {
            return Err(SysError::new("sendmsg", Errno::E2BIG));
        }
        let mut control = Self::empty();
        control.header.cmsg_level = libc::SOL_SOCKET;
        control.header.cmsg_type = libc::SCM_RIGHTS;
        control.header.cmsg_len = (Self::HEADER + size_of_val(fds)) as Length;
        for (slot, fd) in control.fds.iter_mut().zip(fds) {
            *slot = fd.as_raw_fd();
        }
        Ok(control)
    }

    /// The descriptors in what recvmsg filled up to `len` bytes.
    fn into_fds(self, len: usize) -> [Option<OwnedFd>; MAX_FDS] {
        let mut fds = [const { None }; MAX_FDS];
        let Self { header, .. } = self;
        if len < Self::HEADER || header.cmsg_level != libc::SOL_SOCKET || header.cmsg_type != libc::SCM_RIGHTS {
            return fds;
        }
        let count = header.cmsg_len.saturating_sub(Self::HEADER as Length) / size_of::<libc::c_int>() as Length;
        for (slot, fd) in fds.iter_mut().zip(self.fds).take(count as usize) {
            // SAFETY: the kernel made it for this message, and `self` is gone with this: nobody else owns it.
            *slot = Some(unsafe { OwnedFd::from_raw_fd(fd) });
        }
        fds
    }
}

/// Sends one message, with up to [`MAX_FDS`] descriptors. EPIPE: the peer is gone (no signal is raised).
pub fn send(socket: BorrowedFd, bytes: &[u8], fds: &[BorrowedFd]) -> Result<()> {
    send_part(socket, bytes, fds).map(drop)
}

/// Sends one message by write(2). A peer that is gone is SIGPIPE, or EPIPE where that is ignored.
pub fn write(socket: BorrowedFd, bytes: &[u8]) -> Result<()> {
    // SAFETY: `bytes` outlives the call.
    let ret = unsafe { libc::write(socket.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
    check("write", ret as libc::c_long).map(drop)
}

/// Sends all of `bytes` over a stream; the descriptors go with the first part.
pub fn send_all(socket: BorrowedFd, bytes: &[u8], fds: &[BorrowedFd]) -> Result<()> {
    let mut rest = bytes.get(send_part(socket, bytes, fds)?..).unwrap_or_default();
    while !rest.is_empty() {
        rest = rest.get(send_part(socket, rest, &[])?..).unwrap_or_default();
    }
    Ok(())
}

/// How many bytes were sent.
fn send_part(socket: BorrowedFd, bytes: &[u8], fds: &[BorrowedFd]) -> Result<usize> {
    let mut control = Control::with(fds)?;
    let mut part = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    // SAFETY: msghdr is plain data, for which all zeroes is a valid value.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    if !fds.is_empty() {
        message.msg_control = (&raw mut control).cast();
        message.msg_controllen = control.header.cmsg_len;
    }
    loop {
        // SAFETY: everything that `message` points at outlives the call.
        let ret = unsafe { libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_NOSIGNAL) };
        match check("sendmsg", ret as libc::c_long) {
            Err(error) if error.errno == Errno::EINTR => continue,
            result => return result.map(|sent| sent as usize),
        }
    }
}

/// What came with a message: its length (0: the peer is gone) and its descriptors, in order.
pub struct Received {
    pub len: usize,
    pub fds: [Option<OwnedFd>; MAX_FDS],
}

/// Receives one message of ours into `buffer`, waiting for it.
pub fn receive(socket: BorrowedFd, buffer: &mut [u8]) -> Result<Received> {
    let mut control = Control::empty();
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: msghdr is plain data, for which all zeroes is a valid value.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = Control::FULL as Length;
    let mut was_reset = false;
    let len = loop {
        // SAFETY: everything that `message` points at outlives the call.
        let ret = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, libc::MSG_CMSG_CLOEXEC) };
        match check("recvmsg", ret as libc::c_long) {
            Err(error) if error.errno == Errno::EINTR => continue,
            // The peer died with something of ours unread. The kernel says so once, before what the peer had said.
            Err(error) if error.errno == Errno::ECONNRESET && !was_reset => was_reset = true,
            Err(error) if error.errno == Errno::ECONNRESET => break 0,
            Err(error) => return Err(error),
            Ok(len) => break len as usize,
        }
    };
    Ok(Received { len, fds: control.into_fds(message.msg_controllen as usize) })
}
/// A message that was looked at, and stays where it is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Peeked {
    /// Of the bytes that the buffer had room for.
    pub len: usize,
    pub has_descriptors: bool,
}

/// Looks at the next message. Nothing that comes with it gets into this process. EAGAIN: there is none.
pub fn peek(socket: BorrowedFd, buffer: &mut [u8]) -> Result<Peeked> {
    let (len, flags) = receive_bytes(socket, buffer, libc::MSG_PEEK)?;
    Ok(Peeked { len, has_descriptors: flags & libc::MSG_CTRUNC != 0 })
}

/// Takes the next message away. What comes with it, the kernel closes, which may take as long as the sender likes.
pub fn discard(socket: BorrowedFd) -> Result<()> {
    receive_bytes(socket, &mut [], 0).map(drop)
}

/// How many bytes were read, and the message's flags.
fn receive_bytes(socket: BorrowedFd, buffer: &mut [u8], flags: libc::c_int) -> Result<(usize, libc::c_int)> {
    let mut part = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    // SAFETY: msghdr is plain data, for which all zeroes is a valid value.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut part;
    message.msg_iovlen = 1;
    // SAFETY: everything that `message` points at outlives the call.
    let ret = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut message, flags | libc::MSG_DONTWAIT) };
    check("recvmsg", ret as libc::c_long).map(|len| (len as usize, message.msg_flags))
}

/// Connects a stream socket to the unix socket at `path` on the host: a console socket, a pidfd socket, an agent's. The
/// path may be of any length. Connecting and every sending fail with EAGAIN once [`TIMEOUT`] is over: whoever does not
/// accept or read is not waited for without end.
pub fn connect_stream(path: &std::path::Path) -> core::result::Result<OwnedFd, Fault> {
    use std::os::unix::ffi::OsStrExt;
    let io = |error: std::io::Error| SysError::io("connect", &error);
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Err(SysError::new("connect", Errno::EISDIR).into());
    };
    let parent = if parent.as_os_str().is_empty() { std::path::Path::new(".") } else { parent };
    let directory = std::fs::File::open(parent).map_err(io)?;
    let name = std::ffi::CString::new(name.as_bytes()).map_err(|_| SysError::new("connect", Errno::EINVAL))?;
    let (address, len) = address_in(std::os::fd::AsFd::as_fd(&directory), &name)?;
    connect(unconnected(libc::SOCK_STREAM)?, &address, len)
}

/// As [`connect_stream`], to the abstract socket `name` (unix(7)).
pub fn connect_abstract(name: &[u8]) -> core::result::Result<OwnedFd, Fault> {
    // SAFETY: sockaddr_un is plain data, for which all zeroes is a valid value.
    let mut address: libc::sockaddr_un = unsafe { zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    // The first byte of an abstract name is NUL, and there is none at its end.
    if name.len() >= address.sun_path.len() {
        return Err(SysError::new("connect", Errno::ENAMETOOLONG).into());
    }
    for (slot, byte) in address.sun_path.iter_mut().skip(1).zip(name) {
        *slot = *byte as libc::c_char;
    }
    let len = core::mem::offset_of!(libc::sockaddr_un, sun_path) + 1 + name.len();
    connect(unconnected(libc::SOCK_STREAM)?, &address, len as libc::socklen_t)
}

fn connect(socket: OwnedFd, address: &libc::sockaddr_un, len: libc::socklen_t) -> core::result::Result<OwnedFd, Fault> {
    let limit = *TimeVal::seconds(TIMEOUT.as_secs() as i64).as_ref();
    let size = size_of::<libc::timeval>() as libc::socklen_t;
    // SAFETY: `limit` is a timeval of `size` bytes and outlives the call.
    let ret = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_SNDTIMEO, (&raw const limit).cast(), size)
    };
    check("setsockopt", ret.into())?;
    // SAFETY: `address` is a sockaddr_un of which `len` bytes count.
    let ret = unsafe { libc::connect(socket.as_raw_fd(), (&raw const *address).cast(), len) };
    match check("connect", ret.into()) {
        Err(SysError { call, errno: Errno::EAGAIN }) => Err(Fault::new(call, Errno::EAGAIN, NOT_ACCEPTED)),
        Err(error) => Err(error.into()),
        Ok(_) => Ok(socket),
    }
}

/// An empty anonymous file, which cannot be executed (memfd_create(2); `MFD_NOEXEC_SEAL`: Linux 6.3, where
/// vm.memfd_noexec=2 allows no other).
pub fn sealable_file(name: &CStr) -> Result<OwnedFd> {
    memory_file(name, libc::MFD_NOEXEC_SEAL)
}

/// The same for a program, which may be executed: what vm.memfd_noexec=1 denies to those that do not ask for it. EACCES:
/// vm.memfd_noexec=2 denies it to all.
pub fn executable_file(name: &CStr) -> Result<OwnedFd> {
    memory_file(name, libc::MFD_EXEC)
}

fn memory_file(name: &CStr, kind: libc::c_uint) -> Result<OwnedFd> {
    let create = |flags| {
        // SAFETY: `name` is NUL-terminated and outlives the call.
        let ret = unsafe { libc::memfd_create(name.as_ptr(), libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | flags) };
        check("memfd_create", ret.into())
    };
    let fd = match create(kind) {
        // A kernel that does not know the flag, and has no such setting.
        Err(error) if error.errno == Errno::EINVAL => create(0)?,
        created => created?,
    };
    // SAFETY: the kernel just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// An anonymous file that holds `bytes` and can never change, at offset 0.
pub fn sealed_file(name: &CStr, bytes: &[u8]) -> Result<OwnedFd> {
    fill_and_seal(sealable_file(name)?, bytes)
}

/// Writes `bytes` into an empty anonymous file, and lets nothing change it any more.
pub fn fill_and_seal(file: OwnedFd, bytes: &[u8]) -> Result<OwnedFd> {
    use std::io::{Seek, Write};
    let mut file = std::fs::File::from(file);
    file.write_all(bytes).and_then(|()| file.rewind()).map_err(|error| SysError::io("write", &error))?;
    let seals = libc::F_SEAL_SEAL | libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_WRITE;
    // SAFETY: no pointers.
    let ret = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) };
    check("fcntl", ret.into())?;
    Ok(file.into())
}

/// Makes the file empty, and its offset 0.
pub fn empty(fd: BorrowedFd) -> Result<()> {
    // SAFETY: no pointers.
    let ret = unsafe { libc::ftruncate(fd.as_raw_fd(), 0) };
    check("ftruncate", ret.into())?;
    rewind(fd)
}

/// Whether it is a file as memfd_create(2) makes them, on which no read waits for anybody.
pub fn is_in_memory(fd: BorrowedFd) -> bool {
    // SAFETY: no pointers.
    let ret = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_GET_SEALS) };
    ret >= 0
}

/// Reads the beginning of the file, wherever its offset is; returns how much.
pub fn read_from_start(fd: BorrowedFd, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: `buffer` has that many bytes.
    let ret = unsafe { libc::pread(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
    check("pread", ret as libc::c_long).map(|length| length as usize)
}

/// Sets the file offset back to the start: the next reader sees the whole file.
pub fn rewind(fd: BorrowedFd) -> Result<()> {
    // SAFETY: no pointers.
    let ret = unsafe { libc::lseek(fd.as_raw_fd(), 0, libc::SEEK_SET) };
    check("lseek", ret).map(drop)
}

#[cfg(test)]
mod tests;
