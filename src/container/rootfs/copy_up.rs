//! `tmpcopyup`: a tmpfs starts with a copy of what it hides.

use core::ffi::CStr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::sys::file::{self, Stat, kind};
use crate::sys::path::open_itself_at;
use crate::sys::reopen::OwnDescriptors;
use crate::sys::{Errno, Fault, SysError};

/// Directories below directories; the copy works on the stack.
const MAX_DEPTH: u32 = 100;
/// Room for some entries of a directory at a time: each is at most 19 bytes and a name of 256.
const BUFFER: usize = 1024;

/// Copies everything in the directory `from` into the directory `to`, with owners and permissions; and those of `from`
/// itself stay as `to` has them. No symlink is followed.
///
/// Others may exchange what is in `from` meanwhile. So each entry is one descriptor, by which it is looked at, and opened
/// only if it is a regular file or a directory: owner, mode and content are of one file, and no device is opened.
pub fn copy_up(from: BorrowedFd, to: BorrowedFd) -> Result<(), Fault> {
    copy_entries(&OwnDescriptors::open()?, from, to, 0)
}

fn copy_entries(own: &OwnDescriptors, from: BorrowedFd, to: BorrowedFd, depth: u32) -> Result<(), Fault> {
    if depth > MAX_DEPTH {
        return Err(Fault::new("mkdirat", Errno::ELOOP, "tmpcopyup: directories are nested too deep"));
    }
    let mut buffer = [0u8; BUFFER];
    loop {
        let len = file::entries(from, &mut buffer)?;
        let mut rest = buffer.get(..len).unwrap_or_default();
        if rest.is_empty() {
            return Ok(());
        }
        while let Some((name, others)) = first_entry(rest) {
            if name != c"." && name != c".." {
                copy_entry(own, from, to, name, depth)?;
            }
            rest = others;
        }
    }
}

/// The name of the first struct linux_dirent64 in `bytes`, and what follows it: getdents64(2).
fn first_entry(bytes: &[u8]) -> Option<(&CStr, &[u8])> {
    let len = u16::from_ne_bytes(bytes.get(16..18)?.try_into().ok()?);
    let (entry, others) = bytes.split_at_checked(len.into())?;
    Some((CStr::from_bytes_until_nul(entry.get(19..)?).ok()?, others))
}

fn copy_entry(own: &OwnDescriptors, from: BorrowedFd, to: BorrowedFd, name: &CStr, depth: u32) -> Result<(), Fault> {
    // The only time that the name is read.
    let entry = open_itself_at(from, name).map_err(|error| error.about(name))?;
    let stat = file::stat(entry.as_fd()).map_err(|error| error.about(name))?;
    match stat.kind() {
        kind::DIRECTORY => {
            let source = file::list_at(entry.as_fd(), c".").map_err(|error| error.about(name))?;
            // Each level holds two descriptors.
            drop(entry);
            let copy = make_directory(to, name).map_err(|error| error.about(name))?;
            copy_entries(own, source.as_fd(), copy.as_fd(), depth + 1)?;
            give(copy.as_fd(), &stat).map_err(|error| error.about(name))
        }
        kind::REGULAR => {
            let source = own.read(entry.as_fd()).map_err(|error| error.about(name))?;
            copy_file(source.as_fd(), to, name, &stat).map_err(|error| error.about(name))
        }
        _ => copy_special(entry.as_fd(), to, name, &stat).map_err(|error| error.about(name)),
    }
}

/// A new directory, to be filled; nobody else has access to `to`.
fn make_directory(to: BorrowedFd, name: &CStr) -> Result<OwnedFd, SysError> {
    file::mkdir_at(to, name, 0o700)?;
    file::list_at(open_itself_at(to, name)?.as_fd(), c".")
}

fn copy_file(source: BorrowedFd, to: BorrowedFd, name: &CStr, stat: &Stat) -> Result<(), SysError> {
    let copy = file::create_at(to, name, 0o600)?;
    let mut buffer = [0u8; 4096];
    loop {
        let len = file::read(source, &mut buffer)?;
        let mut rest = buffer.get(..len).unwrap_or_default();
        if rest.is_empty() {
            return give(copy.as_fd(), stat);
        }
        while !rest.is_empty() {
            let written = file::write(copy.as_fd(), rest)?;
            rest = rest.get(written..).unwrap_or_default();
        }
    }
}

/// A symlink, device, FIFO or socket.
fn copy_special(entry: BorrowedFd, to: BorrowedFd, name: &CStr, stat: &Stat) -> Result<(), SysError> {
    if stat.kind() == kind::SYMLINK {
        let mut buffer = [0u8; 4096];
        let len = file::readlink_at(entry, c"", &mut buffer)?.len();
        // readlink_at leaves at least one byte, which is still zero.
        let target = CStr::from_bytes_until_nul(buffer.get(..=len).unwrap_or_default()).unwrap_or_default();
        file::symlink_at(target, to, name)?;
    } else {
        file::mknod_at(to, name, stat.mode, stat.device)?;
    }
    file::chown_at(to, name, stat.uid, stat.gid)
}

/// Owner first: changing it takes away set-user-ID bits.
fn give(copy: BorrowedFd, stat: &Stat) -> Result<(), SysError> {
    file::chown(copy, stat.uid, stat.gid)?;
    file::chmod(copy, stat.permissions())
}
