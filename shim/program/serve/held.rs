//! What is held of those with whom the loop has to do: callers, containerd, processes, loggers, and a cgroup's memory.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Instant;

use containerd_shim_ocirt::task::{ProcessKey, Work};
use containerd_shim_ocirt::wire::client::Client;
use containerd_shim_ocirt::wire::server::Connection;
use nix::sys::epoll::EpollFlags;
use nix::sys::eventfd::EventFd;
use nix::sys::inotify::Inotify;

use super::words::Watched;
use crate::console::Console;
use crate::io::{Pump, Rest, State};

pub(super) struct Peer {
    pub(super) stream: UnixStream,
    pub(super) token: u64,
    pub(super) connection: Connection,
    /// Answers that are not written yet.
    pub(super) out: Vec<u8>,
    /// What epoll tells of it.
    pub(super) waits_for: EpollFlags,
}

/// containerd's socket, and the connection to it while there is one.
pub(super) struct Containerd {
    pub(super) path: String,
    pub(super) link: Option<Link>,
}

pub(super) struct Link {
    pub(super) stream: UnixStream,
    pub(super) token: u64,
    pub(super) client: Client,
}

impl Containerd {
    pub(super) fn from_environment() -> Self {
        let address = std::env::var("TTRPC_ADDRESS").unwrap_or_default();
        Self { path: address.strip_prefix("unix://").unwrap_or(&address).to_owned(), link: None }
    }
}

#[derive(Default, Debug)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) watched: Option<Watched>,
    pub(super) unborn: Vec<Pump>,
    pub(super) console: Option<Console>,
    pub(super) terminal: Option<OwnedFd>,
    pub(super) stdin_closed: bool,
    /// It has not read all of the output yet.
    pub(super) logger: Option<u64>,
    pub(super) pumps: Vec<Option<(Pump, State, u64)>>,
    /// Output that has ended, and that nobody has come for yet.
    pub(super) rests: Vec<Rest>,
    /// How often somebody has been looked for.
    pub(super) looks: u32,
}

impl Process {
    /// True while it has not been waited for.
    pub(super) fn is_alive(&self) -> bool {
        self.watched.is_some()
    }
}

/// A job that has not begun, since nobody is there yet to read what comes of it.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) work: Work,
    /// FIFOs without a reader.
    pub(super) missing: Vec<PathBuf>,
    /// Those with one: an end that was opened and closed again would be the end of file.
    pub(super) held: Vec<OwnedFd>,
    pub(super) until: Instant,
}

#[derive(Debug)]
pub(super) struct Logger {
    pub(super) process: ProcessKey,
    pub(super) name: String,
    pub(super) watched: Watched,
    /// What it reads.
    pub(super) streams: Vec<OwnedFd>,
    /// It has been sent SIGTERM, and is killed then.
    pub(super) until: Option<Instant>,
}

/// The watch of one container.
pub(super) struct Watch {
    pub(super) bell: Bell,
    pub(super) token: u64,
    pub(super) counter: PathBuf,
    pub(super) seen: u64,
}

pub(super) enum Bell {
    /// cgroup v1: Documentation/admin-guide/cgroup-v1/memory.rst, "OOM Control".
    V1(EventFd),
    /// cgroup v2: memory.events is a file of kernfs, which inotify tells of.
    V2(Inotify),
}

impl Bell {
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::V1(event) => event.as_fd(),
            Self::V2(inotify) => inotify.as_fd(),
        }
    }

    /// Until there is nothing to hear.
    pub(super) fn listen(&self) {
        match self {
            // Whether it rang is not the question: the counter is.
            Self::V1(event) => drop(event.read()),
            Self::V2(inotify) => drop(inotify.read_events()),
        }
    }
}
