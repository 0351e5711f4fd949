//! A process's standard input and output: pipes towards the process, FIFOs towards the client, and the kernel copies
//! (splice(2)): no thread, no buffer. To a file is written instead: splice(2) refuses one that is open for appending.
//!
//! The process never gets the FIFO itself: a client that goes away would be a broken pipe for it. The shim has both
//! ends of a FIFO that it writes, so that one without a reader is full and not broken, and a later reader goes on.

use std::fs::{DirBuilder, OpenOptions};
use std::io::{self, Error};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;

use containerd_shim_ocirt::call::stdio::{Output, Stdio};
use nix::errno::Errno;
use nix::fcntl::{SpliceFFlags, splice};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Gid, Uid, fchown, read, write};
use ocirt_sys::terminal::set_nonblocking;

use crate::child;

/// What is copied at once, and how often before others have their turn.
const PIECE: usize = 64 << 10;
const TURNS: usize = 16;

/// One direction of one stream.
#[derive(Debug)]
pub struct Pump {
    from: OwnedFd,
    to: OwnedFd,
    by: Way,
    /// The shim's own end of a FIFO for input, so that it has no end of file while the client has not come.
    own_end: Option<OwnedFd>,
    pub is_output: bool,
    /// It goes to a FIFO, whose reader may come later.
    is_fifo: bool,
}

/// How bytes get to the other side.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Splice,
    /// To what always has room.
    Write,
}

/// What a pump waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    Input,
    Room,
    /// Known to have more; others have their turn.
    Turn,
    Ended,
}

/// A process's standard streams, and what is behind them.
#[derive(Default, Debug)]
pub struct Streams {
    pub own: child::Streams,
    pub pumps: Vec<Pump>,
    /// What a logger reads: standard output and standard error.
    pub logged: Vec<OwnedFd>,
}

/// Where an output stream goes.
enum To<'a> {
    Fifo(&'a Path),
    File(&'a OwnedFd),
    Logger,
}

/// Opens what the streams of a process without a terminal go to. `owner` may open /dev/stdout anew.
pub fn open(stdio: &Stdio, stdin_closed: bool, owner: (u32, u32)) -> io::Result<Streams> {
    let mut streams = Streams::default();
    if let Some(path) = &stdio.stdin {
        let (theirs, ours) = io::pipe()?;
        own(&theirs, owner)?;
        streams.pumps.push(input_to(path, stdin_closed, nonblocking(ours.into())?)?);
        streams.own[0] = Some(theirs.into());
    }
    match &stdio.output {
        Output::Fifos { stdout, stderr } => {
            if let Some(path) = stdout {
                streams.own[1] = streams.pipe(&To::Fifo(path), owner)?;
            }
            if let Some(path) = stderr {
                streams.own[2] = streams.pipe(&To::Fifo(path), owner)?;
            }
        }
        Output::File(path) => {
            let file = appended(path)?;
            streams.own[1] = streams.pipe(&To::File(&file), owner)?;
            streams.own[2] = streams.pipe(&To::File(&file), owner)?;
        }
        Output::Logger(_) => {
            streams.own[1] = streams.pipe(&To::Logger, owner)?;
            streams.own[2] = streams.pipe(&To::Logger, owner)?;
        }
    }
    Ok(streams)
}

impl Streams {
    /// The process's end of an output stream.
    fn pipe(&mut self, to: &To<'_>, owner: (u32, u32)) -> io::Result<Option<OwnedFd>> {
        let (ours, theirs) = io::pipe()?;
        own(&theirs, owner)?;
        match to {
            To::Fifo(path) => self.pumps.push(output_from(path, nonblocking(ours.into())?)?),
            To::File(file) => self.pumps.push(append_from(file, nonblocking(ours.into())?)?),
            To::Logger => self.logged.push(ours.into()),
        }
        Ok(Some(theirs.into()))
    }
}

fn nonblocking(fd: OwnedFd) -> io::Result<OwnedFd> {
    set_nonblocking(fd.as_fd())?;
    Ok(fd)
}

fn own(pipe: impl AsFd, (uid, gid): (u32, u32)) -> io::Result<()> {
    if (uid, gid) != (0, 0) {
        fchown(pipe, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    Ok(())
}

/// O_RDWR of anything else would be a surprise.
fn open_fifo(path: &Path, options: &OpenOptions) -> io::Result<OwnedFd> {
    let file = options.open(path).map_err(|error| named(path, &error))?;
    if !file.metadata()?.file_type().is_fifo() {
        return Err(Error::other(format!("{}: no FIFO", path.display())));
    }
    Ok(file.into())
}

fn named(path: &Path, error: &Error) -> Error {
    Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// A file to append to, as `file://` asks for it. What rotates it by truncating finds the next line at its beginning.
pub fn appended(path: &Path) -> io::Result<OwnedFd> {
    if let Some(directory) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(directory).map_err(|error| named(directory, &error))?;
    }
    // Of a FIFO, that would wait for a reader.
    let flags = libc::O_NONBLOCK;
    let file = OpenOptions::new().append(true).create(true).mode(0o644).custom_flags(flags).open(path);
    let file = file.map_err(|error| named(path, &error))?;
    if !file.metadata()?.is_file() {
        return Err(Error::other(format!("{}: no file", path.display())));
    }
    Ok(file.into())
}

/// From a client's FIFO to `to`.
pub fn input_to(path: &Path, stdin_closed: bool, to: OwnedFd) -> io::Result<Pump> {
    let from = open_fifo(path, OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK))?;
    let own_end = if stdin_closed {
        None
    } else {
        Some(open_fifo(path, OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK))?)
    };
    Ok(Pump { from, to, by: Way::Splice, own_end, is_output: false, is_fifo: false })
}

/// From `from` to a client's FIFO.
pub fn output_from(path: &Path, from: OwnedFd) -> io::Result<Pump> {
    let to = open_fifo(path, OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK))?;
    Ok(Pump { from, to, by: Way::Splice, own_end: None, is_output: true, is_fifo: true })
}

/// From a terminal to the pipe of a logger.
pub fn pipe_from(to: OwnedFd, from: OwnedFd) -> io::Result<Pump> {
    Ok(Pump { from, to: nonblocking(to)?, by: Way::Splice, own_end: None, is_output: true, is_fifo: false })
}

/// From `from` to a file that is open for appending.
pub fn append_from(file: &OwnedFd, from: OwnedFd) -> io::Result<Pump> {
    Ok(Pump { from, to: file.try_clone()?, by: Way::Write, own_end: None, is_output: true, is_fifo: false })
}

/// From `from` to nobody, so that the process does not wait.
pub fn nothing_from(from: OwnedFd) -> io::Result<Pump> {
    let to = OpenOptions::new().write(true).open("/dev/null")?.into();
    Ok(Pump { from: nonblocking(from)?, to, by: Way::Write, own_end: None, is_output: true, is_fifo: false })
}

/// The end of a FIFO to which a client has not come, or not come back. Its open(2) may be on the way: it would wait for ever for
/// somebody who writes, and what is in the FIFO is lost with its last end. While this is open, it gets that and the end of file.
#[derive(Debug)]
pub struct Rest(OwnedFd);

impl Rest {
    /// The end for writing has an error for as long as there is none for reading (poll(2)).
    pub fn has_reader(&self) -> bool {
        let mut fds = [PollFd::new(self.0.as_fd(), PollFlags::empty())];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|broken| broken == 0)
    }
}

impl Pump {
    /// Copies what there is, as far as there is room.
    pub fn copy(&mut self) -> State {
        match self.by {
            Way::Splice => self.splice(),
            Way::Write => self.write(),
        }
    }

    fn splice(&mut self) -> State {
        for _ in 0..TURNS {
            let flags = SpliceFFlags::SPLICE_F_NONBLOCK | SpliceFFlags::SPLICE_F_MOVE;
            match splice(&self.from, None, &self.to, None, PIECE, flags) {
                Ok(0) => return State::Ended,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return if self.has_room() { State::Input } else { State::Room },
                // Nobody reads any more.
                Err(_) => return State::Ended,
            }
        }
        State::Turn
    }

    fn write(&mut self) -> State {
        let mut bytes = [0; PIECE / 4];
        for _ in 0..TURNS {
            match read(&self.from, &mut bytes) {
                Ok(0) => return State::Ended,
                Ok(count) => self.write_all(bytes.get(..count).unwrap_or_default()),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return State::Input,
                // EIO: the last one has closed the terminal.
                Err(_) => return State::Ended,
            }
        }
        State::Turn
    }

    /// What a full disk does not take is lost: a container that waits for it would be worse.
    fn write_all(&self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match write(&self.to, bytes) {
                Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
                Err(Errno::EINTR) => {}
                Err(_) => return,
            }
        }
    }

    fn has_room(&self) -> bool {
        let mut fds = [PollFd::new(self.to.as_fd(), PollFlags::POLLOUT)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
    }

    /// Of output that has ended, what nobody has come for yet. Both ends of the FIFO are closed.
    pub fn rest(self) -> Option<Rest> {
        if !self.is_fifo {
            return None;
        }
        let again = format!("/proc/self/fd/{}", self.to.as_raw_fd());
        let end = OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK).open(again).ok()?;
        // The pump has the other end too, and would be a reader.
        drop(self);
        let rest = Rest(end.into());
        (!rest.has_reader()).then_some(rest)
    }

    /// The client writes no more: with its end closed, there is an end of file.
    pub fn close_own_end(&mut self) {
        self.own_end = None;
    }

    /// The descriptor that tells of the end of a state.
    pub fn waits_on(&self, state: State) -> BorrowedFd<'_> {
        if state == State::Room { self.to.as_fd() } else { self.from.as_fd() }
    }
}
