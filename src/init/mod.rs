//! What runs after the clone: the steps of the plan, in order, up to the container's program.
//!
//! Nothing here or below uses the heap or waits for anybody but the runtime, its hooks and `start`. What can be decided
//! or allocated was, in `plan`; what is left is how, never what.

#![forbid(unsafe_code)]
#![deny(clippy::indexing_slicing, clippy::cast_possible_truncation)]

mod hooks;
pub mod link;
mod procfs;
pub mod step;

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::container::cgroup::Join;
use crate::container::hooks::{Confinement, Output};
use crate::container::rootfs::mask::Masks;
use crate::sys::path::{ProcFd, RootFd};
use crate::sys::process::Child;
use crate::sys::{self, Errno, Fault, sibling};

use link::{Failure, InitEnd, Opened, StepIndex};
use step::{Planned, Step};

/// The descriptors that init brings from the runtime.
#[derive(Default, Debug)]
pub struct Inherited {
    pub join: Join,
    /// User namespaces by which mounts are mapped, where init does that itself.
    pub mount_namespaces: Vec<OwnedFd>,
    /// Whether the runtime opens what init may not.
    pub opener: bool,
    /// Where `start` connects; none when the runtime itself says Go.
    pub gate: Option<OwnedFd>,
    /// Where the master of the container's terminal is sent.
    pub console: Option<OwnedFd>,
    /// Where createContainer and startContainer hooks write, if there are any.
    pub hook_output: Option<Output>,
}

/// What one step leaves to later ones.
pub struct Inside {
    pub link: InitEnd,
    pub inherited: Inherited,
    pub root: Option<RootFd>,
    pub proc: Option<ProcFd>,
    /// The socket on which the container tells that it is ready, until somebody listens to it.
    pub notify_socket: Option<OwnedFd>,
    /// The container's state for createContainer and startContainer hooks.
    pub hook_states: [Option<OwnedFd>; 2],
    /// Whether a hook has used the files of hooks.
    pub is_hook_behind: bool,
    pub masks: Masks,
    /// Whether the container's seccomp filter is loaded.
    pub confinement: Confinement,
    /// What the runtime opened for steps to come.
    pub opened: Opened,
    /// The number of the step that is taken.
    pub step: StepIndex,
}

/// The life of init: every step in order, or one report of the step that failed.
pub fn run_all(steps: &[Planned], link: InitEnd, inherited: Inherited) -> ! {
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
        let done = match planned.step {
            Step::Birth => Err(sibling::give_birth(rest, tell, begin).into()),
            _ => planned.step.run(rest.inside),
        };
        if let Err(fault) = done {
            // The runtime may be gone; then there is nobody left to tell.
            let _ = rest.inside.link.report_failure(Failure::new(index, &fault), rest.inside.said(&planned.step));
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

impl Inside {
    /// Before the first step.
    pub fn new(link: InitEnd, inherited: Inherited) -> Self {
        Self {
            link,
            inherited,
            root: None,
            proc: None,
            notify_socket: None,
            hook_states: [None, None],
            is_hook_behind: false,
            masks: Masks::default(),
            confinement: Confinement::None,
            opened: Opened::default(),
            step: StepIndex::FIRST,
        }
    }

    /// What is kept of a hook that fails.
    fn said(&self, step: &Step) -> Option<BorrowedFd<'_>> {
        matches!(step, Step::Hook(..)).then(|| self.inherited.hook_output.as_ref()?.kept()).flatten()
    }

    /// The container's root; there is one from EnterRootfs on.
    pub fn root(&self) -> Result<&RootFd, Fault> {
        self.root.as_ref().ok_or(Fault::new("openat2", Errno::ENOENT, "no rootfs entered yet"))
    }

    /// The private procfs; there is one from OpenProc on.
    pub fn proc(&self) -> Result<&ProcFd, Fault> {
        self.proc.as_ref().ok_or(Fault::new("fsopen", Errno::ENOENT, "no private procfs yet"))
    }
}
