//! The plan: everything that will happen, decided.

use std::fmt;
use std::path::PathBuf;

use super::label::{Label, StepError, list, word};
use super::process::Birth;
use crate::container::cgroup::Cgroup;
use crate::container::hooks::Hook;
use crate::container::id_map::IdMaps;
use crate::container::intel_rdt::IntelRdt;
use crate::container::keyring::SessionKeyring;
use crate::container::namespaces::Join;
use crate::container::net_devices::NetDevices;
use crate::container::process::oom::OomScoreAdj;
use crate::container::process::rlimits::Rlimit;
use crate::container::seccomp;
use crate::container::time_namespace::TimeNamespace;
use crate::init::report::{Failure, StepIndex};
use crate::init::step::{HookState, Planned, Step};
use crate::sys::namespace::{Kind, Kinds};

/// What only the runtime may do for an init in a new user namespace.
#[derive(Debug)]
pub struct ParentWork {
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
    pub outside: Option<ParentWork>,
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

    /// The session keyring that the container gets of its own.
    pub fn keyring(&self) -> Option<&SessionKeyring> {
        self.steps.iter().find_map(|planned| match &planned.step {
            Step::Keyring(keyring) => Some(keyring),
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
