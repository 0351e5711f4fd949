//! A process's terminal: the runtime sends its master through a socket, once; FIFOs are copied to and from that.

use std::fs::{self, DirBuilder};
use std::io::{self, Error};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};

use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::geteuid;

use crate::io::{self as fifos, Pump};
use crate::sys;

/// A socket in a directory of its own, which go with this.
#[derive(Debug)]
pub struct Console {
    listener: UnixListener,
    directory: PathBuf,
    stdin: String,
    stdout: String,
}

impl Console {
    /// Listens below `parent`, which only this user may enter.
    pub fn listen(parent: &Path, name: &str, stdin: &str, stdout: &str) -> io::Result<Self> {
        if stdout.is_empty() {
            return Err(Error::other("a terminal without stdout: not supported yet"));
        }
        let directory = parent.join(name);
        DirBuilder::new().mode(0o700).create(&directory)?;
        let listener = UnixListener::bind(directory.join("s")).inspect_err(|_| drop(fs::remove_dir(&directory)))?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, directory, stdin: stdin.to_owned(), stdout: stdout.to_owned() })
    }

    pub fn path(&self) -> PathBuf {
        self.directory.join("s")
    }

    /// The terminal's master, which the runtime has sent before it ended, and the pumps of its two directions.
    pub fn receive(&self, stdin_closed: bool) -> io::Result<(OwnedFd, Vec<Pump>)> {
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
        if !self.stdin.is_empty() {
            pumps.push(fifos::input_to(&self.stdin, stdin_closed, master.try_clone()?)?);
        }
        pumps.push(fifos::output_from(&self.stdout, master.try_clone()?)?);
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
