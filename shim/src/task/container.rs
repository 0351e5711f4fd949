//! What is known of a container and its processes.

use std::collections::BTreeMap;

use super::{ContainerKey, JobKey, ProcessKey, Ticket};
use crate::api::known::Timestamp;
use crate::api::task::{CreateTaskRequest, DeleteResponse, ExecProcessRequest, Status, WaitResponse};

/// The status that is told of a process that never ran; containerd's own word for an exit that nobody saw.
pub const UNKNOWN: u32 = 255;

#[derive(Debug)]
pub struct Container {
    pub key: ContainerKey,
    pub request: Box<CreateTaskRequest>,
    pub phase: Phase,
    pub init: Process,
    /// By their numbers, which are not given twice.
    pub execs: BTreeMap<u64, Exec>,
    pub last_exec: u64,
    pub freezer: Freezer,
    /// The kernel ends every process with init.
    pub alone: bool,
    /// The job that ends what init has left behind.
    pub sweep: Option<JobKey>,
    /// Who is told of the deletion that is under way.
    pub deleters: Vec<Ticket>,
}

/// Where a container is in its life.
#[derive(Clone, PartialEq, Debug)]
pub enum Phase {
    /// Mounting and creating. Until this is done, the container is not known to anybody. `abandoned`: somebody wants it
    /// deleted already.
    Creating {
        job: Option<JobKey>,
        abandoned: bool,
    },
    /// Creating failed; what it made is removed, and `ticket` is told this.
    Undoing {
        ticket: Ticket,
        error: crate::wire::status::Status,
    },
    Created,
    Starting(JobKey),
    Running,
    /// Init's exit is published.
    Stopped,
    /// Being deleted: the rest of the output is waited for.
    Draining,
    /// Being deleted: the runtime's `delete`, and unmounting.
    Removing,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Freezer {
    Thawed,
    Pausing,
    Paused,
    Thawing,
}

#[derive(Debug)]
pub struct Exec {
    pub request: Box<ExecProcessRequest>,
    pub phase: ExecPhase,
    pub process: Process,
    pub deleters: Vec<Ticket>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ExecPhase {
    Added,
    Starting(JobKey),
    Started,
    /// It was never born, or nobody was told so.
    Failed,
}

/// What init and execs have in common.
#[derive(Debug)]
pub struct Process {
    /// 0 while there is none.
    pub pid: u32,
    /// What waitid(2) said.
    pub exit: Option<Exit>,
    /// The exit is known to everybody: the event is published, and waiters are answered.
    pub is_told: bool,
    /// All output has been copied, or nobody asked for any.
    pub is_drained: bool,
    /// A time limit for the rest of its output is set.
    pub is_limited: bool,
    /// Its stdio is open.
    pub is_open: bool,
    pub stdin_closed: bool,
    pub waiters: Vec<Ticket>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Exit {
    pub status: u32,
    pub at: Timestamp,
}

impl Process {
    fn new(stdout: &str, stderr: &str) -> Self {
        Self {
            pid: 0,
            exit: None,
            is_told: false,
            is_drained: stdout.is_empty() && stderr.is_empty(),
            is_limited: false,
            is_open: false,
            stdin_closed: false,
            waiters: Vec::new(),
        }
    }

    /// The answer to `Wait`, once everybody may know.
    pub fn waited(&self) -> Option<WaitResponse> {
        let exit = self.exit.filter(|_| self.is_told)?;
        Some(WaitResponse { exit_status: exit.status, exited_at: Some(exit.at) })
    }

    /// The answer to `Delete`. Of a process that never was, all is 0.
    pub fn deleted(&self) -> DeleteResponse {
        let (exit_status, exited_at) = self.exit.map_or((0, None), |exit| (exit.status, Some(exit.at)));
        DeleteResponse { pid: self.pid, exit_status, exited_at }
    }
}

impl Container {
    pub fn new(key: ContainerKey, request: Box<CreateTaskRequest>) -> Self {
        Self {
            key,
            phase: Phase::Creating { job: None, abandoned: false },
            init: Process::new(&request.stdout, &request.stderr),
            request,
            execs: BTreeMap::new(),
            last_exec: 0,
            freezer: Freezer::Thawed,
            alone: false,
            sweep: None,
            deleters: Vec::new(),
        }
    }

    pub fn id(&self) -> &str {
        &self.request.id
    }

    pub fn add(&mut self, request: ExecProcessRequest) {
        self.last_exec += 1;
        let exec = Exec {
            phase: ExecPhase::Added,
            process: Process::new(&request.stdout, &request.stderr),
            request: Box::new(request),
            deleters: Vec::new(),
        };
        self.execs.insert(self.last_exec, exec);
    }

    /// The process with this exec id; an empty one is init's.
    pub fn find(&self, exec_id: &str) -> Option<ProcessKey> {
        if exec_id.is_empty() {
            return Some(ProcessKey::init(self.key));
        }
        let (number, _) = self.execs.iter().find(|(_, exec)| exec.request.exec_id == exec_id)?;
        Some(ProcessKey { container: self.key, number: *number })
    }

    pub fn process(&self, number: u64) -> Option<&Process> {
        if number == 0 { Some(&self.init) } else { self.execs.get(&number).map(|exec| &exec.process) }
    }

    pub fn process_mut(&mut self, number: u64) -> Option<&mut Process> {
        if number == 0 { Some(&mut self.init) } else { self.execs.get_mut(&number).map(|exec| &mut exec.process) }
    }

    pub fn processes_mut(&mut self) -> impl Iterator<Item = &mut Process> {
        std::iter::once(&mut self.init).chain(self.execs.values_mut().map(|exec| &mut exec.process))
    }

    /// True if requests find it.
    pub fn is_known(&self) -> bool {
        !matches!(self.phase, Phase::Creating { .. } | Phase::Undoing { .. })
    }

    pub fn is_being_deleted(&self) -> bool {
        matches!(self.phase, Phase::Draining | Phase::Removing)
    }

    /// True if it will soon be gone without anybody's asking again.
    pub fn is_leaving(&self) -> bool {
        matches!(self.phase, Phase::Creating { abandoned: true, .. } | Phase::Undoing { .. }) || self.is_being_deleted()
    }

    /// True from `create` until init has ended, whether that is published or not.
    pub fn is_alive(&self) -> bool {
        let is_there = matches!(self.phase, Phase::Created | Phase::Starting(_) | Phase::Running);
        is_there && self.init.pid != 0 && self.init.exit.is_none()
    }

    pub fn status(&self) -> Status {
        match (&self.phase, self.freezer) {
            (Phase::Creating { .. } | Phase::Undoing { .. }, _) => Status::Unknown,
            (Phase::Stopped | Phase::Draining | Phase::Removing, _) => Status::Stopped,
            (Phase::Created | Phase::Starting(_), _) => Status::Created,
            (Phase::Running, Freezer::Pausing) => Status::Pausing,
            (Phase::Running, Freezer::Paused | Freezer::Thawing) => Status::Paused,
            (Phase::Running, Freezer::Thawed) => Status::Running,
        }
    }
}

impl Exec {
    pub fn status(&self) -> Status {
        match self.phase {
            ExecPhase::Added | ExecPhase::Starting(_) => Status::Created,
            ExecPhase::Started if !self.process.is_told => Status::Running,
            ExecPhase::Started | ExecPhase::Failed => Status::Stopped,
        }
    }

    /// True if init's exit has to be held back for it (#9719): it may yet begin, or its own exit is still to come.
    pub fn holds_init(&self) -> bool {
        match self.phase {
            ExecPhase::Starting(_) => true,
            ExecPhase::Started => !self.process.is_told,
            ExecPhase::Added | ExecPhase::Failed => false,
        }
    }
}
