//! Becoming another program: its strings, where it is, the working directory, and execve(2).

use core::cell::Cell;
use core::ffi::{CStr, c_char};
use core::ptr;
use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;

use super::error::{Errno, Result, SysError, check};
use super::stat;

/// How many strings can be added later.
const SPARE: usize = 2;

/// The strings that execve(2) takes, argv or envp, laid out before the clone. Two more, of up to a fixed size, can be
/// added later without the heap.
#[derive(Debug)]
pub struct Strings {
    strings: Vec<CString>,
    /// One pointer a string, then those of the spare ones that are set, then null.
    pointers: Vec<Cell<*const c_char>>,
    spare: [Box<[Cell<u8>]>; SPARE],
}

impl Strings {
    pub fn new(strings: Vec<CString>) -> Self {
        Self::with_room(strings, [0; SPARE])
    }

    /// The strings, with room for two more of so many bytes, the NUL included; 0 for none.
    pub fn with_room(strings: Vec<CString>, spare: [usize; SPARE]) -> Self {
        let own = strings.iter().map(|string| string.as_ptr());
        let pointers = own.chain([ptr::null(); SPARE + 1]).map(Cell::new).collect();
        Self { strings, pointers, spare: spare.map(|size| vec![Cell::new(0); size].into()) }
    }

    /// Those of this process's own command line.
    pub fn of_arguments() -> Self {
        Self::new(super::command_line::arguments().map(CStr::to_owned).collect())
    }

    /// Those of this process's own environment (environ(7)).
    pub fn of_environment() -> Self {
        let variables = std::env::vars_os().map(|(name, value)| {
            let mut text = name.into_vec();
            text.push(b'=');
            text.extend(value.into_vec());
            // It comes from C: there is no NUL inside.
            CString::new(text).unwrap_or_default()
        });
        Self::new(variables.collect())
    }

    pub fn iter(&self) -> impl Iterator<Item = &CStr> {
        self.strings.iter().map(CString::as_c_str)
    }

    /// Sets a spare string to the `parts` in a row; `ENAMETOOLONG` if they do not fit.
    pub fn set_spare(&self, which: usize, parts: &[&[u8]]) -> Result<()> {
        let bytes = || parts.iter().flat_map(|part| part.iter());
        let room = self.spare.get(which).filter(|room| bytes().count() < room.len());
        let room = room.ok_or(SysError::new("execve", Errno::ENAMETOOLONG))?;
        for (slot, byte) in room.iter().zip(bytes().chain(&[0])) {
            slot.set(*byte);
        }
        let start = room.as_ptr().cast();
        let mut places = self.pointers.iter().skip(self.strings.len()).take(SPARE);
        if let Some(place) = places.find(|place| place.get().is_null() || place.get() == start) {
            place.set(start);
        }
        Ok(())
    }

    /// A spare string, once it is set.
    pub fn spare(&self, which: usize) -> impl Iterator<Item = u8> {
        self.spare.get(which).into_iter().flatten().map(Cell::get).take_while(|byte| *byte != 0)
    }

    pub(super) fn as_ptr(&self) -> *const *const c_char {
        self.pointers.as_ptr().cast()
    }
}

/// Becomes the program `path`. Returns only if that is impossible.
pub fn execve(path: &CStr, args: &Strings, env: &Strings) -> SysError {
    // SAFETY: `path` is NUL-terminated; both arrays end in null and their strings outlive the call.
    unsafe { libc::syscall(libc::SYS_execve, path.as_ptr(), args.as_ptr(), env.as_ptr()) };
    SysError::last("execve")
}

/// Ok if `path` is a regular file that the caller may execute; `EISDIR` for a directory, `EACCES` for what is no
/// regular file or lacks the permission. With the effective ids (faccessat2, Linux 5.8); where a seccomp profile
/// older than that call refuses it, with the real ones, which are the same in a container's process.
pub fn check_executable(path: &CStr) -> Result<()> {
    match stat::of_path(path)?.st_mode & libc::S_IFMT {
        libc::S_IFREG => {}
        libc::S_IFDIR => return Err(SysError::new("exec", Errno::EISDIR)),
        _ => return Err(SysError::new("exec", Errno::EACCES)),
    }
    let (dir, mode, flags) = (libc::AT_FDCWD, libc::X_OK, libc::AT_EACCESS);
    // SAFETY: `path` is NUL-terminated and outlives the call.
    let ret = unsafe { libc::syscall(libc::SYS_faccessat2, dir, path.as_ptr(), mode, flags) };
    match check("faccessat2", ret) {
        Err(SysError { errno: Errno::ENOSYS | Errno::EPERM, .. }) => {}
        other => return other.map(drop),
    }
    // SAFETY: `path` is NUL-terminated and outlives the call.
    let ret = unsafe { libc::syscall(libc::SYS_faccessat, dir, path.as_ptr(), mode) };
    check("faccessat", ret).map(drop)
}

/// Makes `path` the working directory.
pub fn change_directory(path: &CStr) -> Result<()> {
    // SAFETY: `path` is NUL-terminated and outlives the call.
    let ret = unsafe { libc::syscall(libc::SYS_chdir, path.as_ptr()) };
    check("chdir", ret).map(drop)
}

/// Whether the working directory lies below the caller's root. The kernel names one that does not "(unreachable)…";
/// the C library turns that into ENOENT, hence the raw call.
pub fn directory_is_reachable() -> Result<bool> {
    let mut buffer = [0u8; libc::PATH_MAX as usize];
    // SAFETY: the kernel writes at most buffer.len() bytes.
    let ret = unsafe { libc::syscall(libc::SYS_getcwd, buffer.as_mut_ptr(), buffer.len()) };
    check("getcwd", ret)?;
    Ok(buffer.first() == Some(&b'/'))
}
