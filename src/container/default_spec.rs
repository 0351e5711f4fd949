//! The config.json that `ocirt spec` writes: the defaults of `runc spec`.

use crate::sys;

/// For root: every namespace but a user namespace.
pub fn rootful(cgroup: CgroupNamespace) -> String {
    fill(&Choices {
        cgroup,
        pts_group: PTS_GROUP,
        sys: SYSFS,
        id_maps: String::new(),
        resources: DEVICES,
        namespaces: &["pid", "network", "ipc", "uts", "mount"],
    })
}

/// For other users: a user namespace in which the caller is root, the host's network, and nothing that takes a right
/// or an id that the caller does not have.
pub fn rootless(cgroup: CgroupNamespace) -> String {
    rootless_for(sys::ids::effective_uid(), sys::ids::effective_gid(), cgroup)
}

fn rootless_for(uid: u32, gid: u32, cgroup: CgroupNamespace) -> String {
    fill(&Choices {
        cgroup,
        pts_group: "",
        sys: SYS_OF_HOST,
        id_maps: format!("{}{}", id_map("uidMappings", uid), id_map("gidMappings", gid)),
        resources: "",
        namespaces: &["pid", "ipc", "uts", "mount", "user"],
    })
}

/// Whether the container gets a cgroup namespace.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CgroupNamespace {
    New,
    Hosts,
}

impl CgroupNamespace {
    /// As runc has it: a new one where the host has cgroup v2 alone. With v1, scripts add one themselves.
    pub fn usual() -> Self {
        match sys::cgroup::filesystem_at(c"/sys/fs/cgroup") {
            Ok(sys::cgroup::CgroupFilesystem::Cgroup2) => Self::New,
            _ => Self::Hosts,
        }
    }
}

struct Choices {
    cgroup: CgroupNamespace,
    pts_group: &'static str,
    sys: &'static str,
    id_maps: String,
    resources: &'static str,
    namespaces: &'static [&'static str],
}

fn fill(choices: &Choices) -> String {
    let cgroup = (choices.cgroup == CgroupNamespace::New).then_some(&"cgroup");
    let namespaces: Vec<String> = choices
        .namespaces
        .iter()
        .chain(cgroup)
        .map(|typ| format!("\t\t\t{{\n\t\t\t\t\"type\": \"{typ}\"\n\t\t\t}}"))
        .collect();
    TEMPLATE
        .replace("@PTS_GROUP@", choices.pts_group)
        .replace("@SYS@", choices.sys)
        .replace("@ID_MAPS@", &choices.id_maps)
        .replace("@RESOURCES@", choices.resources)
        .replace("@NAMESPACES@", &namespaces.join(",\n"))
}

fn id_map(name: &str, host: u32) -> String {
    format!(
        "\t\t\"{name}\": [\n\t\t\t{{\n\t\t\t\t\"containerID\": 0,\n\t\t\t\t\"hostID\": {host},\n\t\t\t\t\"size\": 1\n\
         \t\t\t}}\n\t\t],\n"
    )
}

/// The group tty, which is 5 on every distribution.
const PTS_GROUP: &str = ",\n\t\t\t\t\"gid=5\"";

const SYSFS: &str = r#"		{
			"destination": "/sys",
			"type": "sysfs",
			"source": "sysfs",
			"options": [
				"nosuid",
				"noexec",
				"nodev",
				"ro"
			]
		},
"#;

/// The kernel mounts a sysfs only for the owner of the network namespace.
const SYS_OF_HOST: &str = r#"		{
			"destination": "/sys",
			"type": "none",
			"source": "/sys",
			"options": [
				"rbind",
				"nosuid",
				"noexec",
				"nodev",
				"ro"
			]
		},
"#;

const DEVICES: &str = r#"		"resources": {
			"devices": [
				{
					"allow": false,
					"access": "rwm"
				}
			]
		},
"#;

const TEMPLATE: &str = r#"{
	"ociVersion": "1.3.0",
	"process": {
		"terminal": true,
		"user": {
			"uid": 0,
			"gid": 0
		},
		"args": [
			"sh"
		],
		"env": [
			"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
			"TERM=xterm"
		],
		"cwd": "/",
		"capabilities": {
			"bounding": [
				"CAP_AUDIT_WRITE",
				"CAP_KILL",
				"CAP_NET_BIND_SERVICE"
			],
			"effective": [
				"CAP_AUDIT_WRITE",
				"CAP_KILL",
				"CAP_NET_BIND_SERVICE"
			],
			"permitted": [
				"CAP_AUDIT_WRITE",
				"CAP_KILL",
				"CAP_NET_BIND_SERVICE"
			]
		},
		"rlimits": [
			{
				"type": "RLIMIT_NOFILE",
				"hard": 1024,
				"soft": 1024
			}
		],
		"noNewPrivileges": true
	},
	"root": {
		"path": "rootfs",
		"readonly": true
	},
	"hostname": "ocirt",
	"mounts": [
		{
			"destination": "/proc",
			"type": "proc",
			"source": "proc"
		},
		{
			"destination": "/dev",
			"type": "tmpfs",
			"source": "tmpfs",
			"options": [
				"nosuid",
				"strictatime",
				"mode=755",
				"size=65536k"
			]
		},
		{
			"destination": "/dev/pts",
			"type": "devpts",
			"source": "devpts",
			"options": [
				"nosuid",
				"noexec",
				"newinstance",
				"ptmxmode=0666",
				"mode=0620"@PTS_GROUP@
			]
		},
		{
			"destination": "/dev/shm",
			"type": "tmpfs",
			"source": "shm",
			"options": [
				"nosuid",
				"noexec",
				"nodev",
				"mode=1777",
				"size=65536k"
			]
		},
		{
			"destination": "/dev/mqueue",
			"type": "mqueue",
			"source": "mqueue",
			"options": [
				"nosuid",
				"noexec",
				"nodev"
			]
		},
@SYS@		{
			"destination": "/sys/fs/cgroup",
			"type": "cgroup",
			"source": "cgroup",
			"options": [
				"nosuid",
				"noexec",
				"nodev",
				"relatime",
				"ro"
			]
		}
	],
	"linux": {
@ID_MAPS@@RESOURCES@		"namespaces": [
@NAMESPACES@
		],
		"maskedPaths": [
			"/proc/acpi",
			"/proc/asound",
			"/proc/kcore",
			"/proc/keys",
			"/proc/latency_stats",
			"/proc/timer_list",
			"/proc/timer_stats",
			"/proc/sched_debug",
			"/sys/firmware",
			"/proc/scsi"
		],
		"readonlyPaths": [
			"/proc/bus",
			"/proc/fs",
			"/proc/irq",
			"/proc/sys",
			"/proc/sysrq-trigger"
		]
	}
}
"#;

#[cfg(test)]
mod tests {
    use super::*;
    use oci_spec::runtime::{LinuxNamespaceType, Spec};
    use serde_json::{Value, json};

    #[test]
    fn both_are_configurations() {
        for text in [rootful(CgroupNamespace::New), rootless_for(1000, 1001, CgroupNamespace::New)] {
            assert!(!text.contains('@'), "{text}");
            let spec: Spec = serde_json::from_str(&text).unwrap();
            assert_eq!(spec.version(), "1.3.0");
        }
    }

    #[test]
    fn the_rootless_one_maps_the_caller_and_keeps_the_network() {
        let config: Value = serde_json::from_str(&rootless_for(1000, 1001, CgroupNamespace::New)).unwrap();
        let linux = &config["linux"];
        assert_eq!(linux["uidMappings"], json!([{ "containerID": 0, "hostID": 1000, "size": 1 }]));
        assert_eq!(linux["gidMappings"], json!([{ "containerID": 0, "hostID": 1001, "size": 1 }]));
        assert_eq!(linux["resources"], Value::Null);
        let spec: Spec = serde_json::from_value(config.clone()).unwrap();
        let namespaces = spec.linux().as_ref().unwrap().namespaces().as_ref().unwrap();
        let has = |typ| namespaces.iter().any(|namespace| namespace.typ() == typ);
        assert!(has(LinuxNamespaceType::User) && !has(LinuxNamespaceType::Network));
        assert!(!config.to_string().contains("gid=5"));
    }

    #[test]
    fn no_default_hands_capabilities_to_programs_of_other_users() {
        let capabilities =
            serde_json::from_str::<Value>(&rootful(CgroupNamespace::New)).unwrap()["process"]["capabilities"].clone();
        // CVE-2022-24769: a set of inheritable ones was once a default.
        assert_eq!(capabilities["inheritable"], Value::Null);
        assert_eq!(capabilities["bounding"].as_array().unwrap().len(), 3);
    }
}
