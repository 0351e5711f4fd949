//! The life of containers and processes, as state machines: what has happened goes in, what is to be done comes out.
//! Nothing here waits, runs or opens anything, so that every order of requests, exits and time limits can be a list in
//! a test.
//!
//! [`tasks::Tasks`] answers requests and says which events are published; [`queue::Queue`] has them delivered in that
//! order. What holds after each step, whatever the order:
//!
//! * a process's start is published before its exit, an exec's exit before init's, each exit once, an OOM before it;
//! * a `Wait` is answered once, when the exit has been published; no request is answered twice;
//! * a request waits only for work on its own container. `State`, `Connect` and whatever else needs no work never wait;
//! * work that hangs is ended with the time limit of the request that it is for, and what no request is for, by its own.

pub mod container;
mod create;
mod delete;
mod dump;
mod exec;
mod exit;
mod freezer;
mod limits;
mod look;
pub mod memory;
pub mod queue;
mod start;
pub mod tasks;
#[cfg(test)]
mod tests;

use std::time::Duration;

use crate::api::events::Event;
use crate::api::known::{Any, Timestamp};
use crate::api::service::{Request, Response};
use crate::api::task::{CheckpointTaskRequest, CreateTaskRequest, ExecProcessRequest};
use crate::wire::status::Status;

/// Where an answer goes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Ticket {
    pub connection: u64,
    pub stream: u32,
}

/// One container, and never another one that has its id later: what comes late for a container that is gone is
/// nobody's.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ContainerKey(pub u64);

/// One process of a container. The number of init is 0.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct ProcessKey {
    pub container: ContainerKey,
    pub number: u64,
}

impl ProcessKey {
    pub fn init(container: ContainerKey) -> Self {
        Self { container, number: 0 }
    }

    pub fn is_init(self) -> bool {
        self.number == 0
    }
}

/// One piece of [`Work`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct JobKey(pub u64);

/// The two clocks: what users are told, and what time limits go by.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Now {
    pub wall: Timestamp,
    pub monotonic: Duration,
}

/// What has happened.
#[derive(Clone, PartialEq, Debug)]
pub enum Input {
    Connected,
    /// Nobody reads answers to this connection's requests any more.
    Disconnected(u64),
    Request {
        ticket: Ticket,
        request: Request,
    },
    /// The client's time limit for this request has passed: nobody reads its answer.
    Expired(Ticket),
    /// A job's child has ended, or was never born.
    Done {
        job: JobKey,
        outcome: Result<Outcome, Status>,
    },
    /// A process's pidfd is readable, and this is what waitid(2) says. `out_of_memory`: the cgroup's counter of OOM
    /// kills, which is read before anything else, has grown.
    Exited {
        process: ProcessKey,
        status: u32,
        at: Timestamp,
        out_of_memory: bool,
    },
    /// All that a process and its children wrote has been copied: end of file.
    Drained(ProcessKey),
    OutOfMemory(ContainerKey),
    Timer(Timer),
    /// Every event that was published has been delivered.
    Flushed,
}

/// What a job has brought about, where that is more than that it is done.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    Done,
    /// The process exists. `alone`: with init ends every process of the container, as it has a pid namespace of its
    /// own.
    Born {
        pid: u32,
        alone: bool,
    },
}

/// What is to be done, in this order.
#[derive(Clone, PartialEq, Debug)]
pub enum Output {
    Reply {
        ticket: Ticket,
        answer: Result<Response, Status>,
    },
    /// Ask the kernel, which answers at once, and reply what it says.
    Ask {
        ticket: Ticket,
        question: Question,
    },
    Publish(Event),
    /// Begin a job in a child process; [`Input::Done`] is its end.
    Run {
        job: JobKey,
        work: Work,
    },
    /// End a job's child by SIGKILL. The job is then done, with an error.
    Abort(JobKey),
    Signal {
        process: ProcessKey,
        signal: u32,
    },
    /// Close a process's stdio, with what has not been copied. This is said once of each process that had any.
    Close(ProcessKey),
    /// Release whatever else is held for a container; its key does not come again.
    Forget(ContainerKey),
    Arm {
        timer: Timer,
        after: Duration,
    },
    Disarm(Timer),
    /// Remove the socket and accept no more connections.
    Unlink,
    /// End the process, when the answers are written.
    Exit,
}

/// What a child process does.
#[derive(Clone, PartialEq, Debug)]
pub enum Work {
    Mount {
        container: ContainerKey,
        request: Box<CreateTaskRequest>,
    },
    /// Opens stdio and runs `create`; is answered with [`Outcome::Born`].
    Create {
        container: ContainerKey,
        request: Box<CreateTaskRequest>,
    },
    Start(ContainerKey),
    /// Opens stdio and runs `restore`; is answered with [`Outcome::Born`].
    Restore {
        container: ContainerKey,
        request: Box<CreateTaskRequest>,
    },
    /// Opens stdio and runs `exec`; is answered with [`Outcome::Born`]. `stdin_closed`: the client has said already
    /// that it writes no more.
    Exec {
        process: ProcessKey,
        request: Box<ExecProcessRequest>,
        stdin_closed: bool,
    },
    Kill {
        container: ContainerKey,
        signal: u32,
        all: bool,
    },
    Pause(ContainerKey),
    Resume(ContainerKey),
    Update {
        container: ContainerKey,
        resources: Option<Any>,
    },
    Checkpoint {
        container: ContainerKey,
        request: Box<CheckpointTaskRequest>,
    },
    /// Runs `delete`; that the container does not exist is success.
    Delete {
        container: ContainerKey,
        force: bool,
    },
    /// Unmounts the root filesystem; that nothing is mounted is success.
    Unmount(ContainerKey),
}

/// What is asked of the kernel on the spot.
#[derive(Clone, PartialEq, Debug)]
pub enum Question {
    /// Send a signal by the pidfd; that the process has gone is code 5.
    Signal {
        process: ProcessKey,
        signal: u32,
    },
    /// The pids of the container's cgroup; those of execs are told with their ids. If there is none, it is init's: from
    /// version 1.7 on containerd takes a shim without a pid for one that was left over, and ends it at its own start, with
    /// the exit of a container that ended meanwhile.
    Pids {
        container: ContainerKey,
        init: u32,
        execs: Vec<(u32, String)>,
    },
    Stats(ContainerKey),
    Resize {
        process: ProcessKey,
        width: u32,
        height: u32,
    },
    /// Close the shim's own end of stdin.
    CloseStdin(ProcessKey),
}

/// What time is limited for.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Timer {
    /// No container and no connection: nobody needs this shim.
    Idle,
    /// The last events, after `Shutdown`.
    Flush,
    /// The exit of a container's init, while it is held back.
    Held(ContainerKey),
    /// The rest of a process's output, while it is being deleted.
    Drain(ProcessKey),
    /// Work of the shim's own.
    Job(JobKey),
}
