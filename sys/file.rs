//! Files relative to descriptors: what a path type or an `apply()` builds on. No function here resolves more than one
//! path component that the container could have made, unless its name says so.

use core::ffi::CStr;
use core::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::error::{Errno, Result, SysError, check};

/// Types of files: the S_IFMT part of [`Stat::mode`].
pub mod kind {
    pub const MASK: u32 = libc::S_IFMT;
    pub const DIRECTORY: u32 = libc::S_IFDIR;
    pub const REGULAR: u32 = libc::S_IFREG;
    pub const SYMLINK: u32 = libc::S_IFLNK;
    pub const CHARACTER: u32 = libc::S_IFCHR;
    pub const BLOCK: u32 = libc::S_IFBLK;
    pub const FIFO: u32 = libc::S_IFIFO;
    pub const SOCKET: u32 = libc::S_IFSOCK;
}

/// Filesystem types as statfs(2) numbers them: 32 bits, whatever the C library makes of the field.
pub mod magic {
    pub const PROC: u32 = 0x9fa0;
    pub const DEVPTS: u32 = 0x1cd1;
    pub const TMPFS: u32 = 0x0102_1994;
    pub const OVERLAYFS: u32 = 0x794c_7630;
    pub const SYSFS: u32 = 0x6265_6572;
    pub const FUSE: u32 = 0x6573_5546;
    pub const NFS: u32 = 0x6969;
    pub const V9FS: u32 = 0x0102_1997;
}

/// What statx(2) says of a file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stat {
    /// Type and permissions.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// In bytes.
    pub size: u64,
    /// Major and minor number of a device node.
    pub device: (u32, u32),
    /// The mount it was reached through (Linux 5.8).
    pub mount: u64,
    pub inode: u64,
    /// How many names it has; none of a directory that was removed.
    pub links: u32,
    /// Whether it is the root of that mount (Linux 5.8).
    pub is_mount_root: bool,
}

impl Stat {
    /// One of [`kind`].
    pub fn kind(&self) -> u32 {
        self.mode & kind::MASK
    }

    pub fn permissions(&self) -> u32 {
        self.mode & 0o7777
    }

    pub fn is_directory(&self) -> bool {
        self.kind() == kind::DIRECTORY
    }

    /// Whether it is the character device `major:minor`.
    pub fn is_character(&self, major: u32, minor: u32) -> bool {
        self.kind() == kind::CHARACTER && self.device == (major, minor)
    }
}

/// Which mount a file was reached through, so that no other is ever taken for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MountId {
    /// As /proc/PID/mountinfo numbers it: another mount may have the number when this one is gone.
    pub number: u64,
    /// Never given twice while the machine is up (STATX_MNT_ID_UNIQUE, Linux 6.8).
    pub unique: Option<u64>,
    /// Device and inode of the file, which is the root of the mount where it is meant as the mount's identity.
    pub file: (u32, u32, u64),
}

impl MountId {
    pub fn of(fd: BorrowedFd) -> Result<Self> {
        let plain = statx_with(fd, c"", libc::AT_EMPTY_PATH, libc::STATX_BASIC_STATS | libc::STATX_MNT_ID)?;
        let other = statx_with(fd, c"", libc::AT_EMPTY_PATH, libc::STATX_MNT_ID_UNIQUE)?;
        Ok(Self {
            number: plain.stx_mnt_id,
            // An older kernel leaves out what it does not know.
            unique: (other.stx_mask & libc::STATX_MNT_ID_UNIQUE != 0).then_some(other.stx_mnt_id),
            file: (plain.stx_dev_major, plain.stx_dev_minor, plain.stx_ino),
        })
    }
}

/// The descriptor that a successful call returned.
pub(super) fn owned(call: &'static str, ret: libc::c_long) -> Result<OwnedFd> {
    let fd = check(call, ret)? as i32;
    // SAFETY: the kernel has just made this descriptor for us, nobody else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// What the file is that `fd` is open on.
pub fn stat(fd: BorrowedFd) -> Result<Stat> {
    statx(fd, c"", libc::AT_EMPTY_PATH)
}

/// The number in mountinfo of the mount that `fd` was reached through. Unlike [`stat`], this asks no file system, which
/// might not answer (AT_STATX_DONT_SYNC of statx(2)).
pub fn mount_of(fd: BorrowedFd) -> Result<u64> {
    let flags = libc::AT_EMPTY_PATH | libc::AT_STATX_DONT_SYNC;
    statx_with(fd, c"", flags, libc::STATX_MNT_ID).map(|stat| stat.stx_mnt_id)
}

/// What `name` in `dir` is, not following it if it is a symlink.
pub fn stat_at(dir: BorrowedFd, name: &CStr) -> Result<Stat> {
    statx(dir, name, libc::AT_SYMLINK_NOFOLLOW)
}

fn statx_with(dir: BorrowedFd, name: &CStr, flags: libc::c_int, mask: u32) -> Result<libc::statx> {
    let mut buffer = MaybeUninit::<libc::statx>::zeroed();
    // SAFETY: `name` is NUL-terminated, `buffer` has room for a whole struct; both outlive the call.
    let ret = unsafe {
        libc::statx(dir.as_raw_fd(), name.as_ptr(), flags | libc::AT_NO_AUTOMOUNT, mask, buffer.as_mut_ptr())
    };
    check("statx", ret.into())?;
    // SAFETY: the struct is plain integers, was zeroed, and the kernel has filled it.
    Ok(unsafe { buffer.assume_init() })
}

fn statx(dir: BorrowedFd, name: &CStr, flags: libc::c_int) -> Result<Stat> {
    let stat = statx_with(dir, name, flags, libc::STATX_BASIC_STATS | libc::STATX_MNT_ID)?;
    Ok(Stat {
        mode: stat.stx_mode.into(),
        uid: stat.stx_uid,
        gid: stat.stx_gid,
        size: stat.stx_size,
        device: (stat.stx_rdev_major, stat.stx_rdev_minor),
        mount: stat.stx_mnt_id,
        inode: stat.stx_ino,
        links: stat.stx_nlink,
        is_mount_root: stat.stx_attributes & libc::STATX_ATTR_MOUNT_ROOT as u64 != 0,
    })
}

/// The type of the filesystem of the file that `fd` is open on, one of [`magic`] or another: fstatfs(2).
pub fn fs_type(fd: BorrowedFd) -> Result<u32> {
    let mut buffer = MaybeUninit::<libc::statfs>::zeroed();
    // SAFETY: `buffer` has room for a whole struct and outlives the call.
    let ret = unsafe { libc::fstatfs(fd.as_raw_fd(), buffer.as_mut_ptr()) };
    check("fstatfs", ret.into())?;
    // SAFETY: the struct is plain integers, was zeroed, and the kernel has filled it.
    Ok(unsafe { buffer.assume_init() }.f_type as u32)
}

/// Whether the mount that `fd` was reached through, or its filesystem, is read-only: fstatvfs(3).
pub fn is_read_only(fd: BorrowedFd) -> Result<bool> {
    Ok(mount_flags(fd)? & libc::ST_RDONLY != 0)
}

/// Whether programs on the mount that `fd` was reached through may be executed.
pub fn lets_execute(fd: BorrowedFd) -> Result<bool> {
    Ok(mount_flags(fd)? & libc::ST_NOEXEC == 0)
}

fn mount_flags(fd: BorrowedFd) -> Result<libc::c_ulong> {
    let mut buffer = MaybeUninit::<libc::statvfs>::zeroed();
    // SAFETY: `buffer` has room for a whole struct and outlives the call.
    let ret = unsafe { libc::fstatvfs(fd.as_raw_fd(), buffer.as_mut_ptr()) };
    check("fstatvfs", ret.into())?;
    // SAFETY: the struct is plain integers, was zeroed, and the kernel has filled it.
    Ok(unsafe { buffer.assume_init() }.f_flag)
}

/// A descriptor that only names the file `path` (O_PATH), resolved as the caller's namespace has it.
pub fn open_path(path: &CStr) -> Result<OwnedFd> {
    open_at(None, path, libc::O_PATH, 0)
}

/// As [`open_path`], the symlink itself if `path` is one.
pub fn open_itself(path: &CStr) -> Result<OwnedFd> {
    open_at(None, path, libc::O_PATH | libc::O_NOFOLLOW, 0)
}

/// The directory `path` of the caller's namespace, which itself must not be a symlink: ENOTDIR.
pub fn open_directory(path: &CStr) -> Result<OwnedFd> {
    open_at(None, path, libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0)
}

/// The directory above `directory`, as its mount has it.
pub fn directory_above(directory: BorrowedFd) -> Result<OwnedFd> {
    open_at(Some(directory), c"..", libc::O_PATH | libc::O_DIRECTORY, 0)
}

/// Where the link `name` in `dir` leads, which must be a directory; only for one that nobody but the kernel can have made.
pub fn follow_at(dir: BorrowedFd, name: &CStr) -> Result<OwnedFd> {
    open_at(Some(dir), name, libc::O_PATH | libc::O_DIRECTORY, 0)
}

/// The directory that `path` leads to from `dir`, through symlinks.
pub fn directory_at(dir: BorrowedFd, path: &CStr) -> Result<OwnedFd> {
    open_at(Some(dir), path, libc::O_RDONLY | libc::O_DIRECTORY, 0)
}

/// `name` in `dir` as a directory that can be listed, not following a symlink.
pub fn list_at(dir: BorrowedFd, name: &CStr) -> Result<OwnedFd> {
    open_at(Some(dir), name, libc::O_RDONLY | libc::O_DIRECTORY | libc::O_NOFOLLOW, 0)
}

/// The regular file `name` in `dir`, to be read, not following a symlink; a FIFO does not block.
pub fn read_at(dir: BorrowedFd, name: &CStr) -> Result<OwnedFd> {
    open_at(Some(dir), name, libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK, 0)
}

/// As [`read_at`], by a path.
pub fn read_path(path: &CStr) -> Result<OwnedFd> {
    open_at(None, path, libc::O_RDONLY | libc::O_NOFOLLOW | libc::O_NONBLOCK, 0)
}

/// A new regular file without a name, on the filesystem of the directory `path`, which never gets one (O_TMPFILE with
/// O_EXCL, open(2)). EOPNOTSUPP, EISDIR: the filesystem has no such files.
pub fn create_nameless(path: &CStr, mode: u32) -> Result<OwnedFd> {
    open_at(None, path, libc::O_TMPFILE | libc::O_RDWR | libc::O_EXCL, mode)
}

/// A new regular file `name` in `dir`, to be written; EEXIST if anything is there, a symlink too.
pub fn create_at(dir: BorrowedFd, name: &CStr, mode: u32) -> Result<OwnedFd> {
    open_at(Some(dir), name, libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_NOFOLLOW, mode)
}

/// What the magic link `name` in `dir`, a directory of procfs, leads to, opened anew for reading; a lease
/// (fcntl(2)) does not hold it up.
pub fn reopen_to_read(dir: BorrowedFd, name: &CStr) -> Result<OwnedFd> {
    open_at(Some(dir), name, libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY, 0)
}

fn open_at(dir: Option<BorrowedFd>, path: &CStr, flags: libc::c_int, mode: u32) -> Result<OwnedFd> {
    let dir = dir.map_or(libc::AT_FDCWD, |dir| dir.as_raw_fd());
    // SAFETY: `path` is NUL-terminated and outlives the call.
    let ret = unsafe { libc::openat(dir, path.as_ptr(), flags | libc::O_CLOEXEC, mode) };
    owned("openat", ret.into())
}

/// Makes the directory `name` in `dir`; EEXIST if anything is there, a symlink too.
pub fn mkdir_at(dir: BorrowedFd, name: &CStr, mode: u32) -> Result<()> {
    // SAFETY: `name` is NUL-terminated and outlives the call.
    let ret = unsafe { libc::mkdirat(dir.as_raw_fd(), name.as_ptr(), mode) };
    check("mkdirat", ret.into()).map(drop)
}

/// Makes the device node, FIFO or socket `name` in `dir`; `mode` has its type.
pub fn mknod_at(dir: BorrowedFd, name: &CStr, mode: u32, (major, minor): (u32, u32)) -> Result<()> {
    // SAFETY: `name` is NUL-terminated and outlives the call.
    let ret = unsafe { libc::mknodat(dir.as_raw_fd(), name.as_ptr(), mode, libc::makedev(major, minor)) };
    check("mknodat", ret.into()).map(drop)
}

/// Makes the symlink `name` in `dir`, leading to `target`.
pub fn symlink_at(target: &CStr, dir: BorrowedFd, name: &CStr) -> Result<()> {
    // SAFETY: both strings are NUL-terminated and outlive the call.
    let ret = unsafe { libc::symlinkat(target.as_ptr(), dir.as_raw_fd(), name.as_ptr()) };
    check("symlinkat", ret.into()).map(drop)
}

/// Where the symlink `name` in `dir` leads; ENAMETOOLONG if `buffer` is too short to say.
pub fn readlink_at<'b>(dir: BorrowedFd, name: &CStr, buffer: &'b mut [u8]) -> Result<&'b [u8]> {
    // SAFETY: `name` is NUL-terminated, `buffer` is writable for its length; both outlive the call.
    let ret = unsafe { libc::readlinkat(dir.as_raw_fd(), name.as_ptr(), buffer.as_mut_ptr().cast(), buffer.len()) };
    let len = check("readlinkat", ret as libc::c_long)? as usize;
    match buffer.get(..len) {
        Some(target) if len < buffer.len() => Ok(target),
        _ => Err(SysError::new("readlinkat", Errno::ENAMETOOLONG)),
    }
}

/// Removes `name` from `dir`, which must not be a directory.
pub fn unlink_at(dir: BorrowedFd, name: &CStr) -> Result<()> {
    // SAFETY: `name` is NUL-terminated and outlives the call.
    let ret = unsafe { libc::unlinkat(dir.as_raw_fd(), name.as_ptr(), 0) };
    check("unlinkat", ret.into()).map(drop)
}

/// Renames `from` in `dir` to `to` there, in place of what that was.
pub fn rename_at(dir: BorrowedFd, from: &CStr, to: &CStr) -> Result<()> {
    // SAFETY: both names are NUL-terminated and outlive the call.
    let ret = unsafe { libc::renameat(dir.as_raw_fd(), from.as_ptr(), dir.as_raw_fd(), to.as_ptr()) };
    check("renameat", ret.into()).map(drop)
}

/// Gives `name` in `dir` to `uid` and `gid`, itself if it is a symlink.
pub fn chown_at(dir: BorrowedFd, name: &CStr, uid: u32, gid: u32) -> Result<()> {
    // SAFETY: `name` is NUL-terminated and outlives the call.
    let ret = unsafe { libc::fchownat(dir.as_raw_fd(), name.as_ptr(), uid, gid, libc::AT_SYMLINK_NOFOLLOW) };
    check("fchownat", ret.into()).map(drop)
}

/// Gives the file that `fd` is open on to `uid` and `gid`; `fd` may be O_PATH.
pub fn chown(fd: BorrowedFd, uid: u32, gid: u32) -> Result<()> {
    // SAFETY: the empty path is NUL-terminated and static.
    let ret = unsafe { libc::fchownat(fd.as_raw_fd(), c"".as_ptr(), uid, gid, libc::AT_EMPTY_PATH) };
    check("fchownat", ret.into()).map(drop)
}

/// Sets the permissions of the file that `fd` is open on; `fd` must not be O_PATH.
pub fn chmod(fd: BorrowedFd, mode: u32) -> Result<()> {
    // SAFETY: takes integers only.
    let ret = unsafe { libc::fchmod(fd.as_raw_fd(), mode) };
    check("fchmod", ret.into()).map(drop)
}

/// Sets `name` of the extended attributes of the file that `fd` is open on; `fd` must not be O_PATH.
pub fn set_xattr(fd: BorrowedFd, name: &CStr, value: &CStr) -> Result<()> {
    let (data, len) = (value.as_ptr().cast(), value.count_bytes());
    // SAFETY: `name` is NUL-terminated, `data` is readable for `len` bytes; both outlive the call.
    let ret = unsafe { libc::fsetxattr(fd.as_raw_fd(), name.as_ptr(), data, len, 0) };
    check("fsetxattr", ret.into()).map(drop)
}

/// How many bytes were read into `buffer`; 0 at the end.
pub fn read(fd: BorrowedFd, buffer: &mut [u8]) -> Result<usize> {
    // SAFETY: `buffer` is writable for its length and outlives the call.
    let ret = unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
    check("read", ret as libc::c_long).map(|len| len as usize)
}

/// How many of `bytes` were written.
pub fn write(fd: BorrowedFd, bytes: &[u8]) -> Result<usize> {
    // SAFETY: `bytes` is readable for its length and outlives the call.
    let ret = unsafe { libc::write(fd.as_raw_fd(), bytes.as_ptr().cast(), bytes.len()) };
    check("write", ret as libc::c_long).map(|len| len as usize)
}

/// Fills `buffer` with entries of the directory that `fd` is open on: getdents64(2). 0 bytes at the end.
pub fn entries(fd: BorrowedFd, buffer: &mut [u8]) -> Result<usize> {
    let (data, len) = (buffer.as_mut_ptr(), buffer.len());
    // SAFETY: `buffer` is writable for its length and outlives the call.
    let ret = unsafe { libc::syscall(libc::SYS_getdents64, fd.as_raw_fd(), data, len) };
    check("getdents64", ret).map(|len| len as usize)
}

/// Has the directory that `fd` is open on be read from its beginning again.
pub fn rewind(fd: BorrowedFd) -> Result<()> {
    // SAFETY: takes integers only.
    let ret = unsafe { libc::lseek(fd.as_raw_fd(), 0, libc::SEEK_SET) };
    check("lseek", ret as libc::c_long).map(drop)
}

/// Makes the directory that `fd` is open on the working directory.
pub fn enter(fd: BorrowedFd) -> Result<()> {
    // SAFETY: takes an integer only.
    let ret = unsafe { libc::fchdir(fd.as_raw_fd()) };
    check("fchdir", ret.into()).map(drop)
}

/// Makes the working directory the process's root, and the root its working directory.
pub fn chroot_here() -> Result<()> {
    // SAFETY: the path is NUL-terminated and static.
    let ret = unsafe { libc::chroot(c".".as_ptr()) };
    check("chroot", ret.into())?;
    enter_root()
}

/// Makes the process's root its working directory.
pub fn enter_root() -> Result<()> {
    // SAFETY: the path is NUL-terminated and static.
    let ret = unsafe { libc::chdir(c"/".as_ptr()) };
    check("chdir", ret.into()).map(drop)
}
