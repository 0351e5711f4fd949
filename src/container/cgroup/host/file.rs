//! Control files: one value in, one value out, and errors that quote both.

use std::ffi::{CStr, CString};
use std::os::fd::{AsFd, BorrowedFd};

use crate::sys::{Errno, Result, SysError, Words, cgroup as sys};

/// The text of a control file. A piece that leaves half the buffer empty is the last one, since records are short; that
/// saves the call that would return 0.
pub fn read(dir: BorrowedFd<'_>, path: &CStr) -> Result<String> {
    text(read_until(dir, path, BUFFER / 2)?)
}

/// The text of a file whose lines can be long, as those of /proc.
pub fn read_to_end(dir: BorrowedFd<'_>, path: &CStr) -> Result<String> {
    text(read_bytes(dir, path)?)
}

/// The same of a file in which the container may have chosen names.
pub fn read_bytes(dir: BorrowedFd<'_>, path: &CStr) -> Result<Vec<u8>> {
    read_until(dir, path, 1)
}

fn text(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes).map_err(|_| SysError::new("read", Errno::EILSEQ))
}

const BUFFER: usize = 4096;

fn read_until(dir: BorrowedFd<'_>, path: &CStr, enough: usize) -> Result<Vec<u8>> {
    let file = sys::open_read(dir, path)?;
    let mut text = Vec::new();
    let mut buffer = [0; BUFFER];
    loop {
        let length = sys::read(file.as_fd(), &mut buffer)?;
        text.extend_from_slice(buffer.get(..length).unwrap_or_default());
        if length < enough {
            return Ok(text);
        }
    }
}

/// Writes `value` to a control file that exists.
pub fn write(dir: BorrowedFd<'_>, path: &CStr, value: &str) -> Result<()> {
    let file = sys::open_write(dir, path)?;
    sys::write(file.as_fd(), value.as_bytes())
}

/// A path as the kernel takes it.
pub fn path(directory: &str) -> Result<CString> {
    CString::new(directory).map_err(|_| SysError::new("openat", Errno::EINVAL))
}

/// The reason alone.
pub fn reason(errno: Errno) -> String {
    Words(errno).to_string()
}

/// Whether the runtime lacks the right to do it, in the loose sense that a read-only cgroupfs counts too.
pub fn is_forbidden(error: &SysError) -> bool {
    matches!(error.errno, Errno::EACCES | Errno::EPERM | Errno::EROFS)
}

/// Whether the cgroup is gone, or went while its file was read.
pub fn is_gone(error: &SysError) -> bool {
    matches!(error.errno, Errno::ENOENT | Errno::ENODEV)
}
