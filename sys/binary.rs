//! The program that this process runs, and how to hold it so that nobody can write it.

use core::ffi::CStr;
use std::io::Write;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::error::{Errno, Fault, Result, SysError, check};
use super::{file, socket};

/// Where a copy of the program may lie that has no name, if none may be executed from memory.
const DIRECTORIES: [&CStr; 5] = [c"/run", c"/dev/shm", c"/tmp", c"/var/tmp", c"/"];

/// Opens the running program itself, whatever its path means by now.
pub fn open_own() -> Result<OwnedFd> {
    // SAFETY: the path is NUL-terminated.
    let fd = unsafe { libc::open(c"/proc/self/exe".as_ptr(), libc::O_PATH | libc::O_CLOEXEC) };
    let fd = check("open", fd.into())?;
    // SAFETY: the kernel just made it for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Whether nobody can write the program of others through this descriptor: its mount is read-only, or it is a copy that
/// nobody but this process runs, as [`private_copy`] makes them.
pub fn is_read_only(program: BorrowedFd) -> Result<bool> {
    Ok(file::is_read_only(program)? || is_sealed()? || is_nameless(program)?)
}

/// Whether the running program is a file without a name: nobody can start it any more. Files in memory have none either,
/// but who made them can.
fn is_nameless(program: BorrowedFd) -> Result<bool> {
    if file::stat(program)?.links > 0 {
        return Ok(false);
    }
    let mut buffer = [0; libc::PATH_MAX as usize];
    let own = file::open_path(c"/proc/self")?;
    Ok(!file::readlink_at(own.as_fd(), c"exe", &mut buffer)?.starts_with(b"/memfd:"))
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

/// A copy of the running program that this process alone runs: in memory, where it can never change; else, with
/// vm.memfd_noexec=2 (Linux 6.3), in a file that has no name. Who writes that one, once it does not run any more, has
/// written something that nobody can start.
pub fn private_copy() -> core::result::Result<OwnedFd, Fault> {
    let bytes = std::fs::read("/proc/self/exe").map_err(|error| SysError::io("read", &error))?;
    match socket::executable_file(c"ocirt") {
        Err(error) if error.errno == Errno::EACCES => nameless_copy(&bytes),
        memory => Ok(socket::fill_and_seal(memory?, &bytes)?),
    }
}

fn nameless_copy(bytes: &[u8]) -> core::result::Result<OwnedFd, Fault> {
    for directory in DIRECTORIES {
        // Each may be missing, read-only, full, or without execution.
        if let Ok(copy) = copy_into(directory, bytes) {
            return Ok(copy);
        }
    }
    let words = "vm.memfd_noexec=2, and none of /run, /dev/shm, /tmp, /var/tmp and / takes a program";
    Err(Fault::new("memfd_create", Errno::EACCES, words))
}

fn copy_into(directory: &CStr, bytes: &[u8]) -> Result<OwnedFd> {
    let copy = file::create_nameless(directory, 0o700)?;
    if !file::lets_execute(copy.as_fd())? {
        return Err(SysError::new("execveat", Errno::EACCES));
    }
    // Whatever the umask left of it.
    file::chmod(copy.as_fd(), 0o500)?;
    let mut copy = std::fs::File::from(copy);
    copy.write_all(bytes).map_err(|error| SysError::io("write", &error))?;
    // What is open for writing cannot be executed: ETXTBSY.
    let descriptors = file::open_path(c"/proc/self")?;
    let name =
        std::ffi::CString::new(format!("fd/{}", copy.as_raw_fd())).map_err(|_| SysError::new("open", Errno::EINVAL))?;
    file::reopen_to_read(descriptors.as_fd(), &name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;

    /// What vm.memfd_noexec=2 leads to; the test of the whole program needs a pid namespace with that setting.
    #[test]
    fn a_copy_without_a_name_holds_the_program_and_cannot_get_a_name() {
        let own = std::fs::read("/proc/self/exe").unwrap();
        let copy = nameless_copy(&own).unwrap();
        assert!(file::lets_execute(copy.as_fd()).unwrap());
        let mut file = std::fs::File::from(copy);
        let mut text = Vec::new();
        std::io::Read::read_to_end(&mut file, &mut text).unwrap();
        assert!(text == own);
        assert!(file.write_all(b"x").is_err(), "open for writing");
        let metadata = file.metadata().unwrap();
        assert_eq!((metadata.nlink(), metadata.mode() & 0o777), (0, 0o500));
        assert!(std::fs::hard_link(format!("/proc/self/fd/{}", file.as_raw_fd()), "/tmp/ocirt-copy").is_err());
    }
}
