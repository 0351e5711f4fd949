//! What the global flags say of the host.

use std::path::{Path, PathBuf};

use crate::container::cgroup::Manager;
use crate::container::hooks::HookDefaults;
use crate::log::Log;
use crate::sys;
use crate::trace::Recorder;

/// What the global flags say: where containers are kept, and who manages their cgroups.
pub struct Host<'a> {
    /// The directory that holds a directory for each container.
    pub root: PathBuf,
    /// `--cgroup-manager` and `--systemd-cgroup`.
    pub cgroup_manager: Manager,
    pub rootless: Rootless,
    /// The file mode creation mask of the caller, which is the hooks'. The runtime's own is 0: what it makes has the mode
    /// that it is made with.
    pub umask: u32,
    /// `--floor`; none: the place that is built in.
    pub floor: Option<&'a Path>,
    /// Where warnings go; errors are returned.
    pub log: &'a Log,
    /// Where spans go.
    pub recorder: &'a Recorder,
}

impl Host<'_> {
    /// What hooks of the host get where they say nothing.
    pub fn hook_defaults(&self) -> HookDefaults {
        HookDefaults::OfRuntime { umask: self.umask, trace_parent: self.recorder.environment() }
    }
}

/// `--rootless`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rootless {
    True,
    False,
    Auto,
}

impl Rootless {
    /// Whether errors for want of a right to cgroups are no errors, as runc has it: for every user but root, and for
    /// root of a user namespace.
    pub fn for_cgroups(self) -> fn() -> bool {
        match self {
            Rootless::True => || true,
            Rootless::False => || false,
            Rootless::Auto => || sys::ids::effective_uid() != 0 || sys::ids::in_a_user_namespace(),
        }
    }
}
