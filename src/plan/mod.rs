//! From a validated config.json to the plan: which steps init takes, and THE ORDER of everything. Nothing is done here.

#![forbid(unsafe_code)]
#![deny(clippy::cast_possible_truncation)]

mod birth;
mod create;
mod exec;
mod files;
pub mod mounts;
mod process;
#[cfg(test)]
mod tests;
mod wanted;

use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::container::cgroup::{Cgroup, Manager};
use crate::container::hooks::{self, Hook};
use crate::container::id_map::IdMaps;
use crate::container::intel_rdt::IntelRdt;
use crate::container::namespaces::Join;
use crate::container::net_devices::NetDevices;
use crate::container::process::oom::OomScoreAdj;
use crate::container::process::rlimits::Rlimit;
use crate::container::seccomp;
use crate::container::time_namespace::TimeNamespace;
use crate::init::link::{Failure, StepIndex};
use crate::init::step::{HookState, Planned, Step};
use crate::sys::namespace::{Kind, Kinds};
use crate::sys::{Errno, Text};

pub use create::create;
pub use exec::{ExecPlan, ExecRequest, Saved, exec};
pub use process::Birth;

/// Who tells init to start its program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gate {
    /// `ocirt start`, through a socket in the state directory.
    Socket,
    /// The runtime that made it, over the link.
    Link,
}

/// What the caller decides, besides config.json.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub id: &'a str,
    pub cgroup_manager: Manager,
    /// The bundle directory, absolute.
    pub bundle: &'a Path,
    pub no_pivot: bool,
    pub no_new_keyring: bool,
    pub preserve_fds: u32,
    pub gate: Gate,
    /// Whether the runtime may lack the right to make cgroups; asked when it does.
    pub rootless: fn() -> bool,
    /// The file mode creation mask of the runtime's caller, for hooks.
    pub umask: u32,
}

/// What only the runtime may do for an init in a new user namespace.
#[derive(Debug)]
pub struct Outside {
    pub maps: IdMaps,
    pub oom_score_adj: Option<OomScoreAdj>,
}

/// How init comes into a user namespace that is joined by its path: its new namespaces are to belong to that one. Or into
/// a new one, from which it could not join the pid namespace.
#[derive(Debug)]
pub struct Entrance {
    /// Adjusted before: inside, nobody may go below the inherited value.
    pub oom_score_adj: Option<OomScoreAdj>,
    /// None: a new one.
    pub user: Option<Join>,
    /// Other existing namespaces, in the order of [`Kind::ALL`](crate::sys::namespace::Kind::ALL).
    pub others: Vec<Join>,
    /// A new time namespace.
    pub time: Option<TimeNamespace>,
}

/// Everything that will happen, decided.
pub struct Plan {
    pub steps: Vec<Planned>,
    /// The namespaces in which init is born: `CLONE_NEW*` of clone3(2).
    pub clone_flags: u64,
    /// Existing namespaces in which init is born, since it could not join them itself.
    pub born_in: Vec<Join>,
    /// The same where the runtime would not come back from it, or may not be there.
    pub entrance: Option<Entrance>,
    /// Whether the process that the runtime clones makes init, where others see it.
    pub birth: Birth,
    /// What the runtime does before init takes its first step.
    pub outside: Option<Outside>,
    /// Limits for the runtime to set from outside, when init is ready: they are the program's.
    pub rlimits: Vec<Rlimit>,
    /// The user namespaces to be made for id-mapped mounts, each with the field that asks for it.
    pub mount_maps: Vec<(String, IdMaps)>,
    /// Whether init may lack the runtime's rights over files of the host, so that the runtime opens some for it.
    pub opener: bool,
    /// What moves into the container's network namespace before init takes its first step.
    pub net_devices: NetDevices,
    pub cgroup: Cgroup,
    pub intel_rdt: Option<IntelRdt>,
    /// prestart, then createRuntime.
    pub runtime_hooks: Vec<Hook>,
    /// Who answers the system calls that the filter notifies.
    pub seccomp_agent: Option<seccomp::Agent>,
    /// Whether supplementary groups are the runtime's caller's.
    pub keep_groups: bool,
    pub rootfs: PathBuf,
    /// Whether everything in the container ends with its init.
    pub own_pid_namespace: bool,
    /// What a process joins that is to be where init is.
    pub shared: Kinds,
    /// What the log should say.
    pub warnings: Vec<String>,
}

impl Plan {
    /// The failure of a step, in words.
    pub fn word(&self, failure: &Failure) -> StepError {
        word(&self.steps, failure)
    }

    /// The filter that the container's program gets.
    pub fn filter(&self) -> Option<&seccomp::Filter> {
        self.steps.iter().find_map(|planned| match &planned.step {
            Step::Seccomp(filter) => Some(filter),
            _ => None,
        })
    }

    /// The pid namespace that init is born in, where it is one that is there already.
    pub fn joined_pid_namespace(&self) -> Option<&Join> {
        let by_steps = self.steps.iter().filter_map(|planned| match &planned.step {
            Step::Join(join) => Some(&**join),
            _ => None,
        });
        let others = self.entrance.iter().flat_map(|entrance| &entrance.others);
        by_steps.chain(others).find(|join| join.kind() == Kind::Pid)
    }

    /// Whether there are startContainer hooks, which read a state of their own.
    pub fn has_start_hooks(&self) -> bool {
        self.steps.iter().any(|planned| matches!(planned.step, Step::Hook(_, HookState::Created)))
    }

    /// Whether init runs hooks itself: createContainer and startContainer.
    pub fn has_hooks_in_init(&self) -> bool {
        self.steps.iter().any(|planned| matches!(planned.step, Step::Hook(..)))
    }

    /// The steps that are taken after the word to start.
    pub fn start_steps(&self) -> Vec<Label> {
        let labels = StepIndex::number(&self.steps).map(|(index, planned)| (planned, Label::new(index, planned)));
        labels.skip_while(|(planned, _)| !planned.step.waits_for_start()).map(|(_, label)| label).collect()
    }
}

impl fmt::Display for Plan {
    /// The step list, a line each: what `ocirt plan` prints and what pins the order in tests.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(&self.steps, f)
    }
}

fn word(steps: &[Planned], failure: &Failure) -> StepError {
    let label = steps.get(failure.step.place()).map(|planned| Label::new(failure.step, planned));
    StepError::new(label.as_ref(), failure)
}

fn list(steps: &[Planned], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for planned in steps {
        match planned.field.as_str() {
            "" => writeln!(f, "{}", planned.step)?,
            field => writeln!(f, "{}    # {field}", planned.step)?,
        }
    }
    Ok(())
}

/// Which step this is, for whoever has no plan: `start`.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Label {
    pub index: StepIndex,
    /// The place in config.json, e.g. `mounts[3]`; empty for a step that no field asks for.
    pub field: String,
    /// The step as text, e.g. `mount tmpfs on /tmp`.
    pub what: String,
}

impl Label {
    fn new(index: StepIndex, planned: &Planned) -> Self {
        Self { index, field: planned.field.clone(), what: planned.step.to_string() }
    }

    /// Whether the step runs a hook.
    pub fn is_hook(&self) -> bool {
        self.field.starts_with("hooks.")
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.what)
    }
}

/// A step that failed in init: where, what, why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StepError {
    pub field: String,
    pub what: String,
    pub call: String,
    pub errno: Errno,
    pub detail: Text,
    /// What a hook said on standard error.
    pub said: String,
}

impl StepError {
    pub fn new(label: Option<&Label>, failure: &Failure) -> Self {
        let (field, what) = match label {
            Some(label) => (label.field.clone(), label.what.clone()),
            None => (String::new(), format!("step {}", failure.step)),
        };
        Self {
            field,
            what,
            call: failure.call.to_string(),
            errno: failure.errno,
            detail: failure.detail,
            said: String::new(),
        }
    }

    /// The error with what a hook said, which came with the report as a file.
    pub fn with_said(self, file: Option<OwnedFd>) -> Self {
        let said = file.map(|file| hooks::said(file.as_fd())).unwrap_or_default();
        Self { said, ..self }
    }
}

impl fmt::Display for StepError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.field.is_empty() {
            write!(f, "{}: ", self.field)?;
        }
        write!(f, "{}: {}: {}", self.what, self.call, crate::sys::Words(self.errno))?;
        if !self.detail.is_empty() {
            write!(f, " ({})", self.detail)?;
        }
        if self.said.is_empty() { Ok(()) } else { write!(f, ": {}", self.said) }
    }
}

impl std::error::Error for StepError {}
