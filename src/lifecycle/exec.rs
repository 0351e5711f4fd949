//! exec: runs one more process in a container, from the host's side. All that it needs was saved by `create`; config.json
//! is not read again.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use super::announce::{self, Announcement};
use super::create::check_preserved;
use super::exec_process::{self, Changes};
use super::exec_start::{Started, Watch};
use super::inspect::Found;
use super::state::Status;
use super::{Host, Id, Refusal, foreground, protect};
use crate::container::cgroup::{Join, Paths};
use crate::container::process::oom::OomScoreAdj;
use crate::error::field;
use crate::plan::{self, ExecRequest};
use crate::sys::{ids, proc_self, signal};

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
    // Before the clone, since the process is never to be seen otherwise (CVE-2016-9962).
    proc_self::set_undumpable()?;
    let request = ExecRequest {
        id: id.as_str(),
        rootfs: &found.state.rootfs,
        init: init.try_clone().context("pidfd of init")?,
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
    let mut watch = Watch::new(init.as_fd(), signals.as_ref(), &found);
    process.follow_to_birth(&plan, &mut watch)?;
    let mut pid_file = announcement.tell(&process.child)?;
    process.follow_to_exec(&plan, &mut watch)?;
    let early = watch.heard();
    pid_file.keep();
    let child = process.keep();
    let Some(signals) = signals else { return Ok(0) };
    let terminal = relay.map(foreground::Terminal::receive).transpose()?;
    foreground::forward_early(host, &child, &early, terminal.as_ref())?;
    Ok(foreground::follow(host, &child, &signals, terminal)?.code())
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

/// The cgroup of the process.
pub struct Place {
    pub paths: Paths,
    /// The container's.
    pub own: Paths,
    /// Whose cgroup does as well, where nobody can enter the container's own any more.
    pub instead: Option<i32>,
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

    pub fn join(&self) -> Result<Join> {
        let joined = self.paths.join();
        if self.instead.is_none() { joined.context("--cgroup") } else { joined }
    }
}

/// The runtime's own OOM score adjustment. An ordinary user can open its file only as long as he is dumpable, and so
/// could his process: it is born with its score instead.
pub struct OwnScore {
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
    pub fn adjust(&mut self, score: &OomScoreAdj) -> Result<()> {
        score.write_to(self.file.as_fd()).with_context(|| field!("process.oomScoreAdj"; "{score}"))
    }
}

impl Drop for OwnScore {
    fn drop(&mut self) {
        // No lower than it was, so it is allowed.
        let _ = self.file.write_all(self.before.as_bytes());
    }
}
