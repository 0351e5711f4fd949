//! Requests that are answered at once, from memory or by the kernel, and those whose work nobody else waits for.

use super::container::{ExecPhase, Exit, Freezer, Phase};
use super::tasks::{Purpose, Tasks};
use super::{Question, Ticket, Work};
use crate::api::events::{Event, TaskCheckpointed};
use crate::api::service::Response;
use crate::api::task::{
    CheckpointTaskRequest, CloseIoRequest, ConnectResponse, KillRequest, ProcessRequest, ResizePtyRequest,
    StateResponse, UpdateTaskRequest,
};
use crate::wire::status::Code;

impl Tasks {
    pub(super) fn state(&mut self, ticket: Ticket, request: &ProcessRequest) {
        let Some(key) = self.known_process(ticket, &request.id, &request.exec_id) else { return };
        let Some(container) = self.containers.get(&key.container) else { return };
        let of_init = &container.request;
        let (status, stdio, process) = match container.execs.get(&key.number) {
            None => {
                let stdio = (&of_init.stdin, &of_init.stdout, &of_init.stderr, of_init.terminal);
                (container.status(), stdio, &container.init)
            }
            Some(exec) => {
                let of_exec = &exec.request;
                let stdio = (&of_exec.stdin, &of_exec.stdout, &of_exec.stderr, of_exec.terminal);
                (exec.status(), stdio, &exec.process)
            }
        };
        let exit: Option<Exit> = process.exit.filter(|_| process.is_told);
        let response = StateResponse {
            id: request.id.clone(),
            bundle: of_init.bundle.clone(),
            pid: process.pid,
            status: status as i32,
            stdin: stdio.0.clone(),
            stdout: stdio.1.clone(),
            stderr: stdio.2.clone(),
            terminal: stdio.3,
            exit_status: exit.map_or(0, |exit| exit.status),
            exited_at: exit.map(|exit| exit.at),
            exec_id: request.exec_id.clone(),
        };
        self.reply(ticket, Ok(Response::State(response)));
    }

    pub(super) fn wait(&mut self, ticket: Ticket, request: &ProcessRequest) {
        let Some(key) = self.known_process(ticket, &request.id, &request.exec_id) else { return };
        let Some(process) = self.process_mut(key) else { return };
        match process.waited() {
            Some(response) => self.reply(ticket, Ok(Response::Wait(response))),
            None => process.waiters.push(ticket),
        }
    }

    /// Never fails: containerd asks before it creates.
    pub(super) fn connect(&mut self, ticket: Ticket, id: &str, shim_pid: u32) {
        let found = self.containers.values().find(|container| container.id() == id && container.is_known());
        let task_pid = found.map_or(0, |container| container.init.pid);
        let version = env!("CARGO_PKG_VERSION").to_owned();
        self.reply(ticket, Ok(Response::Connect(ConnectResponse { shim_pid, task_pid, version })));
    }

    pub(super) fn pids(&mut self, ticket: Ticket, id: &str) {
        let Some(container) = self.known(ticket, id) else { return };
        let running = container.execs.values().filter(|exec| exec.process.pid != 0 && exec.process.exit.is_none());
        let execs = running.map(|exec| (exec.process.pid, exec.request.exec_id.clone())).collect();
        let (container, init) = (container.key, container.init.pid);
        self.ask(ticket, Question::Pids { container, init, execs });
    }

    pub(super) fn stats(&mut self, ticket: Ticket, id: &str) {
        if let Some(container) = self.known(ticket, id) {
            let key = container.key;
            self.ask(ticket, Question::Stats(key));
        }
    }

    pub(super) fn kill(&mut self, ticket: Ticket, request: &KillRequest) {
        let Some(process) = self.known_process(ticket, &request.id, &request.exec_id) else { return };
        let signal = request.signal;
        let Some(container) = self.containers.get(&process.container) else { return };
        let key = container.key;
        if !process.is_init() {
            let exec = container.execs.get(&process.number);
            let is_started = exec.is_some_and(|exec| !matches!(exec.phase, ExecPhase::Added | ExecPhase::Starting(_)));
            return match exec.filter(|exec| exec.process.exit.is_none()) {
                _ if !is_started => self.refuse(ticket, Code::FailedPrecondition, "process not started"),
                None => self.refuse(ticket, Code::NotFound, "process already finished"),
                Some(_) => self.ask(ticket, Question::Signal { process, signal }),
            };
        }
        if request.all && container.init.pid != 0 {
            // Also after init has ended: without a pid namespace of its own others live on.
            let work = Work::Kill { container: key, signal, all: true };
            self.run(Purpose::Plain(ticket), work);
        } else if container.init.exit.is_some() {
            self.refuse(ticket, Code::NotFound, "process already finished");
        } else if container.init.pid == 0 {
            self.refuse(ticket, Code::FailedPrecondition, "process not started");
        } else if container.freezer != Freezer::Thawed {
            // The runtime knows how to end what is frozen.
            let work = Work::Kill { container: key, signal, all: false };
            self.run(Purpose::Plain(ticket), work);
        } else {
            self.ask(ticket, Question::Signal { process, signal });
        }
    }

    /// Of what is no terminal, or no process yet, there is nothing to resize.
    pub(super) fn resize(&mut self, ticket: Ticket, request: &ResizePtyRequest) {
        let Some(process) = self.known_process(ticket, &request.id, &request.exec_id) else { return };
        if self.process_mut(process).is_some_and(|process| process.is_open) {
            let (width, height) = (request.width, request.height);
            return self.ask(ticket, Question::Resize { process, width, height });
        }
        self.reply(ticket, Ok(Response::Empty));
    }

    pub(super) fn close_io(&mut self, ticket: Ticket, request: &CloseIoRequest) {
        let Some(key) = self.known_process(ticket, &request.id, &request.exec_id) else { return };
        let Some(process) = self.process_mut(key) else { return };
        if request.stdin {
            // What is not open yet will be opened without the shim's own end.
            process.stdin_closed = true;
            if process.is_open {
                return self.ask(ticket, Question::CloseStdin(key));
            }
        }
        self.reply(ticket, Ok(Response::Empty));
    }

    pub(super) fn update(&mut self, ticket: Ticket, request: UpdateTaskRequest) {
        let Some(container) = self.known(ticket, &request.id) else { return };
        if !container.is_alive() {
            return self.refuse(ticket, Code::FailedPrecondition, "the container has no running process");
        }
        let work = Work::Update { container: container.key, resources: request.resources };
        self.run(Purpose::Plain(ticket), work);
    }

    pub(super) fn checkpoint(&mut self, ticket: Ticket, request: CheckpointTaskRequest) {
        let Some(container) = self.known(ticket, &request.id) else { return };
        if container.phase != Phase::Running || !container.is_alive() {
            return self.refuse(ticket, Code::FailedPrecondition, "the container is not running");
        }
        let (container_id, checkpoint) = (request.id.clone(), request.path.clone());
        let event = Event::Checkpointed(TaskCheckpointed { container_id, checkpoint });
        let key = container.key;
        let work = Work::Checkpoint { container: key, request: Box::new(request) };
        self.run(Purpose::Checkpoint(key, ticket, event), work);
    }
}
