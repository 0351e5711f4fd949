//! What is saved of a container: one small file, written atomically, from which every later command works.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use oci_spec::runtime;
use serde::{Deserialize, Serialize};

use super::identity::Identity;
use crate::container::cgroup::{Applied, Paths};
use crate::container::checkpoint::outside::HostResources;
use crate::container::hooks::Output;
use crate::container::rootfs::hot::Added;
use crate::container::{annotations, intel_rdt};
use crate::init::report::Failure;
use crate::lifecycle::status::Status;
use crate::plan::{Label, StepError};
use crate::sys::exit::Exit;

/// The version of runtime-spec that `state` names.
pub const OCI_VERSION: &str = "1.3.0";

/// How far the container has come, as far as the file alone can tell.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// A `create` is at work, or was killed at it.
    Creating,
    /// Init is ready: whether it runs is told by the gate and by the process.
    Created,
}

/// How a container's init has ended.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Ended {
    /// Its own, or 128 and the number of the signal that killed it.
    pub exit_status: i32,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
}

impl From<Exit> for Ended {
    fn from(exit: Exit) -> Self {
        let signal = if let Exit::Signal(signal) = exit { Some(signal) } else { None };
        Self { exit_status: exit.code(), signal }
    }
}

/// The state file.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
pub struct State {
    pub oci_version: String,
    pub id: String,
    pub phase: Phase,
    /// The runtime process that creates the container.
    pub creator: Identity,
    /// The container's first process, once there is one.
    pub init: Option<Identity>,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    /// RFC 3339, UTC, nanoseconds.
    pub created: String,
    #[serde(default)]
    pub annotations: HashMap<String, String>,
    /// The user who created the container.
    pub owner: u32,
    /// Whether the container has a pid namespace of its own, in which everything ends with init.
    pub own_pid_namespace: bool,
    pub cgroup: Paths,
    /// Its groups of resctrl, if it asked for some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<intel_rdt::Groups>,
    /// What `update` has to know of the limits.
    #[serde(default)]
    pub limits: Applied,
    /// The steps that init takes after `start`, so that `start` can word their failures.
    pub start_steps: Vec<Label>,
    /// The seccomp agent on whose answers init depends, for `start`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depends_on: Option<PendingAgent>,
    /// What a checkpoint has to know of the configuration.
    #[serde(default, skip_serializing_if = "HostResources::is_empty")]
    pub outside: HostResources,
    /// How init has ended, where the runtime is its parent: `run --keep`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub exit: Option<Ended>,
    /// What `mounts add` has mounted, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added_mounts: Vec<Added>,
    #[serde(default)]
    pub poststart: Vec<runtime::Hook>,
    #[serde(default)]
    pub poststop: Vec<runtime::Hook>,
}

impl State {
    /// What hooks read on their standard input (runtime-spec, runtime.md "State").
    ///
    /// `pid` is init's as the hook sees it.
    pub fn for_hooks(&self, status: Status, pid: Option<i32>) -> Result<Vec<u8>> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct StateForHook<'a> {
            oci_version: &'a str,
            id: &'a str,
            status: Status,
            #[serde(skip_serializing_if = "Option::is_none")]
            pid: Option<i32>,
            bundle: &'a Path,
            #[serde(skip_serializing_if = "HashMap::is_empty")]
            annotations: &'a HashMap<String, String>,
        }
        let (bundle, annotations) = (self.bundle.as_path(), &self.annotations);
        let state = StateForHook { oci_version: &self.oci_version, id: &self.id, status, pid, bundle, annotations };
        serde_json::to_vec(&state).context("state for hooks")
    }

    /// Where the container's hooks write.
    pub fn hook_output(&self) -> Result<Output> {
        let annotations = annotations::compile(&self.annotations)?;
        Output::open(annotations.hooks_stdout, annotations.hooks_stderr)
    }

    /// The failure of a step that init took after `start`.
    pub fn word(&self, failure: &Failure) -> StepError {
        StepError::new(self.start_steps.iter().find(|label| label.index == failure.step), failure)
    }
}

/// What init depends on after the start gate: the agent that has its listener since `create`.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct PendingAgent {
    pub agent: PathBuf,
    /// How long the startContainer hooks may take, in seconds; None: at least one takes as long as it takes.
    pub hooks: Option<u32>,
}
