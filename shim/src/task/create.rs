//! Create: mount, create, and undo in reverse what a failure leaves.

use super::container::{Container, Phase};
use super::tasks::{Purpose, Tasks};
use super::{ContainerKey, Outcome, Output, ProcessKey, Ticket, Work};
use crate::api::events::{Event, TaskCreate, TaskIo};
use crate::api::id;
use crate::api::service::Response;
use crate::api::task::{CreateTaskRequest, CreateTaskResponse};
use crate::wire::status::{Code, Status};

impl Tasks {
    pub(super) fn create(&mut self, ticket: Ticket, request: Box<CreateTaskRequest>) {
        if let Err(words) = id::check("id", &request.id) {
            return self.refuse(ticket, Code::InvalidArgument, words);
        }
        if self.containers.values().any(|container| container.id() == request.id) {
            return self.refuse(ticket, Code::AlreadyExists, format!("container {}", request.id));
        }
        self.memory.forget(&request.id, None);
        let key = self.next_container();
        self.containers.insert(key, Container::new(key, request));
        self.next_of_create(key, ticket, false);
    }

    /// Mounts, creates, or of a container that `Start` will restore, says that it is there.
    fn next_of_create(&mut self, key: ContainerKey, ticket: Ticket, is_mounted: bool) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        let request = container.request.clone();
        let job = if !is_mounted && !request.rootfs.is_empty() {
            self.run(Purpose::Mount(key, ticket), Work::Mount { container: key, request })
        } else if request.checkpoint.is_empty() {
            container.init.is_open = true;
            self.run(Purpose::Create(key, ticket), Work::Create { container: key, request })
        } else {
            return self.exists(key, ticket, &Outcome::Done);
        };
        if let Some(container) = self.containers.get_mut(&key) {
            container.phase = Phase::Creating { job: Some(job), abandoned: false };
        }
    }

    pub(super) fn mounted(&mut self, key: ContainerKey, ticket: Ticket, outcome: Result<(), Status>) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        let abandoned = matches!(container.phase, Phase::Creating { abandoned: true, .. });
        let error = match outcome {
            Err(error) => Some(error),
            Ok(()) if abandoned => Some(Status::new(Code::Canceled, "deleted while it was being created")),
            Ok(()) => None,
        };
        if let Some(error) = error {
            container.phase = Phase::Undoing { ticket, error };
            return self.undo_unmount(key);
        }
        self.next_of_create(key, ticket, true);
    }

    pub(super) fn created(&mut self, key: ContainerKey, ticket: Ticket, outcome: Result<Outcome, Status>) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        let abandoned = matches!(container.phase, Phase::Creating { abandoned: true, .. });
        match outcome {
            Ok(_) if abandoned => {
                let error = Status::new(Code::Canceled, "deleted while it was being created");
                self.undo(key, ticket, error);
            }
            Ok(outcome) => self.exists(key, ticket, &outcome),
            Err(Status { message, .. }) => {
                // Docker reads exit statuses 126 and 127 out of these words.
                let error = Status::new(Code::Unknown, format!("OCI runtime create failed: {message}"));
                self.undo(key, ticket, error);
            }
        }
    }

    /// The container is known from now on. To be restored, it has no process yet.
    fn exists(&mut self, key: ContainerKey, ticket: Ticket, outcome: &Outcome) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        if let Outcome::Born { pid, alone } = *outcome {
            container.init.pid = pid;
            container.alone = alone;
        }
        container.phase = Phase::Created;
        let pid = container.init.pid;
        let CreateTaskRequest { id, bundle, rootfs, terminal, stdin, stdout, stderr, checkpoint, .. } =
            (*container.request).clone();
        let io = Some(TaskIo { stdin, stdout, stderr, terminal });
        self.publish(Event::Create(TaskCreate { container_id: id, bundle, rootfs, io, checkpoint, pid }));
        self.reply(ticket, Ok(Response::Create(CreateTaskResponse { pid })));
        if self.containers.get(&key).is_some_and(|container| container.init.exit.is_some()) {
            self.end_the_rest(key);
            self.tell_init(key);
        }
    }

    /// Removes whatever a create has left. A runtime that was killed has left everything, and one that failed, nothing:
    /// `delete --force` is right for both.
    fn undo(&mut self, key: ContainerKey, ticket: Ticket, error: Status) {
        let Some(container) = self.containers.get_mut(&key) else { return };
        container.phase = Phase::Undoing { ticket, error };
        // A client that reads its end of a FIFO must not hang (#11885).
        self.close(ProcessKey::init(key));
        self.run_limited(Purpose::UndoDelete(key), Work::Delete { container: key, force: true });
    }

    pub(super) fn undo_unmount(&mut self, key: ContainerKey) {
        let Some(container) = self.containers.get(&key) else { return };
        if container.request.rootfs.is_empty() {
            return self.undone(key);
        }
        self.run(Purpose::UndoUnmount(key), Work::Unmount(key));
    }

    pub(super) fn undone(&mut self, key: ContainerKey) {
        let Some(container) = self.containers.remove(&key) else { return };
        if let Phase::Undoing { ticket, error } = container.phase {
            self.reply(ticket, Err(error));
        }
        self.push(Output::Forget(key));
    }

    /// Closes a process's stdio, once.
    pub(super) fn close(&mut self, key: ProcessKey) {
        let Some(process) = self.process_mut(key) else { return };
        process.is_drained = true;
        if std::mem::take(&mut process.is_open) {
            self.push(Output::Close(key));
        }
    }
}
