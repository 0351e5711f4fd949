//! pause and resume: the container's processes are stopped where they are, and go on from there.

use anyhow::{Result, bail, ensure};

use super::inspect::Found;
use super::state::Status;
use super::{Host, Id, Refusal};

/// Stops every process of a container that runs or was created. Returns once all have stopped; if they do not within
/// the freezer's time, they go on.
pub fn pause(host: &Host, id: &Id) -> Result<()> {
    let found = Found::open(host, id)?;
    if !matches!(found.status, Status::Running | Status::Created) {
        bail!(Refusal::NotRunning);
    }
    found.needs_cgroup()?;
    let frozen = found.state.cgroup.freeze();
    if found.init_has_ended() || found.init_is_killed() {
        // Meanwhile, and perhaps its cgroup with it: no fault of the freezer's, which may have frozen what is empty. One
        // that was killed just before would not die as long as it is frozen (v1).
        found.state.cgroup.thaw_killed()?;
        found.state.cgroup.thaw()?;
        bail!(Refusal::NotRunning);
    }
    frozen
}

/// Lets the processes of a paused container go on.
pub fn resume(host: &Host, id: &Id) -> Result<()> {
    let found = Found::open(host, id)?;
    ensure!(found.status == Status::Paused, Refusal::NotPaused);
    found.state.cgroup.thaw()
}
