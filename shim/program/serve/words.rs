//! What the loop is told about, in short.

use std::os::fd::OwnedFd;

use containerd_shim_ocirt::task::{ContainerKey, JobKey, ProcessKey, Ticket, Timer};

/// The first tokens.
pub(super) const LISTENER: u64 = 1;
pub(super) const SIGNALS: u64 = 2;

/// What an event of epoll(7) is about.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Source {
    Listener,
    Signals,
    Peer(u64),
    Containerd,
    Memory(ContainerKey),
    Job(JobKey),
    Process(ProcessKey),
    Logger(u64),
    /// A pump, by its place among those of its process.
    Pump(ProcessKey, usize),
}

/// What the loop is woken up for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) enum Alarm {
    Task(Timer),
    /// A client's time limit for its request.
    Request(Ticket),
    /// containerd has not taken an event in time.
    Answer,
    Retry,
    /// There may be descriptors again for connections.
    Accept,
    /// Somebody may have come for the output of what a job makes.
    Client(JobKey),
    /// Somebody may have come for the rest of the output.
    Rest(ProcessKey),
    /// There may be more orphans that have ended.
    Orphans,
    /// A logger has not ended in time.
    Logger(u64),
}

/// A descriptor and the token by which it is watched.
#[derive(Debug)]
pub(super) struct Watched {
    pub(super) fd: OwnedFd,
    pub(super) token: u64,
}
