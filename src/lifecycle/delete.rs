//! delete: removes what create made, and runs the poststop hooks.

use std::collections::HashMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use super::inspect::Found;
use super::state::{Directory, State, Status};
use super::trusted::is_broken;
use super::{Host, Id, Refusal};
use crate::container::cgroup;
use crate::container::hooks::{self, Hook, Output};
use crate::sys::{process, signal};

/// How long a killed init may take to end: runc's ten seconds.
const KILL_GRACE: Duration = Duration::from_secs(10);
/// How long to wait, in milliseconds, before a killed init that does not end is thawed again.
const THAW_EVERY: u32 = 100;

/// Deletes a container that is stopped, or created and never started; with `force`, any: a running one is killed
/// first, a half-made one is undone, and a missing one is a success.
pub fn delete(host: &Host, id: &Id, force: bool) -> Result<()> {
    let directory = match Directory::open(&host.root, id) {
        Err(error) if force && error.downcast_ref() == Some(&Refusal::DoesNotExist) => return Ok(()),
        directory => directory?,
    };
    match directory.load() {
        // A create that was killed before its first side effect.
        Ok(None) if force => return directory.remove(),
        Ok(None) => bail!(Refusal::DoesNotExist),
        Err(error) if force && is_broken(&error) => {
            host.log
                .warn(&format!("{error:#}: what is left of {id} is looked for in the cgroup that is named after it"));
            remove_by_name(id, host.rootless.for_cgroups())?;
            return directory.remove();
        }
        Err(error) => return Err(error),
        Ok(Some(_)) => {}
    }
    let found = Found::open(host, id)?;
    match found.status {
        Status::Stopped | Status::Created => {}
        _ if force => {}
        status => bail!(Refusal::DeleteNotStopped(status)),
    }
    // Of a create that is still at work, end that first: it would go on making what we remove.
    if found.status == Status::Creating {
        let creator = found.state.creator.open()?;
        end(creator.as_ref().map(AsFd::as_fd), "the runtime that creates the container", || Ok(()))?;
    }
    let state = found.directory.load()?.unwrap_or(found.state);
    if let Some(init) = &state.init {
        let pidfd = init.open()?;
        end(pidfd.as_ref().map(AsFd::as_fd), "the container's init", || state.cgroup.thaw_killed())?;
    }
    destroy(host, &found.directory, &state)
}

/// Ends and removes what is in the cgroup of a container without cgroupsPath, when nothing tells any more where it is.
fn remove_by_name(id: &Id, rootless: fn() -> bool) -> Result<()> {
    let nothing = serde_json::from_str("{}").context("linux")?;
    let cgroup = cgroup::compile(&nothing, id.as_str(), rootless)?;
    // Where systemd does not run, there is no unit.
    let unit = cgroup::compile_unit(&nothing, id.as_str(), &HashMap::new(), rootless).ok();
    for cgroup in std::iter::once(cgroup).chain(unit) {
        if cgroup.paths().exists() {
            cgroup.paths().kill_all(signal::KILL)?;
            cgroup.paths().remove()?;
        }
    }
    Ok(())
}

/// Removes everything that is left of a container whose init has ended, and runs its poststop hooks.
pub fn destroy(host: &Host, directory: &Directory, state: &State) -> Result<()> {
    state.cgroup.remove()?;
    if let Some(groups) = &state.intel_rdt {
        groups.remove()?;
    }
    // The spec wants the resources gone first; a failing hook is a warning, and the rest goes on.
    let text = state.for_hooks(Status::Stopped, None)?;
    let hooks = hooks::compile("poststop", &state.poststop, Some(host.umask))?;
    if !hooks.is_empty() {
        run_poststop(host, state, &hooks, &text)?;
    }
    directory.remove()
}

fn run_poststop(host: &Host, state: &State, hooks: &[Hook], text: &[u8]) -> Result<()> {
    // A file that cannot be opened any more keeps no hook from running.
    let output = state.hook_output().or_else(|error| {
        host.log.warn(&format!("{error:#}"));
        Output::open(None, None)
    })?;
    for hook in hooks {
        if let Err(error) = hook.run(text, &state.bundle, &output) {
            host.log.warn(&format!("{}: {error:#}", hook.field));
        }
    }
    Ok(())
}

/// Kills the process, if there is one, and waits for its end. `thaw` lets it die where it is frozen: also if somebody froze
/// it after the signal.
fn end(pidfd: Option<BorrowedFd>, who: &str, mut thaw: impl FnMut() -> Result<()>) -> Result<()> {
    let Some(pidfd) = pidfd else { return Ok(()) };
    // ESRCH: it has ended by itself.
    let _ = process::pidfd_send_signal(pidfd, signal::KILL);
    let deadline = Instant::now() + KILL_GRACE;
    loop {
        let thawed = thaw();
        if process::ends_within(pidfd, THAW_EVERY).context("poll")? {
            return Ok(());
        }
        if Instant::now() >= deadline {
            thawed?;
            bail!("{who} did not end within {} s of SIGKILL", KILL_GRACE.as_secs());
        }
    }
}
