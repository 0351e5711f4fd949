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
/// A container that has ended is refused, but for `all`: engines clean up with it after init is gone.
pub fn kill(host: &Host, id: &Id, Signal(number): Signal, all: bool) -> Result<()> {
    let found = Found::open(host, id)?;
    match found.status {
        // Its processes are those of a `create` that runs; `delete --force` ends that, too.
        Status::Creating => bail!(Refusal::NotRunning),
        _ if all => return kill_all(found, number),
        Status::Stopped => bail!(Refusal::NotRunning),
        _ => {}
    }
    // Without a pid namespace of its own, nothing ends with init but init.
    if number == signal::KILL && !found.state.own_pid_namespace {
        return kill_all(found, number);
    }
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
