//! The processes of a container: those in its cgroup, and for one without, those in its own pid namespace.

use std::os::fd::AsFd;

use anyhow::{Context, Result};

use super::state::State;
use crate::sys::{Errno, process};

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
    let namespace = |pid: i32| std::fs::read_link(format!("/proc/{pid}/ns/pid")).ok();
    let own = namespace(init.pid);
    let entries = std::fs::read_dir("/proc").context("/proc")?.flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    // An ordinary user cannot look into an init that is not started; then nobody else is there.
    let belongs = |pid: i32| pid == init.pid || own.is_some() && namespace(pid) == own;
    let mut pids: Vec<i32> = pids.filter(|pid| belongs(*pid)).collect();
    pids.sort_unstable();
    Ok(pids)
}

/// Sends a signal to every process of the container.
pub fn kill_all(state: &State, signal: i32) -> Result<()> {
    if !state.cgroup.directories.is_empty() {
        return state.cgroup.kill_all(signal);
    }
    for pid in pids(state)? {
        let sent = process::pidfd_open(pid).and_then(|pidfd| process::pidfd_send_signal(pidfd.as_fd(), signal));
        match sent {
            Err(error) if error.errno != Errno::ESRCH => {
                return Err(error).with_context(|| format!("signal {signal} to pid {pid}"));
            }
            _ => {}
        }
    }
    Ok(())
}
