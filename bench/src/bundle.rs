//! The bundles: one busybox rootfs on tmpfs, and configs like the ones that Docker writes.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::host::Host;
use crate::profile;

/// What the container prints, so that a run is known to have happened.
pub const GREETING: &str = "hello-from-the-container";
/// A container that lives until it is killed.
pub const SLEEP: &[&str] = &["/bin/sleep", "1000"];
/// As many files to bind onto exist in the rootfs.
pub const MOST_BINDS: usize = 100;
pub const ROOMY: u64 = 512 << 20;
pub const CAPABILITIES: u64 = 0xa804_25fb;

const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What differs between the bundles.
pub struct Shape<'a> {
    pub name: &'a str,
    pub args: &'a [&'a str],
    pub seccomp: bool,
    pub binds: usize,
    pub memory: u64,
}

impl Default for Shape<'_> {
    fn default() -> Self {
        Shape { name: "", args: &["/bin/echo", GREETING], seccomp: false, binds: 0, memory: ROOMY }
    }
}

/// Makes the one rootfs; containers write nothing into it, since every mount point is there already.
pub fn make_rootfs(host: &Host) -> Result<()> {
    let rootfs = host.work.join("rootfs");
    for directory in ["bin", "dev", "etc", "mnt", "proc", "root", "sys", "tmp"] {
        fs::create_dir_all(rootfs.join(directory))?;
    }
    fs::copy("/bin/busybox", rootfs.join("bin/busybox")).context("/bin/busybox (install busybox-static)")?;
    for applet in ["cat", "echo", "grep", "hostname", "ls", "sh", "sleep", "true", "wc"] {
        symlink("busybox", rootfs.join("bin").join(applet))?;
    }
    for file in ["resolv.conf", "hostname", "hosts"] {
        fs::write(rootfs.join("etc").join(file), "")?;
    }
    for number in 0..MOST_BINDS {
        fs::write(rootfs.join(format!("mnt/b{number}")), "")?;
    }
    Ok(())
}

/// Writes a bundle and returns its directory. Its cgroup is `<parent>/<name>`.
pub fn write(host: &Host, shape: &Shape) -> Result<PathBuf> {
    let directory = host.work.join(shape.name);
    let rootfs = host.work.join("rootfs");
    let cgroup = format!("{}/{}", host.parent, shape.name);
    fs::create_dir_all(&directory)?;
    for (file, text) in
        [("resolv.conf", "nameserver 127.0.0.1\n"), ("hostname", "bench\n"), ("hosts", "127.0.0.1 localhost\n")]
    {
        fs::write(directory.join(file), text)?;
    }
    let config = config(host, shape, &directory, &rootfs, &cgroup);
    fs::write(directory.join("config.json"), serde_json::to_vec_pretty(&config)?)?;
    let hierarchies = host.hierarchies.join(":");
    let (memory, binds, args) = (shape.memory, shape.binds, shape.args.join("\n"));
    let plan = format!("{}\n{hierarchies}\n{cgroup}\n{memory}\n{binds}\n{args}\n", rootfs.display());
    fs::write(directory.join("floor.plan"), plan)?;
    if shape.seccomp {
        fs::write(directory.join("seccomp.bpf"), profile::program())?;
    }
    Ok(directory)
}

fn config(host: &Host, shape: &Shape, bundle: &Path, rootfs: &Path, cgroup: &str) -> Value {
    let mut namespaces = vec!["mount", "network", "uts", "pid", "ipc"];
    if host.unified {
        namespaces.push("cgroup");
    }
    let namespaces: Vec<Value> = namespaces.iter().map(|kind| json!({ "type": kind })).collect();
    let mut linux = json!({
        "resources": resources(shape.memory),
        "cgroupsPath": cgroup,
        "namespaces": namespaces,
        "maskedPaths": ["/proc/asound", "/proc/acpi", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
            "/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/sys/firmware"],
        "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
    });
    if shape.seccomp {
        linux["seccomp"] = profile::config();
    }
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "user": {"uid": 0, "gid": 0},
            "args": shape.args,
            "env": [PATH, "HOSTNAME=bench"],
            "cwd": "/",
            "capabilities": ocirt_bundle::capabilities(),
        },
        "root": {"path": rootfs},
        "hostname": "bench",
        "mounts": mounts(shape.binds, bundle),
        "linux": linux,
    })
}

fn resources(memory: u64) -> Value {
    let mut devices = vec![ocirt_bundle::no_device()];
    devices
        .extend([(1, 5), (1, 3), (1, 9), (1, 8), (5, 0), (5, 1)].map(
            |(major, minor)| json!({"allow": true, "type": "c", "major": major, "minor": minor, "access": "rwm"}),
        ));
    json!({
        "devices": devices,
        "memory": {"limit": memory, "reservation": memory.min(256 << 20)},
        "cpu": {"shares": 512, "quota": 150_000, "period": 100_000},
        "pids": {"limit": 200},
    })
}

fn mounts(binds: usize, bundle: &Path) -> Value {
    let kernels = ["/proc", "/dev", "/dev/pts", "/sys", "/sys/fs/cgroup", "/dev/mqueue", "/dev/shm"];
    let mut all = kernels.map(ocirt_bundle::file_system).to_vec();
    let bind = |destination: String, file: &str| json!({"destination": destination, "type": "bind", "source": bundle.join(file), "options": ["rbind", "rprivate"]});
    all.extend(["resolv.conf", "hostname", "hosts"].map(|file| bind(format!("/etc/{file}"), file)));
    all.extend((0..binds).map(|number| bind(format!("/mnt/b{number}"), "hosts")));
    Value::Array(all)
}
