//! Pause and Resume.

use super::container::{Freezer, Phase};
use super::tasks::{Purpose, Tasks};
use super::{ContainerKey, Ticket, Work};
use crate::api::events::{Event, TaskPaused, TaskResumed};
use crate::api::service::Response;
use crate::wire::status::{Code, Status};

impl Tasks {
    pub(super) fn pause(&mut self, ticket: Ticket, id: &str) {
        let Some(container) = self.known(ticket, id) else { return };
        if container.phase != Phase::Running || !container.is_alive() || container.freezer != Freezer::Thawed {
            return self.refuse(ticket, Code::FailedPrecondition, "the container is not running");
        }
        container.freezer = Freezer::Pausing;
        let key = container.key;
        self.run(Purpose::Pause(key, ticket), Work::Pause(key));
    }

    pub(super) fn paused(&mut self, key: ContainerKey, ticket: Ticket, outcome: Result<(), Status>) {
        let Some(container) = self.containers.get_mut(&key) else {
            return self.refuse(ticket, Code::NotFound, "the container has been deleted");
        };
        match outcome {
            Ok(()) if container.init.exit.is_some() => {
                container.freezer = Freezer::Thawing;
                self.run_limited(Purpose::Thaw(key), Work::Resume(key));
                self.refuse(ticket, Code::NotFound, "process already finished");
            }
            Ok(()) => {
                container.freezer = Freezer::Paused;
                let container_id = container.id().to_owned();
                self.publish(Event::Paused(TaskPaused { container_id }));
                self.reply(ticket, Ok(Response::Empty));
            }
            Err(status) => {
                container.freezer = Freezer::Thawed;
                self.reply(ticket, Err(status));
            }
        }
    }

    pub(super) fn resume(&mut self, ticket: Ticket, id: &str) {
        let Some(container) = self.known(ticket, id) else { return };
        if container.freezer != Freezer::Paused {
            return self.refuse(ticket, Code::FailedPrecondition, "the container is not paused");
        }
        container.freezer = Freezer::Thawing;
        let key = container.key;
        self.run(Purpose::Resume(key, ticket), Work::Resume(key));
    }

    pub(super) fn resumed(&mut self, key: ContainerKey, ticket: Ticket, outcome: Result<(), Status>) {
        let Some(container) = self.containers.get_mut(&key) else {
            return self.refuse(ticket, Code::NotFound, "the container has been deleted");
        };
        let has_ended = container.init.exit.is_some();
        match outcome {
            Ok(()) => {
                container.freezer = Freezer::Thawed;
                if !has_ended {
                    let container_id = container.id().to_owned();
                    self.publish(Event::Resumed(TaskResumed { container_id }));
                }
                self.reply(ticket, Ok(Response::Empty));
            }
            Err(status) => {
                container.freezer = Freezer::Paused;
                self.reply(ticket, Err(status));
            }
        }
    }

    pub(super) fn thawed(&mut self, key: ContainerKey) {
        if let Some(container) = self.containers.get_mut(&key) {
            container.freezer = Freezer::Thawed;
        }
    }
}
