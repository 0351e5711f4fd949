//! start: lets a created container's init go on to its program.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Error, Result, anyhow, bail, ensure};

use super::delete;
use super::disk::found::Found;
use super::disk::state::State;
use super::host::Host;
use super::id::Id;
use super::process::ending::end_init;
use super::process::trace::Trace;
use super::process::{heard, supervisor};
use super::refusal::Refusal;
use super::status::Status;
use crate::container::hooks::{self, Hook};
use crate::error::one_line;
use crate::init::link::RuntimeEnd;
use crate::init::report::{Failure, Milestone, Report};
use crate::plan::{Label, StepError};
use crate::sys::process;
use crate::trace::Category;

/// How long a process whose descriptors are closed may take to be seen as ended, in milliseconds.
const END: u32 = 2000;

/// How long init may take to answer at the gate, in milliseconds: it does nothing there but wait.
const ANSWER_TIMEOUT: u32 = 10_000;

/// The wait for init's way from the start gate to the container's program.
pub const BECOMES: &str = "wait for the program to begin";

/// Runs the startContainer hooks and the container's program, then the poststart hooks. The error of a hook or of the
/// program's execve is start's error; init has ended by then, and where it was a hook's, the container is destroyed.
pub fn start(host: &Host, id: &Id) -> Result<()> {
    let found = Found::open_to_change(host, id, |status| match status {
        Status::Created => Ok(()),
        Status::Running => bail!(Refusal::AlreadyStarted),
        Status::Stopped => bail!(Refusal::StartStopped),
        Status::Paused => bail!(Refusal::StartPaused),
        Status::Creating => bail!(Refusal::StartCreating),
    })?;
    let Some(connection) = found.directory.connect_gate()? else { bail!(not_waiting(&found.state)?) };
    let link = RuntimeEnd::from_gate(connection);
    let trace = Trace::of(host, id);
    let answer = || process::poll([link.as_fd()], Some(ANSWER_TIMEOUT)).context("start gate");
    let [answered] = trace.timed(Category::Wait, "wait for init at the gate", answer)?;
    ensure!(answered, "start gate: init has not answered for {} s (is it stopped?)", ANSWER_TIMEOUT / 1000);
    wait(&found.state, &link)?;
    let Some(Report::Reached(Milestone::Starting)) = link.report().context("init at the start gate")? else {
        bail!(not_waiting(&found.state)?);
    };
    found.directory.remove_gate()?;
    // From here on others may change the container: hooks call the runtime, too.
    let directory = found.directory.unlock()?;
    let state = &found.state;
    let follow = || follow_to_exec(state, &link, |failure| state.word(failure), |steps| trace.passed(steps));
    let started = trace
        .timed(Category::Wait, BECOMES, follow)
        .and_then(|notify_socket| run_poststart(host, state).map(|()| notify_socket));
    let notify_socket = started.map_err(|failed| {
        // Whoever hears of the failure may delete the container at once. The first error is the one to tell.
        let ended = end_init(state).and_then(|()| match failed {
            Unstarted::Hook(_) => delete::destroy_ended(host, directory, state),
            Unstarted::Program(_) => Ok(()),
        });
        ended.unwrap_or_else(|error| host.log.warn(&format!("start {id}: {}", one_line(&error))));
        Error::from(failed)
    })?;
    state.init.map_or(Ok(()), |init| supervisor::follow(host, notify_socket, init))
}

/// What kept a container from being started.
#[derive(Debug)]
pub enum Unstarted {
    /// A startContainer or poststart hook: the container is to be destroyed (runtime-spec 1.3.0, runtime.md "Lifecycle",
    /// steps 7, 9 and 12).
    Hook(Error),
    /// What comes behind the startContainer hooks.
    Program(Error),
}

impl From<Unstarted> for Error {
    fn from(failed: Unstarted) -> Self {
        match failed {
            Unstarted::Hook(error) | Unstarted::Program(error) => error,
        }
    }
}

/// Why init does not wait at the gate: it was killed, or a `start` came that far and was killed then.
fn not_waiting(state: &State) -> Result<Refusal> {
    Ok(if has_ended(state)? { Refusal::StartStopped } else { Refusal::AlreadyStarted })
}

/// Whether init, whose descriptors are closed, has ended.
fn has_ended(state: &State) -> Result<bool> {
    let pidfd = state.init.map(|init| init.open()).transpose()?.flatten();
    pidfd.map_or(Ok(true), |pidfd| process::ends_within(pidfd.as_fd(), END)).context("poll")
}

/// Waits until init has become the container's program: an end of file, since its end of the link is close-on-exec.
/// `word` tells which step a failure is about, `passed` is told which steps are done, as far as they can be told apart. Returns the socket on which the container tells that it is ready, if
/// somebody waits for that.
pub fn follow_to_exec(
    state: &State,
    link: &RuntimeEnd,
    word: impl Fn(&Failure) -> StepError,
    mut passed: impl FnMut(&[Label]),
) -> std::result::Result<Option<OwnedFd>, Unstarted> {
    let mut notify_socket = None;
    let mut left = state.start_steps.as_slice();
    loop {
        let at = left.iter().position(Label::is_hook);
        let hook = at.and_then(|at| left.get(at));
        let failed = if hook.is_some() { Unstarted::Hook } else { Unstarted::Program };
        let report = wait(state, link).and_then(|()| link.report_with_descriptor().context("init on its way to exec"));
        match report.map_err(failed)? {
            Some((Report::Reached(Milestone::Hooked), _)) => {
                let (done, rest) = left.split_at(at.map_or(0, |at| at + 1));
                passed(done);
                left = rest;
            }
            Some((Report::NotifySocket, socket)) => notify_socket = socket,
            Some((Report::Failed(failure), said)) => return Err(failed(word(&failure).with_said(said).into())),
            Some(_) => return Err(failed(anyhow!("init reports what is not about its way to exec"))),
            None => {
                let outlived = hook.map_or(Ok(()), |hook| outlived(state, hook));
                passed(left);
                return outlived.map(|()| notify_socket).map_err(failed);
            }
        }
    }
}

/// Whether init, which has not said how `hook` ended, has become its program all the same: a filter may keep it from
/// saying anything, or kill it for what it takes to run a hook.
fn outlived(state: &State, hook: &Label) -> Result<()> {
    ensure!(
        !has_ended(state)?,
        "{hook}: init ended before the hook did (was it killed, or does linux.seccomp forbid what it takes to run hooks?)"
    );
    Ok(())
}

/// Waits for init's next report, or for a signal. If it depends on an agent, the wait has an end, and so has init then: nobody would
/// notice if it went on later.
fn wait(state: &State, link: &RuntimeEnd) -> Result<()> {
    let (Some(dependence), Some(init)) = (&state.depends_on, state.init) else {
        return heard::until_spoken(link, None).map(drop);
    };
    // An init that cannot be ended is the worse news.
    dependence.wait(link, init.pid).or_else(|error| end_init(state).and(Err(error)))
}

/// Runs the poststart hooks.
pub fn run_poststart(host: &Host, state: &State) -> std::result::Result<(), Unstarted> {
    if state.poststart.is_empty() { Ok(()) } else { try_poststart(host, state).map_err(Unstarted::Hook) }
}

fn try_poststart(host: &Host, state: &State) -> Result<()> {
    let text = state.for_hooks(Status::Running, state.init.map(|init| init.pid))?;
    let output = state.hook_output()?;
    let trace = Trace::of(host, &state.id);
    let inherited = host.hook_defaults();
    let hooks: Vec<Hook> = hooks::compile("poststart", &state.poststart, &inherited).collect::<Result<_>>()?;
    hooks.iter().try_for_each(|hook| trace.hook(hook, &text, &state.bundle, &output))
}
