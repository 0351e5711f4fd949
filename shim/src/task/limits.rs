//! Time limits of clients, and of work that no client waits for: a runtime that hangs is ended, and what it was to do is
//! taken as not done.

use std::time::Duration;

use super::container::Phase;
use super::tasks::{Purpose, Tasks};
use super::{JobKey, Output, Ticket, Timer, Work};
use crate::wire::status::Code;

/// How long the runtime may take for what nobody has asked for.
const OWN: Duration = Duration::from_secs(10);

impl Tasks {
    /// The client has gone, as it said that it would. A runtime that works for nobody else is ended, as Go's shim does: it
    /// would stay for as long as it hangs, and no second try could come to an end before it. Unmounting goes on: the next
    /// `Delete` waits for it (#7496).
    pub(super) fn expired(&mut self, ticket: Ticket) {
        let of_ticket = |(job, purpose): (&JobKey, &Purpose)| (purpose.ticket() == Some(ticket)).then_some(*job);
        let jobs: Vec<JobKey> = self.jobs.iter().filter_map(of_ticket).collect();
        for job in jobs {
            match self.jobs.get(&job) {
                // Also what comes after this job is not wanted any more.
                Some(Purpose::Mount(container, _) | Purpose::Create(container, _)) => self.abandon(*container),
                _ => self.push(Output::Abort(job)),
            }
        }
        self.leave_deletion(ticket);
        if self.forget_ticket(ticket) {
            self.refuse(ticket, Code::DeadlineExceeded, "the time limit of the request has passed");
        }
    }

    /// A deletion that only this client waits for does not begin any more, or is ended while the runtime is at it. The next
    /// `Delete` begins anew.
    fn leave_deletion(&mut self, ticket: Ticket) {
        let Some(container) = self.containers.values_mut().find(|it| it.deleters == [ticket]) else { return };
        if container.phase == Phase::Draining {
            container.phase = Phase::Stopped;
        }
        let purpose = Purpose::Delete(container.key);
        if let Some(job) = self.jobs.iter().find(|(_, other)| **other == purpose).map(|(job, _)| *job) {
            self.push(Output::Abort(job));
        }
    }

    /// True if something was to be told to this one: an exit, or the end of a deletion.
    fn forget_ticket(&mut self, ticket: Ticket) -> bool {
        let mut lists: Vec<&mut Vec<Ticket>> = Vec::new();
        for container in self.containers.values_mut() {
            lists.extend([&mut container.deleters, &mut container.init.waiters]);
            for exec in container.execs.values_mut() {
                lists.extend([&mut exec.deleters, &mut exec.process.waiters]);
            }
        }
        let mut was_there = false;
        for list in lists {
            let before = list.len();
            list.retain(|other| *other != ticket);
            was_there |= list.len() < before;
        }
        was_there
    }

    /// Work that no client has asked for, and whose end no other limit brings.
    pub(super) fn run_limited(&mut self, purpose: Purpose, work: Work) {
        let job = self.run(purpose, work);
        self.arm(Timer::Job(job), OWN);
    }

    /// Before what follows from its end.
    pub(super) fn unlimit(&mut self, job: JobKey, purpose: &Purpose) {
        if matches!(purpose, Purpose::UndoDelete(_) | Purpose::Thaw(_)) {
            self.push(Output::Disarm(Timer::Job(job)));
        }
    }

    pub(super) fn took_too_long(&mut self, job: JobKey) {
        if self.jobs.contains_key(&job) {
            self.push(Output::Abort(job));
        }
    }
}
