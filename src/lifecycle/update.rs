//! update: other limits for a container that was created or runs.

use anyhow::{Context, Result, bail};

use super::inspect::Found;
use super::state::Status;
use super::{Host, Id, Refusal};
use crate::container::{bundle, cgroup};

/// Changes the limits that `resources`, a `linux.resources` as JSON, sets; what is not in it stays. After an error
/// everything is as it was.
pub fn update(host: &Host, id: &Id, resources: &[u8]) -> Result<()> {
    let found = Found::open(host, id)?;
    if matches!(found.status, Status::Stopped | Status::Creating) {
        bail!(Refusal::NotRunning);
    }
    let resources = bundle::parse_resources(resources).context("resources")?;
    found.needs_cgroup()?;
    let mut state = found.state;
    let update = cgroup::update::compile(resources, &state.cgroup, state.limits)?;
    for warning in &update.warnings {
        host.log.warn(warning);
    }
    let changed = update.apply(&state.cgroup)?;
    if state.limits != update.applied {
        state.limits = update.applied;
        found.directory.save(&state)?;
    }
    changed.keep();
    Ok(())
}
