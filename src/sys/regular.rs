//! A whole regular file that may have been put there by somebody else: no link is followed, nothing waits, nothing grows
//! without end.

use std::ffi::CStr;
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd};

use super::file::{self, kind};
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

/// The bytes of `name` in `directory`, at most `limit`, and the user id of its owner.
pub fn read(directory: BorrowedFd, name: &CStr, limit: u64) -> Result<(Vec<u8>, u32), Unfit> {
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
    read.map_err(|error| {
        Unfit::Call(SysError::new("read", Errno::from_raw(error.raw_os_error().unwrap_or_default())))
    })?;
    if text.len() as u64 > limit { Err(Unfit::Size(limit)) } else { Ok((text, stat.uid)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::symlink;

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
}
