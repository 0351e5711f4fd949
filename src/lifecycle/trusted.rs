//! The files of a container's state directory, read with suspicion: what they say decides which processes are killed and
//! which hooks run, and `--root` may lie where others can write.

use std::ffi::CStr;
use std::fmt;
use std::fs::{File, Metadata};
use std::io::Read;
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;

use anyhow::{Result, bail};

use crate::sys::{Errno, file, ids};

/// What a file may hold, in bytes: a hundred times what the largest config.json leads to.
pub const LIMIT: u64 = 16 << 20;

/// Why a file, or the directory, is not what the runtime made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Distrust {
    Kind,
    Owner(u32),
    Size,
}

impl fmt::Display for Distrust {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Distrust::Kind => f.write_str("not a regular file"),
            Distrust::Owner(uid) => write!(f, "belongs to user {uid}, not to user {}", ids::effective_uid()),
            Distrust::Size => write!(f, "larger than {} MiB", LIMIT >> 20),
        }
    }
}

impl std::error::Error for Distrust {}

/// Reads the file `name` of `directory`; `None`: there is no such file. It never waits, whatever is there.
pub fn read(directory: BorrowedFd, name: &CStr) -> Result<Option<Vec<u8>>> {
    let fd = match file::read_at(directory, name) {
        Ok(fd) => fd,
        Err(error) if error.errno == Errno::ENOENT => return Ok(None),
        // A symlink; a socket.
        Err(error) if matches!(error.errno, Errno::ELOOP | Errno::ENXIO) => bail!(Distrust::Kind),
        Err(error) => return Err(error.into()),
    };
    let file = File::from(fd);
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        bail!(Distrust::Kind);
    }
    check_owner(&metadata)?;
    let mut text = Vec::with_capacity(usize::try_from(metadata.len().min(LIMIT))? + 1);
    // It may grow meanwhile.
    file.take(LIMIT + 1).read_to_end(&mut text)?;
    if text.len() as u64 > LIMIT { bail!(Distrust::Size) } else { Ok(Some(text)) }
}

/// Fails unless it is the caller's or root's.
pub fn check_owner(metadata: &Metadata) -> Result<()> {
    let uid = metadata.uid();
    if uid == 0 || uid == ids::effective_uid() { Ok(()) } else { bail!(Distrust::Owner(uid)) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::fd::AsFd;
    use std::os::unix::fs::{chown, symlink};

    #[test]
    fn only_a_regular_file_of_the_callers_is_read() {
        let place = std::env::temp_dir().join(format!("ocirt-trusted-{}", std::process::id()));
        fs::create_dir_all(&place).unwrap();
        let directory = File::open(&place).unwrap();
        let why = |name| read(directory.as_fd(), name).unwrap_err().downcast::<Distrust>().unwrap();
        fs::write(place.join("good"), "text").unwrap();
        symlink("good", place.join("link")).unwrap();
        fs::create_dir(place.join("directory")).unwrap();
        drop(std::os::unix::net::UnixListener::bind(place.join("socket")).unwrap());
        File::create(place.join("huge")).unwrap().set_len(1 << 40).unwrap();
        assert_eq!(read(directory.as_fd(), c"good").unwrap().as_deref(), Some(&b"text"[..]));
        assert_eq!(read(directory.as_fd(), c"absent").unwrap(), None);
        for name in [c"link", c"directory", c"socket"] {
            assert_eq!(why(name), Distrust::Kind, "{name:?}");
        }
        assert_eq!(why(c"huge"), Distrust::Size);
        if ids::effective_uid() == 0 {
            chown(place.join("good"), Some(1000), None).unwrap();
            assert_eq!(why(c"good"), Distrust::Owner(1000));
        }
        fs::remove_dir_all(&place).unwrap();
    }
}
