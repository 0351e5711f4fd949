//! The program that this process runs, and how to hold it so that nobody can write it.

use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::error::{Errno, Result, SysError, check};

/// Opens the running program itself, whatever its path means by now.
pub fn open_own() -> Result<OwnedFd> {
    // SAFETY: the path is NUL-terminated.
    let fd = unsafe { libc::open(c"/proc/self/exe".as_ptr(), libc::O_PATH | libc::O_CLOEXEC) };
    let fd = check("open", fd.into())?;
    // SAFETY: the kernel just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Whether the program cannot be opened for writing through this descriptor: its mount is read-only, or it is a sealed
/// copy in memory.
pub fn is_read_only(program: BorrowedFd) -> Result<bool> {
    Ok(super::file::is_read_only(program)? || is_sealed()?)
}

/// Whether the program belongs to root (of the caller's user namespace), and only its owner may write it. The bits of
/// the group are those of the mask where there is an access control list: acl(5).
pub fn is_roots_alone(program: BorrowedFd) -> Result<bool> {
    let stat = super::file::stat(program)?;
    Ok(stat.uid == 0 && stat.permissions() & 0o022 == 0)
}

/// Whether the running program is a copy that [`sealed_copy`] made. O_PATH descriptors have no seals to ask for, so it
/// is opened once more; a file that cannot carry seals is EINVAL.
fn is_sealed() -> Result<bool> {
    // SAFETY: the path is NUL-terminated.
    let fd = unsafe { libc::open(c"/proc/self/exe".as_ptr(), libc::O_RDONLY | libc::O_CLOEXEC) };
    let fd = check("open", fd.into())?;
    // SAFETY: the kernel just made it for us.
    let file = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    // SAFETY: no pointers.
    let ret = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_GET_SEALS) };
    match check("fcntl", ret.into()) {
        Ok(seals) => Ok(seals as i32 & libc::F_SEAL_WRITE != 0),
        Err(error) if error.errno == Errno::EINVAL => Ok(false),
        Err(error) => Err(error),
    }
}

/// The program on a read-only mount of its own, in no mount namespace (open_tree(2), mount_setattr(2), Linux 5.12).
pub fn read_only_clone(program: BorrowedFd) -> Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as u32;
    // SAFETY: the path is NUL-terminated.
    let fd = unsafe { libc::syscall(libc::SYS_open_tree, program.as_raw_fd(), c"".as_ptr(), flags) };
    let fd = check("open_tree", fd)?;
    // SAFETY: the kernel just made it for us.
    let tree = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    let attributes = libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: `attributes` outlives the call and its size is given.
    let ret = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attributes,
            size_of::<libc::mount_attr>(),
        )
    };
    check("mount_setattr", ret)?;
    Ok(tree)
}

/// A copy of the running program in memory that can never change.
pub fn sealed_copy() -> Result<OwnedFd> {
    let bytes = std::fs::read("/proc/self/exe")
        .map_err(|error| SysError::new("read", Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO))))?;
    super::socket::sealed_file(c"ocirt", &bytes)
}
