//! The mount calls of Linux 5.2 and later: a filesystem or a copy of a tree is made detached, gets its attributes, and
//! is moved onto a descriptor. No path is resolved twice, and nobody sees a half-configured mount.

use core::ffi::CStr;
use core::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::error::{Fault, Result, SysError, check};
use super::file::owned;
use super::stack_path::StackPath;

/// Attributes of a mount, as in mount_setattr(2).
pub mod attr {
    pub const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
    pub const NOSUID: u64 = libc::MOUNT_ATTR_NOSUID;
    pub const NODEV: u64 = libc::MOUNT_ATTR_NODEV;
    pub const NOEXEC: u64 = libc::MOUNT_ATTR_NOEXEC;
    pub const NODIRATIME: u64 = libc::MOUNT_ATTR_NODIRATIME;
    pub const NOSYMFOLLOW: u64 = libc::MOUNT_ATTR_NOSYMFOLLOW;
    /// Access times are one field of three values; to set one of them, the whole field must be cleared as well.
    pub const ATIME_FIELD: u64 = libc::MOUNT_ATTR__ATIME;
    pub const RELATIME: u64 = libc::MOUNT_ATTR_RELATIME;
    pub const NOATIME: u64 = libc::MOUNT_ATTR_NOATIME;
    pub const STRICTATIME: u64 = libc::MOUNT_ATTR_STRICTATIME;
}

/// Flags of a filesystem that fsconfig(2) has no word for, so that they need mount(2).
pub mod legacy {
    pub const SILENT: u64 = libc::MS_SILENT;
    pub const I_VERSION: u64 = libc::MS_I_VERSION;
    pub const RDONLY: u64 = libc::MS_RDONLY;

    /// The flags that mount(2) sets and clears for a filesystem's flag of fsconfig(2).
    pub fn superblock(name: &core::ffi::CStr) -> (u64, u64) {
        match name.to_bytes() {
            b"sync" => (libc::MS_SYNCHRONOUS, 0),
            b"async" => (0, libc::MS_SYNCHRONOUS),
            b"dirsync" => (libc::MS_DIRSYNC, 0),
            b"lazytime" => (libc::MS_LAZYTIME, 0),
            b"nolazytime" => (0, libc::MS_LAZYTIME),
            b"mand" => (libc::MS_MANDLOCK, 0),
            b"nomand" => (0, libc::MS_MANDLOCK),
            _ => (0, 0),
        }
    }
}

/// What changes on a mount: `clear` goes first, then `set`.
#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
pub struct Attributes {
    pub set: u64,
    pub clear: u64,
}

impl Attributes {
    /// Asks for `change` after what was asked for already.
    pub fn add(&mut self, change: Self) {
        self.set = self.set & !change.clear | change.set;
        self.clear = self.clear & !change.set | change.clear;
    }

    pub fn is_empty(&self) -> bool {
        self.set == 0 && self.clear == 0
    }
}

/// Where mounts made below a mount appear, and whose mounts appear here: mount_namespaces(7), SHARED SUBTREES.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sharing {
    Private,
    Shared,
    Slave,
    Unbindable,
}

/// One mount, or it and everything mounted below.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Depth {
    One,
    Tree,
}

impl Depth {
    fn flag(self) -> libc::c_uint {
        match self {
            Self::One => 0,
            Self::Tree => libc::AT_RECURSIVE as libc::c_uint,
        }
    }
}

/// A detached copy of the mount at `path` as the caller's namespace has it: open_tree(2) with OPEN_TREE_CLONE.
pub fn copy_path(path: &CStr, depth: Depth) -> Result<OwnedFd> {
    copy_at(path, depth.flag())
}

/// As [`copy_path`], of the symlink itself if `path` is one.
pub fn copy_itself(path: &CStr, depth: Depth) -> Result<OwnedFd> {
    copy_at(path, depth.flag() | libc::AT_SYMLINK_NOFOLLOW as libc::c_uint)
}

fn copy_at(path: &CStr, flags: libc::c_uint) -> Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | flags;
    // SAFETY: `path` is NUL-terminated and outlives the call.
    let ret = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) };
    owned("open_tree", ret)
}

/// A detached copy of what `at` is open on: a directory, or a single file.
pub fn copy_tree(at: BorrowedFd, depth: Depth) -> Result<OwnedFd> {
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | libc::AT_EMPTY_PATH as libc::c_uint | depth.flag();
    // SAFETY: the empty path is NUL-terminated and static.
    let ret = unsafe { libc::syscall(libc::SYS_open_tree, at.as_raw_fd(), c"".as_ptr(), flags) };
    owned("open_tree", ret)
}

/// Puts the mount `tree` onto the directory or file that `target` is open on: move_mount(2).
///
/// `target` is what was checked, whatever its path leads to by now (CVE-2021-30465).
pub fn attach(tree: BorrowedFd, target: BorrowedFd) -> Result<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    let (tree, target, empty) = (tree.as_raw_fd(), target.as_raw_fd(), c"".as_ptr());
    // SAFETY: the empty paths are NUL-terminated and static.
    let ret = unsafe { libc::syscall(libc::SYS_move_mount, tree, empty, target, empty, flags) };
    check("move_mount", ret).map(drop)
}

/// Changes attributes of the mount whose root `mount` is open on: mount_setattr(2), Linux 5.12.
pub fn set_attributes(mount: BorrowedFd, change: Attributes, depth: Depth) -> Result<()> {
    set(mount, libc::mount_attr { attr_set: change.set, attr_clr: change.clear, propagation: 0, userns_fd: 0 }, depth)
}

/// Changes the propagation of the mount whose root `mount` is open on; EINVAL if `mount` is no mount's root.
pub fn set_sharing(mount: BorrowedFd, sharing: Sharing, depth: Depth) -> Result<()> {
    let propagation = match sharing {
        Sharing::Private => libc::MS_PRIVATE,
        Sharing::Shared => libc::MS_SHARED,
        Sharing::Slave => libc::MS_SLAVE,
        Sharing::Unbindable => libc::MS_UNBINDABLE,
    };
    set(mount, libc::mount_attr { attr_set: 0, attr_clr: 0, propagation, userns_fd: 0 }, depth)
}

/// Has the mount whose root `mount` is open on show its files' owners as the user namespace `namespace` maps them
/// (MOUNT_ATTR_IDMAP, Linux 5.12). The mount must be attached nowhere. EINVAL: the filesystem cannot do it, or belongs
/// to that user namespace itself; EPERM: it belongs to a user namespace where the caller has no CAP_SYS_ADMIN.
pub fn map_ids(mount: BorrowedFd, namespace: BorrowedFd, depth: Depth) -> Result<()> {
    let userns_fd = namespace.as_raw_fd() as u64;
    set(mount, libc::mount_attr { attr_set: libc::MOUNT_ATTR_IDMAP, attr_clr: 0, propagation: 0, userns_fd }, depth)
}

fn set(mount: BorrowedFd, attr: libc::mount_attr, depth: Depth) -> Result<()> {
    let flags = libc::AT_EMPTY_PATH as libc::c_uint | depth.flag();
    let size = size_of::<libc::mount_attr>();
    // SAFETY: `attr` is a whole struct of `size` bytes that outlives the call; the empty path is static.
    let ret = unsafe {
        libc::syscall(libc::SYS_mount_setattr, mount.as_raw_fd(), c"".as_ptr(), flags, &raw const attr, size)
    };
    check("mount_setattr", ret).map(drop)
}

/// A filesystem being configured: fsopen(2), fsconfig(2), fsmount(2).
pub struct FsContext(OwnedFd);

impl FsContext {
    /// A new filesystem of the type `name`; ENODEV if the kernel has none of that name.
    pub fn open(name: &CStr) -> Result<Self> {
        // SAFETY: `name` is NUL-terminated and outlives the call.
        let ret = unsafe { libc::syscall(libc::SYS_fsopen, name.as_ptr(), libc::FSOPEN_CLOEXEC) };
        owned("fsopen", ret).map(Self)
    }

    /// The mounted filesystem whose mount's root `mount` is open on, to be reconfigured: fspick(2).
    pub fn pick(mount: BorrowedFd) -> Result<Self> {
        let flags = libc::FSPICK_CLOEXEC | libc::FSPICK_EMPTY_PATH;
        // SAFETY: the empty path is NUL-terminated and static.
        let ret = unsafe { libc::syscall(libc::SYS_fspick, mount.as_raw_fd(), c"".as_ptr(), flags) };
        owned("fspick", ret).map(Self)
    }

    /// Sets `key=value`, or the flag `key`. A value of 256 bytes and more is EINVAL.
    pub fn set(&self, key: &CStr, value: Option<&CStr>) -> Result<()> {
        match value {
            Some(value) => self.config(libc::FSCONFIG_SET_STRING, key.as_ptr(), value.as_ptr()),
            None => self.config(libc::FSCONFIG_SET_FLAG, key.as_ptr(), core::ptr::null()),
        }
    }

    /// Makes the superblock, or takes an existing one of the same configuration.
    pub fn create(&self) -> Result<()> {
        self.config(libc::FSCONFIG_CMD_CREATE, core::ptr::null(), core::ptr::null())
    }

    /// Applies what was set to a filesystem that was picked.
    pub fn reconfigure(&self) -> Result<()> {
        self.config(libc::FSCONFIG_CMD_RECONFIGURE, core::ptr::null(), core::ptr::null())
    }

    fn config(&self, command: libc::c_uint, key: *const libc::c_char, value: *const libc::c_char) -> Result<()> {
        // SAFETY: `key` and `value` are null or come from a `CStr` that the caller keeps; the kernel reads them only.
        let ret = unsafe { libc::syscall(libc::SYS_fsconfig, self.0.as_raw_fd(), command, key, value, 0) };
        check("fsconfig", ret).map(drop)
    }

    /// A detached mount of what was created, with `attributes` from the beginning.
    pub fn mount(&self, attributes: u64) -> Result<OwnedFd> {
        // SAFETY: takes integers only.
        let ret = unsafe { libc::syscall(libc::SYS_fsmount, self.0.as_raw_fd(), libc::FSMOUNT_CLOEXEC, attributes) };
        owned("fsmount", ret)
    }

    /// The failure `error` with the kernel's own words about it, else with `otherwise`.
    ///
    /// The log's messages read as `e tmpfs: Unknown parameter 'sice'`, `w …` or `i …`, one a read; the last error counts.
    pub fn explain(&self, error: SysError, otherwise: &CStr) -> Fault {
        let mut fault = error.about(otherwise);
        let mut message = [0u8; 256];
        while let Ok(len) = super::file::read(self.0.as_fd(), &mut message) {
            match message.get(..len) {
                Some([b'e', b' ', words @ ..]) => {
                    fault.detail = super::Text::from_bytes(words.trim_ascii_end());
                }
                Some([_, ..]) => {}
                _ => break,
            }
        }
        fault
    }
}

/// Makes the working directory the root of the mount namespace and stacks the old root on top of it: the
/// `pivot_root(".", ".")` of pivot_root(2), NOTES. [`detach_here`] removes the old one.
pub fn pivot_root_here() -> Result<()> {
    // SAFETY: both paths are NUL-terminated and static.
    let ret = unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) };
    check("pivot_root", ret).map(drop)
}

/// Unmounts what is mounted at the working directory, with all below; it ends when its last user is gone.
pub fn detach_here() -> Result<()> {
    detach(c".")
}

/// Unmounts `path`, with all below; it ends when its last user is gone.
pub fn detach(path: &CStr) -> Result<()> {
    // SAFETY: `path` is NUL-terminated and outlives the call.
    let ret = unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH | libc::UMOUNT_NOFOLLOW) };
    check("umount2", ret.into()).map(drop)
}

/// Unmounts the mount whose root `mount` is open on, or what is mounted over that root, with all below; it ends when its
/// last user is gone. EINVAL: it is attached nowhere, or locked.
///
/// `own` is the caller's /proc/PID, opened on a procfs of the host: there is no umount2(2) for a descriptor, and its path
/// could lead elsewhere by now, while the link in /proc/PID/fd leads to what is open, and is resolved below `own`, which
/// becomes the working directory: no name in the container's tree is read. The kernel does follow what is mounted over
/// that root (LOOKUP_MOUNTPOINT), so the caller looks afterwards whether the mount is gone.
pub fn detach_descriptor(mount: BorrowedFd, own: BorrowedFd) -> Result<()> {
    let mut name = super::Text::default();
    let _ = core::fmt::write(&mut name, format_args!("fd/{}", mount.as_raw_fd()));
    let name = StackPath::new(name.as_bytes())?;
    super::file::enter(own)?;
    // SAFETY: `name` is NUL-terminated and outlives the call.
    let ret = unsafe { libc::umount2(name.as_cstr().as_ptr(), libc::MNT_DETACH) };
    check("umount2", ret.into()).map(drop)
}

/// mount(2) onto the working directory, for what fsconfig(2) cannot carry: values of 256 bytes and more.
pub fn mount_here(source: &CStr, name: &CStr, flags: u64, data: &CStr) -> Result<()> {
    let (source, name, data) = (source.as_ptr(), name.as_ptr(), data.as_ptr().cast());
    // SAFETY: all strings are NUL-terminated and outlive the call.
    let ret = unsafe { libc::mount(source, c".".as_ptr(), name, flags, data) };
    check("mount", ret.into()).map(drop)
}
