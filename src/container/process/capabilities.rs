//! `process.capabilities`: the five capability sets (capabilities(7)).
//!
//! What cannot be granted (the runtime does not hold it, the kernel does not know it) is a warning and left out:
//! config.md, "Linux Process", says that a runtime should not fail there. A set that contradicts another one is an
//! error, as it is in runc. Without `process.capabilities` every set is empty.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use anyhow::{Result, bail};
use oci_spec::runtime::{Capability, LinuxCapabilities};

use crate::error::field;
use crate::sys::credentials::{self, CapabilitySets};
use crate::sys::{Errno, Fault, SysError};

/// What init can grant: the sets it has when it starts to set up its process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GrantableCaps {
    pub permitted: u64,
    pub bounding: u64,
}

impl GrantableCaps {
    /// What an init in the runtime's own user namespace holds: what the runtime holds.
    pub fn by_the_runtime() -> crate::sys::Result<Self> {
        let sets = credentials::capabilities()?;
        let (mut bounding, mut number) = (0, 0);
        while let Ok(has) = credentials::bounding_has(number) {
            bounding |= u64::from(has) << number;
            number += 1;
        }
        Ok(Self { permitted: sets.permitted, bounding })
    }

    /// What the first process of a user namespace holds: every capability that this kernel knows.
    pub fn in_a_user_namespace() -> Self {
        let mut known = 0;
        while known < 63 && credentials::bounding_has(known).is_ok() {
            known += 1;
        }
        let all = (1 << known) - 1;
        Self { permitted: all, bounding: all }
    }
}

/// The five sets, one bit a capability.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Capabilities {
    bounding: u64,
    ambient: u64,
    sets: CapabilitySets,
}

/// The prepared sets and the warnings for what was left out.
pub fn compile(spec: Option<&LinuxCapabilities>, held: GrantableCaps) -> Result<(Capabilities, Vec<String>)> {
    let mut warnings = Vec::new();
    let Some(spec) = spec else { return Ok((Capabilities::default(), warnings)) };
    let mut grant = |set: &str, wanted: &Option<HashSet<Capability>>, limit: u64| {
        let wanted = mask(wanted);
        if wanted & !limit != 0 {
            let names = list(wanted & !limit);
            warnings.push(format!("process.capabilities.{set}: {names} left out, the runtime does not hold it"));
        }
        wanted & limit
    };
    let bounding = grant("bounding", spec.bounding(), held.bounding);
    let permitted = grant("permitted", spec.permitted(), held.permitted);
    let effective = grant("effective", spec.effective(), held.permitted);
    let inheritable = grant("inheritable", spec.inheritable(), held.permitted);
    let ambient = grant("ambient", spec.ambient(), held.permitted);

    subset("effective", effective, "permitted", permitted)?;
    subset("inheritable", inheritable, "bounding", bounding)?;
    // Engines go on listing as ambient what they no longer make inheritable (CVE-2022-24769); capabilities(7) has no such
    // set, and a line about it would stand in the output of every `buildah run`. runc is silent, too.
    let ambient = ambient & inheritable;
    if ambient & !permitted != 0 {
        let names = list(ambient & !permitted);
        warnings.push(format!("process.capabilities.ambient: {names} left out, not in process.capabilities.permitted"));
    }
    let ambient = ambient & permitted;
    Ok((Capabilities { bounding, ambient, sets: CapabilitySets { effective, permitted, inheritable } }, warnings))
}

fn mask(set: &Option<HashSet<Capability>>) -> u64 {
    set.iter().flatten().fold(0, |mask, capability| mask | number(*capability).map_or(0, |number| 1 << number))
}

fn number(capability: Capability) -> Option<usize> {
    let name = capability.to_string();
    caps::Capability::from_str(&format!("CAP_{name}")).ok().map(|capability| usize::from(capability.index()))
}

/// The names of the capabilities in `mask`, in the order of their numbers.
fn each(mask: u64) -> impl Iterator<Item = String> {
    let mut all: Vec<_> = caps::all().into_iter().filter(|capability| mask & capability.bitmask() != 0).collect();
    all.sort_by_key(caps::Capability::index);
    all.into_iter().map(|capability| capability.to_string())
}

fn list(mask: u64) -> String {
    each(mask).collect::<Vec<_>>().join(", ")
}

fn subset(set: &str, mask: u64, of: &str, limit: u64) -> Result<()> {
    if let Some(name) = each(mask & !limit).next() {
        bail!(field!("process.capabilities.{set}"; "{name} is not in process.capabilities.{of}"));
    }
    Ok(())
}

impl Capabilities {
    /// The bounding, the permitted and the inheritable set.
    pub fn masks(&self) -> [u64; 3] {
        [self.bounding, self.sets.permitted, self.sets.inheritable]
    }

    /// Before the ids change: cuts the bounding set, which takes CAP_SETPCAP, and lets the permitted set survive the
    /// change of the user id.
    pub fn apply_before_ids(&self) -> Result<(), Fault> {
        for number in (0..64).filter(|number| self.bounding >> number & 1 == 0) {
            match credentials::bounding_drop(number) {
                Ok(()) => {}
                // Beyond the last capability of this kernel.
                Err(SysError { errno: Errno::EINVAL, .. }) => break,
                // Not permitted, and not needed either.
                Err(_) if credentials::bounding_has(number) == Ok(false) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(credentials::keep_capabilities()?)
    }

    /// After the ids have changed: sets the other four sets.
    pub fn apply(&self) -> Result<(), Fault> {
        credentials::forget_capabilities()?;
        credentials::set_capabilities(self.sets)?;
        credentials::ambient_clear()?;
        for number in (0..64).filter(|number| self.ambient >> number & 1 == 1) {
            credentials::ambient_raise(number)?;
        }
        Ok(())
    }
}

impl fmt::Display for Capabilities {
    /// `set capabilities bounding=a80425fb effective=…`, the hexadecimal form of /proc/PID/status.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CapabilitySets { effective, permitted, inheritable } = self.sets;
        let (bounding, ambient) = (self.bounding, self.ambient);
        write!(f, "set capabilities bounding={bounding:x} effective={effective:x} permitted={permitted:x} ")?;
        write!(f, "inheritable={inheritable:x} ambient={ambient:x}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::testing::{heap_free, in_a_child};

    const ALL: GrantableCaps = GrantableCaps { permitted: u64::MAX, bounding: u64::MAX };

    fn spec(json: &str) -> LinuxCapabilities {
        serde_json::from_str(json).expect("capabilities")
    }

    #[test]
    fn every_capability_of_the_spec_has_a_number() {
        for known in caps::all() {
            let capability: Capability = serde_json::from_str(&format!("\"{known}\"")).expect("known to the spec");
            assert_eq!(number(capability), Some(usize::from(known.index())), "{known}");
        }
    }

    #[test]
    fn without_capabilities_every_set_is_empty() {
        let (none, warnings) = compile(None, ALL).expect("compiles");
        assert_eq!((none, warnings.len()), (Capabilities::default(), 0));
    }

    #[test]
    fn what_the_runtime_does_not_hold_is_a_warning() {
        let spec = spec(r#"{"bounding":["CAP_KILL","CAP_SYS_RESOURCE"],"permitted":["CAP_SYS_RESOURCE"]}"#);
        let without = GrantableCaps { permitted: !(1 << 24), bounding: !(1 << 24) };
        let (sets, warnings) = compile(Some(&spec), without).expect("compiles");
        assert_eq!((sets.bounding, sets.sets.permitted), (1 << 5, 0));
        assert_eq!(warnings.len(), 2);
        assert!(warnings.iter().any(|w| w.starts_with("process.capabilities.permitted: CAP_SYS_RESOURCE")));
    }

    #[test]
    fn a_set_that_contradicts_another_is_an_error_that_names_both() {
        let effective = compile(Some(&spec(r#"{"effective":["CAP_KILL"],"permitted":[]}"#)), ALL);
        let words = effective.expect_err("contradiction").to_string();
        assert_eq!(words, "process.capabilities.effective: CAP_KILL is not in process.capabilities.permitted");
        let inheritable = compile(Some(&spec(r#"{"inheritable":["CAP_KILL"]}"#)), ALL);
        assert!(inheritable.expect_err("contradiction").to_string().contains("process.capabilities.bounding"));
    }

    #[test]
    fn an_ambient_capability_that_is_not_inheritable_is_left_out_in_silence_as_in_runc() {
        let sets = spec(r#"{"bounding":["CAP_KILL"],"permitted":["CAP_KILL"],"ambient":["CAP_KILL"]}"#);
        let (sets, warnings) = compile(Some(&sets), ALL).expect("compiles");
        assert_eq!((sets.ambient, warnings), (0, Vec::new()));
        let sets = spec(r#"{"bounding":["CAP_KILL"],"inheritable":["CAP_KILL"],"ambient":["CAP_KILL"]}"#);
        let (sets, warnings) = compile(Some(&sets), ALL).expect("compiles");
        let words = "process.capabilities.ambient: CAP_KILL left out, not in process.capabilities.permitted";
        assert_eq!((sets.ambient, warnings), (0, vec![words.to_owned()]));
    }

    #[test]
    fn the_kernel_has_exactly_the_sets_asked_for_after_a_change_of_the_user() {
        let json = r#"{"bounding":["CAP_KILL","CAP_CHOWN"],"permitted":["CAP_KILL","CAP_CHOWN"],
            "effective":["CAP_CHOWN"],"inheritable":["CAP_KILL"],"ambient":["CAP_KILL"]}"#;
        in_a_child(|| {
            let (sets, warnings) = compile(Some(&spec(json)), GrantableCaps::by_the_runtime()?)?;
            assert!(warnings.is_empty());
            heap_free(|| sets.apply_before_ids())?;
            credentials::set_uid(1000)?;
            heap_free(|| sets.apply())?;
            let kernel = credentials::capabilities()?;
            assert_eq!((kernel.permitted, kernel.effective, kernel.inheritable), (1 << 5 | 1, 1, 1 << 5));
            for number in 0..41 {
                assert_eq!(credentials::bounding_has(number)?, number == 5 || number == 0, "{number}");
                assert_eq!(credentials::ambient_has(number)?, number == 5, "{number}");
            }
            Ok(())
        });
    }

    #[test]
    fn the_plan_shows_the_sets_in_hexadecimal() {
        let (sets, _) = compile(Some(&spec(r#"{"bounding":["CAP_KILL"]}"#)), ALL).expect("compiles");
        let line = "set capabilities bounding=20 effective=0 permitted=0 inheritable=0 ambient=0";
        assert_eq!(sets.to_string(), line);
    }
}
