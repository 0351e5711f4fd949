//! features.md of runtime-spec 1.3.0: what this runtime implements, whatever the host can do.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::sys::capability;

/// What other parts of the runtime know better.
pub struct Names<'a> {
    /// The mount options that are not handed to the filesystem.
    pub mount_options: &'a [&'a str],
    pub seccomp: SeccompNames,
    pub memory_policy_modes: &'static [&'static str],
    pub memory_policy_flags: &'static [&'static str],
    pub version: &'a str,
    pub commit: Option<&'a str>,
}

/// What a profile may say.
#[derive(Clone, Copy)]
pub struct SeccompNames {
    pub actions: &'static [&'static str],
    pub operators: &'static [&'static str],
    pub architectures: &'static [&'static str],
    /// Whatever the host's kernel makes of them.
    pub flags: &'static [&'static str],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FeatureList<'a> {
    oci_version_min: &'static str,
    oci_version_max: &'static str,
    hooks: &'static [&'static str],
    mount_options: Vec<&'a str>,
    linux: Linux,
    annotations: BTreeMap<&'static str, &'a str>,
    potentially_unsafe_config_annotations: &'static [&'static str],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    namespaces: &'static [&'static str],
    capabilities: &'static [&'static str],
    cgroup: CgroupFeatures,
    seccomp: Seccomp,
    apparmor: Enabled,
    selinux: Enabled,
    intel_rdt: IntelRdtFeatures,
    memory_policy: MemoryPolicyFeatures,
    mount_extensions: MountExtensions,
    net_devices: Enabled,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CgroupFeatures {
    v1: bool,
    v2: bool,
    systemd: bool,
    systemd_user: bool,
    rdma: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Seccomp {
    enabled: bool,
    actions: &'static [&'static str],
    operators: &'static [&'static str],
    archs: &'static [&'static str],
    known_flags: &'static [&'static str],
    supported_flags: &'static [&'static str],
}

#[derive(Serialize)]
struct Enabled {
    enabled: bool,
}

#[derive(Serialize)]
struct IntelRdtFeatures {
    enabled: bool,
    schemata: bool,
    monitoring: bool,
}

#[derive(Serialize)]
struct MemoryPolicyFeatures {
    modes: &'static [&'static str],
    flags: &'static [&'static str],
}

#[derive(Serialize)]
struct MountExtensions {
    idmap: Enabled,
}

pub fn of<'a>(names: &Names<'a>) -> FeatureList<'a> {
    let mut mount_options = names.mount_options.to_vec();
    mount_options.sort_unstable();
    let commit = names.commit.map(|commit| ("org.ocirt.commit", commit));
    FeatureList {
        oci_version_min: "1.0.0",
        oci_version_max: "1.3.0",
        hooks: &["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        mount_options,
        linux: linux(names),
        annotations: [
            ("org.ocirt.version", names.version),
            ("org.ocirt.checkpoint.enabled", "true"),
            // For callers that look for runc's; the meaning is the same.
            ("org.opencontainers.runc.checkpoint.enabled", "true"),
        ]
        .into_iter()
        .chain(commit)
        .collect(),
        potentially_unsafe_config_annotations: &["org.criu.config", "org.systemd.property.", "run.oci."],
    }
}

fn linux(names: &Names) -> Linux {
    let seccomp = names.seccomp;
    Linux {
        namespaces: &["cgroup", "ipc", "mount", "network", "pid", "time", "user", "uts"],
        capabilities: &capability::NAMES,
        cgroup: CgroupFeatures { v1: true, v2: true, systemd: true, systemd_user: true, rdma: true },
        seccomp: Seccomp {
            enabled: true,
            actions: seccomp.actions,
            operators: seccomp.operators,
            archs: seccomp.architectures,
            known_flags: seccomp.flags,
            supported_flags: seccomp.flags,
        },
        apparmor: Enabled { enabled: true },
        selinux: Enabled { enabled: true },
        intel_rdt: IntelRdtFeatures { enabled: true, schemata: true, monitoring: true },
        memory_policy: MemoryPolicyFeatures { modes: names.memory_policy_modes, flags: names.memory_policy_flags },
        mount_extensions: MountExtensions { idmap: Enabled { enabled: true } },
        net_devices: Enabled { enabled: true },
    }
}

/// The name of a capability by its number; none of one that is newer than this program.
pub fn capability(number: u32) -> Option<&'static str> {
    capability::NAMES.get(usize::try_from(number).ok()?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn features() -> serde_json::Value {
        let seccomp = SeccompNames { actions: &["SCMP_ACT_LOG"], operators: &[], architectures: &[], flags: &["F"] };
        let mount_options = &["rw", "bind", "rro"];
        let names = Names {
            mount_options,
            seccomp,
            memory_policy_modes: &["MPOL_BIND"],
            memory_policy_flags: &[],
            version: "1.2.3",
            commit: Some("abc"),
        };
        serde_json::to_value(of(&names)).unwrap()
    }

    #[test]
    fn the_object_is_one_that_the_types_of_the_specification_take() {
        let features: oci_spec::runtime::Features = serde_json::from_value(features()).unwrap();
        assert_eq!(features.oci_version_max(), "1.3.0");
        let linux = features.linux().as_ref().unwrap();
        assert_eq!(linux.namespaces().as_ref().unwrap().len(), 8);
        assert!(linux.seccomp().as_ref().unwrap().archs().is_some());
    }

    #[test]
    fn every_capability_is_one_of_the_specification() {
        for name in capability::NAMES {
            let capability: oci_spec::runtime::Capability = serde_json::from_value(name.into()).unwrap();
            assert_eq!(serde_json::to_value(capability).unwrap(), name);
        }
    }

    #[test]
    fn what_is_implemented_is_claimed() {
        let linux = &features()["linux"];
        assert_eq!(linux["mountExtensions"]["idmap"]["enabled"], true);
        let cgroup = serde_json::json!({ "v1": true, "v2": true, "systemd": true, "systemdUser": true, "rdma": true });
        assert_eq!(linux["cgroup"], cgroup);
    }

    /// What engines keep from those who may not change the host, each as features.md has it: a name, or the beginning
    /// of names up to a dot.
    #[test]
    fn annotations_that_reach_beyond_the_container_are_named() {
        let named = serde_json::json!(["org.criu.config", "org.systemd.property.", "run.oci."]);
        assert_eq!(features()["potentiallyUnsafeConfigAnnotations"], named);
    }

    #[test]
    fn names_of_others_are_listed_in_order() {
        assert_eq!(features()["mountOptions"], serde_json::json!(["bind", "rro", "rw"]));
        assert_eq!(features()["linux"]["seccomp"]["actions"], serde_json::json!(["SCMP_ACT_LOG"]));
        assert_eq!(features()["annotations"]["org.ocirt.version"], "1.2.3");
    }
}
