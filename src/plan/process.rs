//! The end of the list, which a container's first process and an exec process share: what it is given while it is
//! root, then ids and capabilities, then its program.

use std::rc::Rc;

use anyhow::{Error, Result};
use oci_spec::runtime::{LinuxMemoryPolicy, LinuxPersonality, Process};

use super::supplied::Supplied;
use crate::container::console::ControllingTerminal;
use crate::container::hooks::Hook;
use crate::container::id_map::IdMaps;
use crate::container::process::capabilities::{self, Capabilities, GrantableCaps};
use crate::container::process::descriptors::Descriptors;
use crate::container::process::env::Environment;
use crate::container::process::executable::Executable;
use crate::container::process::rlimits::{self, Rlimit};
use crate::container::process::user::{self, Maps, User};
use crate::container::process::{cwd, env, executable, io_priority, memory_policy, personality, scheduler};
use crate::container::rootfs::mask::LateReadonly;
use crate::container::seccomp::{Agent, Filter};
use crate::container::security::{self, NoNewPrivileges};
use crate::error::Faults;
use crate::init::step::{HookState, Planned, Step};
use crate::sys::program::Strings;

/// The steps so far.
pub struct Draft {
    pub steps: Vec<Planned>,
    /// Mounts that turn read-only once everything in them is made.
    pub late: Vec<(String, LateReadonly)>,
    /// The user namespaces to be made for id-mapped mounts, each with the field that asks for it.
    pub mount_maps: Vec<(String, IdMaps)>,
    pub warnings: Vec<String>,
    /// What is wrong with what the steps are made from.
    pub faults: Faults,
}

impl Draft {
    pub fn new(faults: Faults) -> Self {
        Self { steps: Vec::new(), late: Vec::new(), mount_maps: Vec::new(), warnings: Vec::new(), faults }
    }

    /// What is found out, where `end` is how the making ended.
    pub fn examined<T>(self, end: Result<T>) -> Examined {
        let mut faults = self.faults.into_found();
        faults.extend(end.err());
        Examined { faults, warnings: self.warnings }
    }

    /// A step that every container takes.
    pub fn push(&mut self, step: Step) {
        self.add("", step);
    }

    /// A step that `field` of config.json asks for.
    pub fn add(&mut self, field: impl Into<String>, step: Step) {
        self.steps.push(Planned { field: field.into(), step });
    }

    /// The same of what `field` comes to, if there is any.
    pub fn add_some<T>(&mut self, field: &str, compiled: Result<Option<T>>, step: fn(T) -> Step) -> Result<()> {
        if let Some(part) = self.faults.keep(compiled)?.flatten() {
            self.add(field, step(part));
        }
        Ok(())
    }
}

/// What is found out of a configuration without a plan of it.
pub struct Examined {
    pub faults: Vec<Error>,
    pub warnings: Vec<String>,
}

/// The same as [`super::examine`] of a process alone.
pub fn examine_process(process: &Process) -> Examined {
    let program = Program {
        process,
        personality: None,
        memory_policy: None,
        filter: None,
        floor: None,
        in_user_namespace: false,
        maps: None,
        supplied: Supplied::default(),
        preserve_fds: 0,
        keep_groups: false,
    };
    let mut draft = Draft::new(Faults::all());
    let settled = program.labels(&mut draft).and_then(|()| program.settings(&mut draft));
    let settled = settled.and_then(|()| program.identity(&mut draft));
    draft.examined(settled)
}

/// What the process is made from.
pub struct Program<'a> {
    pub process: &'a Process,
    pub personality: Option<&'a LinuxPersonality>,
    pub memory_policy: Option<&'a LinuxMemoryPolicy>,
    pub filter: Option<Filter>,
    /// That of the node's floor, before it.
    pub floor: Option<Filter>,
    /// Whether it is in a user namespace of the container's.
    pub in_user_namespace: bool,
    /// The ids of that namespace, where they are known.
    pub maps: Option<Maps<'a>>,
    /// What a supervisor of the runtime has for it, besides process.env.
    pub supplied: Supplied,
    pub preserve_fds: u32,
    /// Whether the supplementary groups stay as they are.
    pub keep_groups: bool,
}

/// When the process that becomes the program is born.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Birth {
    /// It takes all steps itself: nobody else is in its pid namespace, or it is in the runtime's.
    First,
    /// Last, since others are in its pid namespace: what they see of it is the container's already.
    Late,
}

/// What is left for the very end.
pub struct FinalSteps {
    filter: Option<Filter>,
    program: Rc<Executable>,
    environment: Rc<Environment>,
}

/// What a process is to be.
struct IdentityParts {
    directory: Rc<cwd::WorkingDirectory>,
    user: User,
    environment: Rc<Environment>,
    capabilities: Capabilities,
    program: Rc<Executable>,
}

impl FinalSteps {
    /// The program's environment, HOME included once that is found.
    pub fn environment(&self) -> &Rc<Strings> {
        self.environment.strings()
    }

    /// The filter, then everything that the image brings: `hooks`, which are programs of the image, and the program. What
    /// a hook leaves behind is a process of the container's as any other.
    ///
    /// As few system calls as possible are made under the filter. But while hooks run, init goes on ignoring SIGPIPE: it
    /// tells a runtime of them that may be gone.
    pub fn steps(self, draft: &mut Draft, hooks: Vec<Hook>) {
        if hooks.is_empty() {
            draft.push(Step::ResetSignals);
        }
        if let Some(filter) = self.filter {
            draft.add("linux.seccomp", Step::Seccomp(filter));
        }
        if !hooks.is_empty() {
            for hook in hooks {
                draft.add(hook.field.clone(), Step::Hook(hook, HookState::Created));
            }
            draft.push(Step::ResetSignals);
        }
        draft.add("process.args[0]", Step::Exec(self.program, self.environment));
    }
}

impl Program<'_> {
    pub fn has_terminal(&self) -> bool {
        self.process.terminal() == Some(true)
    }

    /// Whether the process asks for a label, which is written through a procfs.
    pub fn has_labels(&self) -> bool {
        self.process.apparmor_profile().is_some() || self.process.selinux_label().is_some()
    }

    /// Who answers the system calls that the filter notifies.
    pub fn seccomp_agent(&self) -> Option<&Agent> {
        self.filter.as_ref().and_then(Filter::agent)
    }

    pub fn rlimits(&self, draft: &mut Draft) -> Result<Vec<Rlimit>> {
        rlimits::compile(self.process.rlimits().as_deref().unwrap_or_default(), &mut draft.faults)
    }

    /// The labels of the program, which are written through a procfs.
    pub fn labels(&self, draft: &mut Draft) -> Result<()> {
        let profile = security::compile_apparmor(self.process.apparmor_profile().as_deref());
        draft.add_some("process.apparmorProfile", profile, Step::Apparmor)?;
        let label = security::compile_selinux(self.process.selinux_label().as_deref());
        draft.add_some("process.selinuxLabel", label, Step::Selinux)
    }

    /// The process as others see it: with nothing open but what is the program's and the link to the runtime. Nothing is
    /// opened from here on (CVE-2024-21626). `birth`: whether it has yet to be born, where others see it.
    pub fn appear(&self, draft: &mut Draft, birth: Birth) {
        let preserved = self.preserve_fds.saturating_add(self.supplied.descriptors);
        draft.push(Step::Descriptors(Descriptors { preserved }));
        if birth == Birth::Late {
            draft.add("linux.namespaces", Step::Birth);
        }
    }

    /// What it is given while it is still root.
    pub fn settings(&self, draft: &mut Draft) -> Result<()> {
        draft.push(Step::NewSession);
        if self.has_terminal() {
            draft.add("process.terminal", Step::ControllingTerminal(ControllingTerminal));
        }
        let scheduler = self.process.scheduler().as_ref().map(scheduler::compile).transpose();
        draft.add_some("process.scheduler", scheduler, Step::Scheduler)?;
        let priority = self.process.io_priority().as_ref().map(io_priority::compile).transpose();
        draft.add_some("process.ioPriority", priority, Step::IoPriority)?;
        let personality = self.personality.map(personality::compile).transpose();
        draft.add_some("linux.personality", personality, Step::Personality)?;
        let policy = self.memory_policy.map(memory_policy::compile).transpose();
        draft.add_some("linux.memoryPolicy", policy, Step::MemoryPolicy)
    }

    /// From root to the user of the process, up to where only the program is missing; nothing where faults are kept.
    pub fn identity(&self, draft: &mut Draft) -> Result<Option<FinalSteps>> {
        let Some(IdentityParts { directory, user, environment, capabilities, program }) = self.parts(draft)? else {
            return Ok(None);
        };
        let no_new_privileges = self.process.no_new_privileges() == Some(true);
        // Without no_new_privs only a privileged process may load it; with, as few calls as possible come after it. But
        // where it notifies, whoever waits for Ready has the agent to serve.
        let filter = self.filter.clone();
        let (early, served, filter) = match (no_new_privileges, self.seccomp_agent().is_some()) {
            (false, _) => (filter, None, None),
            (true, true) => (None, filter, None),
            (true, false) => (None, None, filter),
        };
        if no_new_privileges {
            draft.add("process.noNewPrivileges", Step::NoNewPrivileges(NoNewPrivileges));
        }
        // Before an early filter, which may know no getcwd.
        draft.add("process.cwd", Step::EnterDirectoryEarly(directory.clone()));
        if self.supplied.needs_own_pid {
            draft.push(Step::OwnPid(environment.clone()));
        }
        if environment.needs_home() {
            // Which may know no openat2 either.
            draft.add("process.env", Step::FindHome(environment.clone()));
        }
        // The floor's before the container's, which may not let another one be loaded.
        if !no_new_privileges {
            self.load_floor(draft);
        }
        if let Some(filter) = early {
            draft.add("linux.seccomp", Step::Seccomp(filter));
        }
        self.become_user(draft, user, capabilities)?;
        draft.add("process.cwd", Step::EnterDirectory(directory));
        draft.add("process.args[0]", Step::FindExecutable(program.clone()));
        if no_new_privileges {
            self.load_floor(draft);
        }
        if let Some(filter) = served {
            draft.add("linux.seccomp", Step::Seccomp(filter));
        }
        Ok(Some(FinalSteps { filter, program, environment }))
    }

    fn load_floor(&self, draft: &mut Draft) {
        if let Some(filter) = self.floor.clone() {
            draft.add("floor.seccomp", Step::Floor(filter));
        }
    }

    /// What the process is to be, each part compiled for itself.
    fn parts(&self, draft: &mut Draft) -> Result<Option<IdentityParts>> {
        let directory = draft.faults.keep(cwd::compile(self.process.cwd()))?;
        let user = draft.faults.keep(user::compile(self.process.user(), self.maps))?;
        let environment = self.supplied.environment(self.process.env().as_deref().unwrap_or_default());
        let environment = env::compile(&environment, user.as_ref().map_or(0, User::uid));
        let environment = draft.faults.keep(environment)?;
        let args = self.process.args().as_deref().unwrap_or_default();
        let path = environment.as_ref().and_then(Environment::path);
        let program = draft.faults.keep(executable::compile(args, path))?;
        let capabilities = capabilities::compile(self.process.capabilities().as_ref(), self.held()?);
        let capabilities = draft.faults.keep(capabilities)?;
        let (Some(directory), Some(user), Some(environment), Some(program), Some((capabilities, left_out))) =
            (directory, user, environment, program, capabilities)
        else {
            // What becomes of them otherwise is decided later.
            self.rlimits(draft)?;
            return Ok(None);
        };
        draft.warnings.extend(left_out);
        let user = if self.keep_groups { user.with_original_groups() } else { user };
        Ok(Some(IdentityParts {
            directory: Rc::new(directory),
            user,
            environment: Rc::new(environment),
            capabilities,
            program: Rc::new(program),
        }))
    }

    /// What it can be granted.
    fn held(&self) -> Result<GrantableCaps> {
        Ok(if self.in_user_namespace { GrantableCaps::in_a_user_namespace() } else { GrantableCaps::by_the_runtime()? })
    }

    /// What is said of another process in its place.
    pub fn warnings_of(&self, other: &Process) -> Result<Vec<String>> {
        let (_, left_out) = capabilities::compile(other.capabilities().as_ref(), self.held()?)?;
        Ok(left_out)
    }

    /// Ids, then capabilities: what comes after it is done with no more rights than the program will have.
    fn become_user(&self, draft: &mut Draft, user: User, capabilities: Capabilities) -> Result<()> {
        if !self.in_user_namespace {
            // Behind everything that opens files, before the right to raise limits goes.
            for limit in self.rlimits(draft)? {
                draft.add("process.rlimits", Step::Rlimit(limit));
            }
        }
        draft.add("process.capabilities", Step::BoundingSet(capabilities));
        draft.add("process.user", Step::User(user));
        draft.push(Step::UndumpableAgain);
        draft.add("process.capabilities", Step::Capabilities(capabilities));
        Ok(())
    }
}
