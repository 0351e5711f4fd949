//! Telling those who asked for it which process a container's or an exec's is: the pid file, the pidfd socket; and where
//! its terminal goes.

use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::error::field;
use crate::sys::process::Child;
use crate::sys::{regular, socket};

/// The pid file, which goes away unless it is kept: without a process it would mislead.
#[derive(Debug)]
pub struct PidFile(Option<PathBuf>);

impl PidFile {
    /// The process is there to stay.
    pub fn keep(&mut self) {
        self.0 = None;
    }
}

impl Drop for PidFile {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            // The error that made us undo is the one to tell.
            let _ = std::fs::remove_file(path);
        }
    }
}

/// A socket that gets the pidfd.
#[derive(Clone, Copy)]
pub struct Receiver<'a> {
    /// What names it: a flag or an annotation.
    pub field: &'static str,
    pub path: &'a Path,
}

impl<'a> Receiver<'a> {
    /// The one of `--pidfd-socket`.
    pub fn of_flag(path: Option<&'a Path>) -> Option<Self> {
        path.map(|path| Self { field: "--pidfd-socket", path })
    }

    fn words(&self) -> String {
        format!("{} {}", self.field, self.path.display())
    }
}

/// Who is to be told of a process.
pub struct Announcement<'a> {
    receiver: Option<(OwnedFd, Receiver<'a>)>,
    pid_file: Option<&'a Path>,
}

impl<'a> Announcement<'a> {
    /// Connects to `receiver`.
    pub fn open(receiver: Option<Receiver<'a>>, pid_file: Option<&'a Path>) -> Result<Self> {
        let connect = |receiver: Receiver<'a>| {
            let socket = socket::connect_stream(receiver.path);
            Ok::<_, anyhow::Error>((socket.with_context(|| receiver.words())?, receiver))
        };
        Ok(Self { receiver: receiver.map(connect).transpose()?, pid_file })
    }

    /// The same, and an error for a pid file whose directory is not there, or that is something else than a file: before
    /// there is a process that would have begun its work when the file turns out to be impossible.
    pub fn prepare(pidfd_socket: Option<&'a Path>, pid_file: Option<&'a Path>) -> Result<Self> {
        if let Some(path) = pid_file {
            regular::check_replaceable(path).with_context(|| pid_file_words(path))?;
        }
        Self::open(Receiver::of_flag(pidfd_socket), pid_file)
    }

    /// Sends the process's descriptor to the socket, and writes its pid to the file.
    pub fn tell(&self, child: &Child) -> Result<PidFile> {
        if let Some((socket, receiver)) = &self.receiver {
            let sent = socket::send(socket.as_fd(), b"pidfd", &[child.pidfd.as_fd()]);
            sent.with_context(|| receiver.words())?;
        }
        let Some(path) = self.pid_file else { return Ok(PidFile(None)) };
        // Without a newline, as engines read it. No link is followed: the directory may be one that others can write.
        regular::replace(path, 0o644, child.pid.to_string().as_bytes()).with_context(|| pid_file_words(path))?;
        Ok(PidFile(Some(path.to_owned())))
    }
}

fn pid_file_words(path: &Path) -> String {
    format!("--pid-file {}", path.display())
}

/// A connection to the socket of `--console-socket`.
pub fn console_socket(path: &Path) -> Result<OwnedFd> {
    socket::connect_stream(path).with_context(|| format!("--console-socket {}", path.display()))
}

/// Where the process sends its terminal: to the console socket that was named, or to us, who get the second one.
pub fn consoles(terminal: bool, socket: Option<&Path>, detach: bool) -> Result<(Option<OwnedFd>, Option<OwnedFd>)> {
    match (socket, terminal, detach) {
        (Some(path), true, true) => Ok((Some(console_socket(path)?), None)),
        (Some(_), _, _) => bail!("--console-socket: only for a process with a terminal that is detached"),
        (None, true, true) => bail!(field!("process.terminal"; "a detached process needs --console-socket")),
        (None, true, false) => {
            let (process, ours) = socket::pair()?;
            Ok((Some(process), Some(ours)))
        }
        (None, false, _) => Ok((None, None)),
    }
}
