//! pause and resume: the container's processes are stopped where they are, and go on from there.

use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::disk::found::Found;
use super::host::Host;
use super::id::Id;
use super::process::trace::Trace;
use super::refusal::Refusal;
use super::status::Status;
use crate::container::cgroup::Reclaimed;
use crate::trace::Category;

/// How much memory is taken back from a container that is paused.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Reclaim {
    /// As much as possible if none.
    pub bytes: Option<u64>,
    pub within: Duration,
}

/// Stops every process of a container that runs or was created, and takes back its memory if asked. Returns once all have
/// stopped; if they do not within the freezer's time, they go on.
pub fn pause(host: &Host, id: &Id, reclaim: Option<Reclaim>) -> Result<Option<Reclaimed>> {
    let trace = Trace::of(host, id);
    let found = Found::open_to_change(host, id, |status| {
        // More can be taken from one that an engine has paused.
        let is_to_be = matches!(status, Status::Running | Status::Created);
        ensure!(is_to_be || (status == Status::Paused && reclaim.is_some()), Refusal::NotRunning);
        Ok(())
    })?;
    found.needs_cgroup()?;
    let cgroup = &found.state.cgroup;
    let reclaimer = reclaim.map(|_| cgroup.reclaimer()).transpose()?;
    let frozen = trace.timed(Category::Cgroup, "freeze", || cgroup.freeze());
    let has_ended = found.init_has_ended().map(|has_ended| has_ended || found.init_is_killed());
    if !matches!(has_ended, Ok(false)) {
        // Meanwhile, and perhaps its cgroup with it: no fault of the freezer's, which may have frozen what is empty. One
        // that was killed just before would not die as long as it is frozen (v1).
        cgroup.thaw_killed()?;
        cgroup.thaw()?;
    }
    ensure!(!has_ended?, Refusal::NotRunning);
    frozen?;
    let Some((reclaim, reclaimer)) = reclaim.zip(reclaimer) else { return Ok(None) };
    // It can take long, and `resume`, `kill` and `delete` need not wait for it.
    drop(found);
    let reclaim = || reclaimer.reclaim(reclaim.bytes, reclaim.within).map(Some);
    trace.timed(Category::Cgroup, "reclaim memory", reclaim).context("the container is paused")
}

/// Lets the processes of a paused container go on.
pub fn resume(host: &Host, id: &Id) -> Result<()> {
    let found = Found::open_to_change(host, id, |status| {
        ensure!(status == Status::Paused, Refusal::NotPaused);
        Ok(())
    })?;
    Trace::of(host, id).timed(Category::Cgroup, "thaw", || found.state.cgroup.thaw())
}
