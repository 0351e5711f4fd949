//! Opening, reading and writing files of the caller's choice, such as a FIFO whose other end may never be opened: each wait
//! has a timeout.

use std::ffi::CString;
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{Duration, Instant};

use super::error::{Errno, Fault, Result, SysError, check};
use super::file::{self, kind, owned};
use super::process::{Ready, poll_for};

/// How long the other end may take: to open a FIFO, to write the next part, to accept a connection.
pub const TIMEOUT: Duration = Duration::from_secs(10);
/// How often a FIFO without a reader is tried again: the kernel does not tell when one comes.
const PAUSE: Duration = Duration::from_millis(20);

/// The words for a FIFO that stays without a reader, or without a writer; they name [`TIMEOUT`].
const NO_READER: &str = "nobody has opened the FIFO for reading within 10 s";
const NO_WRITER: &str = "nobody has written the FIFO within 10 s";

/// Opens the file at `path` to append to, made with `mode` where it is missing; a write to it never waits.
pub fn append(path: &Path, mode: u32) -> core::result::Result<File, Fault> {
    let path = c_path(path)?;
    let end = Instant::now() + TIMEOUT;
    loop {
        let flags = libc::O_WRONLY | libc::O_APPEND | libc::O_CREAT;
        match open(&path, flags, mode) {
            // A FIFO without a reader; or a socket, which nobody can open.
            Err(SysError { errno: Errno::ENXIO, .. }) if is_fifo(&path) => {}
            opened => return Ok(opened?.into()),
        }
        if Instant::now() >= end {
            return Err(Fault::new("open", Errno::ETIMEDOUT, NO_READER));
        }
        std::thread::sleep(PAUSE);
    }
}

/// Lets writes to `file` wait as usual: it becomes another program's.
pub fn let_wait(file: &File) -> Result<()> {
    // SAFETY: takes numbers. Of the flags that can be changed, only O_NONBLOCK and O_APPEND are set.
    let ret = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETFL, libc::O_APPEND) };
    check("fcntl", ret.into()).map(drop)
}

/// Writes `bytes`; what is not taken within `milliseconds` is lost: a reader that does not read holds nobody up.
pub fn write_or_lose(fd: BorrowedFd, mut bytes: &[u8], milliseconds: u32) {
    while !bytes.is_empty() {
        match file::write(fd, bytes) {
            Ok(written) => bytes = bytes.get(written..).unwrap_or_default(),
            Err(SysError { errno: Errno::EINTR, .. }) => {}
            Err(SysError { errno: Errno::EAGAIN, .. }) => {
                if !matches!(poll_for([Some((fd, Ready::Write))], Some(milliseconds)), Ok([true])) {
                    return;
                }
            }
            Err(_) => return,
        }
    }
}

/// All of the file at `path`, of which `room` bytes are expected and at most `limit` are read.
pub fn read(path: &Path, room: usize, limit: usize) -> core::result::Result<Vec<u8>, Fault> {
    let fd = open(&c_path(path)?, libc::O_RDONLY, 0)?;
    let mut text = vec![0; room];
    let mut filled = 0;
    while filled < limit {
        if filled == text.len() {
            text.resize((2 * filled).clamp(4096, limit), 0);
        }
        match file::read(fd.as_fd(), text.get_mut(filled..).unwrap_or_default()) {
            // A FIFO that nobody has opened for writing reads as if it had ended.
            Ok(0) if filled == 0 && file::stat(fd.as_fd())?.kind() == kind::FIFO && !has_ended(fd.as_fd())? => {}
            Ok(0) => break,
            Ok(length) => filled += length,
            Err(SysError { errno: Errno::EINTR, .. }) => {}
            Err(SysError { errno: Errno::EAGAIN, .. }) => wait_for_more(fd.as_fd())?,
            Err(error) => return Err(error.into()),
        }
    }
    text.truncate(filled);
    Ok(text)
}

fn wait_for_more(fd: BorrowedFd) -> core::result::Result<(), Fault> {
    match poll_for([Some((fd, Ready::Read))], Some(TIMEOUT.as_millis() as u32))? {
        [true] => Ok(()),
        [false] => Err(Fault::new("read", Errno::ETIMEDOUT, NO_WRITER)),
    }
}

/// Waits for a writer of the FIFO; whether there was one who wrote nothing.
fn has_ended(fd: BorrowedFd) -> core::result::Result<bool, Fault> {
    wait_for_more(fd)?;
    let mut polled = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 };
    // SAFETY: one struct, for the time of the call.
    let ret = unsafe { libc::poll(&raw mut polled, 1, 0) };
    check("poll", ret.into())?;
    Ok(polled.revents & libc::POLLIN == 0)
}

fn c_path(path: &Path) -> Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| SysError::new("open", Errno::EINVAL))
}

fn open(path: &CString, flags: libc::c_int, mode: u32) -> Result<OwnedFd> {
    let flags = flags | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: `path` is NUL-terminated and outlives the call.
    let ret = unsafe { libc::open(path.as_ptr(), flags, mode) };
    owned("open", ret.into())
}

fn is_fifo(path: &CString) -> bool {
    let found = open(path, libc::O_PATH, 0).and_then(|fd| file::stat(fd.as_fd()));
    found.is_ok_and(|stat| stat.kind() == kind::FIFO)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scratch::{Directory, c_path as c};
    use std::io::{Read, Write};

    fn fifo(place: &Directory) -> std::path::PathBuf {
        let path = place.join("fifo");
        // SAFETY: a NUL-terminated path.
        assert_eq!(unsafe { libc::mkfifo(c(&path).as_ptr(), 0o600) }, 0);
        path
    }

    #[test]
    fn a_whole_file_is_read_and_no_more_than_the_limit() {
        let place = Directory::new();
        std::fs::write(place.join("file"), vec![7; 10_000]).unwrap();
        for room in [0, 1, 4096, 9_999, 10_000, 10_001, 32_768] {
            assert_eq!(read(&place.join("file"), room, 1 << 20).unwrap(), vec![7; 10_000], "{room}");
        }
        assert_eq!(read(&place.join("file"), 5_000, 5_000).unwrap(), vec![7; 5_000]);
        std::fs::write(place.join("empty"), "").unwrap();
        assert!(read(&place.join("empty"), 4096, 4096).unwrap().is_empty());
        assert_eq!(read(&place.join("absent"), 1, 1).unwrap_err().errno, Errno::ENOENT);
        assert_eq!(read(place.path(), 1, 1).unwrap_err().errno, Errno::EISDIR);
    }

    #[test]
    fn a_writer_of_a_fifo_may_come_later_and_take_its_time() {
        let place = Directory::new();
        let path = fifo(&place);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(100));
                let mut writer = File::options().write(true).open(&path).unwrap();
                writer.write_all(b"one").unwrap();
                std::thread::sleep(Duration::from_millis(100));
                writer.write_all(b" two").unwrap();
            });
            assert_eq!(read(&path, 4096, 1 << 20).unwrap(), b"one two");
        });
    }

    #[test]
    fn a_reader_of_a_fifo_may_come_later_and_need_not_read() {
        let place = Directory::new();
        let path = fifo(&place);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                std::thread::sleep(Duration::from_millis(100));
                File::open(&path).unwrap()
            });
            let writer = append(&path, 0o600).unwrap();
            let mut reader = reader.join().unwrap();
            let begun = Instant::now();
            write_or_lose(writer.as_fd(), b"first", 50);
            write_or_lose(writer.as_fd(), &vec![b'x'; 1 << 20], 50);
            assert!(begun.elapsed() < Duration::from_secs(5));
            let mut start = [0; 6];
            reader.read_exact(&mut start).unwrap();
            assert_eq!(&start, b"firstx");
        });
    }
}
