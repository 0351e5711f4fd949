//! A whole regular file that may have been put there by somebody else, read or replaced: no link is followed, nothing
//! waits, nothing grows without end, and what is no file stays what it is.

use std::ffi::{CStr, CString};
use std::fmt;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::file::{self, Stat, kind};
use super::{Errno, SysError};

/// Why a file is not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Unfit {
    Call(SysError),
    Kind,
    /// It is larger than this many bytes.
    Size(u64),
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unfit::Call(error) => error.fmt(f),
            Unfit::Kind => f.write_str("not a regular file"),
            Unfit::Size(limit) => write!(f, "larger than {} MiB", limit >> 20),
        }
    }
}

impl std::error::Error for Unfit {}

/// The bytes of `name` in `directory`, at most `limit`, and whose it is.
pub fn read(directory: BorrowedFd, name: &CStr, limit: u64) -> Result<(Vec<u8>, Stat), Unfit> {
    let fd = file::read_at(directory, name).map_err(|error| match error.errno {
        // A symlink; a socket.
        Errno::ELOOP | Errno::ENXIO => Unfit::Kind,
        _ => Unfit::Call(error),
    })?;
    let stat = file::stat(fd.as_fd()).map_err(Unfit::Call)?;
    if stat.kind() != kind::REGULAR {
        return Err(Unfit::Kind);
    }
    // Room for one read of all of it, and one that finds the end: with less, the library feels its way in small steps.
    let mut text = Vec::with_capacity(stat.size.min(limit) as usize + 32);
    // It may grow meanwhile.
    let read = File::from(fd).take(limit.saturating_add(1)).read_to_end(&mut text);
    read.map_err(|error| Unfit::Call(SysError::io("read", &error)))?;
    if text.len() as u64 > limit { Err(Unfit::Size(limit)) } else { Ok((text, stat)) }
}

/// Whether [`replace`] would leave `path` alone, since something else than a file or a symlink is there.
pub fn check_replaceable(path: &Path) -> Result<(), Unfit> {
    let (directory, name) = place(path)?;
    check_kind(directory.as_fd(), &name)
}

/// Puts a new file with `mode`, less the umask, and `bytes` at `path`: a reader sees the old one or the new one, never a
/// part. A symlink is not followed, but replaced. A device, a socket, a FIFO or a directory is refused: rename(2) would put
/// the file in the place of the host's /dev/null.
pub fn replace(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), Unfit> {
    let (directory, name) = place(path)?;
    let directory = directory.as_fd();
    check_kind(directory, &name)?;
    let new = CString::new([b".", name.to_bytes()].concat()).map_err(|_| call("open", Errno::EINVAL))?;
    // What a killed runtime left, or a link that somebody put there.
    match file::unlink_at(directory, &new) {
        Err(error) if error.errno != Errno::ENOENT => return Err(Unfit::Call(error)),
        _ => {}
    }
    let mut file = File::from(file::create_at(directory, &new, mode).map_err(Unfit::Call)?);
    let written = file.write_all(bytes).map_err(|error| SysError::io("write", &error));
    written.and_then(|()| file::rename_at(directory, &new, &name)).map_err(|error| {
        // The first error is the one to tell.
        let _ = file::unlink_at(directory, &new);
        Unfit::Call(error)
    })
}

/// The directory of `path`, and its name there.
fn place(path: &Path) -> Result<(File, CString), Unfit> {
    let name = path.file_name().ok_or(Unfit::Kind)?;
    let name = CString::new(name.as_bytes()).map_err(|_| call("open", Errno::EINVAL))?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let parent = CString::new(parent.as_os_str().as_bytes()).map_err(|_| call("open", Errno::EINVAL))?;
    Ok((File::from(file::open_path(&parent).map_err(Unfit::Call)?), name))
}

fn check_kind(directory: BorrowedFd, name: &CStr) -> Result<(), Unfit> {
    match file::stat_at(directory, name) {
        Ok(stat) if matches!(stat.kind(), kind::REGULAR | kind::SYMLINK) => Ok(()),
        Ok(_) => Err(Unfit::Kind),
        Err(error) if error.errno == Errno::ENOENT => Ok(()),
        Err(error) => Err(Unfit::Call(error)),
    }
}

fn call(name: &'static str, errno: Errno) -> Unfit {
    Unfit::Call(SysError::new(name, errno))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{FileTypeExt, symlink};

    #[test]
    fn only_a_regular_file_of_sensible_size_is_read() {
        let place = std::env::temp_dir().join(format!("ocirt-regular-{}", std::process::id()));
        fs::create_dir_all(&place).unwrap();
        let directory = File::open(&place).unwrap();
        fs::write(place.join("good"), "text").unwrap();
        symlink("good", place.join("link")).unwrap();
        fs::create_dir(place.join("directory")).unwrap();
        drop(std::os::unix::net::UnixListener::bind(place.join("socket")).unwrap());
        File::create(place.join("huge")).unwrap().set_len(1 << 40).unwrap();
        let read = |name| read(directory.as_fd(), name, 1 << 20);
        assert_eq!(read(c"good").unwrap().0, b"text");
        assert!(matches!(read(c"absent"), Err(Unfit::Call(error)) if error.errno == Errno::ENOENT));
        for name in [c"link", c"directory", c"socket"] {
            assert_eq!(read(name), Err(Unfit::Kind), "{name:?}");
        }
        assert_eq!(read(c"huge").unwrap_err().to_string(), "larger than 1 MiB");
        fs::remove_dir_all(&place).unwrap();
    }

    #[test]
    fn only_a_file_or_a_symlink_is_replaced() {
        let place = crate::scratch::Directory::new();
        fs::write(place.join("old"), "old").unwrap();
        fs::write(place.join("target"), "kept").unwrap();
        symlink("target", place.join("link")).unwrap();
        fs::write(place.join(".new"), "left").unwrap();
        for name in ["old", "link", "new"] {
            check_replaceable(&place.join(name)).unwrap();
            replace(&place.join(name), 0o644, b"text").unwrap();
            assert_eq!(fs::read_to_string(place.join(name)).unwrap(), "text");
            assert!(fs::symlink_metadata(place.join(name)).unwrap().is_file());
        }
        assert_eq!(fs::read_to_string(place.join("target")).unwrap(), "kept");
        drop(std::os::unix::net::UnixListener::bind(place.join("socket")).unwrap());
        fs::create_dir(place.join("directory")).unwrap();
        for name in ["socket", "directory", ".."] {
            assert_eq!(check_replaceable(&place.join(name)), Err(Unfit::Kind), "{name}");
            assert_eq!(replace(&place.join(name), 0o644, b"text"), Err(Unfit::Kind), "{name}");
        }
        assert!(fs::symlink_metadata(place.join("socket")).unwrap().file_type().is_socket());
        let missing = replace(&place.join("no/file"), 0o644, b"").unwrap_err();
        assert!(matches!(missing, Unfit::Call(error) if error.errno == Errno::ENOENT));
        assert_eq!(fs::read_dir(place.path()).unwrap().count(), 6, "nothing is left beside them");
    }
}
