//! A process's terminal: the runtime sends its master through a socket, once; what the client wants is copied to and from that.

use std::fs::{self, OpenOptions};
use std::io::{self, Error, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

use nix::sys::socket::{getsockopt, sockopt};
use nix::sys::stat::{Mode, umask};
use nix::unistd::geteuid;
use ocirt_sys::terminal::set_nonblocking;

use crate::io::{self as streams, Pump};
use crate::sys;

/// A socket in the bundle, which goes with this; and with the bundle, if the shim is killed.
#[derive(Debug)]
pub struct Console {
    listener: UnixListener,
    /// The bundle's path may be longer than that of a socket can be (unix(7)).
    bundle: OwnedFd,
    name: String,
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
    /// Listens for the terminal of the bundle's process of this number. Nobody else may connect.
    pub fn listen(bundle: &Path, number: u64, stdin: Option<PathBuf>, sink: Sink) -> io::Result<Self> {
        let bundle = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(bundle)?;
        let (bundle, name) = (OwnedFd::from(bundle), format!(".console-{number}"));
        let path = path(&bundle, "self", &name);
        // That of a shim that was killed.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let before = umask(Mode::from_bits_truncate(0o177));
        let listener = UnixListener::bind(path);
        umask(before);
        let listener = listener?;
        listener.set_nonblocking(true)?;
        Ok(Self { listener, bundle, name, stdin, sink })
    }

    /// For the runtime.
    pub fn path(&self) -> PathBuf {
        path(&self.bundle, &std::process::id().to_string(), &self.name)
    }

    /// The connection of a process that may have made one.
    fn accept(&self) -> io::Result<UnixStream> {
        loop {
            let (socket, _) =
                self.listener.accept().map_err(|error| Error::other(format!("console socket: {error}")))?;
            if getsockopt(&socket, sockopt::PeerCredentials)?.uid() == geteuid().as_raw() {
                return Ok(socket);
            }
        }
    }

    /// The terminal's master, which the runtime has sent before it ended, and the pumps of its two directions.
    pub fn receive(mut self, stdin_closed: bool) -> io::Result<(OwnedFd, Vec<Pump>)> {
        let socket = self.accept()?;
        socket.set_nonblocking(true)?;
        let master = sys::receive_descriptor(socket.as_fd())?;
        if !sys::is_terminal_master(master.as_fd()) {
            return Err(Error::other("console socket: no terminal"));
        }
        set_nonblocking(master.as_fd())?;
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

/// The socket as this process finds it, or as others do: by the descriptor of the bundle.
fn path(bundle: &OwnedFd, process: &str, name: &str) -> PathBuf {
    PathBuf::from(format!("/proc/{process}/fd/{}/{name}", bundle.as_raw_fd()))
}

impl Drop for Console {
    fn drop(&mut self) {
        // The bundle may have gone.
        let _ = fs::remove_file(path(&self.bundle, "self", &self.name));
    }
}
