//! kill: sends a signal to a container's init, or to all of its processes.

use std::os::fd::AsFd;

use anyhow::{Context, Result, bail, ensure};

use super::disk::found::Found;
use super::host::Host;
use super::id::Id;
use super::process::members;
use super::refusal::Refusal;
use super::status::Status;
use crate::sys::{Errno, process, signal};

/// A signal's number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signal(pub i32);

/// Sends `number` to init, or with `all` to every process in the container's cgroup.
///
/// A container that has ended is refused, but for `all`: engines clean up with it after init is gone. And but for SIGKILL
/// without a pid namespace of its own, where nothing ends with init but init.
pub fn kill(host: &Host, id: &Id, Signal(number): Signal, all: bool) -> Result<()> {
    let found = Found::open(host, id)?;
    let is_for_all = all || number == signal::KILL && !found.state.own_pid_namespace;
    match found.status {
        // Its processes are those of a `create` that runs; `delete --force` ends that, too.
        Status::Creating => bail!(Refusal::NotRunning),
        Status::Stopped if !is_for_all || !all && !found.state.cgroup.exists() => bail!(Refusal::NotRunning),
        Status::Created if signal::asks_to_end(number) && end_created(host, id)? => Ok(()),
        _ if is_for_all => kill_all(found, number),
        _ => send(&found, number),
    }
}

/// Ends the init of a container that is not started, and has a pid namespace of its own: there the kernel keeps every signal
/// but SIGKILL from a process that does not handle it (pid_namespaces(7)), and an engine would wait in vain. False: it has
/// been started meanwhile, or nothing keeps the signal from it.
fn end_created(host: &Host, id: &Id) -> Result<bool> {
    // Nobody starts it before this ends.
    let found = Found::open_to_change(host, id, |_| Ok(()))?;
    if found.status != Status::Created || !found.state.own_pid_namespace {
        return Ok(false);
    }
    let dying = found.state.init.map(|init| init.kill()).transpose()?.flatten();
    dying.map(|_| found.state.cgroup.thaw_killed()).transpose()?;
    Ok(true)
}

/// Sends `number` to init alone.
fn send(found: &Found, number: i32) -> Result<()> {
    let init = found.state.init.ok_or(Refusal::NotRunning)?;
    let pidfd = init.open()?.ok_or(Refusal::NotRunning)?;
    match process::pidfd_send_signal(pidfd.as_fd(), number) {
        Err(error) if error.errno == Errno::ESRCH => bail!(Refusal::NotRunning),
        result => result.with_context(|| format!("signal {number} to pid {}", init.pid))?,
    }
    // Frozen processes do not die (v1). Whatever was seen before: a `pause` may have come in between, or the container has
    // frozen a cgroup below its own.
    if number == signal::KILL {
        found.state.cgroup.thaw_killed()?;
    }
    Ok(())
}

/// Sends `number` to every process in the container's cgroup. Of what has its path that is true only as long as nobody
/// deletes the container: another one of its id would have the same.
fn kill_all(found: Found, number: i32) -> Result<()> {
    let state = found.state;
    let directory = found.directory.lock_after(|_| {
        // Whoever has the lock may wait for init.
        if number == signal::KILL && state.init.map(|init| init.kill()).transpose()?.flatten().is_some() {
            state.cgroup.thaw_killed()?;
        }
        Ok(())
    })?;
    ensure!(directory.is_there()?, Refusal::DoesNotExist);
    members::kill_all(&state, number)
}
