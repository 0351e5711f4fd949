//! delete: removes what create made, and runs the poststop hooks.

use std::collections::HashMap;

use anyhow::{Context, Result, bail};

use super::disk::directory::{Directory, Locked};
use super::disk::found::look;
use super::disk::state::State;
use super::disk::trusted::is_broken;
use super::host::Host;
use super::id::Id;
use super::process::ending::end_init;
use super::process::poststop;
use super::process::trace::Trace;
use super::refusal::Refusal;
use super::status::Status;
use crate::container::cgroup;
use crate::error::{Faults, one_line};
use crate::sys::signal;
use crate::trace::Category;

/// Deletes a container that is stopped, or created and never started; with `force`, any: a running one is killed
/// first, a half-made one is undone, and a missing one is a success.
pub fn delete(host: &Host, id: &Id, force: bool) -> Result<()> {
    let directory = match Directory::open(&host.root, id) {
        Err(error) if force && is_absent(&error) => return Ok(()),
        directory => directory?,
    };
    let directory =
        directory.lock_after(|directory| if force { interrupt(directory) } else { check(look(directory)?.1) })?;
    let (state, status) = match look(&directory) {
        // A create that was killed before its first side effect; or somebody has deleted it before we had the lock.
        Err(error) if force && is_absent(&error) => return directory.remove(),
        Err(error) if force && is_broken(&error) => {
            host.log.warn(&format!(
                "{}: what is left of {id} is looked for in the cgroup that is named after it",
                one_line(&error)
            ));
            remove_by_name(id, host.rootless.for_cgroups())?;
            return directory.remove();
        }
        found => found?,
    };
    if !force {
        check(status)?;
    }
    // While it creates the container it has the lock; unless its children have it, after its end.
    if status == Status::Creating {
        state.creator.end("the runtime that creates the container")?;
    }
    Trace::of(host, id).timed(Category::Wait, "end init", || end_init(&state))?;
    destroy(host, &directory, &state)
}

pub fn is_absent(error: &anyhow::Error) -> bool {
    error.downcast_ref() == Some(&Refusal::DoesNotExist)
}

fn check(status: Status) -> Result<()> {
    match status {
        Status::Stopped | Status::Created => Ok(()),
        status => bail!(Refusal::DeleteNotStopped(status)),
    }
}

/// Ends what another command may be waiting for that has the lock: the container's init, and a `create` that hangs.
fn interrupt(directory: &Directory) -> Result<()> {
    let (state, status) = match look(directory) {
        Err(error) if is_absent(&error) || is_broken(&error) => return Ok(()),
        found => found?,
    };
    if status == Status::Creating {
        // It would go on making what we remove.
        return state.creator.end("the runtime that creates the container");
    }
    state.init.map(|init| init.kill()).transpose().map(drop)
}

/// Ends and removes what is in the cgroup of a container without cgroupsPath, when nothing tells any more where it is.
fn remove_by_name(id: &Id, rootless: fn() -> bool) -> Result<()> {
    let nothing = serde_json::from_str("{}").context("linux")?;
    let cgroup = cgroup::compile(&nothing, id.as_str(), rootless, &mut Faults::first())?;
    // Where systemd does not run, there is no unit.
    let unit = cgroup::compile_unit(&nothing, id.as_str(), &HashMap::new(), rootless, &mut Faults::first()).ok();
    for cgroup in std::iter::once(cgroup).chain(unit) {
        if cgroup.paths().exists() {
            cgroup.paths().kill_all(signal::KILL)?;
            cgroup.paths().remove()?;
        }
    }
    Ok(())
}

/// Removes a container that this process has followed to its end, unless somebody has deleted it meanwhile.
pub fn destroy_ended(host: &Host, directory: Directory, state: &State) -> Result<()> {
    let directory = directory.lock()?;
    if directory.is_there()? { destroy(host, &directory, state) } else { Ok(()) }
}

/// Removes everything that is left of a container whose init has ended, and runs its poststop hooks.
pub fn destroy(host: &Host, directory: &Locked, state: &State) -> Result<()> {
    let trace = Trace::of(host, &state.id);
    trace.timed(Category::Cgroup, "remove the cgroup", || state.cgroup.remove())?;
    if let Some(groups) = &state.intel_rdt {
        groups.remove()?;
    }
    // The spec wants the resources gone first.
    poststop::run(host, state)?;
    trace.timed(Category::State, "remove the state", || directory.remove())
}
