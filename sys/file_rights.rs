//! The rights to files that somebody else has, for a while: the kernel decides about files by a thread's file system ids, its
//! groups and its effective capabilities (credentials(7)), and gives them back to a thread that stays permitted.

use std::os::fd::{AsRawFd, BorrowedFd};

use super::credentials::{self, CapabilitySets};
use super::error::{Errno, Result, SysError, check};

/// What somebody may do with files.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FileRights {
    pub uid: u32,
    pub gid: u32,
    pub groups: Vec<u32>,
    /// One bit each.
    pub capabilities: u64,
}

/// Of [`FileRights::may`]: R_OK, W_OK and X_OK of access(2).
pub const READ: i32 = libc::R_OK;
pub const WRITE: i32 = libc::W_OK;
pub const EXECUTE: i32 = libc::X_OK;

/// What the thread had before. Dropped, it has that again.
struct OwnIds {
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
    sets: CapabilitySets,
}

impl FileRights {
    /// Does `act` with these rights, which are fewer than the thread's.
    pub fn with<T>(&self, act: impl FnOnce() -> T) -> Result<T> {
        let own =
            OwnIds { uid: file_uid(None), gid: file_gid(None), groups: groups()?, sets: credentials::capabilities()? };
        credentials::set_groups(&self.groups)?;
        file_gid(Some(self.gid));
        file_uid(Some(self.uid));
        // These calls tell of no error.
        if (file_uid(None), file_gid(None)) != (self.uid, self.gid) {
            return Err(SysError::new("setfsuid", Errno::EPERM));
        }
        credentials::set_capabilities(CapabilitySets {
            effective: own.sets.effective & self.capabilities,
            ..own.sets
        })?;
        let done = act();
        drop(own);
        Ok(done)
    }
}

impl Drop for OwnIds {
    fn drop(&mut self) {
        // What is permitted can be made effective again; with fewer rights, what comes then fails.
        let _ = credentials::set_capabilities(self.sets);
        file_uid(Some(self.uid));
        file_gid(Some(self.gid));
        let _ = credentials::set_groups(&self.groups);
        // Of a change to or from 0, the kernel makes another of the capabilities for files.
        let _ = credentials::set_capabilities(self.sets);
    }
}

/// Whether the thread may do this with the file that `fd` is open on, by its effective rights: `mode` is of [`READ`], [`WRITE`] and
/// [`EXECUTE`]; faccessat2(2).
pub fn may(fd: BorrowedFd, mode: i32) -> Result<bool> {
    let flags = libc::AT_EACCESS | libc::AT_EMPTY_PATH;
    // SAFETY: the path is empty and NUL-terminated.
    let ret = unsafe { libc::syscall(libc::SYS_faccessat2, fd.as_raw_fd(), c"".as_ptr(), mode, flags) };
    match check("faccessat2", ret) {
        Err(SysError { errno: Errno::EACCES | Errno::EPERM, .. }) => Ok(false),
        result => result.map(|_| true),
    }
}

/// Sets the file system id of the thread; returns the one that it had.
fn file_uid(uid: Option<u32>) -> u32 {
    // SAFETY: the argument is a number; one that is no id changes nothing.
    unsafe { libc::syscall(libc::SYS_setfsuid, uid.unwrap_or(u32::MAX)) as u32 }
}

fn file_gid(gid: Option<u32>) -> u32 {
    // SAFETY: as above.
    unsafe { libc::syscall(libc::SYS_setfsgid, gid.unwrap_or(u32::MAX)) as u32 }
}

fn groups() -> Result<Vec<u32>> {
    let none = core::ptr::null_mut::<u32>();
    // SAFETY: with no room, the call only counts.
    let count = check("getgroups", unsafe { libc::syscall(libc::SYS_getgroups, 0, none) })?;
    let mut groups = vec![0u32; usize::try_from(count).unwrap_or_default()];
    // SAFETY: there is room for as many as is said.
    let ret = unsafe { libc::syscall(libc::SYS_getgroups, groups.len(), groups.as_mut_ptr()) };
    let filled = usize::try_from(check("getgroups", ret)?).unwrap_or_default();
    groups.truncate(filled);
    Ok(groups)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::file;
    use crate::scratch::{Directory, c_path};
    use std::fs;
    use std::os::fd::AsFd;
    use std::os::unix::fs::{PermissionsExt, chown};

    #[test]
    fn who_may_what_is_by_the_rights_and_they_come_back() {
        if credentials::effective_uid() != 0 {
            return crate::testing::skip("root", "ids and owners are changed");
        }
        let scratch = Directory::new();
        let path = scratch.join("file");
        fs::write(&path, "").unwrap();
        let open = file::open_path(&c_path(&path)).unwrap();
        let before = credentials::capabilities().unwrap();
        let rights =
            |uid, gid, groups: &[u32], capabilities| FileRights { uid, gid, groups: groups.to_vec(), capabilities };
        // CAP_DAC_OVERRIDE.
        for (owner, mode, rights, expected) in [
            (0, 0o600, rights(1000, 1000, &[], 0), [false, false, false]),
            (1000, 0o600, rights(1000, 1000, &[], 0), [true, true, false]),
            (0, 0o644, rights(1000, 1000, &[], 0), [true, false, false]),
            (0, 0o040, rights(1000, 1000, &[7], 0), [false, false, false]),
            (0, 0o040, rights(1000, 1000, &[0], 0), [true, false, false]),
            (0, 0o711, rights(1000, 1000, &[], 0), [false, false, true]),
            (5, 0o600, rights(0, 0, &[], 0), [false, false, false]),
            (5, 0o600, rights(0, 0, &[], 1 << 1), [true, true, false]),
        ] {
            chown(&path, Some(owner), Some(0)).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let found = rights.with(|| [READ, WRITE, EXECUTE].map(|mode| may(open.as_fd(), mode).unwrap())).unwrap();
            assert_eq!(found, expected, "{owner} {mode:o} {rights:?}");
            assert_eq!(credentials::capabilities().unwrap(), before);
            assert_eq!((file_uid(None), file_gid(None)), (0, 0));
        }
    }
}
