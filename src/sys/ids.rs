//! Whose process this is.

/// The effective user id, geteuid(2).
pub fn effective_uid() -> u32 {
    nix::unistd::geteuid().as_raw()
}

/// The effective group id, getegid(2).
pub fn effective_gid() -> u32 {
    nix::unistd::getegid().as_raw()
}
