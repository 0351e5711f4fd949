//! `linux.personality`: the execution domain (personality(2)). Before seccomp, whose profiles forbid the call.

use std::fmt;

use anyhow::{Result, bail};
use oci_spec::runtime::{LinuxPersonality, LinuxPersonalityDomain};

use crate::error::field;
use crate::sys::{Fault, sched};

/// An execution domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Personality(LinuxPersonalityDomain);

/// The prepared domain. The spec knows no flag, so any flag is an error.
pub fn compile(spec: &LinuxPersonality) -> Result<Personality> {
    if let Some(flag) = spec.flags().iter().flatten().next() {
        bail!(field!("linux.personality.flags"; "unknown flag {flag:?} (the spec defines none)"));
    }
    Ok(Personality(spec.domain()))
}

impl Personality {
    pub fn apply(&self) -> Result<(), Fault> {
        Ok(sched::set_personality(match self.0 {
            LinuxPersonalityDomain::PerLinux => sched::PER_LINUX,
            LinuxPersonalityDomain::PerLinux32 => sched::PER_LINUX32,
        })?)
    }
}

impl fmt::Display for Personality {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set personality {}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::{heap_free, in_a_child};

    fn compiled(json: &str) -> Result<Personality> {
        compile(&serde_json::from_str(json).expect("personality"))
    }

    #[test]
    fn a_flag_is_an_error() {
        let error = compiled(r#"{"domain":"LINUX","flags":["X"]}"#).expect_err("flag").to_string();
        assert!(error.starts_with("linux.personality.flags: unknown flag \"X\""), "{error}");
    }

    #[test]
    fn the_kernel_has_the_domain() {
        in_a_child(|| {
            let personality = compiled(r#"{"domain":"LINUX32"}"#)?;
            assert_eq!(personality.to_string(), "set personality LINUX32");
            heap_free(|| personality.apply())?;
            assert_eq!(std::fs::read_to_string("/proc/self/personality")?, "00000008\n");
            Ok(())
        });
    }
}
