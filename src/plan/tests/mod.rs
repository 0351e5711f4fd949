//! THE ORDER, as text: who changes it sees here what moves. Compiling needs no privileges, so neither do these tests.

mod exec_order;
mod order;
mod undumpable;

use std::path::Path;

use anyhow::Result;
use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use super::{Gate, Plan, Request, create};
use crate::container::cgroup::Manager;
use crate::container::default_spec::{self, CgroupNamespace};
use crate::container::hooks::HookDefaults;

fn default_config() -> Value {
    serde_json::from_str(&default_spec::rootful(CgroupNamespace::New)).unwrap()
}

/// All that Docker asks for, and more: hooks of every kind, a terminal, a user, a filter, sysctls, a read-only mount.
fn rich_config() -> Value {
    let mut config = default_config();
    let hook = |path: &str| json!([{ "path": path }]);
    config["hooks"] = json!({
        "prestart": hook("/bin/prestart"),
        "createRuntime": hook("/bin/create-runtime"),
        "createContainer": hook("/bin/create-container"),
        "startContainer": hook("/bin/start-container"),
        "poststart": hook("/bin/poststart"),
        "poststop": hook("/bin/poststop"),
    });
    let mount = json!({ "destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["ro", "size=1m"] });
    config["mounts"].as_array_mut().unwrap().push(mount);
    let process = &mut config["process"];
    process["terminal"] = json!(true);
    process["oomScoreAdj"] = json!(100);
    process["user"] = json!({ "uid": 1000, "gid": 1000, "additionalGids": [27] });
    process["cwd"] = json!("/srv");
    config["linux"]["sysctl"] = json!({ "net.ipv4.ping_group_range": "0 0" });
    config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{ "names": ["read", "write"], "action": "SCMP_ACT_ALLOW" }],
    });
    config
}

/// The same in a new user and a new time namespace, without noNewPrivileges.
fn in_user_namespace() -> Value {
    let mut config = rich_config();
    config["process"]["noNewPrivileges"] = json!(false);
    let linux = &mut config["linux"];
    linux["namespaces"].as_array_mut().unwrap().extend([json!({ "type": "user" }), json!({ "type": "time" })]);
    linux["uidMappings"] = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    linux["gidMappings"] = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    linux["timeOffsets"] = json!({ "monotonic": { "secs": 86_400 } });
    config
}

fn planned(config: &Value, gate: Gate) -> Plan {
    tried(config, gate).unwrap()
}

fn tried(config: &Value, gate: Gate) -> Result<Plan> {
    let spec: Spec = serde_json::from_value(config.clone()).unwrap();
    create(&spec, &request(gate))
}

fn request(gate: Gate) -> Request<'static> {
    Request {
        id: "test",
        cgroup_manager: Manager::Cgroupfs,
        bundle: Path::new("/bundle"),
        no_pivot: false,
        no_new_keyring: false,
        preserve_fds: 0,
        listening: None,
        relays_terminal: false,
        notify: false,
        gate,
        rootless: || false,
        hook_defaults: &HookDefaults::OfRuntime { umask: 0o022, trace_parent: None },
        floor: None,
    }
}

/// The steps a line each, without what differs between hosts: the version of cgroups, a /proc/kcore to link to, and the
/// capabilities that whoever runs the tests can pass on.
fn steps(config: &Value, gate: Gate) -> String {
    let text = planned(config, gate).to_string().replace("mount cgroup2 on", "mount cgroup on");
    let lines = text.lines().map(|line| match line.split_once(" bounding=") {
        Some((step, _)) => format!("{step}\n"),
        None => format!("{}\n", line.replace("ptmx core", "ptmx")),
    });
    lines.collect()
}

#[track_caller]
fn assert_lines(text: &str, sections: &[&str]) {
    let expected = sections.concat();
    let (found, expected): (Vec<&str>, Vec<&str>) = (text.lines().collect(), expected.lines().collect());
    let differs = found.iter().zip(&expected).position(|(one, other)| one != other);
    let at = differs.unwrap_or(found.len().min(expected.len()));
    assert_eq!(found.get(at), expected.get(at), "line {at} of\n{text}");
}

/// The number of the first step whose text begins so.
#[track_caller]
fn place(text: &str, step: &str) -> usize {
    text.lines().position(|line| line.starts_with(step)).unwrap_or_else(|| panic!("no step {step:?} in\n{text}"))
}

/// Whether all steps that begin with `first` come before all that begin with `then`.
#[track_caller]
fn assert_order(text: &str, first: &str, then: &str) {
    place(text, first);
    let last = text.lines().enumerate().filter(|(_, line)| line.starts_with(first)).map(|(at, _)| at).max().unwrap();
    assert!(last < place(text, then), "{first:?} is not before {then:?} in\n{text}");
}

/// What every one of these containers mounts.
const MOUNTS: &str = "\
propagation of the host's mounts rslave    # linux.rootfsPropagation
enter rootfs /bundle/rootfs    # root.path
mount proc on /proc    # mounts[0]
mount tmpfs on /dev (nosuid,strictatime,mode=755,size=65536k)    # mounts[1]
mount devpts on /dev/pts (nosuid,noexec,newinstance,ptmxmode=0666,mode=0620,gid=5)    # mounts[2]
mount tmpfs on /dev/shm (nosuid,noexec,nodev,mode=1777,size=65536k)    # mounts[3]
mount mqueue on /dev/mqueue (nosuid,noexec,nodev)    # mounts[4]
mount sysfs on /sys (nosuid,noexec,nodev,ro)    # mounts[5]
mount cgroup on /sys/fs/cgroup (nosuid,noexec,nodev,relatime,ro)    # mounts[6]
";

/// And the devices in it.
const DEVICES: &str = "\
device /dev/null c 1:3 0666    # linux.devices
device /dev/zero c 1:5 0666    # linux.devices
device /dev/full c 1:7 0666    # linux.devices
device /dev/random c 1:8 0666    # linux.devices
device /dev/urandom c 1:9 0666    # linux.devices
device /dev/tty c 5:0 0666    # linux.devices
links in /dev: fd stdin stdout stderr ptmx
";

/// What the default configuration closes.
const PATHS: &str = "\
read-only /proc/bus    # linux.readonlyPaths
read-only /proc/fs    # linux.readonlyPaths
read-only /proc/irq    # linux.readonlyPaths
read-only /proc/sys    # linux.readonlyPaths
read-only /proc/sysrq-trigger    # linux.readonlyPaths
mask /proc/acpi    # linux.maskedPaths
mask /proc/asound    # linux.maskedPaths
mask /proc/kcore    # linux.maskedPaths
mask /proc/keys    # linux.maskedPaths
mask /proc/latency_stats    # linux.maskedPaths
mask /proc/timer_list    # linux.maskedPaths
mask /proc/timer_stats    # linux.maskedPaths
mask /proc/sched_debug    # linux.maskedPaths
mask /sys/firmware    # linux.maskedPaths
mask /proc/scsi    # linux.maskedPaths
";

/// From there on, with the hooks of [`rich_config`].
const HOOKED: &str = "\
report mounted, wait for the runtime's hooks
hook /bin/create-container    # hooks.createContainer[0]
console on /dev/console    # process.terminal
private procfs
pivot_root
make sure of it: enter /srv    # process.cwd
sysctl net.ipv4.ping_group_range = 0 0    # linux.sysctl
read-only mount /data    # mounts[7]
";

/// What is left before the process is the container's own.
const CLOSED: &str = "\
read-only root    # root.readonly
set hostname ocirt    # hostname
close descriptors from 3 on
new session
controlling terminal    # process.terminal
";

/// How the process of [`rich_config`] becomes what it is to be.
const LAST: &str = "\
cut the bounding set, keep capabilities    # process.capabilities
become user 1000:1000, groups 27, umask 0022    # process.user
still undumpable
set capabilities
enter /srv    # process.cwd
exec sh    # process.args[0]
report ready
";

#[test]
fn a_default_container() {
    let expected = [
        "\
name ocirt:init
enter the cgroup    # linux.cgroupsPath
reset cpu affinity
undumpable
unshare cgroup    # linux.namespaces
join session keyring _ses.test
bring up loopback    # linux.namespaces
",
        MOUNTS,
        DEVICES,
        "\
console on /dev/console    # process.terminal
pivot_root
make sure of it: enter /    # process.cwd
",
        PATHS,
        CLOSED,
        "\
set no_new_privs    # process.noNewPrivileges
as root: enter /    # process.cwd
set HOME of user 0 from /etc/passwd    # process.env
set rlimit RLIMIT_NOFILE 1024:1024    # process.rlimits
cut the bounding set, keep capabilities    # process.capabilities
become user 0:0, umask 0022    # process.user
still undumpable
set capabilities
enter /    # process.cwd
exec sh    # process.args[0]
report ready
wait for start at the gate
reset signals
exec sh    # process.args[0]
",
    ];
    assert_lines(&steps(&default_config(), Gate::Socket), &expected);
}

#[test]
fn a_container_with_everything() {
    let expected = [
        "\
name ocirt:init
set oom score adjustment 100    # process.oomScoreAdj
enter the cgroup    # linux.cgroupsPath
reset cpu affinity
undumpable
unshare cgroup    # linux.namespaces
join session keyring _ses.test
bring up loopback    # linux.namespaces
",
        MOUNTS,
        "\
mount tmpfs on /data (ro,size=1m)    # mounts[7]
",
        DEVICES,
        HOOKED,
        PATHS,
        CLOSED,
        "\
set no_new_privs    # process.noNewPrivileges
as root: enter /srv    # process.cwd
set HOME of user 1000 from /etc/passwd    # process.env
set rlimit RLIMIT_NOFILE 1024:1024    # process.rlimits
",
        LAST,
        "\
wait for start at the gate
seccomp 2 syscalls, 9 instructions    # linux.seccomp
hook /bin/start-container    # hooks.startContainer[0]
reset signals
exec sh    # process.args[0]
",
    ];
    assert_lines(&steps(&rich_config(), Gate::Socket), &expected);
}

#[test]
fn a_container_in_a_user_namespace() {
    let expected = [
        "\
name ocirt:init
wait for the id maps
enter the cgroup    # linux.cgroupsPath
reset cpu affinity
unshare time, offsets monotonic 86400 0    # linux.timeOffsets
become root of the user namespace    # linux.uidMappings
undumpable
unshare cgroup    # linux.namespaces
join session keyring _ses.test
bring up loopback    # linux.namespaces
",
        MOUNTS,
        "\
mount tmpfs on /data (ro,size=1m)    # mounts[7]
",
        DEVICES,
        HOOKED,
        PATHS,
        CLOSED,
        "\
as root: enter /srv    # process.cwd
set HOME of user 1000 from /etc/passwd    # process.env
seccomp 2 syscalls, 9 instructions    # linux.seccomp
",
        LAST,
        "\
wait for the runtime's word to start
hook /bin/start-container    # hooks.startContainer[0]
reset signals
exec sh    # process.args[0]
",
    ];
    assert_lines(&steps(&in_user_namespace(), Gate::Link), &expected);
}
