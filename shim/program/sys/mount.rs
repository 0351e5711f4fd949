//! System calls of mounts that no crate has.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

const EMPTY: &CStr = c"";

/// linux/loop.h
const LOOP_CTL_GET_FREE: libc::Ioctl = 0x4c82;
const LOOP_CONFIGURE: libc::Ioctl = 0x4c0a;
const LO_FLAGS_READ_ONLY: u32 = 1;
const LO_FLAGS_AUTOCLEAR: u32 = 4;

/// `struct loop_info64`
#[repr(C)]
struct LoopInfo {
    device: u64,
    inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    flags: u32,
    names: [u8; 160],
    init: [u64; 2],
}

/// `struct loop_config`
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

fn path(path: &Path) -> io::Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}

fn owned(result: libc::c_long) -> io::Result<OwnedFd> {
    if result < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(result as i32) })
}

fn check(result: libc::c_long) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// How often a path is looked up while others rename or mount, anywhere on the host: then the kernel cannot tell whether a
/// `..` has led out, and says EAGAIN (openat2(2)).
const TRIES: u32 = 128;

/// Opens `name` below `root`, whatever links lead to: openat2(2), RESOLVE_IN_ROOT.
pub fn open_in(root: BorrowedFd<'_>, name: &Path, flags: i32) -> io::Result<OwnedFd> {
    let name = path(name)?;
    let mut how = OpenHow { flags: (flags | libc::O_CLOEXEC) as u64, mode: 0, resolve: libc::RESOLVE_IN_ROOT };
    how.resolve |= libc::RESOLVE_NO_MAGICLINKS;
    let size = size_of::<OpenHow>();
    let mut tries = 1;
    loop {
        // SAFETY: the name is NUL-terminated, and both it and the structure outlive the call.
        match owned(unsafe { libc::syscall(libc::SYS_openat2, root.as_raw_fd(), name.as_ptr(), &raw const how, size) })
        {
            Err(error) if error.raw_os_error() == Some(libc::EAGAIN) && tries < TRIES => tries += 1,
            result => return result,
        }
    }
}

/// `struct open_how`
#[repr(C)]
struct OpenHow {
    flags: u64,
    mode: u64,
    resolve: u64,
}

/// A copy of the mount at a path, which is nowhere yet: open_tree(2).
pub fn clone_tree(from: &Path, is_recursive: bool) -> io::Result<OwnedFd> {
    let from = path(from)?;
    let recursive = if is_recursive { libc::AT_RECURSIVE as u32 } else { 0 };
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | recursive;
    // SAFETY: the path is NUL-terminated and outlives the call.
    owned(unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, from.as_ptr(), flags) })
}

/// Gives a mount that is nowhere yet the id maps of a user namespace: mount_setattr(2).
pub fn map_ids(tree: BorrowedFd<'_>, user_namespace: BorrowedFd<'_>, is_recursive: bool) -> io::Result<()> {
    let attributes = libc::mount_attr {
        attr_set: libc::MOUNT_ATTR_IDMAP,
        attr_clr: 0,
        propagation: 0,
        userns_fd: user_namespace.as_raw_fd() as u64,
    };
    set_attributes(tree, attributes, if is_recursive { libc::AT_RECURSIVE } else { 0 })
}

/// Gives a mount that is nowhere yet these MOUNT_ATTR_* besides those it has, but for those of access times, which take the
/// place of what it has: mount_setattr(2).
pub fn restrict(tree: BorrowedFd<'_>, attributes: u64) -> io::Result<()> {
    // The times are a number, which is taken away as a whole (linux/mount.h).
    let times = libc::MOUNT_ATTR_NOATIME | libc::MOUNT_ATTR_STRICTATIME;
    let attr_clr = if attributes & times != 0 { libc::MOUNT_ATTR__ATIME } else { 0 };
    set_attributes(tree, libc::mount_attr { attr_set: attributes, attr_clr, propagation: 0, userns_fd: 0 }, 0)
}

fn set_attributes(tree: BorrowedFd<'_>, attributes: libc::mount_attr, flags: i32) -> io::Result<()> {
    let (fd, flags, size) = (tree.as_raw_fd(), flags | libc::AT_EMPTY_PATH, size_of::<libc::mount_attr>());
    // SAFETY: the path is empty and static; the structure has this size and outlives the call.
    check(unsafe { libc::syscall(libc::SYS_mount_setattr, fd, EMPTY.as_ptr(), flags, &raw const attributes, size) })
}

/// Puts a mount that is nowhere yet onto what a descriptor is of: move_mount(2).
pub fn attach(tree: BorrowedFd<'_>, target: BorrowedFd<'_>) -> io::Result<()> {
    let flags = libc::MOVE_MOUNT_F_EMPTY_PATH | libc::MOVE_MOUNT_T_EMPTY_PATH;
    let (from, to, empty) = (tree.as_raw_fd(), target.as_raw_fd(), EMPTY.as_ptr());
    // SAFETY: both paths are empty and static.
    check(unsafe { libc::syscall(libc::SYS_move_mount, from, empty, to, empty, flags) })
}

/// A user or mount namespace of this process's own.
pub fn unshare(flags: i32) -> io::Result<()> {
    // SAFETY: unshare takes a number.
    check(libc::c_long::from(unsafe { libc::unshare(flags) }))
}

pub fn enter_mount_namespace(namespace: impl AsFd) -> io::Result<()> {
    // SAFETY: setns takes a descriptor that is open, and a number.
    check(libc::c_long::from(unsafe { libc::setns(namespace.as_fd().as_raw_fd(), libc::CLONE_NEWNS) }))
}

/// The number of a loop device that was free a moment ago.
pub fn free_loop(control: &File) -> io::Result<i32> {
    // SAFETY: this request has no argument.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE) };
    if number < 0 { Err(io::Error::last_os_error()) } else { Ok(number) }
}

/// Gives a loop device its file. It is free again with the last that uses it.
pub fn configure_loop(device: &File, file: &File, is_read_only: bool) -> io::Result<()> {
    let read_only = if is_read_only { LO_FLAGS_READ_ONLY } else { 0 };
    let config = LoopConfig {
        fd: file.as_raw_fd() as u32,
        block_size: 0,
        info: LoopInfo {
            device: 0,
            inode: 0,
            rdevice: 0,
            offset: 0,
            size_limit: 0,
            number: 0,
            encrypt_type: 0,
            encrypt_key_size: 0,
            flags: LO_FLAGS_AUTOCLEAR | read_only,
            names: [0; 160],
            init: [0; 2],
        },
        reserved: [0; 8],
    };
    // SAFETY: this request reads a loop_config, which outlives the call.
    check(libc::c_long::from(unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE, &raw const config) }))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// A node where containers begin and end has renames and mounts all the time.
    #[test]
    fn a_path_is_found_while_others_rename() {
        let place = std::env::temp_dir().join(format!("shim-rename-{}", std::process::id()));
        std::fs::create_dir_all(place.join("a")).unwrap();
        let (root, is_over) = (File::open(&place).unwrap(), AtomicBool::new(false));
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let (mut one, mut other) = (place.join("b"), place.join("c"));
                std::fs::create_dir(&one).unwrap();
                while !is_over.load(Ordering::Relaxed) {
                    std::fs::rename(&one, &other).unwrap();
                    std::mem::swap(&mut one, &mut other);
                }
            });
            let name = PathBuf::from("a/../".repeat(3));
            let failed = (0..20_000).find_map(|_| open_in(root.as_fd(), &name, libc::O_PATH).err());
            is_over.store(true, Ordering::Relaxed);
            assert!(failed.is_none(), "{failed:?}");
        });
        std::fs::remove_dir_all(&place).unwrap();
    }
}
