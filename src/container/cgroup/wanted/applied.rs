//! What stays known of the limits for an update.

use oci_spec::runtime::LinuxResources;
use serde::{Deserialize, Serialize};

use super::device_rules::Rules;
use super::resources;

/// What a later update has to know of the limits and cannot read in the cgroup. Kept in the state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Applied {
    /// `memory.limit` and `memory.swap`: v2 keeps swap alone, and not whether the limit of both was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap: Option<i64>,
    /// [`Rules::digest`] of the device rules; 0 when they are not known. Engines send the whole `linux.resources` again
    /// when one limit changes: devices are touched only if these rules are others, since somebody else may have added
    /// to what is in force (the NVIDIA container runtime does).
    pub devices: u64,
}

impl Applied {
    pub fn new(resources: &LinuxResources, rules: &Rules) -> Self {
        let memory = resources.memory().as_ref();
        Self {
            memory: memory.and_then(|memory| resources::set(memory.limit())),
            swap: memory.and_then(|memory| resources::set(memory.swap())),
            devices: rules.digest(),
        }
    }
}
