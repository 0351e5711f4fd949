//! The one thing init does to a new network namespace itself: its loopback device comes up (netdevice(7)).

use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use super::error::{Result, check};

/// Sets the loopback device of the caller's network namespace up. A device ioctl works on any socket, and unix
/// sockets exist in every kernel and cost the least.
pub fn loopback_up() -> Result<()> {
    let socket = device_socket()?;
    // SAFETY: an all-zero ifreq is valid.
    let mut request: libc::ifreq = unsafe { core::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(*b"lo") {
        *slot = byte as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = libc::IFF_UP as libc::c_short;
    // SAFETY: `request` is a live ifreq with a NUL-terminated name.
    let ret = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS as libc::Ioctl, &request) };
    check("ioctl(SIOCSIFFLAGS)", libc::c_long::from(ret)).map(drop)
}

/// Whether the loopback device of the caller's network namespace is up.
#[cfg(any(test, feature = "testing"))]
pub fn loopback_is_up() -> Result<bool> {
    let socket = device_socket()?;
    // SAFETY: an all-zero ifreq is valid.
    let mut request: libc::ifreq = unsafe { core::mem::zeroed() };
    for (slot, byte) in request.ifr_name.iter_mut().zip(*b"lo") {
        *slot = byte as libc::c_char;
    }
    // SAFETY: `request` is a live ifreq with a NUL-terminated name, and the kernel fills in its flags.
    let ret = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS as libc::Ioctl, &mut request) };
    check("ioctl(SIOCGIFFLAGS)", libc::c_long::from(ret))?;
    // SAFETY: SIOCGIFFLAGS has just written that member of the union.
    let flags = unsafe { request.ifr_ifru.ifru_flags };
    Ok(libc::c_int::from(flags) & libc::IFF_UP != 0)
}

fn device_socket() -> Result<OwnedFd> {
    // SAFETY: the arguments are numbers.
    let ret = unsafe { libc::socket(libc::AF_UNIX, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0) };
    let fd = check("socket", libc::c_long::from(ret))?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}
