//! What a container's creator was told, decided: what `verify` compares it with.

use std::ffi::CStr;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::directory::{Directory, Locked, TOLD_FILES};
use super::trusted;
use crate::container::cgroup::Expected;
use crate::container::floor::Rules;
use crate::container::verify::Wanted;

const TOLD_FILE: &CStr = TOLD_FILES[0];

#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Told {
    pub wanted: Wanted,
    /// Of the cgroup, as `update` leaves them.
    pub limits: Expected,
    /// What the node's floor was when it was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub floor: Option<Rules>,
}

impl Told {
    /// The same with nothing that is kept elsewhere: exec.json has the program of the filter.
    pub fn new(wanted: Wanted, limits: Expected) -> Self {
        let seccomp = wanted.seccomp.as_ref().map(|_| Vec::new());
        Self { wanted: Wanted { seccomp, ..wanted }, limits, floor: None }
    }

    /// The same of a container that flags make another one than config.json does.
    pub fn with(self, wanted: &Wanted) -> Self {
        Self { floor: self.floor, ..Self::new(wanted.clone(), self.limits) }
    }

    /// None: the container was created by a version that did not keep it.
    pub fn load(directory: &Directory) -> Result<Option<Self>> {
        let words = || directory.words_of(TOLD_FILE);
        let text = trusted::read(directory.fd(), TOLD_FILE).with_context(words)?;
        text.map(|text| serde_json::from_slice(&text).with_context(words)).transpose()
    }

    /// Of a container that is being created, for which nobody asks yet, so it need not be atomic.
    pub fn save(&self, place: &Locked) -> Result<()> {
        place.write(TOLD_FILE, self)
    }

    /// Replaces what was saved: a reader sees the old file or the new one, never a part.
    pub fn replace(&self, place: &Locked) -> Result<()> {
        place.replace(TOLD_FILES, self)
    }
}
