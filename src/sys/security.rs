//! Which label modules the host's kernel runs.

use core::ffi::CStr;

use super::beneath;
use super::error::{Result, check};
use super::namespace::open;
use std::os::fd::AsFd;

/// Whether AppArmor is there and on, as its module parameter says.
pub fn apparmor_is_enabled() -> bool {
    let mut answer = [0; 1];
    let read =
        open(c"/sys/module/apparmor/parameters/enabled").and_then(|file| beneath::read_some(file.as_fd(), &mut answer));
    read == Ok(1) && answer == *b"Y"
}

/// Whether SELinux is there and on: its filesystem is mounted, which a disabled one has not.
pub fn selinux_is_enabled() -> bool {
    const SELINUX_MAGIC: i64 = 0xf97c_ff8c;
    filesystem(c"/sys/fs/selinux") == Ok(SELINUX_MAGIC)
}

/// The magic number of the filesystem at `path`; statfs(2).
fn filesystem(path: &CStr) -> Result<i64> {
    // SAFETY: an all-zero statfs is valid.
    let mut info: libc::statfs = unsafe { core::mem::zeroed() };
    // SAFETY: `path` is NUL-terminated and `info` is live.
    let ret = unsafe { libc::statfs(path.as_ptr(), &mut info) };
    check("statfs", libc::c_long::from(ret)).map(|_| i64::from(info.f_type))
}
