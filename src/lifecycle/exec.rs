//! exec: runs one more process in a container, from the host's side. All that it needs was saved by `create`; config.json
//! is not read again.

mod place;
pub mod process;
mod start;
mod wait;

use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::create::check_preserved;
use super::disk::found::Found;
use super::floor;
use super::host::Host;
use super::id::Id;
use super::process::announce::{self, Announcement};
use super::process::trace::Trace;
use super::process::{foreground, protect};
use super::refusal::Refusal;
use super::status::Status;
use crate::plan::{self, ExecRequest};
use crate::sys::{proc_self, signal};
use crate::trace::Category;
use place::{CgroupTarget, OwnScore};
use process::Changes;
use start::{Started, Watch};

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

/// Runs a process in the container and returns its exit status, 128 and the signal for one that was killed; zero when
/// detached.
pub fn exec(host: &Host, id: &Id, options: &ExecOptions) -> Result<i32> {
    protect::ensure(host)?;
    let found = Found::open(host, id)?;
    let init = running_init(&found, options.ignore_paused)?;
    let saved = found.directory.load_for_exec()?;
    let mut process = process::compile(host, options.process.as_deref(), &saved.process, &options.changes)?;
    let floor = floor::load(host)?;
    let tightened = floor.as_ref().map(|loaded| loaded.floor.tighten_process(&mut process)).unwrap_or_default();
    tightened.iter().for_each(|warning| host.log.warn_beside_a_program(warning));
    let terminal = process.terminal() == Some(true);
    if terminal && !options.detach {
        process::take_our_size(&mut process);
    }
    let (console, relay) = announce::consoles(terminal, options.console_socket.as_deref(), options.detach)?;
    check_preserved(0, options.preserve_fds)?;
    let announcement = Announcement::prepare(options.pidfd_socket.as_deref(), options.pid_file.as_deref())?;
    let place = CgroupTarget::find(&found, &options.cgroups)?;
    let own_score = process.oom_score_adj().map_or(Ok(None), |_| OwnScore::open())?;
    // Before the clone, since the process is never to be seen otherwise (CVE-2016-9962).
    proc_self::set_undumpable()?;
    let request = ExecRequest {
        id: id.as_str(),
        rootfs: &found.state.rootfs,
        init: init.try_clone().context("pidfd of init")?,
        is_scored_by_runtime: own_score.is_some(),
        preserve_fds: options.preserve_fds,
        relays_terminal: options.console_socket.is_none(),
        is_placed_when_ready: found.state.intel_rdt.is_some(),
        floor: floor.as_ref().and_then(|loaded| loaded.filter.as_ref()),
    };
    let mut trace = Trace::new(host, format!("process of {id}"));
    let plan = trace.told(Category::Plan, "plan", || plan::exec(&process, &saved, request))?;
    // Of the container's own process, `create` has said it.
    if options.process.is_some() || !options.changes.capabilities.is_empty() {
        plan.warnings.iter().for_each(|warning| host.log.warn_beside_a_program(warning));
    }
    // From here on every signal is heard by the relay, which passes it on.
    let signals = if options.detach { None } else { Some(signal::listen()?) };
    let timeline = trace.begin(plan.steps.len())?;
    let launch = || Started::launch(&plan, &place, console, own_score, timeline);
    let mut process = trace.timed(Category::Process, "clone the process", launch)?;
    let mut watch = Watch::new(init.as_fd(), signals.as_ref(), &found);
    trace.timed(Category::Wait, "wait for its birth", || process.follow_to_birth(&plan, &mut watch))?;
    let mut pid_file = trace.timed(Category::Message, "announce the pid", || announcement.tell(&process.child))?;
    let started = trace.timed(Category::Wait, super::start::BECOMES, || process.follow_to_exec(&plan, &mut watch));
    trace.steps(&plan.steps);
    started?;
    let early = watch.heard();
    pid_file.keep();
    let child = process.keep();
    let Some(signals) = signals else { return Ok(0) };
    let terminal = relay.map(foreground::Terminal::receive).transpose()?;
    foreground::forward_early(host, &child, &early, terminal.as_ref())?;
    let follow = || foreground::follow(host, &child, &signals, terminal, None);
    let exit = trace.timed(Category::Wait, foreground::RUNS, follow)?;
    foreground::explain(host, &exit, plan.has_filter());
    Ok(exit.code())
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
