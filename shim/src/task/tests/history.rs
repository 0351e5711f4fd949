//! What has been published, and whether it may have been published then.

use std::collections::BTreeMap;

use crate::api::events::Event;

#[derive(Default)]
pub struct History {
    /// By id: the last container that had it.
    containers: BTreeMap<String, Told>,
    /// How many events of each topic there were.
    pub counts: BTreeMap<&'static str, usize>,
}

#[derive(Default)]
struct Told {
    started: bool,
    exited: bool,
    deleted: bool,
    execs: BTreeMap<String, ToldExec>,
}

#[derive(Default)]
struct ToldExec {
    started: bool,
    exited: bool,
}

impl History {
    /// Panics if the event must not come now.
    pub fn publish(&mut self, event: &Event) {
        *self.counts.entry(event.topic()).or_default() += 1;
        match event {
            Event::Create(event) => {
                let before = self.containers.insert(event.container_id.clone(), Told::default());
                assert!(before.is_none_or(|told| told.deleted), "created twice");
            }
            Event::Start(event) => {
                let told = self.there(&event.container_id);
                assert!(!told.started && !told.exited, "a start after a start or an exit");
                told.started = true;
            }
            Event::ExecAdded(event) => {
                let told = self.there(&event.container_id);
                let before = told.execs.insert(event.exec_id.clone(), ToldExec::default());
                assert!(before.is_none_or(|exec| exec.exited || !exec.started), "added while it runs");
            }
            Event::ExecStarted(event) => {
                let told = self.there(&event.container_id);
                assert!(!told.exited, "an exec's start after init's exit");
                let exec = told.execs.get_mut(&event.exec_id).expect("a start of what was not added");
                assert!(!exec.started, "started twice");
                exec.started = true;
            }
            Event::Exit(event) => self.exit(&event.container_id, &event.id),
            Event::Delete(event) => {
                let told = self.there(&event.container_id);
                assert!(told.exited || !told.started, "a deletion before the exit");
                told.deleted = true;
            }
            Event::Oom(event) => assert!(!self.there(&event.container_id).exited, "an OOM after the exit"),
            Event::Paused(event) => self.running(&event.container_id),
            Event::Resumed(event) => self.running(&event.container_id),
            Event::Checkpointed(event) => assert!(self.there(&event.container_id).started),
        }
    }

    fn exit(&mut self, container: &str, id: &str) {
        let told = self.there(container);
        assert!(!told.exited, "an exit after init's");
        if id == container {
            assert!(told.execs.values().all(|exec| exec.exited || !exec.started), "init's exit before an exec's");
            told.exited = true;
        } else {
            let exec = told.execs.get_mut(id).expect("an exit of what was not added");
            assert!(exec.started && !exec.exited, "an exit before the start, or again");
            exec.exited = true;
        }
    }

    fn there(&mut self, id: &str) -> &mut Told {
        let told = self.containers.get_mut(id).expect("an event about what was not created");
        assert!(!told.deleted, "an event after the deletion");
        told
    }

    fn running(&mut self, id: &str) {
        let told = self.there(id);
        assert!(told.started && !told.exited, "about a container that does not run");
    }

    /// True if a `Wait` for this process may be answered: the exit has been published, or there will be none.
    pub fn is_over(&self, container: &str, exec_id: &str) -> bool {
        let Some(told) = self.containers.get(container) else { return true };
        if exec_id.is_empty() {
            return told.exited || !told.started;
        }
        told.execs.get(exec_id).is_none_or(|exec| exec.exited || !exec.started)
    }

    pub fn is_started(&self, container: &str, exec_id: &str) -> bool {
        let Some(told) = self.containers.get(container) else { return false };
        if exec_id.is_empty() { told.started } else { told.execs.get(exec_id).is_some_and(|exec| exec.started) }
    }
}
