//! What a failed system call is: its name and its errno, and, for init, a few words that need no heap.

use core::ffi::CStr;
use core::fmt;

pub use nix::errno::Errno;

use crate::strerror::strerror;

pub type Result<T> = core::result::Result<T, SysError>;

/// A system call that failed: the call's name in the manual, and why.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SysError {
    pub call: &'static str,
    pub errno: Errno,
}

impl SysError {
    pub fn new(call: &'static str, errno: Errno) -> Self {
        Self { call, errno }
    }

    /// The error of `call` as errno has it now.
    pub fn last(call: &'static str) -> Self {
        Self { call, errno: Errno::last() }
    }

    /// What std says of `call`, as far as it is an errno.
    pub fn io(call: &'static str, error: &std::io::Error) -> Self {
        Self { call, errno: Errno::from_raw(error.raw_os_error().unwrap_or(libc::EIO)) }
    }

    /// The same error with the words that say which file, option or value it was about.
    pub fn about(self, detail: &CStr) -> Fault {
        Fault { call: self.call, errno: self.errno, detail: Text::about(detail) }
    }
}

impl fmt::Display for SysError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.call, Words(self.errno))
    }
}

impl core::error::Error for SysError {}

impl From<SysError> for std::io::Error {
    /// Std's errors say why, and not what failed.
    fn from(error: SysError) -> Self {
        error.errno.into()
    }
}

/// Turns a libc return value into a result: -1 means that errno has the reason.
pub fn check(call: &'static str, ret: libc::c_long) -> Result<libc::c_long> {
    if ret < 0 { Err(SysError::last(call)) } else { Ok(ret) }
}

/// A failure inside the container, worded by the runtime: `detail` names the path, option or value, or holds the
/// kernel's own words from an fs context.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Fault {
    /// Empty where no call failed: `errno` means nothing then, and `detail` is all there is to say.
    pub call: &'static str,
    pub errno: Errno,
    pub detail: Text,
}

impl Fault {
    pub fn new(call: &'static str, errno: Errno, detail: &str) -> Self {
        Self { call, errno, detail: Text::from_bytes(detail.as_bytes()) }
    }

    /// A failure that no system call reports, but what a program of others did: it is in the words alone.
    pub fn in_words(words: fmt::Arguments) -> Self {
        let mut detail = Text::default();
        // A text takes what fits.
        let _ = fmt::write(&mut detail, words);
        Self { call: "", errno: Errno::UnknownErrno, detail }
    }

    /// The same with a detail in several parts, some of which are no UTF-8.
    pub fn of_parts(call: &'static str, errno: Errno, parts: &[&[u8]]) -> Self {
        let mut detail = Text::default();
        parts.iter().for_each(|part| detail.push(part));
        Self { call, errno, detail }
    }
}

impl From<SysError> for Fault {
    fn from(error: SysError) -> Self {
        Self { call: error.call, errno: error.errno, detail: Text::default() }
    }
}

impl From<nix::errno::Errno> for Fault {
    fn from(errno: Errno) -> Self {
        Self { call: "syscall", errno, detail: Text::default() }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.call.is_empty() {
            return self.detail.fmt(f);
        }
        write!(f, "{}: {}", self.call, Words(self.errno))?;
        if self.detail.is_empty() { Ok(()) } else { write!(f, " ({})", self.detail) }
    }
}

impl core::error::Error for Fault {}

/// An errno in the words of strerror(3), lower case: engines match "no such file or directory", "permission denied".
pub struct Words(pub Errno);

impl fmt::Display for Words {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in strerror(self.0).chars() {
            fmt::Write::write_char(f, c.to_ascii_lowercase())?;
        }
        Ok(())
    }
}

/// Up to [`Text::CAPACITY`] bytes of text without the heap; what does not fit is cut.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Text {
    len: u8,
    is_path: bool,
    bytes: [u8; Text::CAPACITY],
}

impl Text {
    pub const CAPACITY: usize = 200;

    pub fn from_bytes(bytes: &[u8]) -> Self {
        let mut text = Self::default();
        text.push(bytes);
        text
    }

    /// What an error is about; an absolute path is known as one.
    pub fn about(text: &CStr) -> Self {
        let bytes = text.to_bytes();
        Self { is_path: bytes.first() == Some(&b'/'), ..Self::from_bytes(bytes) }
    }

    /// The same bytes, which are an absolute path or not.
    pub fn as_path(self, is_path: bool) -> Self {
        Self { is_path, ..self }
    }

    /// Whether this is an absolute path and nothing else.
    pub fn is_path(&self) -> bool {
        self.is_path
    }

    pub fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            let Some(slot) = self.bytes.get_mut(usize::from(self.len)) else { return };
            *slot = *byte;
            self.len += 1;
        }
    }

    pub fn len(&self) -> u8 {
        self.len
    }

    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Default for Text {
    fn default() -> Self {
        Self { len: 0, is_path: false, bytes: [0; Self::CAPACITY] }
    }
}

impl fmt::Write for Text {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        self.push(s.as_bytes());
        Ok(())
    }
}

impl fmt::Display for Text {
    /// Bytes that are not printable ASCII come escaped: they may be the container's. Quotes stay, they are the kernel's.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for byte in self.as_bytes() {
            match byte {
                b' '..=b'~' => fmt::Write::write_char(f, char::from(*byte))?,
                _ => write!(f, "{}", byte.escape_ascii())?,
            }
        }
        Ok(())
    }
}

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{self}\"")
    }
}
