//! The containers of one shim: which function an input goes to, and when the shim's work is done.

use std::collections::BTreeMap;
use std::time::Duration;

use super::container::{Container, Process};
use super::memory::Memory;
use super::{ContainerKey, Input, JobKey, Now, Outcome, Output, ProcessKey, Question, Ticket, Timer, Work};
use crate::api::events::Event;
use crate::api::known::Timestamp;
use crate::api::service::{Request, Response};
use crate::wire::status::{Code, Status};

/// How long a shim that nobody needs stays: a `start` whose `Create` never came (containerd #6860).
const IDLE: Duration = Duration::from_secs(60);
/// How long the last events may take. Afterwards containerd learns of the end from its own `delete`.
const FLUSH: Duration = Duration::from_secs(5);

/// Everything that a shim knows.
#[derive(Debug)]
pub struct Tasks {
    pub(super) containers: BTreeMap<ContainerKey, Container>,
    pub(super) memory: Memory,
    pub(super) now: Now,
    pub(super) jobs: BTreeMap<JobKey, Purpose>,
    last_container: u64,
    last_job: u64,
    connections: usize,
    shim_pid: u32,
    /// Events are on their way.
    is_unsent: bool,
    is_idle: bool,
    end: End,
    out: Vec<Output>,
}

/// How far the shim's own end is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Debug)]
enum End {
    No,
    /// As soon as the containers that are being deleted have gone.
    Wanted,
    /// The socket is gone; the last events go out.
    Flushing,
    Exited,
}

/// Why a job is done, and which request it answers.
#[derive(Clone, PartialEq, Debug)]
pub(super) enum Purpose {
    Mount(ContainerKey, Ticket),
    Create(ContainerKey, Ticket),
    /// Remove what a failed create has left, then unmount.
    UndoDelete(ContainerKey),
    UndoUnmount(ContainerKey),
    Start(ContainerKey, Ticket),
    Restore(ContainerKey, Ticket),
    Exec(ProcessKey, Ticket),
    /// End what init has left behind.
    Sweep(ContainerKey),
    Pause(ContainerKey, Ticket),
    Resume(ContainerKey, Ticket),
    /// Thaw what init has left behind.
    Thaw(ContainerKey),
    Delete(ContainerKey),
    Unmount(ContainerKey),
    /// Only the one who asked cares.
    Plain(Ticket),
    /// The event is published if it is done, and the container still there.
    Checkpoint(ContainerKey, Ticket, Event),
}

impl Purpose {
    /// The request that is answered when this is done, or when what follows from it is.
    pub(super) fn ticket(&self) -> Option<Ticket> {
        match self {
            Self::Mount(_, ticket)
            | Self::Create(_, ticket)
            | Self::Start(_, ticket)
            | Self::Restore(_, ticket)
            | Self::Exec(_, ticket)
            | Self::Pause(_, ticket)
            | Self::Resume(_, ticket)
            | Self::Plain(ticket)
            | Self::Checkpoint(_, ticket, _) => Some(*ticket),
            Self::UndoDelete(_)
            | Self::UndoUnmount(_)
            | Self::Sweep(_)
            | Self::Thaw(_)
            | Self::Delete(_)
            | Self::Unmount(_) => None,
        }
    }
}

impl Tasks {
    /// A shim that has just begun. The first step says that the idle timer is armed.
    pub fn new(shim_pid: u32) -> Self {
        Self {
            containers: BTreeMap::new(),
            memory: Memory::default(),
            now: Now { wall: Timestamp::default(), monotonic: Duration::ZERO },
            jobs: BTreeMap::new(),
            last_container: 0,
            last_job: 0,
            connections: 0,
            shim_pid,
            is_unsent: false,
            is_idle: false,
            end: End::No,
            out: Vec::new(),
        }
    }

    /// What is to be done first: nobody may ever come.
    pub fn begin(&mut self) -> Vec<Output> {
        self.settle();
        std::mem::take(&mut self.out)
    }

    /// Takes what has happened, and returns what is to be done, in this order.
    pub fn step(&mut self, now: Now, input: Input) -> Vec<Output> {
        self.now = now;
        match input {
            Input::Connected => self.connections += 1,
            Input::Disconnected(connection) => self.disconnected(connection),
            Input::Request { ticket, request } => self.request(ticket, request),
            Input::Expired(ticket) => self.expired(ticket),
            Input::Done { job, outcome } => self.done(job, outcome),
            Input::Exited { process, status, at, out_of_memory } => self.exited(process, status, at, out_of_memory),
            Input::Drained(process) => self.drained(process),
            Input::OutOfMemory(container) => self.out_of_memory(container),
            Input::Timer(Timer::Idle) => self.idled(),
            Input::Timer(Timer::Flush) => self.flushed(),
            Input::Timer(Timer::Held(container)) => self.held_too_long(container),
            Input::Timer(Timer::Drain(process)) => self.drained(process),
            Input::Timer(Timer::Job(job)) => self.took_too_long(job),
            Input::Flushed => self.is_unsent = false,
        }
        self.settle();
        std::mem::take(&mut self.out)
    }

    fn request(&mut self, ticket: Ticket, request: Request) {
        if self.end >= End::Flushing {
            return self.refuse(ticket, Code::Unavailable, "the shim is shutting down");
        }
        match request {
            Request::Create(request) => self.create(ticket, request),
            Request::Start(request) => self.start(ticket, &request),
            Request::Delete(request) => self.delete(ticket, &request),
            Request::Exec(request) => self.exec(ticket, request),
            Request::Pause(request) => self.pause(ticket, &request.id),
            Request::Resume(request) => self.resume(ticket, &request.id),
            Request::Kill(request) => self.kill(ticket, &request),
            Request::Update(request) => self.update(ticket, request),
            Request::Checkpoint(request) => self.checkpoint(ticket, request),
            Request::State(request) => self.state(ticket, &request),
            Request::Wait(request) => self.wait(ticket, &request),
            Request::Pids(request) => self.pids(ticket, &request.id),
            Request::Stats(request) => self.stats(ticket, &request.id),
            Request::ResizePty(request) => self.resize(ticket, &request),
            Request::CloseIo(request) => self.close_io(ticket, &request),
            Request::Connect(request) => self.connect(ticket, &request.id, self.shim_pid),
            Request::Shutdown(_) => self.shutdown(ticket),
        }
    }

    fn done(&mut self, job: JobKey, outcome: Result<Outcome, Status>) {
        let Some(purpose) = self.jobs.remove(&job) else { return };
        self.unlimit(job, &purpose);
        let plain = || outcome.clone().map(|_| ());
        match purpose {
            Purpose::Mount(container, ticket) => self.mounted(container, ticket, plain()),
            Purpose::Create(container, ticket) => self.created(container, ticket, outcome),
            Purpose::UndoDelete(container) => self.undo_unmount(container),
            Purpose::UndoUnmount(container) => self.undone(container),
            Purpose::Start(container, ticket) => self.started(container, ticket, plain()),
            Purpose::Restore(container, ticket) => self.restored(container, ticket, outcome),
            Purpose::Exec(process, ticket) => self.exec_started(process, ticket, outcome),
            Purpose::Sweep(container) => self.swept(container),
            Purpose::Pause(container, ticket) => self.paused(container, ticket, plain()),
            Purpose::Resume(container, ticket) => self.resumed(container, ticket, plain()),
            Purpose::Thaw(container) => self.thawed(container),
            Purpose::Delete(container) => self.removed(container, plain()),
            Purpose::Unmount(container) => self.unmounted(container, plain()),
            Purpose::Plain(ticket) => self.reply(ticket, outcome.map(|_| Response::Empty)),
            Purpose::Checkpoint(container, ticket, event) => {
                if outcome.is_ok() && self.containers.contains_key(&container) {
                    self.publish(event);
                }
                self.reply(ticket, outcome.map(|_| Response::Empty));
            }
        }
    }

    /// Without a container, the end. With containers nothing, unless all of them are leaving: then later (containerd
    /// asks once only, and a slow unmount would leave the shim behind).
    fn shutdown(&mut self, ticket: Ticket) {
        if self.containers.values().all(Container::is_leaving) {
            self.end = End::Wanted;
        }
        self.reply(ticket, Ok(Response::Empty));
    }

    fn idled(&mut self) {
        if self.is_idle {
            self.end = End::Wanted;
        }
    }

    fn flushed(&mut self) {
        if self.end == End::Flushing {
            self.is_unsent = false;
        }
    }

    /// The first line of a dump.
    pub(super) fn summary(&self) -> String {
        let (containers, connections, jobs) = (self.containers.len(), self.connections, self.jobs.len());
        let unsent = if self.is_unsent { ", events on their way" } else { "" };
        let mut line = format!("{containers} containers, {connections} connections, {jobs} jobs{unsent}");
        if self.end != End::No {
            line += &format!(", shutdown: {:?}", self.end);
        }
        for purpose in self.jobs.values() {
            line += &format!("; {purpose:?}");
        }
        line
    }

    /// What follows from where the step has led.
    fn settle(&mut self) {
        if self.end == End::Wanted && self.containers.is_empty() {
            self.end = End::Flushing;
            self.out.push(Output::Unlink);
            if self.is_unsent {
                self.out.push(Output::Arm { timer: Timer::Flush, after: FLUSH });
            }
        }
        if self.end == End::Flushing && !self.is_unsent {
            self.end = End::Exited;
            self.out.push(Output::Exit);
        }
        let is_idle =
            self.containers.is_empty() && self.connections == 0 && !self.is_unsent && self.end < End::Flushing;
        if is_idle != self.is_idle {
            self.is_idle = is_idle;
            self.out.push(if is_idle {
                Output::Arm { timer: Timer::Idle, after: IDLE }
            } else {
                Output::Disarm(Timer::Idle)
            });
        }
    }

    /// What was asked for is done all the same. Only its Waits, which may last for months, are forgotten.
    fn disconnected(&mut self, connection: u64) {
        self.connections = self.connections.saturating_sub(1);
        let processes = self.containers.values_mut().flat_map(Container::processes_mut);
        processes.for_each(|process| process.waiters.retain(|ticket| ticket.connection != connection));
    }

    /// There will be a container: a wish that the shim end when the others have gone was not about this one.
    pub(super) fn next_container(&mut self) -> ContainerKey {
        self.last_container += 1;
        if self.end == End::Wanted {
            self.end = End::No;
        }
        ContainerKey(self.last_container)
    }

    /// The container with this id that requests may know, or the answer that there is none.
    pub(super) fn known(&mut self, ticket: Ticket, id: &str) -> Option<&mut Container> {
        let found = self.containers.values().find(|container| container.id() == id && container.is_known());
        let Some(key) = found.map(|container| container.key) else {
            self.refuse(ticket, Code::NotFound, format!("container {id}"));
            return None;
        };
        self.containers.get_mut(&key)
    }

    /// The process, or the answer that there is none.
    pub(super) fn known_process(&mut self, ticket: Ticket, id: &str, exec_id: &str) -> Option<ProcessKey> {
        let container = self.known(ticket, id)?;
        let found = container.find(exec_id);
        if found.is_none() {
            self.refuse(ticket, Code::NotFound, format!("process {exec_id} of container {id}"));
        }
        found
    }

    pub(super) fn process_mut(&mut self, key: ProcessKey) -> Option<&mut Process> {
        self.containers.get_mut(&key.container)?.process_mut(key.number)
    }

    pub(super) fn run(&mut self, purpose: Purpose, work: Work) -> JobKey {
        self.last_job += 1;
        let job = JobKey(self.last_job);
        self.jobs.insert(job, purpose);
        self.out.push(Output::Run { job, work });
        job
    }

    pub(super) fn reply(&mut self, ticket: Ticket, answer: Result<Response, Status>) {
        self.out.push(Output::Reply { ticket, answer });
    }

    pub(super) fn refuse(&mut self, ticket: Ticket, code: Code, words: impl Into<String>) {
        self.reply(ticket, Err(Status::new(code, words)));
    }

    pub(super) fn ask(&mut self, ticket: Ticket, question: Question) {
        self.out.push(Output::Ask { ticket, question });
    }

    pub(super) fn publish(&mut self, event: Event) {
        self.is_unsent = true;
        self.out.push(Output::Publish(event));
    }

    pub(super) fn push(&mut self, output: Output) {
        self.out.push(output);
    }

    pub(super) fn arm(&mut self, timer: Timer, after: Duration) {
        self.out.push(Output::Arm { timer, after });
    }

    /// How many containers there are, known to requests or not.
    pub fn len(&self) -> usize {
        self.containers.len()
    }

    pub fn is_empty(&self) -> bool {
        self.containers.is_empty()
    }
}
