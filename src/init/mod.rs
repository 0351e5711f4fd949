//! What runs after the clone: the steps of the plan, in order, up to the container's program.
//!
//! Nothing here or below uses the heap or waits for anybody but the runtime, its hooks and `start`. What can be decided
//! or allocated was, in `plan`; what is left is how, never what.

#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod hooks;
pub mod inside;
pub mod link;
mod procfs;
pub mod report;
pub mod step;

use std::os::fd::{AsFd, BorrowedFd};

use crate::sys::process::Child;
use crate::sys::{self, sibling};

pub use inside::Inherited;
use inside::Inside;
use link::InitEnd;
use report::{Failure, StepIndex};
use step::{Planned, Step};

/// The life of init: every step in order, or one report of the step that failed.
pub fn run_all(steps: &[Planned], link: InitEnd, inherited: Inherited) -> ! {
    inherited.timeline.iter().for_each(|line| line.begin());
    let mut inside = Inside::new(link, inherited);
    run(&mut Rest { steps, done: 0, inside: &mut inside });
    sys::process::exit_now(1)
}

/// The steps that are left.
struct Rest<'a> {
    steps: &'a [Planned],
    /// How many are not.
    done: usize,
    inside: &'a mut Inside,
}

/// Takes them up to the one that fails, which is reported.
fn run(rest: &mut Rest) {
    let steps = rest.steps;
    for (index, planned) in StepIndex::number(steps).skip(rest.done) {
        rest.inside.step = index;
        rest.done += 1;
        let stamp = |rest: &Rest| rest.inside.inherited.timeline.iter().for_each(|line| line.stamp(index.place()));
        // The runtime looks as soon as it is told.
        if matches!(planned.step, Step::ReportReady) {
            stamp(rest);
        }
        let done = match planned.step {
            Step::Birth => Err(sibling::give_birth(rest, tell, begin).into()),
            _ => planned.step.run(rest.inside),
        };
        if done.is_ok() {
            stamp(rest);
        }
        if let Err(fault) = done {
            // The runtime may be gone; then there is nobody left to tell.
            let _ = rest.inside.link.report_failure(Failure::new(index, &fault), said(rest.inside, &planned.step));
            return;
        }
    }
}

/// Tells the runtime which process takes the rest.
fn tell(rest: &Rest, child: &Child) -> sys::Result<()> {
    rest.inside.link.report_born(child.pid.cast_unsigned(), child.pidfd.as_fd())
}

/// The life of the process that takes the rest: it begins when the runtime knows of it, since only then somebody would
/// end it.
fn begin(rest: &mut Rest) -> ! {
    if let Ok([created, ..]) = rest.inside.link.wait_for_go() {
        if created.is_some() {
            rest.inside.hook_states[1] = created;
        }
        run(rest);
    }
    sys::process::exit_now(1)
}

/// What is kept of a hook that fails.
fn said<'a>(inside: &'a Inside, step: &Step) -> Option<BorrowedFd<'a>> {
    matches!(step, Step::Hook(..)).then(|| inside.inherited.hook_output.as_ref()?.kept()).flatten()
}
