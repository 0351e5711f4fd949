//! The processes of a container: those in its cgroup, and for one without, those in its own pid namespace.

use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::lifecycle::disk::state::State;
use crate::sys::{self, Errno, SysError, process};

/// Every process of the container that can be found, in the order of their pids. Without a cgroup and without a pid
/// namespace of its own, that is init alone.
pub fn pids(state: &State) -> Result<Vec<i32>> {
    if !state.cgroup.directories.is_empty() {
        return state.cgroup.pids();
    }
    let Some(init) = state.init else { return Ok(Vec::new()) };
    if !init.is_alive()? {
        return Ok(Vec::new());
    }
    if !state.own_pid_namespace {
        return Ok(vec![init.pid]);
    }
    let own = namespace(init.pid)?;
    let mut pids = vec![init.pid];
    for entry in std::fs::read_dir("/proc").context("/proc")? {
        let name = entry.context("/proc")?.file_name();
        let Some(pid) = name.to_str().and_then(|name| name.parse::<i32>().ok()) else { continue };
        // An ordinary user cannot look into an init that is not started; then nobody else is there.
        if pid != init.pid && own.is_some() && namespace(pid)? == own {
            pids.push(pid);
        }
    }
    pids.sort_unstable();
    Ok(pids)
}

/// The pid namespace of a process; None of one that is gone, or that the caller may not look into.
fn namespace(pid: i32) -> Result<Option<PathBuf>> {
    let path = format!("/proc/{pid}/ns/pid");
    match std::fs::read_link(&path).map_err(|error| SysError::io("readlink", &error)) {
        Err(SysError { errno: Errno::ENOENT | Errno::ESRCH | Errno::EACCES | Errno::EPERM, .. }) => Ok(None),
        result => result.map(Some).context(path),
    }
}

/// Sends a signal to every process of the container. One that cannot be signalled keeps none of the others from it, but is
/// an error.
pub fn kill_all(state: &State, signal: i32) -> Result<()> {
    if !state.cgroup.directories.is_empty() {
        return state.cgroup.kill_all(signal);
    }
    let Some(init) = state.init else { return Ok(()) };
    // Held first: then the namespaces that are compared are those of the processes that are signalled.
    let Some(held) = init.open()? else { return Ok(()) };
    let own = namespace(init.pid)?;
    let mut first = Ok(());
    for pid in pids(state)?.into_iter().filter(|pid| *pid != init.pid) {
        let sent = match process::pidfd_open(pid) {
            Ok(other) if own.is_some() && namespace(pid)? == own => process::pidfd_send_signal(other.as_fd(), signal),
            Ok(_) => Ok(()),
            Err(error) => Err(error),
        };
        first = first.and(unless_gone(sent, pid, signal));
    }
    first.and(unless_gone(process::pidfd_send_signal(held.as_fd(), signal), init.pid, signal))
}

fn unless_gone(sent: sys::Result<()>, pid: i32, signal: i32) -> Result<()> {
    match sent {
        Err(error) if error.errno == Errno::ESRCH => Ok(()),
        sent => sent.with_context(|| format!("signal {signal} to pid {pid}")),
    }
}
