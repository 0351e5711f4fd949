//! pause and resume: the container's processes are stopped where they are, and go on from there.

use anyhow::{Result, ensure};

use super::disk::found::Found;
use super::host::Host;
use super::id::Id;
use super::refusal::Refusal;
use super::status::Status;

/// Stops every process of a container that runs or was created. Returns once all have stopped; if they do not within
/// the freezer's time, they go on.
pub fn pause(host: &Host, id: &Id) -> Result<()> {
    let found = Found::open_to_change(host, id, |status| {
        ensure!(matches!(status, Status::Running | Status::Created), Refusal::NotRunning);
        Ok(())
    })?;
    found.needs_cgroup()?;
    let frozen = found.state.cgroup.freeze();
    let has_ended = found.init_has_ended().map(|has_ended| has_ended || found.init_is_killed());
    if !matches!(has_ended, Ok(false)) {
        // Meanwhile, and perhaps its cgroup with it: no fault of the freezer's, which may have frozen what is empty. One
        // that was killed just before would not die as long as it is frozen (v1).
        found.state.cgroup.thaw_killed()?;
        found.state.cgroup.thaw()?;
    }
    ensure!(!has_ended?, Refusal::NotRunning);
    frozen
}

/// Lets the processes of a paused container go on.
pub fn resume(host: &Host, id: &Id) -> Result<()> {
    let found = Found::open_to_change(host, id, |status| {
        ensure!(status == Status::Paused, Refusal::NotPaused);
        Ok(())
    })?;
    found.state.cgroup.thaw()
}
