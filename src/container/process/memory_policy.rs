//! `linux.memoryPolicy`: on which NUMA nodes memory is taken (set_mempolicy(2); runtime-spec 1.3).

use std::fmt;

use anyhow::{Context, Result, bail};
use oci_spec::runtime::{LinuxMemoryPolicy, MemoryPolicyFlagType, MemoryPolicyModeType};

use super::number_list;
use crate::error::field;
use crate::sys::{Fault, sched};

/// The kernel's MAX_NUMNODES is at most this on any architecture.
const MOST: usize = 1024;

/// A mode with its flags, and nodes.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MemoryPolicy {
    mode: MemoryPolicyModeType,
    flags: u32,
    nodes: [u64; MOST / 64],
    text: String,
}

/// The prepared policy. `nodes` may be absent or empty; whether the mode allows that is checked here, because the
/// kernel only says `EINVAL`.
pub fn compile(spec: &LinuxMemoryPolicy) -> Result<MemoryPolicy> {
    use MemoryPolicyModeType::{MpolDefault, MpolLocal, MpolPreferred};
    let mode = spec.mode();
    let text = spec.nodes().clone().unwrap_or_default();
    let nodes = parse(&text).context(field!("linux.memoryPolicy.nodes"))?;
    let empty = nodes.iter().all(|word| *word == 0);
    if !empty && matches!(mode, MpolDefault | MpolLocal) {
        bail!(field!("linux.memoryPolicy.nodes"; "{mode} takes no nodes, but {text:?} is given"));
    }
    if empty && !matches!(mode, MpolDefault | MpolLocal | MpolPreferred) {
        bail!(field!("linux.memoryPolicy.nodes"; "{mode} needs at least one node"));
    }
    let flags = spec.flags().iter().flatten().fold(0, |flags, flag| flags | bit(*flag));
    let both = bit(MemoryPolicyFlagType::MpolFStaticNodes) | bit(MemoryPolicyFlagType::MpolFRelativeNodes);
    if flags & both == both {
        bail!(field!("linux.memoryPolicy.flags"; "MPOL_F_STATIC_NODES and MPOL_F_RELATIVE_NODES exclude each other"));
    }
    if empty && flags & both != 0 {
        bail!(field!("linux.memoryPolicy.flags"; "a flag about nodes, but no nodes"));
    }
    Ok(MemoryPolicy { mode, flags, nodes, text })
}

/// The bits of a list as `0-3,7`; none for the empty string.
fn parse(text: &str) -> Result<[u64; MOST / 64]> {
    let mut nodes = [0; MOST / 64];
    if !text.trim().is_empty() {
        let given = number_list::bits(text, "node", MOST)?;
        nodes.iter_mut().zip(given).for_each(|(word, bits)| *word = bits);
    }
    Ok(nodes)
}

/// What `features` lists, in the specification's order.
pub mod known {
    pub const MODES: &[&str] = &[
        "MPOL_DEFAULT",
        "MPOL_BIND",
        "MPOL_INTERLEAVE",
        "MPOL_WEIGHTED_INTERLEAVE",
        "MPOL_PREFERRED",
        "MPOL_PREFERRED_MANY",
        "MPOL_LOCAL",
    ];
    pub const FLAGS: &[&str] = &["MPOL_F_NUMA_BALANCING", "MPOL_F_RELATIVE_NODES", "MPOL_F_STATIC_NODES"];
}

/// The `MPOL_F_*` bits of linux/mempolicy.h.
const fn bit(flag: MemoryPolicyFlagType) -> u32 {
    match flag {
        MemoryPolicyFlagType::MpolFStaticNodes => 1 << 15,
        MemoryPolicyFlagType::MpolFRelativeNodes => 1 << 14,
        MemoryPolicyFlagType::MpolFNumaBalancing => 1 << 13,
    }
}

/// The `MPOL_*` numbers of linux/mempolicy.h.
const fn number(mode: MemoryPolicyModeType) -> u32 {
    match mode {
        MemoryPolicyModeType::MpolDefault => 0,
        MemoryPolicyModeType::MpolPreferred => 1,
        MemoryPolicyModeType::MpolBind => 2,
        MemoryPolicyModeType::MpolInterleave => 3,
        MemoryPolicyModeType::MpolLocal => 4,
        MemoryPolicyModeType::MpolPreferredMany => 5,
        MemoryPolicyModeType::MpolWeightedInterleave => 6,
    }
}

impl MemoryPolicy {
    /// Sets the policy of the caller, which an exec keeps.
    pub fn apply(&self) -> Result<(), Fault> {
        Ok(sched::set_memory_policy(number(self.mode) | self.flags, &self.nodes)?)
    }
}

impl fmt::Display for MemoryPolicy {
    /// `set memory policy MPOL_BIND nodes 0-3`
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "set memory policy {}", self.mode)?;
        if !self.text.is_empty() {
            write!(f, " nodes {}", self.text)?;
        }
        if self.flags != 0 { write!(f, " flags {:#x}", self.flags) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::Errno;
    use crate::sys::testing::{heap_free, in_a_child, skip};

    fn compiled(json: &str) -> Result<MemoryPolicy> {
        compile(&serde_json::from_str(json).expect("policy"))
    }

    #[test]
    fn nodes_are_checked_against_the_mode() {
        for json in [
            r#"{"mode":"MPOL_BIND"}"#,
            r#"{"mode":"MPOL_BIND","nodes":""}"#,
            r#"{"mode":"MPOL_LOCAL","nodes":"0"}"#,
            r#"{"mode":"MPOL_BIND","nodes":"1024"}"#,
            r#"{"mode":"MPOL_BIND","nodes":"2-1"}"#,
            r#"{"mode":"MPOL_BIND","nodes":"0,"}"#,
        ] {
            let error = format!("{:#}", compiled(json).expect_err(json));
            assert!(error.starts_with("linux.memoryPolicy.nodes: "), "{error}");
        }
        assert!(compiled(r#"{"mode":"MPOL_PREFERRED","nodes":""}"#).is_ok());
    }

    #[test]
    fn flags_that_exclude_each_other_are_an_error() {
        let json = r#"{"mode":"MPOL_BIND","nodes":"0","flags":["MPOL_F_STATIC_NODES","MPOL_F_RELATIVE_NODES"]}"#;
        assert!(compiled(json).expect_err("flags").to_string().starts_with("linux.memoryPolicy.flags: "));
    }

    #[test]
    fn the_kernel_takes_every_mode() {
        for (json, shown) in [
            (r#"{"mode":"MPOL_DEFAULT"}"#, "default"),
            (r#"{"mode":"MPOL_PREFERRED","nodes":""}"#, "local"),
            (r#"{"mode":"MPOL_LOCAL"}"#, "local"),
            (r#"{"mode":"MPOL_BIND","nodes":"0","flags":["MPOL_F_STATIC_NODES"]}"#, "bind=static:0"),
            (r#"{"mode":"MPOL_INTERLEAVE","nodes":"0"}"#, "interleave:0"),
            (r#"{"mode":"MPOL_PREFERRED_MANY","nodes":"0"}"#, "prefer (many):0"),
            (r#"{"mode":"MPOL_WEIGHTED_INTERLEAVE","nodes":"0"}"#, "weighted interleave:0"),
        ] {
            in_a_child(|| {
                let policy = compiled(json)?;
                match heap_free(|| policy.apply()) {
                    Err(Fault { errno: Errno::ENOSYS | Errno::EINVAL, .. }) => skip("memory-policy", json),
                    other => {
                        other?;
                        match std::fs::read_to_string("/proc/self/numa_maps") {
                            Ok(maps) => assert!(maps.contains(&format!(" {shown} ")), "{shown} in {maps}"),
                            Err(_) => skip("numa-maps", json),
                        }
                    }
                }
                Ok(())
            });
        }
    }

    #[test]
    fn a_policy_reads_as_one_line() {
        let json = r#"{"mode":"MPOL_BIND","nodes":"0-1","flags":["MPOL_F_NUMA_BALANCING"]}"#;
        assert_eq!(compiled(json).expect("policy").to_string(), "set memory policy MPOL_BIND nodes 0-1 flags 0x2000");
    }

    #[test]
    fn what_features_lists_is_known() {
        for mode in known::MODES {
            for flag in known::FLAGS {
                let nodes = if matches!(*mode, "MPOL_DEFAULT" | "MPOL_LOCAL") { "" } else { "0" };
                let text = format!("{{\"mode\":\"{mode}\",\"nodes\":\"{nodes}\",\"flags\":[\"{flag}\"]}}");
                // Not every pair makes sense to the compiler, but each name is one.
                let spec: LinuxMemoryPolicy = serde_json::from_str(&text).expect(&text);
                assert_eq!(serde_json::to_value(spec).expect("JSON")["mode"], *mode);
            }
        }
    }
}
