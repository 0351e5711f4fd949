//! run: create, start, and, unless detached, stay with the container to its end.

use std::os::fd::OwnedFd;

use anyhow::{Context, Result};

use super::create::{CreateOptions, CreatedContainer, build};
use super::disk::directory::Directory;
use super::host::Host;
use super::id::Id;
use super::process::supervisor::{self, Relay};
use super::process::trace::Trace;
use super::process::{announce, foreground, protect};
use super::{delete, start};
use crate::container::bundle;
use crate::init::report::Failure;
use crate::plan::Gate;
use crate::sys::exit::Exit;
use crate::sys::{process, signal};
use crate::trace::Category;

/// What run's own flags say.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RunOptions {
    pub detach: bool,
    /// Keep the container's state after its end.
    pub keep: bool,
    pub no_subreaper: bool,
}

/// Runs a container and returns its exit status, 128 and the signal for one that was killed; zero when detached.
pub fn run(host: &Host, id: &Id, options: &CreateOptions, run: &RunOptions) -> Result<i32> {
    protect::ensure(host)?;
    let bundle = bundle::load(&options.bundle, options.config.as_deref())?;
    let (console, relay) = announce::consoles(bundle.has_terminal(), options.console_socket.as_deref(), run.detach)?;
    if run.detach {
        let mut created = build(host, id, options, bundle, console, Gate::Link)?;
        let (notify_socket, init) = (begin(host, &mut created)?, created.state.init);
        created.keep()?;
        return init.map_or(Ok(()), |init| supervisor::follow(host, notify_socket, init)).map(|()| 0);
    }
    if !run.no_subreaper {
        process::set_child_subreaper().context("--no-subreaper")?;
    }
    // From here on every signal is heard by the relay: none ends us before the container is cleaned up.
    let signals = signal::listen()?;
    let mut created = build(host, id, options, bundle, console, Gate::Link)?;
    let terminal = relay.map(foreground::Terminal::receive).transpose()?;
    let supervised = Relay::new(host, begin(host, &mut created)?, std::process::id)?;
    let has_filter = created.plan.filter().is_some();
    let kept = created.keep()?;
    let trace = Trace::of(host, id);
    let follow = || foreground::follow(host, &kept.init, &signals, terminal, supervised);
    let exit = trace.timed(Category::Wait, foreground::RUNS, follow);
    let destroyed = if run.keep {
        record(kept.directory, exit.as_ref().ok())
    } else {
        delete::destroy_ended(host, kept.directory, &kept.state)
    };
    let exit = exit?;
    foreground::explain(host, &exit, has_filter);
    let code = exit.code();
    destroyed.map(|()| code)
}

/// Saves how init has ended, for `wait`, unless somebody has deleted the container meanwhile.
fn record(directory: Directory, exit: Option<&Exit>) -> Result<()> {
    let Some(exit) = exit else { return Ok(()) };
    let directory = directory.lock()?;
    let Some(mut state) = directory.load()? else { return Ok(()) };
    state.exit = Some((*exit).into());
    directory.save(&state)
}

/// Gives init the word, and follows it until it has become its program. Returns the socket on which that tells that it
/// is ready, if somebody waits for that.
fn begin(host: &Host, created: &mut CreatedContainer) -> Result<Option<OwnedFd>> {
    let told = created.init.link.go(&[]).context("init");
    told.map_err(|error| created.init.own_words(&created.plan, error))?;
    let word = |failure: &Failure| created.plan.word(failure);
    let follow = || start::follow_to_exec(&created.state, &created.init.link, word, |_| {});
    let started = created.trace.timed(Category::Wait, start::BECOMES, follow);
    created.trace.steps(&created.plan.steps);
    let notify_socket = started?;
    created.run_poststart(host)?;
    Ok(notify_socket)
}
