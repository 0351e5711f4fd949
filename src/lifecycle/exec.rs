//! exec: runs one more process in a container, from the host's side. All that it needs was saved by `create`; config.json
//! is not read again.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use super::agent::Attendance;
use super::announce::{self, Announcement};
use super::create::check_preserved;
use super::exec_process::{self, Changes};
use super::inspect::Found;
use super::state::{State, Status};
use super::{Host, Id, Refusal, foreground, protect};
use crate::container::cgroup::{Join, Paths};
use crate::container::hooks::Output;
use crate::container::process::oom::OomScoreAdj;
use crate::error::field;
use crate::init::link::{self, Milestone, Report, RuntimeEnd};
use crate::init::{self, Inherited};
use crate::plan::{self, ExecPlan, ExecRequest, Saved};
use crate::sys::namespace::{self, Kind, Kinds};
use crate::sys::process::{self, Child, Cloned};
use crate::sys::{Errno, SysError, ids, proc_self, signal};

/// What exec's flags say, besides [`Changes`] of the process.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ExecOptions {
    /// A process.json; `-` is standard input.
    pub process: Option<PathBuf>,
    pub changes: Changes,
    pub detach: bool,
    pub console_socket: Option<PathBuf>,
    pub pidfd_socket: Option<PathBuf>,
    pub pid_file: Option<PathBuf>,
    pub preserve_fds: u32,
    /// `[CONTROLLER:]PATH` below the container's cgroup.
    pub cgroups: Vec<String>,
    pub ignore_paused: bool,
}

/// How long a killed process may take to end before it is left to whoever thaws it, in milliseconds.
const KILL_GRACE: u32 = 2_000;

/// Runs a process in the container and returns its exit status, 128 and the signal for one that was killed; zero when
/// detached.
pub fn exec(host: &Host, id: &Id, options: &ExecOptions) -> Result<i32> {
    protect::enter()?;
    let found = Found::open(host, id)?;
    let init = running_init(&found, options.ignore_paused)?;
    let saved = found.directory.load_for_exec()?;
    let mut process = exec_process::compile(host, options.process.as_deref(), &saved.process, &options.changes)?;
    let terminal = process.terminal() == Some(true);
    if terminal && !options.detach {
        exec_process::take_our_size(&mut process);
    }
    let (console, relay) = announce::consoles(terminal, options.console_socket.as_deref(), options.detach)?;
    check_preserved(options.preserve_fds)?;
    let announcement = Announcement::prepare(options.pidfd_socket.as_deref(), options.pid_file.as_deref())?;
    let place = Place::find(&found, options)?;
    let own_score = process.oom_score_adj().map_or(Ok(None), |_| OwnScore::open())?;
    let to_join = match enter_pid_namespace(init.as_fd(), &saved) {
        // Init still runs our own program, which an ordinary user may execute but not look into, not even in his namespace.
        Err(error) if found.status == Status::Created && is_forbidden(&error) => {
            return Err(error.context(super::ONLY_ROOT_ENTERS));
        }
        joined => joined?,
    };
    let request = ExecRequest {
        id: id.as_str(),
        rootfs: &found.state.rootfs,
        init: init.try_clone().context("pidfd of init")?,
        to_join,
        is_scored_by_runtime: own_score.is_some(),
        preserve_fds: options.preserve_fds,
        is_placed_when_ready: found.state.intel_rdt.is_some(),
    };
    let plan = plan::exec(&process, &saved, request)?;
    // Of the container's own process, `create` has said it.
    if options.process.is_some() || !options.changes.capabilities.is_empty() {
        plan.warnings.iter().for_each(|warning| host.log.warn(warning));
    }
    // From here on every signal is heard by the relay, which passes it on.
    let signals = if options.detach { None } else { Some(signal::listen()?) };
    let mut process = Started::launch(&plan, &place, console, own_score)?;
    let mut pid_file = announcement.tell(&process.child)?;
    process.follow_to_exec(&plan, init.as_fd(), &found.state)?;
    pid_file.keep();
    process.kept = true;
    let Some(signals) = signals else { return Ok(0) };
    let terminal = relay.map(foreground::Terminal::receive).transpose()?;
    Ok(foreground::follow(host, &process.child, &signals, terminal)?.code())
}

/// The container's first process, if one more may be put beside it.
fn running_init(found: &Found, ignore_paused: bool) -> Result<OwnedFd> {
    match found.status {
        Status::Created | Status::Running => {}
        Status::Paused if ignore_paused => {}
        Status::Paused => bail!(Refusal::ExecPaused),
        Status::Stopped => bail!(Refusal::ExecStopped),
        Status::Creating => bail!(Refusal::ExecCreating),
    }
    let pidfd = found.state.init.map(|init| init.open()).transpose()?.flatten();
    pidfd.context(Refusal::ExecStopped)
}

/// Has our children be born in the container's pid namespace; returns what they still have to join.
///
/// We are undumpable before, and so are they: processes of the container can see them from their first instruction on
/// (CVE-2016-9962). A user without rights over the pid namespace has them only in its user namespace, where we go for
/// good then: as the same user, out of sight of the container.
fn enter_pid_namespace(init: BorrowedFd, saved: &Saved) -> Result<Kinds> {
    proc_self::set_undumpable()?;
    let kinds = saved.namespaces();
    if !kinds.contains(Kind::Pid) {
        return Ok(kinds);
    }
    let pid = Kinds::NONE.with(Kind::Pid);
    let mut left = kinds.without(Kind::Pid);
    let joined = match namespace::join_process(init, pid) {
        Err(error) if error.errno == Errno::EPERM && kinds.contains(Kind::User) => {
            left = left.without(Kind::User);
            namespace::join_process(init, pid.with(Kind::User))
        }
        joined => joined,
    };
    match joined {
        Err(error) if error.errno == Errno::ESRCH => bail!(Refusal::ExecStopped),
        joined => joined.context(field!("linux.namespaces"; "join init's pid namespace"))?,
    }
    Ok(left)
}

fn is_forbidden(error: &anyhow::Error) -> bool {
    error.root_cause().downcast_ref::<SysError>().is_some_and(|error| error.errno == Errno::EPERM)
}

/// The cgroup of the process.
struct Place {
    paths: Paths,
    /// The container's.
    own: Paths,
    /// Whose cgroup does as well, where nobody can enter the container's own any more.
    instead: Option<i32>,
}

impl Place {
    fn find(found: &Found, options: &ExecOptions) -> Result<Self> {
        let own = found.state.cgroup.clone();
        if options.cgroups.is_empty() {
            return Ok(Self { paths: own.clone(), own, instead: found.state.init.map(|init| init.pid) });
        }
        found.needs_cgroup().context("--cgroup")?;
        Ok(Self { paths: own.below(&options.cgroups).context("--cgroup")?, own, instead: None })
    }

    fn join(&self) -> Result<Join> {
        let joined = self.paths.join();
        if self.instead.is_none() { joined.context("--cgroup") } else { joined }
    }
}

/// The runtime's own OOM score adjustment. An ordinary user can open its file only as long as he is dumpable, and so
/// could his process: it is born with its score instead.
struct OwnScore {
    file: File,
    before: String,
}

impl OwnScore {
    /// None for root, whose process adjusts itself.
    fn open() -> Result<Option<Self>> {
        const PATH: &str = "/proc/self/oom_score_adj";
        if ids::effective_uid() == 0 {
            return Ok(None);
        }
        let mut file = File::options().read(true).write(true).open(PATH).context(PATH)?;
        let mut before = String::new();
        file.read_to_string(&mut before).context(PATH)?;
        Ok(Some(Self { file, before }))
    }

    /// Adjusts the runtime, and so its children, until this is dropped.
    fn adjust(&mut self, score: &OomScoreAdj) -> Result<()> {
        score.write_to(self.file.as_fd()).with_context(|| field!("process.oomScoreAdj"; "{score}"))
    }
}

impl Drop for OwnScore {
    fn drop(&mut self) {
        // No lower than it was, so it is allowed.
        let _ = self.file.write_all(self.before.as_bytes());
    }
}

/// The process before and after its program runs. Dropped, it is killed and reaped, unless it is kept.
struct Started {
    child: Child,
    link: RuntimeEnd,
    kept: bool,
}

impl Started {
    /// Clones the process, which begins to run the plan's steps.
    fn launch(
        plan: &ExecPlan,
        place: &Place,
        console: Option<OwnedFd>,
        mut own_score: Option<OwnScore>,
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
        if let (Err(SysError { errno: Errno::EBUSY | Errno::EOPNOTSUPP, .. }), Some(pid)) = (&cloned, place.instead) {
            join = place.paths.join_like(pid)?;
            cloned = process::clone_process(0, join.clone_into());
        }
        let is_moved = matches!(cloned, Err(SysError { errno: Errno::EACCES, .. })) && place.paths.unit.is_some();
        if is_moved {
            join = Join::Moved;
            cloned = process::clone_process(0, None);
        }
        if let Ok(Cloned::Child) = cloned {
            drop(link);
            let (mount_namespaces, opener, gate, hook_output) = (Vec::new(), false, None, Output::default());
            init::run_all(&plan.steps, end, Inherited { join, mount_namespaces, opener, gate, console, hook_output });
        }
        drop((end, console));
        let cloned = cloned.map_err(|error| match error.errno {
            Errno::ENOMEM => anyhow::Error::from(error).context(Refusal::GoneOrNoMemory),
            _ => error.into(),
        })?;
        let Cloned::Runtime(child) = cloned else { unreachable!("the child never returns") };
        let started = Self { child, link, kept: false };
        if is_moved {
            place.paths.move_in(&place.own, started.child.pid, place.instead)?;
            started.link.go(&[]).context("process")?;
        }
        Ok(started)
    }

    /// Follows the process until it has become its program: an end of file, since its end of the link is close-on-exec.
    fn follow_to_exec(&self, plan: &ExecPlan, init: BorrowedFd, state: &State) -> Result<()> {
        let mut attendance = Attendance::new(plan.seccomp_agent.as_ref(), &self.child, &self.link);
        let mut is_ready = false;
        loop {
            if !attendance.has_served() {
                self.wait(init)?;
            }
            match attendance.report()? {
                Some(Report::Reached(Milestone::Ready)) => {
                    is_ready = true;
                    if let Some(groups) = &state.intel_rdt {
                        groups.add(self.child.pid)?;
                    }
                    self.limit(plan)?;
                }
                Some(report @ (Report::Listener | Report::ListenerAt(_))) => {
                    attendance.serve(report, &state.for_hooks(Status::Running, state.init.map(|init| init.pid))?)?;
                }
                Some(Report::Failed(failure)) => bail!(plan.word(&failure)),
                Some(report) => bail!("the process reports {report:?}, which is no part of an exec"),
                None if is_ready => return Ok(()),
                None => return Err(self.death()),
            }
        }
    }

    /// Waits for the next report. Whoever is frozen or stuck in a container that ends never makes one.
    fn wait(&self, init: BorrowedFd) -> Result<()> {
        let [has_spoken, init_has_ended] =
            process::poll([self.link.as_fd(), init], None).context("report of the process")?;
        ensure!(has_spoken || !init_has_ended, Refusal::EndedMeanwhile);
        Ok(())
    }

    /// Limits that a process in a user namespace cannot raise by itself; then it goes on, if it waits.
    fn limit(&self, plan: &ExecPlan) -> Result<()> {
        for limit in &plan.rlimits {
            limit.apply_to(self.child.pid).with_context(|| field!("process.rlimits"; "{limit}"))?;
        }
        if plan.waits { self.link.go(&[]).context("process") } else { Ok(()) }
    }

    /// Why the process ended without a word.
    fn death(&self) -> anyhow::Error {
        match process::wait(self.child.pidfd.as_fd()) {
            Ok(process::Exit::Signal(signal::KILL)) => anyhow::anyhow!(
                "the process was killed while it was set up (container not running any more, or its memory limit too low)"
            ),
            Ok(exit) => anyhow::anyhow!("the process ended with status {} while it was set up", exit.code()),
            Err(error) => error.into(),
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        let pidfd = self.child.pidfd.as_fd();
        // Both fail only if it has ended and is reaped. A frozen one ends when it is thawed, but not before (cgroup v1).
        if !self.kept
            && process::pidfd_send_signal(pidfd, signal::KILL).is_ok()
            && process::ends_within(pidfd, KILL_GRACE) == Ok(true)
        {
            let _ = process::wait(pidfd);
        }
    }
}
