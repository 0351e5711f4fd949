//! The network devices that the guest sees, and the sockets that a service manager has for it.

use crate::answer::Answer;
use crate::files::check;
use serde_json::{Map, Value, json};
use std::ffi::CStr;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::FromRawFd;
use std::os::unix::net::{UnixDatagram, UnixListener};

/// `{name: {up, addresses}}`, each address with the length of its prefix, in the kernel's order.
pub fn devices() -> Answer {
    let mut first = std::ptr::null_mut();
    // SAFETY: the kernel's answer is put where we say, and given back below.
    check(unsafe { libc::getifaddrs(&mut first) }.into())?;
    let mut all: Map<String, Value> = Map::new();
    let mut next = first;
    // SAFETY: each entry of the list is live until freeifaddrs.
    while let Some(entry) = unsafe { next.as_ref() } {
        // SAFETY: the name is NUL-terminated and lives as long as the list.
        let name = unsafe { CStr::from_ptr(entry.ifa_name) }.to_string_lossy().into_owned();
        let up = entry.ifa_flags & libc::IFF_UP as u32 != 0;
        let device = all.entry(name).or_insert_with(|| json!({ "up": up, "addresses": [] }));
        if let (Some(address), Some(mask), Some(list)) =
            (ip(entry.ifa_addr), ip(entry.ifa_netmask), device["addresses"].as_array_mut())
        {
            let prefix: u32 = match mask {
                IpAddr::V4(mask) => mask.octets().iter().map(|byte| byte.count_ones()).sum(),
                IpAddr::V6(mask) => mask.octets().iter().map(|byte| byte.count_ones()).sum(),
            };
            list.push(json!(format!("{address}/{prefix}")));
        }
        next = entry.ifa_next;
    }
    // SAFETY: the list came from getifaddrs, and nothing of it is used any more.
    unsafe { libc::freeifaddrs(first) };
    Ok(all.into())
}

/// Tells the service manager, as sd_notify(3) does; `\n` in the text is a new line.
pub fn notify(text: &str) -> Answer {
    let name = std::env::var("NOTIFY_SOCKET").unwrap_or_default();
    UnixDatagram::unbound()?.send_to(text.replace("\\n", "\n").as_bytes(), name).map(|_| json!("ok"))
}

/// Answers one connection to descriptor 3, a listening socket as systemd passes it.
pub fn serve() -> Answer {
    // SAFETY: it is nobody else's in this process.
    let listener = unsafe { UnixListener::from_raw_fd(3) };
    listener.accept()?.0.write_all(b"served").map(|()| json!("ok"))
}

fn ip(address: *const libc::sockaddr) -> Option<IpAddr> {
    // SAFETY: null, or a live sockaddr, whose family says how long it is.
    match i32::from(unsafe { address.as_ref() }?.sa_family) {
        libc::AF_INET => {
            // SAFETY: as above.
            let address = unsafe { &*address.cast::<libc::sockaddr_in>() };
            Some(Ipv4Addr::from(u32::from_be(address.sin_addr.s_addr)).into())
        }
        libc::AF_INET6 => {
            // SAFETY: as above.
            let address = unsafe { &*address.cast::<libc::sockaddr_in6>() };
            Some(Ipv6Addr::from(address.sin6_addr.s6_addr).into())
        }
        _ => None,
    }
}
