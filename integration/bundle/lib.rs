//! What the bundles of the tests and of the bench have in common: the parts of config.json that all engines write alike.

use serde_json::{Value, json};

/// Docker's default set.
pub const CAPABILITIES: [&str; 14] = [
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FSETID",
    "CAP_FOWNER",
    "CAP_MKNOD",
    "CAP_NET_RAW",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETFCAP",
    "CAP_SETPCAP",
    "CAP_NET_BIND_SERVICE",
    "CAP_SYS_CHROOT",
    "CAP_KILL",
    "CAP_AUDIT_WRITE",
];

/// Kernel file systems with the options that engines give them, by their destinations.
const FILE_SYSTEMS: [(&str, &str, &[&str]); 7] = [
    ("/proc", "proc", &["nosuid", "noexec", "nodev"]),
    ("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
    ("/dev/pts", "devpts", &["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]),
    ("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]),
    ("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]),
    ("/sys", "sysfs", &["nosuid", "noexec", "nodev", "ro"]),
    ("/sys/fs/cgroup", "cgroup", &["ro", "nosuid", "noexec", "nodev"]),
];

/// `process.capabilities` with [`CAPABILITIES`].
pub fn capabilities() -> Value {
    json!({ "bounding": CAPABILITIES, "effective": CAPABILITIES, "permitted": CAPABILITIES })
}

/// The item of `mounts` with the file system that belongs to `destination`.
pub fn file_system(destination: &str) -> Value {
    let found = FILE_SYSTEMS.iter().find(|(known, ..)| *known == destination);
    let (_, kind, options) = found.unwrap_or_else(|| panic!("{destination}: no file system belongs there"));
    json!({ "destination": destination, "type": kind, "source": kind, "options": options })
}

/// The rule of `linux.resources.devices` that denies what no other allows.
pub fn no_device() -> Value {
    json!({ "allow": false, "access": "rwm" })
}
