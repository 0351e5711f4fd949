//! The process of an exec as the runtime holds it: cloned, born where the container sees it, followed to its program.

use std::mem;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use anyhow::{Context, Result, bail};

use super::place::{CgroupTarget, OwnScore};
use super::wait::ProcessWait;
use crate::container::cgroup::CgroupJoin;
use crate::error::field;
use crate::init::link::{self, RuntimeEnd};
use crate::init::report::{Failure, Milestone, Report};
use crate::init::step::Step;
use crate::init::{self, Inherited};
use crate::lifecycle::disk::found::Found;
use crate::lifecycle::process::agent::AgentSession;
use crate::lifecycle::process::reason;
use crate::lifecycle::refusal::{ONLY_ROOT_ENTERS, Refusal};
use crate::lifecycle::status::Status;
use crate::plan::{Birth, ExecPlan};
use crate::sys::guard::{Guard, Kept};
use crate::sys::process::{self, Child, Cloned};
use crate::sys::signal::Signals;
use crate::sys::timeline::Timeline;
use crate::sys::{Errno, SysError};

/// How long a killed process may take to end before it is left to whoever thaws it, in milliseconds.
const KILL_GRACE: u32 = 2_000;

/// The process before its program runs. Dropped, it is killed and reaped.
pub struct Started {
    pub child: Guard,
    link: RuntimeEnd,
}

impl Started {
    /// Clones the process, which begins to run the plan's steps.
    pub fn launch(
        plan: &ExecPlan,
        place: &CgroupTarget,
        console: Option<OwnedFd>,
        mut own_score: Option<OwnScore>,
        timeline: Option<Rc<Timeline>>,
    ) -> Result<Self> {
        let (link, end) = link::pair()?;
        let mut join = place.join()?;
        if let Some(cpus) = &plan.born_on {
            cpus.apply().with_context(|| field!("process.execCPUAffinity.initial"; "{cpus}"))?;
        }
        if let (Some(own), Some(score)) = (&mut own_score, &plan.born_with) {
            own.adjust(score)?;
        }
        let mut cloned = process::clone_process(0, join.clone_into());
        if let (Err(SysError { errno: Errno::EBUSY | Errno::EOPNOTSUPP, .. }), Some(init)) = (&cloned, place.instead) {
            join = place.paths.join_like(init.pid)?;
            cloned = process::clone_process(0, join.clone_into());
        }
        let is_moved = matches!(cloned, Err(SysError { errno: Errno::EACCES, .. })) && place.paths.unit.is_some();
        if is_moved {
            join = CgroupJoin::Moved;
            cloned = process::clone_process(0, None);
        }
        if let Ok(Cloned::Child) = cloned {
            drop(link);
            init::run_all(&plan.steps, end, Inherited { join, console, timeline, ..Inherited::default() });
        }
        drop((end, console));
        let cloned = cloned.map_err(|error| match error.errno {
            Errno::ENOMEM => anyhow::Error::from(error).context(Refusal::GoneOrNoMemory),
            // Of a cgroup that is removed: systemd does so as soon as the container has ended.
            Errno::ENODEV | Errno::ENOENT => anyhow::Error::from(error).context(Refusal::EndedMeanwhile),
            _ => error.into(),
        })?;
        let Cloned::Runtime(child) = cloned else { unreachable!("the child never returns") };
        let started = Self { child: Guard::with_grace(child, KILL_GRACE), link };
        if is_moved {
            let moved = place.paths.move_in(&place.own, started.child.pid, place.instead.map(|init| init.pid));
            let moved = moved.and_then(|()| started.link.go(&[]).context("process"));
            let word = |failure: &Failure, _| plan.word(failure).into();
            moved.map_err(|error| reason::own_words(&started.link, word, error))?;
        }
        Ok(started)
    }

    /// Follows the process until the one is there that becomes the program: the same, or one that it makes before it ends.
    pub fn follow_to_birth(&mut self, plan: &ExecPlan, watch: &mut Watch) -> Result<()> {
        if plan.birth == Birth::First {
            return Ok(());
        }
        watch.wait.until_ready(self.link.as_fd(), None)?;
        match self.link.report_with_descriptor().context("report of the process")? {
            Some((Report::Born(pid), Some(pidfd))) => {
                let born = Child { pid: pid.cast_signed(), pidfd };
                let maker = mem::replace(&mut self.child, Guard::with_grace(born, KILL_GRACE));
                let word = |failure: &Failure, _| watch.word(plan, failure);
                let gone = self.link.go(&[]).context("process");
                gone.map_err(|error| reason::own_words(&self.link, word, error))?;
                watch.wait.until_ready(maker.pidfd.as_fd(), None)?;
                maker.wait().map(drop).context("process")
            }
            Some((Report::Failed(failure), _)) => Err(watch.word(plan, &failure)),
            Some((report, _)) => bail!("the process reports {report:?} before it is born"),
            None => Err(self.death(plan)),
        }
    }

    /// Follows the process until it has become its program: an end of file, since its end of the link is close-on-exec.
    pub fn follow_to_exec(&self, plan: &ExecPlan, watch: &mut Watch) -> Result<()> {
        let state = &watch.found.state;
        let mut attendance = AgentSession::new(plan.seccomp_agent.as_ref(), &self.child, &self.link);
        let mut is_ready = false;
        loop {
            watch.wait.until_ready(self.link.as_fd(), attendance.awaited())?;
            match attendance.report()? {
                Some(Report::Reached(Milestone::Ready)) => {
                    is_ready = true;
                    let added = state.intel_rdt.as_ref().map_or(Ok(()), |groups| groups.add(self.child.pid));
                    let word = |failure: &Failure, _| watch.word(plan, failure);
                    added
                        .and_then(|()| self.limit(plan))
                        .map_err(|error| reason::own_words(&self.link, word, error))?;
                }
                Some(report @ (Report::Listener | Report::ListenerAt(_))) => {
                    attendance.serve(report, &state.for_hooks(Status::Running, state.init.map(|init| init.pid))?)?;
                }
                Some(Report::Failed(failure)) => return Err(watch.word(plan, &failure)),
                Some(report) => bail!("the process reports {report:?}, which is no part of an exec"),
                None if is_ready => return Ok(()),
                None => return Err(self.death(plan)),
            }
        }
    }

    /// Limits that a process in a user namespace cannot raise by itself; then it goes on, if it waits.
    fn limit(&self, plan: &ExecPlan) -> Result<()> {
        for limit in &plan.rlimits {
            limit.apply_to(self.child.pid).with_context(|| field!("process.rlimits"; "{limit}"))?;
        }
        if plan.waits { self.link.go(&[]).context("process") } else { Ok(()) }
    }

    /// The process runs on.
    pub fn keep(self) -> Kept {
        self.child.keep()
    }

    /// Why the process ended without a word.
    fn death(&self, plan: &ExecPlan) -> anyhow::Error {
        let killed = "container not running any more, or its memory limit too low";
        reason::death(&self.child, "the process", "it was set up", killed, plan.has_filter())
    }
}

/// A process of an exec as the runtime follows it, and what it knows of the container meanwhile.
pub struct Watch<'a> {
    found: &'a Found,
    wait: ProcessWait<'a>,
}

impl<'a> Watch<'a> {
    /// `init` is the container's first process; `signals` are the caller's, of an exec in the foreground.
    pub fn new(init: BorrowedFd<'a>, signals: Option<&'a Signals>, found: &'a Found) -> Self {
        Self { found, wait: ProcessWait::new(init, signals, &found.state.cgroup) }
    }

    /// The signals that came meanwhile, for the program.
    pub fn heard(self) -> Vec<i32> {
        self.wait.heard()
    }

    /// The failure of a step, in words.
    fn word(&self, plan: &ExecPlan, failure: &Failure) -> anyhow::Error {
        let step = plan.steps.get(failure.step.place()).map(|planned| &planned.step);
        match (step, failure.errno) {
            (Some(Step::JoinInit(_)), Errno::ESRCH) => Refusal::ExecStopped.into(),
            // Init still runs our own program, which an ordinary user may execute but not look into, not even in his
            // namespace.
            (Some(Step::JoinInit(_)), Errno::EPERM) if self.found.status == Status::Created => {
                anyhow::Error::from(plan.word(failure)).context(ONLY_ROOT_ENTERS)
            }
            // A pid namespace without its init takes no process (clone(2)).
            (Some(Step::Birth), Errno::ENOMEM) => {
                anyhow::Error::from(plan.word(failure)).context(Refusal::GoneOrNoMemory)
            }
            _ => plan.word(failure).into(),
        }
    }
}
