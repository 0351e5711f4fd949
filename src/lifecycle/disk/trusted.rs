//! The files of a container's state directory, read with suspicion: what they say decides which processes are killed and
//! which hooks run, and `--root` may lie where others can write.

use std::ffi::CStr;
use std::fmt;
use std::os::fd::BorrowedFd;

use anyhow::{Result, bail};

use crate::sys::regular::{self, Unfit};
use crate::sys::{Errno, ids};

/// What a file may hold, in bytes: a hundred times what the largest config.json leads to.
pub const LIMIT: u64 = 16 << 20;

/// A file, or the directory, belongs to this other user.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Foreign(u32);

impl fmt::Display for Foreign {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "belongs to user {}, not to user {}", self.0, ids::effective_uid())
    }
}

impl std::error::Error for Foreign {}

/// Others may write the directory, whose permissions are these.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct OthersMayWrite(u32);

impl fmt::Display for OthersMayWrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "others may write it (mode {:o})", self.0)
    }
}

impl std::error::Error for OthersMayWrite {}

/// Reads the file `name` of `directory`; `None`: there is no such file.
pub fn read(directory: BorrowedFd, name: &CStr) -> Result<Option<Vec<u8>>> {
    match regular::read(directory, name, LIMIT) {
        Ok((text, stat)) => check_owner(stat.uid).map(|()| Some(text)),
        Err(Unfit::Call(error)) if error.errno == Errno::ENOENT => Ok(None),
        Err(Unfit::Call(error)) => Err(error.into()),
        Err(unfit) => bail!(unfit),
    }
}

/// Fails unless `uid` is the caller or root.
pub fn check_owner(uid: u32) -> Result<()> {
    if [0, ids::effective_uid()].contains(&uid) { Ok(()) } else { bail!(Foreign(uid)) }
}

/// Fails unless `uid`, the owner of a symlink on the way to `--root`, is the caller or the host's root.
pub fn check_link(uid: u32) -> Result<()> {
    if is_roots(uid) { Ok(()) } else { check_owner(uid) }
}

/// Whether `uid` is the host's root, who has no number in a user namespace that does not map him: then he is `nobody`
/// there, like all others who have none.
pub fn is_roots(uid: u32) -> bool {
    /// The default of /proc/sys/kernel/overflowuid (proc_sys_kernel(5)).
    const NOBODY: u32 = 65534;
    uid == 0 || uid == NOBODY && ids::in_a_user_namespace()
}

/// Fails for a directory that others than its owner may write.
pub fn check_mode(mode: u32) -> Result<()> {
    if mode & 0o022 == 0 { Ok(()) } else { bail!(OthersMayWrite(mode & 0o7777)) }
}

/// Whether a file was read and is broken, or is not the runtime's; one that cannot be read now tells all when it can.
pub fn is_broken(error: &anyhow::Error) -> bool {
    let cause = error.root_cause();
    cause.is::<serde_json::Error>() || cause.is::<Unfit>() || cause.is::<Foreign>()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_callers_and_roots_files_are_believed() {
        let own = ids::effective_uid();
        assert!(check_owner(own).is_ok() && check_owner(0).is_ok());
        let error = check_owner(own + 1000).unwrap_err();
        assert_eq!(error.to_string(), format!("belongs to user {}, not to user {own}", own + 1000));
        assert!(is_broken(&error.context("state file")) && !is_broken(&anyhow::anyhow!("no memory")));
    }
}
