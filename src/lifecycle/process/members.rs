//! The processes of a container: those in its cgroup, and for one without, those in its own pid namespace.

use std::os::fd::AsFd;
use std::path::PathBuf;

use anyhow::{Context, Result};

use crate::lifecycle::disk::state::State;
use crate::sys::{self, Errno, SysError, process, signal};

/// Every process of the container that can be found, in the order of their pids. Without a cgroup and without a pid
/// namespace of its own, that is init alone.
pub fn pids(state: &State) -> Result<Vec<i32>> {
    if !state.cgroup.directories.is_empty() { state.cgroup.pids() } else { in_namespace(state) }
}

/// The same, with those that a cgroup does not list any more, since they are about to end.
pub fn pids_with_dying(state: &State) -> Result<Vec<i32>> {
    let mut pids = in_namespace(state)?;
    if !state.cgroup.directories.is_empty() {
        pids.extend(state.cgroup.pids()?);
    }
    Ok(pids)
}

/// Init, and every process in the pid namespace that it has been given.
fn in_namespace(state: &State) -> Result<Vec<i32>> {
    let Some(init) = state.init else { return Ok(Vec::new()) };
    if !init.is_alive()? {
        return Ok(Vec::new());
    }
    if !state.own_pid_namespace {
        return Ok(vec![init.pid]);
    }
    let own = namespace(init.pid)?;
    let mut pids = vec![init.pid];
    for pid in of_the_host()? {
        // An ordinary user cannot look into an init that is not started; then nobody else is there.
        if pid != init.pid && own.is_some() && namespace(pid)? == own {
            pids.push(pid);
        }
    }
    pids.sort_unstable();
    Ok(pids)
}

/// Every process that is in the mount namespace of process `init`, but for the caller.
pub fn in_mounts_of(init: i32) -> Result<Vec<i32>> {
    let Some(own) = namespace_of(init, "mnt")? else { return Ok(Vec::new()) };
    let mut pids = Vec::new();
    for pid in of_the_host()? {
        if namespace_of(pid, "mnt")?.as_ref() == Some(&own) {
            pids.push(pid);
        }
    }
    Ok(pids)
}

/// Every process that procfs shows.
pub fn of_the_host() -> Result<Vec<i32>> {
    let mut pids = Vec::new();
    for entry in std::fs::read_dir("/proc").context("/proc")? {
        let name = entry.context("/proc")?.file_name();
        pids.extend(name.to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    Ok(pids)
}

/// The pid namespace of a process; None of one that is gone, or that the caller may not look into.
fn namespace(pid: i32) -> Result<Option<PathBuf>> {
    namespace_of(pid, "pid")
}

fn namespace_of(pid: i32, kind: &str) -> Result<Option<PathBuf>> {
    let path = format!("/proc/{pid}/ns/{kind}");
    match std::fs::read_link(&path).map_err(|error| SysError::io("readlink", &error)) {
        Err(SysError { errno: Errno::ENOENT | Errno::ESRCH | Errno::EACCES | Errno::EPERM, .. }) => Ok(None),
        result => result.map(Some).context(path),
    }
}

/// Sends SIGKILL once to every process of the container, and does not wait for its end.
pub fn kill_once(state: &State) -> Result<()> {
    if !state.cgroup.directories.is_empty() {
        return state.cgroup.kill_once();
    }
    kill_all(state, signal::KILL)
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
