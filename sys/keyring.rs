//! Session keyrings (keyrings(7), keyctl(2)).

use core::ffi::CStr;

use super::error::{Result, check};

/// The number of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key(i32);

const KEYCTL_JOIN_SESSION_KEYRING: libc::c_long = 1;
const KEYCTL_SETPERM: libc::c_long = 5;
const KEYCTL_DESCRIBE: libc::c_long = 6;

/// Joins the session keyring `name`, made if there is none, and returns it.
pub fn join_session(name: &CStr) -> Result<Key> {
    // SAFETY: `name` is NUL-terminated and outlives the call.
    let ret = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_JOIN_SESSION_KEYRING, name.as_ptr()) };
    check("keyctl(KEYCTL_JOIN_SESSION_KEYRING)", ret).map(|key| Key(key as i32))
}

/// Writes the description of `key`, `type;uid;gid;permissions;name` with a NUL behind it, into `buffer` and returns
/// the length it has in whole; what does not fit is not written.
pub fn describe(key: Key, buffer: &mut [u8]) -> Result<usize> {
    let Key(id) = key;
    // SAFETY: the kernel writes at most buffer.len() bytes.
    let ret = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_DESCRIBE, id, buffer.as_mut_ptr(), buffer.len()) };
    check("keyctl(KEYCTL_DESCRIBE)", ret).map(|len| len as usize)
}

/// Sets the permissions of `key`.
pub fn set_permissions(key: Key, permissions: u32) -> Result<()> {
    let Key(id) = key;
    // SAFETY: the arguments are numbers.
    let ret = unsafe { libc::syscall(libc::SYS_keyctl, KEYCTL_SETPERM, id, permissions) };
    check("keyctl(KEYCTL_SETPERM)", ret).map(drop)
}
