//! Exits: recorded when they happen, told when everything that comes before them has been told.

use std::time::Duration;

use super::container::{ExecPhase, Exit, Freezer, Phase};
use super::tasks::{Purpose, Tasks};
use super::{ContainerKey, Output, ProcessKey, Timer, Work};
use crate::api::events::{Event, TaskExit, TaskOom};
use crate::api::known::Timestamp;
use crate::api::service::Response;

/// How long init's exit waits for a runtime that hangs, or a process that does not end, before these are killed.
const HELD: Duration = Duration::from_secs(10);
const SIGKILL: u32 = 9;

impl Tasks {
    pub(super) fn exited(&mut self, key: ProcessKey, status: u32, at: Timestamp, out_of_memory: bool) {
        let Some(process) = self.process_mut(key) else { return };
        if process.exit.is_some() {
            return;
        }
        process.exit = Some(Exit { status, at });
        if !key.is_init() {
            self.tell_exec(key);
            return self.tell_init(key.container);
        }
        if out_of_memory {
            // It explains the exit, and so goes before it (#12714).
            self.out_of_memory(key.container);
        }
        self.end_the_rest(key.container);
        self.tell_init(key.container);
    }

    pub(super) fn out_of_memory(&mut self, key: ContainerKey) {
        let Some(container) = self.containers.get(&key) else { return };
        if container.is_known() && !container.init.is_told {
            let container_id = container.id().to_owned();
            self.publish(Event::Oom(TaskOom { container_id }));
        }
    }

    /// Init has ended. What is frozen cannot end, and what has another pid namespace does not by itself.
    pub(super) fn end_the_rest(&mut self, key: ContainerKey) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        // Of a container that is being created, or is not any more, `delete --force` ends the rest.
        if !container.is_known() {
            return;
        }
        let alone = container.alone;
        if container.freezer == Freezer::Paused {
            container.freezer = Freezer::Thawing;
            self.run_limited(Purpose::Thaw(key), Work::Resume(key));
        }
        if !alone {
            let work = Work::Kill { container: key, signal: SIGKILL, all: true };
            let job = self.run(Purpose::Sweep(key), work);
            if let Some(container) = self.containers.get_mut(&key) {
                container.sweep = Some(job);
            }
        }
        self.arm(Timer::Held(key), HELD);
    }

    pub(super) fn swept(&mut self, key: ContainerKey) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        container.sweep = None;
        self.tell_init(key);
    }

    pub(super) fn tell_exec(&mut self, key: ProcessKey) {
        let Some(container) = self.containers.get_mut(&key.container) else { return };
        let container_id = container.id().to_owned();
        let Some(exec) = container.execs.get_mut(&key.number) else { return };
        let Some(exit) = exec.process.exit else { return };
        if exec.phase != ExecPhase::Started || exec.process.is_told {
            return;
        }
        let (id, pid) = (exec.request.exec_id.clone(), exec.process.pid);
        self.tell(key, TaskExit { container_id, id, pid, exit_status: exit.status, exited_at: Some(exit.at) });
    }

    /// Tells init's exit, if nothing holds it back: a `start` that has not ended, an exec, what it left behind.
    pub(super) fn tell_init(&mut self, key: ContainerKey) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        let Some(exit) = container.init.exit.filter(|_| !container.init.is_told) else { return };
        let is_ready = matches!(container.phase, Phase::Created | Phase::Running) && container.sweep.is_none();
        if !is_ready || container.execs.values().any(|exec| exec.holds_init()) {
            return;
        }
        container.phase = Phase::Stopped;
        let (id, pid) = (container.id().to_owned(), container.init.pid);
        let added = container.execs.iter().filter(|(_, exec)| exec.phase == ExecPhase::Added);
        let never: Vec<ProcessKey> = added.map(|(number, _)| ProcessKey { container: key, number: *number }).collect();
        self.push(Output::Disarm(Timer::Held(key)));
        for process in never {
            self.fail_exec(process);
        }
        let event = TaskExit { container_id: id.clone(), id, pid, exit_status: exit.status, exited_at: Some(exit.at) };
        self.tell(ProcessKey::init(key), event);
    }

    fn tell(&mut self, key: ProcessKey, event: TaskExit) {
        self.publish(Event::Exit(event));
        self.answer_waiters(key);
    }

    pub(super) fn answer_waiters(&mut self, key: ProcessKey) {
        let Some(process) = self.process_mut(key) else { return };
        process.is_told = true;
        let waiters = std::mem::take(&mut process.waiters);
        let Some(response) = process.waited() else { return };
        for ticket in waiters {
            self.reply(ticket, Ok(Response::Wait(response.clone())));
        }
    }

    /// Init's exit waits too long: the runtime hangs, or a process does. They are killed, and what their ends release
    /// is told then, so that the order holds.
    pub(super) fn held_too_long(&mut self, key: ContainerKey) {
        let Some(container) = self.containers.get(&key) else { return };
        if container.init.exit.is_none() || container.init.is_told {
            return;
        }
        let mut outputs: Vec<Output> = container.sweep.map(Output::Abort).into_iter().collect();
        if let Phase::Starting(job) = container.phase {
            outputs.push(Output::Abort(job));
        }
        for (number, exec) in &container.execs {
            let process = ProcessKey { container: key, number: *number };
            match exec.phase {
                ExecPhase::Starting(job) => outputs.push(Output::Abort(job)),
                ExecPhase::Started if exec.process.exit.is_none() => {
                    outputs.push(Output::Signal { process, signal: SIGKILL });
                }
                _ => {}
            }
        }
        outputs.into_iter().for_each(|output| self.push(output));
        self.arm(Timer::Held(key), HELD);
    }
}
