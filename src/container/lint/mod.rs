//! What will surprise of a configuration that is valid: a file for each group of rules. They are pure: what they know of the
//! host, they are told. docs/check.md has a line for each [`Code`].

mod code;
mod finding;
mod mounts;
mod process;
mod resources;
mod seccomp;
mod sharing;
#[cfg(test)]
mod tests;

use oci_spec::runtime::{Process, Spec};

pub use code::{Code, Severity};
pub use finding::{Author, Finding, Surroundings};
pub use mounts::is_bind;

/// What is found in a whole configuration.
pub fn config(spec: &Spec, around: &Surroundings) -> Vec<Finding> {
    let mut found = Vec::new();
    if let Some(process) = spec.process() {
        process::rules(process, around, &mut found);
    }
    mounts::rules(spec, around, &mut found);
    sharing::rules(spec, around, &mut found);
    if let Some(linux) = spec.linux() {
        resources::rules(linux, around, &mut found);
        linux.seccomp().iter().for_each(|profile| seccomp::rules(profile, &mut found));
    }
    found
}

/// What is found in a process.json.
pub fn process(process: &Process, around: &Surroundings) -> Vec<Finding> {
    let mut found = Vec::new();
    process::rules(process, around, &mut found);
    found
}
