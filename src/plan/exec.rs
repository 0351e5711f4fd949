//! THE ORDER of an exec: what a process does that is to run in a container, from its first instruction to its program.
//! It is planned from what `create` has saved alone; config.json and the bundle may have changed or gone.

use std::borrow::Cow;
use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result};
use oci_spec::runtime::{LinuxIdMapping, LinuxMemoryPolicy, LinuxPersonality, Process, Spec};
use serde::{Deserialize, Serialize};

use super::decided::Plan;
use super::label::{StepError, list, word};
use super::process::{Birth, Draft, Program};
use super::supplied::Supplied;
use crate::container::console::{Console, ConsoleNode, TerminalOutput};
use crate::container::keyring;
use crate::container::namespaces::JoinInit;
use crate::container::process::cpu_affinity::{self, AllCpus, CpuList, ExecAffinity};
use crate::container::process::oom::{self, OomScoreAdj};
use crate::container::process::rlimits::Rlimit;
use crate::container::process::user::{BecomeRoot, Maps};
use crate::container::rootfs::enter::{EnterRootfs, RootSetup};
use crate::container::rootfs::pivot::PivotRoot;
use crate::container::rootfs::propagation::Propagation;
use crate::container::seccomp::{Agent, Filter};
use crate::error::{Faults, field};
use crate::init::report::Failure;
use crate::init::step::{Planned, Step};
use crate::sys::namespace::{Kind, Kinds};

/// What an exec must know of a container, as `create` saves it: config.json as far as it is about processes, decided.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Saved<'a> {
    /// config.json's, for what an exec process is not given itself.
    pub process: Cow<'a, Process>,
    /// The namespaces to join, as `CLONE_NEW*` flags.
    namespaces: u32,
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    uid_mappings: Cow<'a, [LinuxIdMapping]>,
    #[serde(default, skip_serializing_if = "<[_]>::is_empty")]
    gid_mappings: Cow<'a, [LinuxIdMapping]>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    personality: Option<Cow<'a, LinuxPersonality>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    memory_policy: Option<Cow<'a, LinuxMemoryPolicy>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    seccomp: Option<Cow<'a, Filter>>,
    /// Whether the container has a session keyring of its own.
    keyring: bool,
    /// Whether supplementary groups are the runtime's caller's.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    keep_groups: bool,
}

impl<'a> Saved<'a> {
    /// What is to be saved of a container; `keyring`: whether it has a session keyring of its own.
    pub fn new(spec: &'a Spec, plan: &'a Plan, keyring: bool) -> Result<Self> {
        let linux = spec.linux().as_ref();
        let mappings = |map: Option<&'a Option<Vec<LinuxIdMapping>>>| {
            Cow::Borrowed(map.and_then(|map| map.as_deref()).unwrap_or_default())
        };
        Ok(Self {
            process: Cow::Borrowed(spec.process().as_ref().context(field!("process"; "missing"))?),
            namespaces: plan.shared.flags(),
            uid_mappings: mappings(linux.map(|linux| linux.uid_mappings())),
            gid_mappings: mappings(linux.map(|linux| linux.gid_mappings())),
            personality: linux.and_then(|linux| linux.personality().as_ref()).map(Cow::Borrowed),
            memory_policy: linux.and_then(|linux| linux.memory_policy().as_ref()).map(Cow::Borrowed),
            seccomp: plan.filter().map(Cow::Borrowed),
            keyring,
            keep_groups: plan.keep_groups,
        })
    }

    /// The namespaces to join.
    pub fn namespaces(&self) -> Kinds {
        Kinds::from_flags(self.namespaces)
    }

    /// The same, with one to join that config.json does not have.
    pub fn with_namespace(self, kind: Kind) -> Self {
        Self { namespaces: self.namespaces().with(kind).flags(), ..self }
    }

    fn maps(&self) -> Option<Maps<'_>> {
        (!self.uid_mappings.is_empty()).then(|| Maps { uids: &self.uid_mappings, gids: &self.gid_mappings })
    }
}

/// What the caller decides, besides the process.
#[derive(Debug)]
pub struct ExecRequest<'a> {
    pub id: &'a str,
    /// Where the container's files are on the host: for a container without a mount namespace.
    pub rootfs: &'a Path,
    /// A pidfd of the container's first process.
    pub init: OwnedFd,
    /// Whether the process cannot adjust its OOM score, and is born with it.
    pub is_scored_by_runtime: bool,
    pub preserve_fds: u32,
    /// Whether the runtime itself passes on what comes out of its terminal.
    pub relays_terminal: bool,
    /// Whether the runtime has to put the ready process somewhere, say into groups of resctrl.
    pub is_placed_when_ready: bool,
    /// The filter of the node's floor.
    pub floor: Option<&'a Filter>,
}

/// Everything that an exec will do, decided.
pub struct ExecPlan {
    pub steps: Vec<Planned>,
    /// The CPUs on which the process is born, process.execCPUAffinity.initial.
    pub born_on: Option<CpuList>,
    /// process.oomScoreAdj, where the process is born with it.
    pub born_with: Option<OomScoreAdj>,
    /// Who answers the system calls that the filter notifies.
    pub seccomp_agent: Option<Agent>,
    /// Limits for the runtime to set from outside, when the process is ready and waits for Go.
    pub rlimits: Vec<Rlimit>,
    /// Whether the ready process waits for Go.
    pub waits: bool,
    /// Whether the process that was cloned makes the one that becomes the program.
    pub birth: Birth,
    pub warnings: Vec<String>,
}

/// Plans an exec of `process`, in which nothing is missing any more.
pub fn exec(process: &Process, saved: &Saved, request: ExecRequest) -> Result<ExecPlan> {
    let program = Program {
        process,
        personality: saved.personality.as_deref(),
        memory_policy: saved.memory_policy.as_deref(),
        filter: saved.seccomp.as_deref().cloned(),
        floor: request.floor.cloned(),
        in_user_namespace: saved.namespaces().contains(Kind::User),
        maps: saved.maps(),
        supplied: Supplied::default(),
        preserve_fds: request.preserve_fds,
        keep_groups: saved.keep_groups,
    };
    let affinity = process.exec_cpu_affinity().as_ref().map(cpu_affinity::compile).transpose()?.unwrap_or_default();
    let ExecAffinity { initial, last } = affinity;
    let mut draft = Draft::new(Faults::first());
    let score = oom::compile(program.process.oom_score_adj())?;
    let (born_with, score) = if request.is_scored_by_runtime { (score, None) } else { (None, score) };
    // In the runtime's own pid namespace there is no other moment to be born.
    let birth = if saved.namespaces().contains(Kind::Pid) { Birth::Late } else { Birth::First };
    begin(&mut draft, score, last);
    join(&mut draft, &program, saved, &request)?;
    root(&mut draft, &program, saved, &request)?;
    program.labels(&mut draft)?;
    program.appear(&mut draft, birth);
    program.settings(&mut draft)?;
    let last = program.identity(&mut draft)?.context(field!("process"; "nothing is planned"))?;
    if !draft.warnings.is_empty() {
        // What the container has not either, `create` has told; a program's standard error is no place to repeat it.
        let told = program.warnings_of(&saved.process)?;
        draft.warnings.retain(|warning| !told.contains(warning));
    }
    draft.push(Step::ReportReady);
    // Behind everything that opens files; only who is outside may raise them.
    let rlimits = if program.in_user_namespace { program.rlimits(&mut draft)? } else { Vec::new() };
    let (is_limited, is_placed) = (!rlimits.is_empty(), request.is_placed_when_ready);
    if is_limited || is_placed {
        let field = if is_limited { "process.rlimits" } else { "linux.intelRdt" };
        draft.add(field, Step::WaitForGo);
    }
    last.steps(&mut draft, Vec::new());
    Ok(ExecPlan {
        steps: draft.steps,
        born_on: initial,
        born_with,
        seccomp_agent: program.seccomp_agent().cloned(),
        rlimits,
        waits: is_limited || is_placed,
        birth,
        warnings: draft.warnings,
    })
}

/// While it is still the host's process: what the container's would have no right to.
fn begin(draft: &mut Draft, score: Option<OomScoreAdj>, cpus: Option<CpuList>) {
    draft.push(Step::Title(c"ocirt:exec"));
    if let Some(score) = score {
        // Before the memory cgroup is joined, where the OOM killer may be at work already.
        draft.add("process.oomScoreAdj", Step::OomScoreAdj(score));
    }
    draft.add("linux.cgroupsPath", Step::EnterCgroup);
    // Behind the cgroup: the move into a cpuset sets the affinity, to what the cpuset has.
    match cpus {
        Some(cpus) => draft.add("process.execCPUAffinity.final", Step::CpuAffinity(cpus)),
        None => draft.push(Step::AllCpus(AllCpus)),
    }
}

/// Into the container's namespaces.
fn join(draft: &mut Draft, program: &Program, saved: &Saved, request: &ExecRequest) -> Result<()> {
    if program.has_labels() {
        draft.push(Step::OpenHostProc);
    }
    // Before joining anything: its processes could ptrace us otherwise. The runtime is so already when it clones us, for
    // a container that has its pid namespace.
    draft.push(Step::Undumpable);
    if !saved.namespaces().is_empty() {
        let init = request.init.try_clone().context("pidfd of init")?;
        draft.add("linux.namespaces", Step::JoinInit(JoinInit::new(init, saved.namespaces())));
    }
    if program.in_user_namespace {
        draft.add("linux.uidMappings", Step::BecomeRoot(BecomeRoot { keep_groups: program.keep_groups }));
        draft.push(Step::UndumpableAgain);
    }
    if saved.keyring {
        let label = program.process.selinux_label().as_deref();
        draft.push(Step::Keyring(keyring::compile(request.id, label, saved.namespaces())?));
    }
    Ok(())
}

/// The container's root, and a terminal of it.
fn root(draft: &mut Draft, program: &Program, saved: &Saved, request: &ExecRequest) -> Result<()> {
    if !saved.namespaces().contains(Kind::Mount) {
        let (propagation, _) = Propagation::compile(None)?;
        let place = RootSetup::RuntimeNamespace;
        let enter = EnterRootfs::compile(request.rootfs, place, &propagation)?;
        draft.add("root.path", Step::EnterRootfs(enter));
        draft.push(Step::PivotRoot(PivotRoot::compile(place, &propagation)));
    } else if program.has_terminal() {
        draft.push(Step::OpenRoot);
    }
    if program.has_terminal() {
        let console = Console::compile(
            program.process.console_size().as_ref(),
            ConsoleNode::Untouched,
            TerminalOutput::of(request.relays_terminal),
        )?;
        draft.add("process.terminal", Step::Console(console));
    }
    Ok(())
}

impl ExecPlan {
    /// Whether the process gets a seccomp filter.
    pub fn has_filter(&self) -> bool {
        self.steps.iter().any(|planned| matches!(planned.step, Step::Seccomp(_)))
    }

    /// The failure of a step, in words.
    pub fn word(&self, failure: &Failure) -> StepError {
        word(&self.steps, failure)
    }
}

impl fmt::Display for ExecPlan {
    /// The step list, a line each.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        list(&self.steps, f)
    }
}
