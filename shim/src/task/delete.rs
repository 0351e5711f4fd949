//! Delete: wait for the rest of the output, remove the container, unmount its root, and remember what was answered.

use std::time::Duration;

use super::container::{ExecPhase, Phase};
use super::tasks::{Purpose, Tasks};
use super::{ContainerKey, Output, ProcessKey, Ticket, Timer, Work};
use crate::api::events::{Event, TaskDelete};
use crate::api::service::Response;
use crate::api::task::ProcessRequest;
use crate::wire::status::{Code, Status};

/// How long the rest of the output may take when no process of the container is left: what is in a pipe is 64 KiB.
const DRAIN_ALONE: Duration = Duration::from_secs(1);
/// And when a process that has a pipe may live on. CRI gives `Delete` ten seconds (#13377).
const DRAIN_SHARED: Duration = Duration::from_secs(8);

impl Tasks {
    pub(super) fn delete(&mut self, ticket: Ticket, request: &ProcessRequest) {
        let found = self.containers.values().find(|container| container.id() == request.id);
        let process = found.filter(|container| container.is_known()).and_then(|it| it.find(&request.exec_id));
        let creating = found.filter(|container| !container.is_known()).map(|container| container.key);
        if let Some(process) = process {
            return if process.is_init() {
                self.delete_container(ticket, process.container)
            } else {
                self.delete_exec(ticket, process)
            };
        }
        if let Some(key) = creating.filter(|_| request.exec_id.is_empty()) {
            self.abandon(key);
        } else if let Some(answer) = self.memory.recall(&request.id, &request.exec_id, self.now.monotonic) {
            return self.reply(ticket, Ok(Response::Delete(answer)));
        }
        self.refuse(ticket, Code::NotFound, format!("process {}{}", request.id, request.exec_id));
    }

    /// Nobody waits for this `create` any more, and nobody would delete what it makes: it is ended, and undone.
    pub(super) fn abandon(&mut self, key: ContainerKey) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        if let Phase::Creating { job, abandoned } = &mut container.phase
            && !std::mem::replace(abandoned, true)
            && let Some(job) = *job
        {
            self.push(Output::Abort(job));
        }
    }

    fn delete_container(&mut self, ticket: Ticket, key: ContainerKey) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        match container.phase {
            // It was to be restored, and never was.
            Phase::Created if container.init.pid == 0 => {
                container.deleters.push(ticket);
                container.phase = Phase::Draining;
                self.give_up(ProcessKey::init(key));
                self.drain(ProcessKey::init(key));
            }
            Phase::Stopped => {
                container.deleters.push(ticket);
                container.phase = Phase::Draining;
                self.drain(ProcessKey::init(key));
            }
            // The second one gets what the first one gets.
            Phase::Draining | Phase::Removing => container.deleters.push(ticket),
            _ => self.refuse(ticket, Code::FailedPrecondition, "cannot delete a running process"),
        }
    }

    fn delete_exec(&mut self, ticket: Ticket, key: ProcessKey) {
        let Some(exec) = self.exec_mut(key) else { return };
        match exec.phase {
            ExecPhase::Added => self.fail_exec(key),
            ExecPhase::Failed => {}
            ExecPhase::Started if exec.process.is_told => {}
            _ => return self.refuse(ticket, Code::FailedPrecondition, "cannot delete a running process"),
        }
        let Some(exec) = self.exec_mut(key) else { return };
        exec.deleters.push(ticket);
        if let [_] = exec.deleters.as_slice() {
            self.drain(key);
        }
    }

    /// Waits for the rest of a process's output, but not for ever.
    fn drain(&mut self, key: ProcessKey) {
        let Some(container) = self.containers.get(&key.container) else { return };
        let Some(process) = container.process(key.number) else { return };
        if process.is_drained {
            return self.drained(key);
        }
        // Of an exec, init may be still there, and whatever the exec began.
        let is_empty = container.alone && container.init.exit.is_some();
        if let Some(process) = self.process_mut(key) {
            process.is_limited = true;
        }
        self.arm(Timer::Drain(key), if is_empty { DRAIN_ALONE } else { DRAIN_SHARED });
    }

    /// There is no more output of this process, or its time is up: a `Delete` that waits for that goes on.
    pub(super) fn drained(&mut self, key: ProcessKey) {
        let Some(container) = self.containers.get_mut(&key.container) else { return };
        let is_draining = container.phase == Phase::Draining;
        let Some(process) = container.process_mut(key.number) else { return };
        process.is_drained = true;
        if key.is_init() && is_draining {
            self.remove(key.container);
        } else if self.exec_mut(key).is_some_and(|exec| !exec.deleters.is_empty()) {
            self.forget_exec(key);
        }
    }

    /// Closes a process's stdio, and takes back the time limit for it.
    fn finish_io(&mut self, key: ProcessKey) {
        if self.process_mut(key).is_some_and(|process| std::mem::take(&mut process.is_limited)) {
            self.push(Output::Disarm(Timer::Drain(key)));
        }
        self.close(key);
    }

    /// The answer that its client got at once it does not ask for again; of a probe every second for a minute there would be many.
    fn forget_exec(&mut self, key: ProcessKey) {
        let has_waited = self.process_mut(key).is_some_and(|process| process.is_limited);
        self.finish_io(key);
        let Some(container) = self.containers.get_mut(&key.container) else { return };
        let Some(exec) = container.execs.remove(&key.number) else { return };
        let (id, response) = (container.id().to_owned(), exec.process.deleted());
        if has_waited || exec.deleters.is_empty() {
            self.memory.remember(&id, &exec.request.exec_id, response.clone(), self.now.monotonic);
        }
        for ticket in exec.deleters {
            self.reply(ticket, Ok(Response::Delete(response.clone())));
        }
    }

    fn remove(&mut self, key: ContainerKey) {
        self.finish_io(ProcessKey::init(key));
        let Some(container) = self.containers.get_mut(&key) else { return };
        container.phase = Phase::Removing;
        self.run(Purpose::Delete(key), Work::Delete { container: key, force: false });
    }

    pub(super) fn removed(&mut self, key: ContainerKey, outcome: Result<(), Status>) {
        let Some(container) = self.containers.get(&key) else { return };
        match outcome {
            Err(error) => self.keep(key, error),
            Ok(()) if container.request.rootfs.is_empty() => self.forget(key),
            Ok(()) => {
                self.run(Purpose::Unmount(key), Work::Unmount(key));
            }
        }
    }

    pub(super) fn unmounted(&mut self, key: ContainerKey, outcome: Result<(), Status>) {
        match outcome {
            Err(error) => self.keep(key, error),
            Ok(()) => self.forget(key),
        }
    }

    /// It could not be removed. The next `Delete` tries again.
    fn keep(&mut self, key: ContainerKey, error: Status) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        container.phase = Phase::Stopped;
        for ticket in std::mem::take(&mut container.deleters) {
            self.reply(ticket, Err(error.clone()));
        }
    }

    fn forget(&mut self, key: ContainerKey) {
        let Some(container) = self.containers.get(&key) else { return };
        let execs: Vec<ProcessKey> =
            container.execs.keys().map(|number| ProcessKey { container: key, number: *number }).collect();
        for exec in execs {
            self.forget_exec(exec);
        }
        let Some(container) = self.containers.remove(&key) else { return };
        let (container_id, response) = (container.id().to_owned(), container.init.deleted());
        self.memory.remember(&container_id, "", response.clone(), self.now.monotonic);
        let (pid, exit_status, exited_at) = (response.pid, response.exit_status, response.exited_at);
        self.publish(Event::Delete(TaskDelete { container_id, pid, exit_status, exited_at, id: String::new() }));
        for ticket in container.deleters {
            self.reply(ticket, Ok(Response::Delete(response.clone())));
        }
        self.push(Output::Forget(key));
    }
}
