//! A process's standard input and output: pipes towards the process, FIFOs towards the client, and the kernel copies
//! (splice(2)): no thread, no buffer.
//!
//! The process never gets the FIFO itself: a client that goes away would be a broken pipe for it. The shim has both
//! ends of a FIFO that it writes, so that one without a reader is full and not broken, and a later reader goes on.

use std::fs::OpenOptions;
use std::io::{self, Error};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};

use nix::errno::Errno;
use nix::fcntl::{SpliceFFlags, splice};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::unistd::{Gid, Uid, fchown};

use crate::{child, sys};

/// What is copied at once, and how often before others have their turn.
const PIECE: usize = 64 << 10;
const TURNS: usize = 16;

/// One direction of one stream.
#[derive(Debug)]
pub struct Pump {
    from: OwnedFd,
    to: OwnedFd,
    /// The shim's own end of a FIFO for input, so that it has no end of file while the client has not come.
    own_end: Option<OwnedFd>,
    pub is_output: bool,
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

/// A process's standard streams, and the pumps behind them.
#[derive(Debug)]
pub struct Streams {
    pub own: child::Streams,
    pub pumps: Vec<Pump>,
}

/// Opens the FIFOs that a client has made. An empty path is /dev/null. `owner` may open /dev/stdout anew.
pub fn open(paths: [&str; 3], stdin_closed: bool, owner: (u32, u32)) -> io::Result<Streams> {
    let [stdin, stdout, stderr] = paths;
    let mut pumps = Vec::new();
    let (stdin, input) = open_input(stdin, stdin_closed, owner)?;
    pumps.extend(input);
    let (stdout, output) = open_output(stdout, owner)?;
    pumps.extend(output);
    let (stderr, errors) = open_output(stderr, owner)?;
    pumps.extend(errors);
    Ok(Streams { own: [stdin, stdout, stderr], pumps })
}

fn fifo(path: &str) -> io::Result<&str> {
    match path.split_once("://") {
        None => Ok(path),
        Some(("fifo", path)) => Ok(path),
        Some((scheme, _)) => Err(Error::other(format!("stdio {scheme}://: not supported yet"))),
    }
}

/// O_RDWR of anything else would be a surprise.
fn open_fifo(path: &str, options: &OpenOptions) -> io::Result<OwnedFd> {
    let file = options.open(path).map_err(|error| Error::new(error.kind(), format!("{path}: {error}")))?;
    if !file.metadata()?.file_type().is_fifo() {
        return Err(Error::other(format!("{path}: no FIFO")));
    }
    Ok(file.into())
}

fn own(pipe: impl AsFd, (uid, gid): (u32, u32)) -> io::Result<()> {
    if (uid, gid) != (0, 0) {
        fchown(pipe, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)))?;
    }
    Ok(())
}

fn open_input(path: &str, stdin_closed: bool, owner: (u32, u32)) -> io::Result<(Option<OwnedFd>, Option<Pump>)> {
    if path.is_empty() {
        return Ok((None, None));
    }
    let (theirs, ours) = io::pipe()?;
    own(&theirs, owner)?;
    sys::set_nonblocking(&ours)?;
    Ok((Some(theirs.into()), Some(input_to(path, stdin_closed, ours.into())?)))
}

/// From a client's FIFO to `to`.
pub fn input_to(path: &str, stdin_closed: bool, to: OwnedFd) -> io::Result<Pump> {
    let path = fifo(path)?;
    let from = open_fifo(path, OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK))?;
    let own_end = if stdin_closed {
        None
    } else {
        Some(open_fifo(path, OpenOptions::new().write(true).custom_flags(libc::O_NONBLOCK))?)
    };
    Ok(Pump { from, to, own_end, is_output: false })
}

fn open_output(path: &str, owner: (u32, u32)) -> io::Result<(Option<OwnedFd>, Option<Pump>)> {
    if path.is_empty() {
        return Ok((None, None));
    }
    let (ours, theirs) = io::pipe()?;
    own(&theirs, owner)?;
    sys::set_nonblocking(&ours)?;
    Ok((Some(theirs.into()), Some(output_from(path, ours.into())?)))
}

/// From `from` to a client's FIFO.
pub fn output_from(path: &str, from: OwnedFd) -> io::Result<Pump> {
    let to = open_fifo(fifo(path)?, OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK))?;
    Ok(Pump { from, to, own_end: None, is_output: true })
}

impl Pump {
    /// Copies what there is, as far as there is room.
    pub fn copy(&mut self) -> State {
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

    fn has_room(&self) -> bool {
        let mut fds = [PollFd::new(self.to.as_fd(), PollFlags::POLLOUT)];
        poll(&mut fds, PollTimeout::ZERO).is_ok_and(|ready| ready > 0)
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
