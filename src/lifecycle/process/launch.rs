//! Init as the runtime holds it: launched, spoken with until it is ready, killed if nobody keeps it.

use std::fs::File;
use std::mem;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, bail, ensure};

use super::agent::AgentSession;
use super::poststop::Owed;
use super::trace::Trace;
use super::{heard, opener, reason, user_namespace};
use crate::container::namespaces::Join;
use crate::container::net_devices::Moved;
use crate::container::{cgroup, hooks};
use crate::error::field;
use crate::init::link::{self, RuntimeEnd};
use crate::init::report::{Failure, Milestone, Report};
use crate::init::{self, Inherited};
use crate::lifecycle::disk::directory::Locked;
use crate::lifecycle::disk::identity::Identity;
use crate::lifecycle::disk::state::State;
use crate::lifecycle::status::Status;
use crate::plan::{Birth, Plan};
use crate::sys::guard::{Guard, Kept};
use crate::sys::namespace::{self, Kind, Kinds};
use crate::sys::process::{self, Child, Cloned};
use crate::sys::{Errno, SysError, ids};
use crate::trace::Category;

/// The container's first process before its program runs. Dropped, it is killed and reaped, and its namespaces go.
#[derive(Debug)]
pub struct Init {
    // Dropped in this order: back to the host before their namespace ends.
    /// The host's network devices that init has now.
    net_devices: Option<Moved>,
    pub child: Guard,
    pub link: RuntimeEnd,
    /// The user namespaces of id-mapped mounts, where the runtime maps them.
    mount_namespaces: Vec<OwnedFd>,
    /// Where the opener works, of an init that an ordinary user cannot look into later.
    view: Option<opener::View>,
    /// Whether it is born in a pid namespace that others are in.
    is_in_sight: bool,
}

/// How long an init that others can stop may take from one report to the next, in milliseconds.
const REPORT_TIMEOUT: u32 = 60_000;

/// How far init came.
enum InitProgress {
    /// It was made by the process that was followed.
    Born(Child),
    Ready,
}

impl Init {
    /// Clones init, which begins to run the plan's steps, and gives it its id maps where it has a user namespace.
    pub fn launch(plan: &Plan, mut inherited: Inherited) -> Result<Self> {
        inherited.mount_namespaces = opener::namespaces(&plan.mount_maps)?;
        let (link, end) = link::pair()?;
        let cgroup = inherited.join.clone_into();
        let away = BornIn::go(&plan.born_in)?;
        let cloned = match (&plan.entrance, plan.birth) {
            (None, _) => process::clone_process(plan.clone_flags, cgroup).context("init"),
            (Some(entrance), Birth::First) => user_namespace::clone_init(entrance, plan.clone_flags, cgroup),
            (Some(entrance), Birth::Late) => {
                let new = u32::try_from(plan.clone_flags).map(Kinds::from_flags).context("CLONE_NEW* flags")?;
                user_namespace::clone_maker(entrance, new, cgroup)
            }
        };
        if let Ok(Cloned::Child) = cloned {
            drop(link);
            init::run_all(&plan.steps, end, inherited);
        }
        drop((end, away));
        let mount_namespaces = if plan.opener { inherited.mount_namespaces } else { Vec::new() };
        let Cloned::Runtime(child) = cloned? else { unreachable!("the child never returns") };
        let mut init = Self {
            net_devices: None,
            child: Guard::new(child),
            link,
            mount_namespaces,
            view: None,
            is_in_sight: false,
        };
        init.equip(plan).map_err(|error| init.own_words(plan, error))?;
        Ok(init)
    }

    /// What init gets from outside before its first step.
    fn equip(&mut self, plan: &Plan) -> Result<()> {
        if let Some(outside) = &plan.outside {
            let process = File::open(format!("/proc/{}", self.child.pid)).context("process directory of init")?;
            outside.maps.write(self.child.pid, process.as_fd())?;
            if let Some(score) = &outside.oom_score_adj {
                score.apply_to(process.as_fd()).with_context(|| field!("process.oomScoreAdj"; "{score}"))?;
            }
        }
        if plan.opener && ids::effective_uid() != 0 {
            self.view = Some(opener::View::of(self.child.pid)?);
        }
        if !plan.net_devices.is_empty() {
            let namespace = format!("/proc/{}/ns/net", self.child.pid);
            let namespace = File::open(namespace).context("network namespace of init")?;
            self.net_devices = Some(plan.net_devices.move_to(namespace.as_fd())?);
        }
        if plan.outside.is_some() || !plan.net_devices.is_empty() {
            self.link.go(&[]).context("init")?;
        }
        Ok(())
    }

    /// `error`, or what init has to say.
    pub fn own_words(&self, plan: &Plan, error: anyhow::Error) -> anyhow::Error {
        reason::own_words(&self.link, |failure, said| word(plan, failure, said), error)
    }

    /// Has systemd move init, which waits, into the container's unit.
    pub fn enter_unit(&self, plan: &Plan, cgroup: &mut cgroup::CreatedCgroup) -> Result<()> {
        match cgroup.start(&plan.cgroup, Some(self.child.pid)) {
            Err(error) if error.is::<cgroup::HadEnded>() => match self.link.report() {
                Ok(Some(Report::Failed(failure))) => bail!(plan.word(&failure)),
                Ok(None) => Err(self.death(plan)),
                _ => Err(error),
            },
            result => {
                result?;
                let told = self.link.go(&[]).context("init");
                told.map_err(|error| self.own_words(plan, error))
            }
        }
    }

    /// Follows init until it is ready to start, running the hooks of the runtime namespace on the way.
    pub fn prepare(
        &mut self,
        plan: &Plan,
        directory: &Locked,
        state: &mut State,
        poststop: &mut Owed,
        trace: &mut Trace,
    ) -> Result<()> {
        if plan.birth == Birth::Late {
            let born =
                self.follow(plan, directory, state, poststop, trace).map_err(|error| self.own_words(plan, error))?;
            let InitProgress::Born(init) = born else { bail!("init is ready before it is born") };
            self.hand_over(plan, directory, state, init).map_err(|error| self.own_words(plan, error))?;
        }
        match self.follow(plan, directory, state, poststop, trace).map_err(|error| self.own_words(plan, error))? {
            InitProgress::Ready => self.limit(plan).map_err(|error| self.own_words(plan, error)),
            InitProgress::Born(_) => bail!("init reports a process of its own"),
        }
    }

    fn follow(
        &self,
        plan: &Plan,
        directory: &Locked,
        state: &mut State,
        poststop: &mut Owed,
        trace: &mut Trace,
    ) -> Result<InitProgress> {
        let mut attendance = AgentSession::new(plan.seccomp_agent.as_ref(), &self.child, &self.link);
        loop {
            if attendance.awaited().is_none() {
                let has_spoken = trace.timed(Category::Wait, "wait for init", || {
                    heard::until_spoken(&self.link, self.is_in_sight.then_some(REPORT_TIMEOUT))
                })?;
                let seconds = REPORT_TIMEOUT / 1000;
                ensure!(has_spoken, "init did not go on for {seconds} s (was it stopped in its pid namespace?)");
            }
            match attendance.report()? {
                Some(Report::Reached(Milestone::Mounted)) => {
                    directory.save(state)?;
                    poststop.incur(state);
                    trace.steps(&plan.steps);
                    self.run_hooks(plan, state, trace)?;
                }
                Some(Report::Reached(Milestone::Ready)) => return Ok(InitProgress::Ready),
                Some(Report::Reached(Milestone::Starting | Milestone::Hooked)) => {
                    bail!("init starts without being told")
                }
                Some(Report::Born(pid)) => {
                    let pidfd = attendance.descriptor().context("init: no pidfd came")?;
                    return Ok(InitProgress::Born(Child { pid: pid.cast_signed(), pidfd }));
                }
                Some(Report::Made | Report::Mounted(..) | Report::NotifySocket) => {
                    bail!("init reports what is not its own")
                }
                Some(report @ (Report::Listener | Report::ListenerAt(_))) => {
                    let state = state.for_hooks(Status::Creating, Some(self.child.pid))?;
                    trace.timed(Category::Message, "seccomp agent", || attendance.serve(report, &state))?;
                }
                Some(Report::Needs(step)) => {
                    let view = if self.view.is_none() { Some(opener::View::of(self.child.pid)?) } else { None };
                    let view = self.view.as_ref().or(view.as_ref()).context("namespaces of init")?;
                    trace.timed(Category::Message, "open a source for init", || {
                        opener::serve(view, &self.link, plan, step, &self.mount_namespaces)
                    })?;
                }
                Some(Report::Failed(failure)) => return Err(word(plan, &failure, attendance.descriptor())),
                None => return Err(self.death(plan)),
            }
        }
    }

    /// From the process that was cloned to `init`, which it has made: what is known of the one is said of the other. Only
    /// then it goes on.
    fn hand_over(&mut self, plan: &Plan, directory: &Locked, state: &mut State, init: Child) -> Result<()> {
        let maker = mem::replace(&mut self.child, Guard::new(init));
        self.is_in_sight = true;
        state.init = Some(self.identity()?);
        directory.save(state)?;
        let hook_state = match plan.has_start_hooks() {
            true => Some(state.for_hooks(Status::Created, Some(pid_inside(self.child.pid)?))?),
            false => None,
        };
        let file = hook_state.as_deref().map(hooks::state_file).transpose()?;
        self.link.go(file.iter().map(AsFd::as_fd).collect::<Vec<_>>().as_slice()).context("init")?;
        let has_ended = process::ends_within(maker.pidfd.as_fd(), REPORT_TIMEOUT).context("init")?;
        ensure!(has_ended, "the process that has made init did not end within {} s", REPORT_TIMEOUT / 1000);
        maker.wait().map(drop).context("init")
    }

    /// Limits that a process in a user namespace cannot raise by itself.
    fn limit(&self, plan: &Plan) -> Result<()> {
        for limit in &plan.rlimits {
            limit.apply_to(self.child.pid).with_context(|| field!("process.rlimits"; "{limit}"))?;
        }
        Ok(())
    }

    /// prestart and createRuntime hooks; then init goes on with the state for its own hooks.
    fn run_hooks(&self, plan: &Plan, state: &State, trace: &Trace) -> Result<()> {
        run_runtime_hooks(plan, state, self.child.pid, trace)?;
        // Who is born later has no pid yet; config.md asks for it from `created` on.
        let inside = if plan.birth == Birth::First { Some(pid_inside(self.child.pid)?) } else { None };
        let states = [Status::Creating, Status::Created].map(|status| state.for_hooks(status, inside));
        let [creating, created] = states;
        let files = [hooks::state_file(&creating?)?, hooks::state_file(&created?)?];
        trace.timed(Category::Message, "let init go on", || {
            self.link.go(&files.each_ref().map(AsFd::as_fd)).context("init")
        })
    }

    /// Why init ended without a word.
    fn death(&self, plan: &Plan) -> anyhow::Error {
        let killed = "is linux.resources.memory.limit too low?";
        reason::death(&self.child, "init", "it set the container up", killed, plan.filter().is_some())
    }

    pub fn identity(&self) -> Result<Identity> {
        Identity::of(self.child.pid, self.child.pidfd.as_fd())
    }

    /// Init lives on.
    pub fn keep(self) -> Kept {
        if let Some(mut moved) = self.net_devices {
            moved.keep();
        }
        self.child.keep()
    }
}

/// Runs the prestart and createRuntime hooks of a container whose init is `pid`.
pub fn run_runtime_hooks(plan: &Plan, state: &State, pid: i32, trace: &Trace) -> Result<()> {
    if plan.runtime_hooks.is_empty() {
        return Ok(());
    }
    let output = state.hook_output()?;
    for hook in &plan.runtime_hooks {
        // Hooks of old take the container for created, as crun and runtime-tools have it.
        let status = if hook.field.starts_with("hooks.prestart") { Status::Created } else { Status::Creating };
        let state_text = state.for_hooks(status, Some(pid))?;
        trace.hook(hook, &state_text, &state.bundle, &output)?;
    }
    Ok(())
}

/// The pid of process `pid` in its own pid namespace: the last number of `NSpid` (proc_pid_status(5), Linux 4.1).
fn pid_inside(pid: i32) -> Result<i32> {
    let path = format!("/proc/{pid}/status");
    let status = std::fs::read_to_string(&path).with_context(|| path.clone())?;
    let line = status.lines().find_map(|line| line.strip_prefix("NSpid:"));
    let inner = line.and_then(|pids| pids.split_ascii_whitespace().next_back()).and_then(|pid| pid.parse().ok());
    inner.with_context(|| format!("{path}: no NSpid"))
}

/// The failure of a step, in words. A pid namespace without its init takes no process, and the kernel calls that ENOMEM
/// (clone(2)).
fn word(plan: &Plan, failure: &Failure, said: Option<OwnedFd>) -> anyhow::Error {
    let call = ["clone", "clone3"].into_iter().find(|call| failure.call.as_bytes() == call.as_bytes());
    match (failure.errno, call, plan.joined_pid_namespace()) {
        (Errno::ENOMEM, Some(call), Some(join)) => anyhow::Error::from(SysError::new(call, failure.errno))
            .context("init")
            .context(field!("linux.namespaces"; "{join}: its init has ended, or there is no memory")),
        _ => plan.word(failure).with_said(said).into(),
    }
}

/// While this lives, the runtime's children are born in other namespaces than its own.
struct BornIn {
    own: Vec<(Kind, OwnedFd)>,
}

impl BornIn {
    fn go(namespaces: &[Join]) -> Result<Self> {
        let mut away = Self { own: Vec::with_capacity(namespaces.len()) };
        for join in namespaces {
            let path = format!("/proc/self/ns/{}", join.kind());
            let own = File::open(&path).context(path)?;
            away.own.push((join.kind(), own.into()));
            namespace::join(join.fd(), join.kind()).with_context(|| field!("linux.namespaces"; "{join}"))?;
        }
        Ok(away)
    }
}

impl Drop for BornIn {
    fn drop(&mut self) {
        for (kind, own) in self.own.iter().rev() {
            // The right that let us leave is still ours.
            let _ = namespace::join(own.as_fd(), *kind);
        }
    }
}
