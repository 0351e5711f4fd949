//! update: other limits for a container that was created or runs.

use anyhow::{Context, Result, bail, ensure};

use super::disk::found::Found;
use super::disk::state::State;
use super::disk::told::Told;
use super::host::Host;
use super::id::Id;
use super::process::trace::Trace;
use super::refusal::Refusal;
use super::status::Status;
use crate::container::{bundle, cgroup, intel_rdt};
use crate::trace::Category;

/// Schemata of Intel RDT; None: they stay.
#[derive(Clone, Copy, Debug, Default)]
pub struct Schemata<'a> {
    pub l3_cache: Option<&'a str>,
    pub memory_bandwidth: Option<&'a str>,
}

/// Changes the limits that `resources`, a `linux.resources` as JSON, sets; what is not in it stays. After an error
/// everything is as it was.
pub fn update(host: &Host, id: &Id, resources: &[u8], schemata: Schemata) -> Result<()> {
    let found = Found::open_to_change(host, id, |status| {
        ensure!(!matches!(status, Status::Stopped | Status::Creating), Refusal::NotRunning);
        Ok(())
    })?;
    let resources = bundle::parse_resources(resources).context("resources")?;
    found.needs_cgroup()?;
    let (mut state, directory) = (found.state, found.directory);
    let groups = schemata.groups(&state)?.cloned();
    let told = Told::load(&directory)?;
    let update = cgroup::update::compile(resources.clone(), &state.cgroup, state.limits)?;
    for warning in &update.warnings {
        host.log.warn(warning);
    }
    let changed = Trace::of(host, id).timed(Category::Cgroup, "change the limits", || update.apply(&state.cgroup))?;
    let schemata = groups.map(|groups| groups.update(schemata.l3_cache, schemata.memory_bandwidth)).transpose()?;
    if state.limits != update.applied {
        state.limits = update.applied;
        directory.save(&state)?;
    }
    if let Some(mut told) = told {
        told.limits.change(&update, &resources);
        told.replace(&directory)?;
    }
    changed.keep();
    schemata.into_iter().for_each(intel_rdt::ChangedGroup::keep);
    Ok(())
}

impl Schemata<'_> {
    /// The groups that get the schemata; None: none are given.
    fn groups<'a>(&self, state: &'a State) -> Result<Option<&'a intel_rdt::Groups>> {
        const WHY: &str = "is not enabled (the container has no linux.intelRdt)";
        match (&state.intel_rdt, self.l3_cache, self.memory_bandwidth) {
            (_, None, None) => Ok(None),
            (None, Some(_), _) => bail!("--l3-cache-schema: Intel RDT/CAT: l3 cache schema {WHY}"),
            (None, None, Some(_)) => bail!("--mem-bw-schema: Intel RDT/MBA: memory bandwidth schema {WHY}"),
            (groups, _, _) => Ok(groups.as_ref()),
        }
    }
}
