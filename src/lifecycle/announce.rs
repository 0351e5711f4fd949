//! Telling those who asked for it which process a container's or an exec's is: the pid file, the pidfd socket; and where
//! its terminal goes.

use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::sys::process::Child;
use crate::sys::socket;

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

/// Sends the process's descriptor to `pidfd_socket`, and writes its pid to `pid_file`.
pub fn process(child: &Child, pidfd_socket: Option<&Path>, pid_file: Option<&Path>) -> Result<PidFile> {
    if let Some(path) = pidfd_socket {
        let words = || format!("--pidfd-socket {}", path.display());
        let socket = socket::connect_stream(path).with_context(words)?;
        socket::send(socket.as_fd(), b"pidfd", &[child.pidfd.as_fd()]).with_context(words)?;
    }
    let Some(path) = pid_file else { return Ok(PidFile(None)) };
    write_pid_file(path, child.pid).with_context(|| format!("--pid-file {}", path.display()))?;
    Ok(PidFile(Some(path.to_owned())))
}

/// Writes the pid without a newline, atomically, as engines read it.
fn write_pid_file(path: &Path, pid: i32) -> std::io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let new = path.with_file_name(format!(".{name}"));
    let mut file = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o644).open(&new)?;
    file.write_all(pid.to_string().as_bytes())?;
    std::fs::rename(&new, path)
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
        (None, true, true) => bail!("process.terminal: a detached process needs --console-socket"),
        (None, true, false) => {
            let (process, ours) = socket::pair()?;
            Ok((Some(process), Some(ours)))
        }
        (None, false, _) => Ok((None, None)),
    }
}
