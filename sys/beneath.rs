//! Opening what lies below a descriptor and nowhere else: openat2(2), Linux 5.6.

use core::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::error::{Result, check};
use super::path::openat2;
use super::proc_self::write_whole;
use super::stat;

/// No way out: no "..", no absolute or magic link, no mount that somebody put on top.
const KERNEL_FILE: u64 =
    libc::RESOLVE_BENEATH | libc::RESOLVE_NO_XDEV | libc::RESOLVE_NO_MAGICLINKS | libc::RESOLVE_NO_SYMLINKS;

/// Links and ".." stay below the descriptor, as if it were "/"; magic links (/proc/self/fd/7) are refused.
const CONTAINER_FILE: u64 = libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS;

/// Writes `value` in one call to the existing kernel file `path` below `dir`, a procfs or sysfs directory. What is
/// mounted or linked in the way is refused (CVE-2025-52881).
pub fn write_beneath(dir: BorrowedFd<'_>, path: &CStr, value: &[u8]) -> Result<()> {
    write_whole(writable(dir, path)?.as_fd(), value)
}

fn writable(dir: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd> {
    openat2(dir, path, libc::O_WRONLY | libc::O_NOCTTY, KERNEL_FILE)
}

/// Opens the caller's own directory in `proc`, the root of a procfs. Its "self" is a plain link to a number.
fn own_directory(proc: BorrowedFd<'_>) -> Result<OwnedFd> {
    plain_directory(proc, c"self")
}

/// Opens a directory in `proc` to which a plain link of the kernel leads.
fn plain_directory(proc: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd> {
    let resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_XDEV | libc::RESOLVE_NO_MAGICLINKS;
    openat2(proc, path, libc::O_PATH | libc::O_DIRECTORY, resolve)
}

/// Opens the directory of the caller's own descriptors in `proc`, the root of a procfs, only to refer to it. Those of its
/// thread, which may share them with no other.
pub fn own_descriptors(proc: BorrowedFd<'_>) -> Result<OwnedFd> {
    directory_beneath(plain_directory(proc, c"thread-self")?.as_fd(), c"fd")
}

/// Writes `value` to the file `path` of the caller's own directory in `proc`, the root of a procfs, as
/// [`write_beneath`] does: `oom_score_adj`, `attr/exec`.
pub fn write_own(proc: BorrowedFd<'_>, path: &CStr, value: &[u8]) -> Result<()> {
    write_beneath(own_directory(proc)?.as_fd(), path, value)
}

/// Opens the file `path` of the caller's own directory in `proc` for writing, with the rights that the caller has now.
pub fn writable_own(proc: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd> {
    writable(own_directory(proc)?.as_fd(), path)
}

/// Opens the namespace file `ns/NAME` of the caller in `proc`, the root of a procfs. A magic link by nature, so the
/// directory is resolved strictly and only the last step follows it.
pub fn open_own_namespace(proc: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    let own = own_directory(proc)?;
    let directory = openat2(own.as_fd(), c"ns", libc::O_PATH | libc::O_DIRECTORY, KERNEL_FILE)?;
    openat2(directory.as_fd(), name, libc::O_RDONLY, 0)
}

/// Opens the directory `path` of the container whose root is `root`, only to refer to it.
pub fn directory_in_root(root: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd> {
    openat2(root, path, libc::O_PATH | libc::O_DIRECTORY, CONTAINER_FILE)
}

/// Opens the directory `name`, one component below `dir`, to list it: no link, and nothing that is mounted there.
pub fn list_beneath(dir: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    openat2(dir, name, libc::O_RDONLY | libc::O_DIRECTORY, KERNEL_FILE)
}

/// Opens the directory `path` below `dir`, only to refer to it: no link, and nothing that is mounted there.
pub fn directory_beneath(dir: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd> {
    openat2(dir, path, libc::O_PATH | libc::O_DIRECTORY, KERNEL_FILE)
}

/// Opens `path` of the container whose root is `root` for reading; a FIFO in its place does not block.
pub fn read_in_root(root: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd> {
    openat2(root, path, libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY, CONTAINER_FILE)
}

/// Opens "/" of the caller, only to refer to it.
pub fn root() -> Result<OwnedFd> {
    // SAFETY: the path is NUL-terminated.
    let ret = unsafe { libc::open(c"/".as_ptr(), libc::O_PATH | libc::O_DIRECTORY | libc::O_CLOEXEC) };
    let fd = check("open", libc::c_long::from(ret))?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

/// Makes the directory `name`, one component, in `parent`.
pub fn make_directory(parent: BorrowedFd<'_>, name: &CStr, mode: u32) -> Result<()> {
    // SAFETY: `name` is NUL-terminated and outlives the call.
    let ret = unsafe { libc::syscall(libc::SYS_mkdirat, parent.as_raw_fd(), name.as_ptr(), mode) };
    check("mkdirat", ret).map(drop)
}

/// Whether `fd` is a regular file.
pub fn is_regular(fd: BorrowedFd<'_>) -> Result<bool> {
    Ok(stat::of(fd.as_raw_fd())?.st_mode & libc::S_IFMT == libc::S_IFREG)
}

/// Reads into `buffer` from where `fd` stands and returns how many bytes it got, 0 at the end.
pub fn read_some(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: the kernel writes at most buffer.len() bytes.
    let ret = unsafe { libc::syscall(libc::SYS_read, fd.as_raw_fd(), buffer.as_mut_ptr(), buffer.len()) };
    check("read", ret).map(|len| len as usize)
}
