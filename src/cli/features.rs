//! `ocirt features`.

use anyhow::Result;
use clap::Args;

use super::output::print;
use super::{json, version};
use crate::container::features::{self, Names, SeccompNames};
use crate::container::process::memory_policy;
use crate::container::rootfs::options;
use crate::container::seccomp::known;

/// Print what this runtime implements, as JSON
///
/// The object is that of runtime-spec's features.md; it does not depend on this host.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct Features {}

impl Features {
    pub fn execute(self) -> Result<()> {
        let mount_options: Vec<&str> = options::option_names().collect();
        let seccomp = SeccompNames {
            actions: known::ACTIONS,
            operators: known::OPERATORS,
            architectures: known::ARCHITECTURES,
            flags: known::FLAGS,
        };
        let names = Names {
            mount_options: &mount_options,
            seccomp,
            memory_policy_modes: memory_policy::known::MODES,
            memory_policy_flags: memory_policy::known::FLAGS,
            version: version::VERSION,
            commit: version::COMMIT,
        };
        print(&(json::indented(&features::of(&names), "    ")? + "\n"))
    }
}
