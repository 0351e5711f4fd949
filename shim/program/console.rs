//! A process's terminal: the runtime sends its master through a socket, once; what the client wants is copied to and from that.

use std::fs::{self, DirBuilder};
use std::io::{self, Error};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::geteuid;

use crate::io::{self as streams, Pump};
use crate::sys;

/// A socket in a directory of its own, which go with this.
#[derive(Debug)]
pub struct Console {
    listener: UnixListener,
    directory: PathBuf,
    stdin: Option<PathBuf>,
    sink: Sink,
}

/// Where a terminal's output goes.
#[derive(Debug)]
pub enum Sink {
    Fifo(PathBuf),
    File(OwnedFd),
    /// The pipe that a logger reads.
    Logger(OwnedFd),
    Nobody,
}

impl Console {
    /// Listens below `parent`, which only this user may enter.
    pub fn listen(parent: &Path, name: &str, stdin: Option<PathBuf>, sink: Sink) -> io::Result<Self> {
        let directory = parent.join(name);
        DirBuilder::new().mode(0o700).create(&directory)?;
        let listener = UnixListener::bind(directory.join("s")).inspect_err(|_| drop(fs::remove_dir(&directory)))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, directory, stdin, sink })
    }

    pub fn path(&self) -> PathBuf {
        self.directory.join("s")
    }

    /// The terminal's master, which the runtime has sent before it ended, and the pumps of its two directions.
    pub fn receive(mut self, stdin_closed: bool) -> io::Result<(OwnedFd, Vec<Pump>)> {
        let (socket, _) = self.listener.accept().map_err(|error| Error::other(format!("console socket: {error}")))?;
        socket.set_nonblocking(true)?;
        if getsockopt(&socket, sockopt::PeerCredentials)?.uid() != geteuid().as_raw() {
            return Err(Error::other("console socket: another user"));
        }
        let master = sys::receive_descriptor(socket.as_fd())?;
        if !sys::is_terminal_master(master.as_fd()) {
            return Err(Error::other("console socket: no terminal"));
        }
        sys::set_nonblocking(&master)?;
        let mut pumps = Vec::new();
        if let Some(stdin) = &self.stdin {
            pumps.push(streams::input_to(stdin, stdin_closed, master.try_clone()?)?);
        }
        let from = master.try_clone()?;
        pumps.push(match std::mem::replace(&mut self.sink, Sink::Nobody) {
            Sink::Fifo(path) => streams::output_from(&path, from)?,
            Sink::File(file) => streams::append_from(&file, from)?,
            Sink::Logger(pipe) => streams::pipe_from(pipe, from)?,
            Sink::Nobody => streams::nothing_from(from)?,
        });
        Ok((master, pumps))
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        // Nobody else knows of them.
        let _ = fs::remove_file(self.path());
        let _ = fs::remove_dir(&self.directory);
    }
}
