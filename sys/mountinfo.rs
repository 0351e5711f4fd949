//! /proc/PID/mountinfo: the mounts of a namespace as the kernel has them, without looking up any path. proc_pid_mountinfo(5).
//!
//! A path in it can be of a container's choice: it is bytes, and an end of the text is not waited for without end.

use std::borrow::Cow;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::error::{Errno, Result, SysError};
use super::file;

/// What is read at most, in bytes: the kernel's default bound (fs.mount-max, 100,000 mounts) with long paths.
const LIMIT: usize = 64 << 20;

/// The text for the calling process. EFBIG: it is longer than anybody's.
pub fn of_self() -> Result<Vec<u8>> {
    read(&file::read_path(c"/proc/self/mountinfo")?, LIMIT)
}

/// The text for process `pid`.
pub fn of_pid(pid: i32) -> Result<Vec<u8>> {
    let path = CString::new(format!("/proc/{pid}/mountinfo")).map_err(|_| SysError::new("open", Errno::EINVAL))?;
    read(&file::read_path(&path)?, LIMIT)
}

/// The text for the process whose /proc/PID is `process`.
pub fn of(process: BorrowedFd) -> Result<Vec<u8>> {
    read(&file::read_at(process, c"mountinfo")?, LIMIT)
}

fn read(file: &OwnedFd, limit: usize) -> Result<Vec<u8>> {
    let (mut text, mut buffer) = (Vec::new(), [0; 8192]);
    loop {
        let length = file::read(file.as_fd(), &mut buffer)?;
        match buffer.get(..length) {
            Some(part) if !part.is_empty() => text.extend_from_slice(part),
            _ => return Ok(text),
        }
        if text.len() > limit {
            return Err(SysError::new("read", Errno::EFBIG));
        }
    }
}

/// One mount.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Mounted<'t> {
    /// [`super::file::MountId::number`] of the mount, and of the one that it is mounted on.
    pub number: u64,
    pub parent: u64,
    /// Major and minor number of the filesystem's device, as `98:0`.
    pub device: &'t [u8],
    /// What of the filesystem is mounted.
    pub root: Cow<'t, [u8]>,
    /// Where it is, as seen from the root of the process.
    pub at: Cow<'t, [u8]>,
    /// The options of the mount, separated by commas.
    pub flags: &'t [u8],
    /// The optional fields, separated by blanks: `shared:7 master:1`.
    pub tags: &'t [u8],
    /// The type of the filesystem.
    pub kind: &'t [u8],
    /// The options of the filesystem, separated by commas.
    pub options: &'t [u8],
}

/// The mounts in `text`; a line that is none of the kernel's is left out.
pub fn parse(text: &[u8]) -> impl Iterator<Item = Mounted<'_>> {
    text.split(|byte| *byte == b'\n').filter_map(parse_line)
}

/// The mount of one line.
pub fn parse_line(text: &[u8]) -> Option<Mounted<'_>> {
    let mut fields = text.splitn(7, |byte| *byte == b' ');
    let mut number = || std::str::from_utf8(fields.next()?).ok()?.parse().ok();
    let (number, parent) = (number()?, number()?);
    let (device, root, at) = (fields.next()?, unescape(fields.next()?), unescape(fields.next()?));
    let (flags, rest) = (fields.next()?, fields.next()?);
    // Any number of optional fields, and a hyphen.
    let end = if rest.starts_with(b"- ") { 0 } else { rest.windows(3).position(|three| three == b" - ")? + 1 };
    let (tags, rest) = rest.split_at_checked(end)?;
    let (tags, mut fields) = (tags.trim_ascii_end(), rest.split(|byte| *byte == b' ').skip(1));
    let (kind, options) = (fields.next()?, fields.nth(1)?);
    Some(Mounted { number, parent, device, root, at, flags, tags, kind, options })
}

/// Space, tab, newline, backslash and `#` come as three octal digits behind a backslash.
fn unescape(field: &[u8]) -> Cow<'_, [u8]> {
    if !field.contains(&b'\\') {
        return Cow::Borrowed(field);
    }
    let mut plain = Vec::with_capacity(field.len());
    let mut rest = field;
    while let [first, others @ ..] = rest {
        let (byte, others) = match others {
            [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', others @ ..] if *first == b'\\' => {
                ((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), others)
            }
            _ => (*first, others),
        };
        plain.push(byte);
        rest = others;
    }
    Cow::Owned(plain)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::{Directory, c_path};

    #[test]
    fn a_line_is_a_mount_with_its_paths_as_they_are() {
        let text =
            b"36 35 98:0 /a\\040b /mnt/x\\040y\\134z rw,noatime master:1 shared:7 - ext3 /dev/root rw,errors=continue\n\
            37 36 0:5 / /p\xff\\011 rw - proc proc rw\nnonsense\n";
        let mounts: Vec<_> = parse(text).collect();
        let ext3 = Mounted {
            number: 36,
            parent: 35,
            device: b"98:0",
            root: b"/a b".into(),
            at: b"/mnt/x y\\z".into(),
            flags: b"rw,noatime",
            tags: b"master:1 shared:7",
            kind: b"ext3",
            options: b"rw,errors=continue",
        };
        let proc = Mounted {
            number: 37,
            parent: 36,
            device: b"0:5",
            root: b"/".into(),
            at: b"/p\xff\t".into(),
            flags: b"rw",
            tags: b"",
            kind: b"proc",
            options: b"rw",
        };
        assert_eq!(mounts, [ext3, proc]);
    }

    #[test]
    fn junk_is_no_mount_and_no_panic() {
        for junk in [&b""[..], b"1", b"1 2 3", b"x 2 3:4 / / rw - a b c", b"1 2 3:4 / / rw", b"1 2 3:4 / / rw - a b"] {
            assert_eq!(parse(junk).count(), 0, "{junk:?}");
        }
        for plain in [&b"\\04"[..], b"\\999\\", b"\\400", b"\\+12"] {
            assert_eq!(unescape(plain), plain);
        }
    }

    #[test]
    fn the_mounts_of_a_process_are_read() {
        let own = file::open_directory(c"/proc/self/.").unwrap();
        let (text, same) = (of_self().unwrap(), of(own.as_fd()).unwrap());
        assert!(parse(&text).any(|mounted| *mounted.at == *b"/") && !same.is_empty());
        assert_eq!(parse(&text).count(), text.split(|byte| *byte == b'\n').count() - 1, "each line is a mount");
    }

    #[test]
    fn no_more_is_read_than_the_limit() {
        let place = Directory::new();
        std::fs::write(place.join("text"), vec![b'x'; 20_000]).unwrap();
        let open = || file::read_path(&c_path(&place.join("text"))).unwrap();
        assert_eq!(read(&open(), 20_000).unwrap().len(), 20_000);
        assert_eq!(read(&open(), 19_999).unwrap_err().errno, Errno::EFBIG);
    }
}
