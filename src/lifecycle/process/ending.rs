//! The end of a container's init: what was killed may still be frozen, or wait for a file system whose server does not answer.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::Result;

use super::{fuse, members};
use crate::lifecycle::disk::state::State;

/// How long init has before the container's other processes are killed, too: it may wait for one of them, as it closes its
/// files before the kernel ends its pid namespace.
const ALONE: Duration = Duration::from_secs(1);
/// How long it has before the container's own FUSE file systems are cut off.
const SERVED: Duration = Duration::from_secs(2);

/// Kills init, if it is there, and waits for its end.
pub fn end_init(state: &State) -> Result<()> {
    let Some(dying) = state.init.map(|init| init.kill()).transpose()?.flatten() else { return Ok(()) };
    let begun = Instant::now();
    let mut last_cut = None;
    let ended = dying.wait("the container's init", || {
        let passed = begun.elapsed();
        if passed >= ALONE {
            // What cannot be killed is seen by what it holds up: this wait, or the cgroup that stays in use.
            let _ = members::kill_once(state);
        }
        if passed >= SERVED && last_cut.is_none_or(|last: Duration| passed >= last + ALONE) {
            // What cannot be cut off is named by the error.
            let _ = fuse::cut_off_own(state);
            last_cut = Some(passed);
        }
        state.cgroup.thaw_killed()
    });
    ended.map_err(|error| match held_by(state) {
        Some(reason) => error.context(reason),
        None => error,
    })
}

/// What init waits for, as far as the kernel shows it.
fn held_by(state: &State) -> Option<String> {
    if let Some(reason) = fuse::explain(state) {
        return Some(reason);
    }
    let pid = state.init?.pid;
    let function = fs::read_to_string(format!("/proc/{pid}/wchan")).ok()?;
    // "0": it waits for nothing, or what for is not for us.
    (function != "0").then(|| format!("process {pid} waits in the kernel ({function})"))
}
