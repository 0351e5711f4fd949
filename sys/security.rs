//! Which label modules the host's kernel runs.

use super::beneath;
use super::namespace::open;
use std::os::fd::AsFd;

/// Whether AppArmor is there and on, as its module parameter says.
pub fn apparmor_is_enabled() -> bool {
    let mut answer = [0; 1];
    let read =
        open(c"/sys/module/apparmor/parameters/enabled").and_then(|file| beneath::read_some(file.as_fd(), &mut answer));
    read == Ok(1) && answer == *b"Y"
}

/// Whether SELinux is there and on: its filesystem is mounted, which a disabled one has not (magic number of
/// linux/magic.h).
pub fn selinux_is_enabled() -> bool {
    // SAFETY: an all-zero statfs is valid.
    let mut info: libc::statfs = unsafe { core::mem::zeroed() };
    // SAFETY: the path is NUL-terminated and `info` is live.
    let ret = unsafe { libc::statfs(c"/sys/fs/selinux".as_ptr(), &mut info) };
    ret == 0 && info.f_type == 0xf97c_ff8c
}
