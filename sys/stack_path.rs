//! A path that needs no heap.

use core::ffi::CStr;

use super::error::{Errno, Result, SysError};

/// A path on the stack, NUL-terminated.
pub struct StackPath {
    len: usize,
    bytes: [u8; libc::PATH_MAX as usize],
}

impl StackPath {
    pub fn new(bytes: &[u8]) -> Result<Self> {
        let mut path = Self { len: 0, bytes: [0; libc::PATH_MAX as usize] };
        path.push(bytes)?;
        Ok(path)
    }

    /// Appends `bytes` up to the first NUL; ENAMETOOLONG if there is no room.
    pub fn push(&mut self, bytes: &[u8]) -> Result<()> {
        let bytes = bytes.split(|byte| *byte == 0).next().unwrap_or_default();
        let end = self.len + bytes.len();
        match self.bytes.get_mut(self.len..end) {
            Some(room) if end < libc::PATH_MAX as usize => room.copy_from_slice(bytes),
            _ => return Err(SysError::new("openat2", Errno::ENAMETOOLONG)),
        }
        self.len = end;
        Ok(())
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }

    pub fn as_cstr(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.bytes).unwrap_or_default()
    }
}
