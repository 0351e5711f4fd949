//! Start of init and of execs, and restore.

use super::container::{ExecPhase, Exit, Freezer, Phase, UNKNOWN};
use super::tasks::{Purpose, Tasks};
use super::{ContainerKey, Outcome, Output, ProcessKey, Ticket, Timer, Work};
use crate::api::events::{Event, TaskExecStarted, TaskStart};
use crate::api::service::Response;
use crate::api::task::{ProcessRequest, StartResponse};
use crate::wire::status::{Code, Status};

impl Tasks {
    pub(super) fn start(&mut self, ticket: Ticket, request: &ProcessRequest) {
        let Some(key) = self.known_process(ticket, &request.id, &request.exec_id) else { return };
        if key.is_init() { self.start_init(ticket, key.container) } else { self.start_exec(ticket, key) }
    }

    fn start_init(&mut self, ticket: Ticket, key: ContainerKey) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        let is_restore = container.init.pid == 0;
        if container.phase != Phase::Created || !(is_restore || container.is_alive()) {
            return self.refuse(
                ticket,
                Code::FailedPrecondition,
                "the container is not created, or was started before",
            );
        }
        let job = if is_restore {
            container.init.is_open = true;
            let request = container.request.clone();
            self.run(Purpose::Restore(key, ticket), Work::Restore { container: key, request })
        } else {
            self.run(Purpose::Start(key, ticket), Work::Start(key))
        };
        if let Some(container) = self.containers.get_mut(&key) {
            container.phase = Phase::Starting(job);
        }
    }

    /// The runtime's `start` has ended. Init may have ended before it; its exit has waited for this.
    pub(super) fn started(&mut self, key: ContainerKey, ticket: Ticket, outcome: Result<(), Status>) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        match outcome {
            Ok(()) => self.runs(key, ticket),
            Err(Status { message, .. }) => {
                container.phase = Phase::Created;
                self.refuse(ticket, Code::Unknown, format!("OCI runtime start failed: {message}"));
            }
        }
        self.tell_init(key);
    }

    pub(super) fn restored(&mut self, key: ContainerKey, ticket: Ticket, outcome: Result<Outcome, Status>) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        match outcome {
            Ok(Outcome::Born { pid, alone }) => {
                container.init.pid = pid;
                container.alone = alone;
                self.runs(key, ticket);
                self.tell_init(key);
            }
            Ok(Outcome::Done) => self.never_was(key, ticket, "OCI runtime restore failed: no process"),
            Err(Status { message, .. }) => {
                self.never_was(key, ticket, &format!("OCI runtime restore failed: {message}"));
            }
        }
    }

    fn runs(&mut self, key: ContainerKey, ticket: Ticket) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        container.phase = Phase::Running;
        let (container_id, pid) = (container.id().to_owned(), container.init.pid);
        self.publish(Event::Start(TaskStart { container_id, pid }));
        self.reply(ticket, Ok(Response::Start(StartResponse { pid })));
    }

    /// There is no process to wait for, and there never was: waiters are told so, and the container can be deleted.
    fn never_was(&mut self, key: ContainerKey, ticket: Ticket, words: &str) {
        self.refuse(ticket, Code::Unknown, words);
        let Some(container) = self.containers.get_mut(&key) else { return };
        container.phase = Phase::Stopped;
        if container.init.exit.is_some() {
            self.push(Output::Disarm(Timer::Held(key)));
        }
        self.give_up(ProcessKey::init(key));
    }

    fn start_exec(&mut self, ticket: Ticket, key: ProcessKey) {
        let Some(container) = self.containers.get_mut(&key.container) else { return };
        let (is_alive, is_thawed) = (container.is_alive(), container.freezer == Freezer::Thawed);
        let Some(exec) = container.execs.get_mut(&key.number) else { return };
        let refusal = match exec.phase {
            // Its cgroup and its namespaces are about to go (#10634).
            _ if !is_alive => "the container's process has ended",
            ExecPhase::Added if !is_thawed => "the container is paused",
            ExecPhase::Added => "",
            _ => "the process was started before",
        };
        if !refusal.is_empty() {
            return self.refuse(ticket, Code::FailedPrecondition, refusal);
        }
        exec.process.is_open = true;
        let (request, stdin_closed) = (exec.request.clone(), exec.process.stdin_closed);
        let job = self.run(Purpose::Exec(key, ticket), Work::Exec { process: key, request, stdin_closed });
        if let Some(exec) = self.exec_mut(key) {
            exec.phase = ExecPhase::Starting(job);
        }
    }

    /// The runtime's `exec` has ended: the process runs, or has run, or never was.
    pub(super) fn exec_started(&mut self, key: ProcessKey, ticket: Ticket, outcome: Result<Outcome, Status>) {
        let id = self.containers.get(&key.container).map(|container| container.id().to_owned()).unwrap_or_default();
        let Some(exec) = self.exec_mut(key) else { return };
        match outcome {
            Ok(Outcome::Born { pid, .. }) => {
                exec.phase = ExecPhase::Started;
                exec.process.pid = pid;
                // It may run for months, and nobody asks for this again.
                exec.request.spec = None;
                let exec_id = exec.request.exec_id.clone();
                self.publish(Event::ExecStarted(TaskExecStarted { container_id: id, exec_id, pid }));
                self.reply(ticket, Ok(Response::Start(StartResponse { pid })));
                self.tell_exec(key);
            }
            outcome => {
                let Status { code, message } = outcome.err().unwrap_or(Status::new(Code::Unknown, "no process"));
                self.reply(ticket, Err(Status { code, message: format!("OCI runtime exec failed: {message}") }));
                self.fail_exec(key);
            }
        }
        self.tell_init(key.container);
    }

    /// An exec that does not begin any more: no event told of a start, so none tells of an exit.
    pub(super) fn fail_exec(&mut self, key: ProcessKey) {
        if let Some(exec) = self.exec_mut(key) {
            exec.phase = ExecPhase::Failed;
            self.give_up(key);
        }
    }

    /// Answers those who wait for a process that does not begin any more.
    pub(super) fn give_up(&mut self, key: ProcessKey) {
        self.close(key);
        let at = self.now.wall;
        let Some(process) = self.process_mut(key) else { return };
        process.exit.get_or_insert(Exit { status: UNKNOWN, at });
        self.answer_waiters(key);
    }
}
