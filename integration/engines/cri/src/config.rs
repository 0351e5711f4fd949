//! What flags say of a pod and of a container, in the words of a pod's manifest.
//!
//! ```text
//! pods        --handler NAME (of a RuntimeClass) --host-network --host-pid --shared-pid --userns FIRST:LENGTH --sysctl NAME=VALUE --hostname NAME
//! containers  --user UID --group GID --groups GID --mount HOST:PATH[:ro] --cap-add NAME --cap-drop NAME --privileged
//!             --read-only --seccomp runtime/default|unconfined --proc-mount-unmasked --no-new-privs --tty
//!             --env NAME=VALUE --workdir PATH --target CONTAINER (whose pid namespace is shared)
//! both        --memory BYTES --cpu-quota US --cpu-shares N -- COMMAND…
//! ```

use std::collections::HashMap;

use k8s_cri::v1::*;

use crate::error::Error;

#[derive(Default)]
pub struct Flags {
    set: HashMap<String, Vec<String>>,
    command: Vec<String>,
}

const SWITCHES: [&str; 8] = [
    "--host-network",
    "--host-pid",
    "--shared-pid",
    "--privileged",
    "--read-only",
    "--proc-mount-unmasked",
    "--no-new-privs",
    "--tty",
];

impl Flags {
    pub fn parse(words: &[&str]) -> Result<Self, Error> {
        let mut flags = Self::default();
        let mut words = words.iter();
        while let Some(&word) = words.next() {
            if word == "--" {
                flags.command = words.by_ref().map(ToString::to_string).collect();
            } else if SWITCHES.contains(&word) {
                flags.set.entry(word.to_owned()).or_default();
            } else {
                let value = words.next().ok_or(format!("{word} needs a value"))?;
                flags.set.entry(word.to_owned()).or_default().push(value.to_string());
            }
        }
        Ok(flags)
    }

    fn has(&self, name: &str) -> bool {
        self.set.contains_key(name)
    }

    fn all(&self, name: &str) -> &[String] {
        self.set.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    fn text(&self, name: &str) -> String {
        self.all(name).last().cloned().unwrap_or_default()
    }

    fn number(&self, name: &str) -> Option<i64> {
        self.all(name).last().and_then(|text| text.parse().ok())
    }

    fn pairs(&self, name: &str) -> impl Iterator<Item = (String, String)> {
        let pair = |text: &String| text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()));
        self.all(name).iter().filter_map(pair)
    }

    pub fn pod(&self, name: &str) -> PodSandboxConfig {
        let security = LinuxSandboxSecurityContext {
            namespace_options: Some(self.namespaces()),
            privileged: self.has("--privileged"),
            seccomp: Some(self.seccomp()),
            ..Default::default()
        };
        PodSandboxConfig {
            metadata: Some(PodSandboxMetadata {
                name: name.to_owned(),
                uid: name.to_owned(),
                namespace: "default".to_owned(),
                attempt: 0,
            }),
            hostname: self.text("--hostname"),
            log_directory: format!("/run/pods/{name}"),
            linux: Some(LinuxPodSandboxConfig {
                cgroup_parent: "/kubepods".to_owned(),
                security_context: Some(security),
                sysctls: self.pairs("--sysctl").collect(),
                ..Default::default()
            }),
            ..Default::default()
        }
    }

    /// The runtime's name in the engine's configuration; empty: its default.
    pub fn handler(&self) -> String {
        self.text("--handler")
    }

    fn namespaces(&self) -> NamespaceOption {
        let pid = match (self.has("--host-pid"), self.has("--shared-pid"), self.has("--target")) {
            (true, ..) => NamespaceMode::Node,
            (_, true, _) => NamespaceMode::Pod,
            (.., true) => NamespaceMode::Target,
            _ => NamespaceMode::Container,
        };
        let network = if self.has("--host-network") { NamespaceMode::Node } else { NamespaceMode::Pod };
        let mapping = self.text("--userns").split_once(':').map(|(first, length)| IdMapping {
            host_id: first.parse().unwrap_or_default(),
            container_id: 0,
            length: length.parse().unwrap_or_default(),
        });
        NamespaceOption {
            network: network.into(),
            pid: pid.into(),
            ipc: NamespaceMode::Pod.into(),
            target_id: self.text("--target"),
            userns_options: mapping.map(|mapping| UserNamespace {
                mode: NamespaceMode::Pod.into(),
                uids: vec![mapping],
                gids: vec![mapping],
            }),
        }
    }

    fn seccomp(&self) -> SecurityProfile {
        let kind = match self.text("--seccomp").as_str() {
            "unconfined" => security_profile::ProfileType::Unconfined,
            _ => security_profile::ProfileType::RuntimeDefault,
        };
        SecurityProfile { profile_type: kind.into(), localhost_ref: String::new() }
    }

    pub fn resources(&self) -> LinuxContainerResources {
        LinuxContainerResources {
            memory_limit_in_bytes: self.number("--memory").unwrap_or_default(),
            cpu_quota: self.number("--cpu-quota").unwrap_or_default(),
            cpu_period: if self.has("--cpu-quota") { 100_000 } else { 0 },
            cpu_shares: self.number("--cpu-shares").unwrap_or_default(),
            ..Default::default()
        }
    }

    pub fn container(&self, name: &str) -> ContainerConfig {
        let number = |name: &str| self.number(name).map(|value| Int64Value { value });
        let security = LinuxContainerSecurityContext {
            capabilities: Some(Capability {
                add_capabilities: self.all("--cap-add").to_vec(),
                drop_capabilities: self.all("--cap-drop").to_vec(),
                ..Default::default()
            }),
            privileged: self.has("--privileged"),
            namespace_options: Some(self.namespaces()),
            run_as_user: number("--user"),
            run_as_group: number("--group"),
            supplemental_groups: self.all("--groups").iter().filter_map(|text| text.parse().ok()).collect(),
            readonly_rootfs: self.has("--read-only"),
            no_new_privs: self.has("--no-new-privs"),
            masked_paths: if self.has("--proc-mount-unmasked") { vec![] } else { words(MASKED) },
            readonly_paths: if self.has("--proc-mount-unmasked") { vec![] } else { words(READ_ONLY) },
            seccomp: Some(self.seccomp()),
            ..Default::default()
        };
        ContainerConfig {
            metadata: Some(ContainerMetadata { name: name.to_owned(), attempt: 0 }),
            image: Some(ImageSpec { image: "localhost/box:latest".to_owned(), ..Default::default() }),
            command: self.command.clone(),
            working_dir: self.text("--workdir"),
            envs: self.pairs("--env").map(|(key, value)| KeyValue { key, value }).collect(),
            mounts: self.all("--mount").iter().filter_map(|text| mount(text)).collect(),
            log_path: format!("{name}.log"),
            tty: self.has("--tty"),
            linux: Some(LinuxContainerConfig { resources: Some(self.resources()), security_context: Some(security) }),
            ..Default::default()
        }
    }
}

/// What a kubelet asks for with `procMount: Default`.
const MASKED: &str = "/proc/acpi /proc/kcore /proc/keys /proc/latency_stats /proc/timer_list /proc/timer_stats \
    /proc/sched_debug /proc/scsi /sys/firmware";
const READ_ONLY: &str = "/proc/asound /proc/bus /proc/fs /proc/irq /proc/sys /proc/sysrq-trigger";

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

/// `HOST:PATH`, and `:ro` behind it.
fn mount(text: &str) -> Option<Mount> {
    let mut parts = text.split(':');
    let (host, path) = (parts.next()?.to_owned(), parts.next()?.to_owned());
    Some(Mount { host_path: host, container_path: path, readonly: parts.next() == Some("ro"), ..Default::default() })
}
