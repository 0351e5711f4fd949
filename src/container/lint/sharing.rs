//! The rules about what the container shares with its host: namespaces, what it sees of the kernel, propagation.

use oci_spec::runtime::{LinuxNamespaceType as Kind, Spec};

use super::code::Code;
use super::finding::{Author, Finding, Surroundings, has_namespace};

/// Namespaces without which a process of the container meets those of the host.
const PRIVATE: [(Kind, &str, &str); 5] = [
    (Kind::Pid, "pid", "it sees and may signal the host's processes"),
    (Kind::Network, "network", "it has the host's network, and all that listens on its loopback and abstract sockets"),
    (Kind::Ipc, "ipc", "it has the host's shared memory and message queues"),
    (Kind::Uts, "uts", "it has the host's name, and with CAP_SYS_ADMIN may change it"),
    (Kind::Mount, "mount", "what it mounts is mounted on the host"),
];

/// What Docker, containerd, CRI-O and Podman mask of a procfs and a sysfs.
const MASKED: [&str; 11] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
/// What Docker masks besides since 28.
const MASKED_BY_DOCKER: &str = "/proc/interrupts";

/// What Podman makes read-only instead.
const READ_ONLY_FOR_PODMAN: &str = "/proc/asound";

pub(super) fn rules(spec: &Spec, around: &Surroundings, found: &mut Vec<Finding>) {
    for (_, name, why) in PRIVATE.into_iter().filter(|(kind, ..)| !has_namespace(spec, *kind)) {
        let why = format!("the container is in the host's {name} namespace: {why}");
        found.push(Finding::new(Code::NamespaceShared, "linux.namespaces", why));
    }
    masked(spec, around, found);
    let propagation = spec.linux().as_ref().and_then(|linux| linux.rootfs_propagation().as_deref());
    if let Some(word @ ("shared" | "rshared")) = propagation {
        let why = format!("{word}: what is mounted inside appears on the host, and stays there");
        found.push(Finding::new(Code::RootShared, "linux.rootfsPropagation", why));
    }
}

fn masked(spec: &Spec, around: &Surroundings, found: &mut Vec<Finding>) {
    let docker = (around.author == Some(Author::Docker)).then_some(MASKED_BY_DOCKER);
    let paths = |list: Option<&Option<Vec<String>>>| -> Vec<String> {
        list.into_iter().flatten().flatten().map(|path| path.trim_end_matches('/').to_owned()).collect()
    };
    let masked = paths(spec.linux().as_ref().map(|linux| linux.masked_paths()));
    let read_only = paths(spec.linux().as_ref().map(|linux| linux.readonly_paths()));
    let is_closed = |path: &str| {
        masked.iter().any(|other| other == path)
            || path == READ_ONLY_FOR_PODMAN && read_only.iter().any(|other| other == path)
    };
    let is_mounted = |path: &str| {
        let destinations = spec.mounts().iter().flatten().map(|mount| mount.destination());
        destinations.into_iter().any(|at| path.starts_with(&format!("{}/", at.display())))
    };
    let missing: Vec<&str> =
        MASKED.into_iter().chain(docker).filter(|path| is_mounted(path) && !is_closed(path)).collect();
    if !missing.is_empty() {
        let why = format!("not masked, as engines do: {}", missing.join(" "));
        found.push(Finding::new(Code::MaskedPathsMissing, "linux.maskedPaths", why));
    }
}
