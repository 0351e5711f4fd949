//! Exec: a process is added, and may be started later.

use super::container::{Exec, Freezer};
use super::tasks::Tasks;
use super::{ProcessKey, Ticket};
use crate::api::events::{Event, TaskExecAdded};
use crate::api::id;
use crate::api::service::Response;
use crate::api::task::ExecProcessRequest;
use crate::wire::status::Code;

/// The longest description of a process. Its arguments and variables can be 2 MiB (execve(2)), and are some kilobytes; as JSON
/// values, which it becomes for a moment, it takes sixteen times as much.
const LONGEST: usize = 1 << 20;

impl Tasks {
    pub(super) fn exec(&mut self, ticket: Ticket, request: ExecProcessRequest) {
        if let Err(words) = id::check("exec id", &request.exec_id) {
            return self.refuse(ticket, Code::InvalidArgument, words);
        }
        let length = request.spec.as_ref().map_or(0, |spec| spec.value.len());
        if length > LONGEST {
            let words = format!("process {}: {length} bytes of JSON: more than {LONGEST}", request.exec_id);
            return self.refuse(ticket, Code::ResourceExhausted, words);
        }
        let Some(container) = self.known(ticket, &request.id) else { return };
        // An event's id is the container's where it is about init.
        if container.find(&request.exec_id).is_some() || request.exec_id == request.id {
            return self.refuse(ticket, Code::AlreadyExists, format!("process {}", request.exec_id));
        }
        if !container.is_alive() {
            return self.refuse(ticket, Code::FailedPrecondition, "the container has no running process");
        }
        if container.freezer != Freezer::Thawed {
            return self.refuse(ticket, Code::FailedPrecondition, "the container is paused");
        }
        let (container_id, exec_id) = (request.id.clone(), request.exec_id.clone());
        container.add(request);
        self.memory.forget(&container_id, Some(&exec_id));
        self.publish(Event::ExecAdded(TaskExecAdded { container_id, exec_id }));
        self.reply(ticket, Ok(Response::Empty));
    }

    pub(super) fn exec_mut(&mut self, key: ProcessKey) -> Option<&mut Exec> {
        self.containers.get_mut(&key.container)?.execs.get_mut(&key.number)
    }
}
