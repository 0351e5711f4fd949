//! THE ORDER, as text: who changes it sees here what moves. Compiling needs no privileges, so neither do these tests.

use std::os::fd::AsRawFd;
use std::path::Path;

use oci_spec::runtime::Spec;
use serde_json::{Value, json};

use super::{ExecPlan, ExecRequest, Gate, Label, Plan, Request, Saved, StepError, create, exec};
use crate::container::cgroup::Manager;
use crate::container::default_spec;
use crate::init::link::Failure;
use crate::sys::namespace::{self, Kind, Kinds};
use crate::sys::testing::in_a_child;
use crate::sys::{Errno, Fault};

fn default_config() -> Value {
    serde_json::from_str(&default_spec::rootful()).unwrap()
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
    let spec: Spec = serde_json::from_value(config.clone()).unwrap();
    let bundle = Path::new("/bundle");
    let request = Request {
        id: "test",
        cgroup_manager: Manager::Cgroupfs,
        bundle,
        no_pivot: false,
        no_new_keyring: false,
        preserve_fds: 0,
        gate,
        rootless: || false,
    };
    create(&spec, &request).unwrap()
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
        "\
read-only root    # root.readonly
set hostname ocirt    # hostname
new session
controlling terminal    # process.terminal
set no_new_privs    # process.noNewPrivileges
close descriptors from 3 on
as root: enter /    # process.cwd
set HOME of user 0 from /etc/passwd    # process.env
set rlimit RLIMIT_NOFILE 1024:1024    # process.rlimits
cut the bounding set, keep capabilities    # process.capabilities
become user 0:0, umask 0022    # process.user
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

/// Sysctls of a device can be set only once it is there.
#[test]
fn init_waits_for_network_devices() {
    let mut config = rich_config();
    config["linux"]["netDevices"] = json!({ "eth0": { "name": "lan%d" } });
    let spec: Spec = serde_json::from_value(config.clone()).unwrap();
    let bundle = Path::new("/bundle");
    let gate = Gate::Socket;
    let request = Request {
        id: "test",
        cgroup_manager: Manager::Cgroupfs,
        bundle,
        no_pivot: false,
        no_new_keyring: false,
        preserve_fds: 0,
        gate,
        rootless: || false,
    };
    if crate::sys::ids::effective_uid() != 0 {
        let error = create(&spec, &request).err().unwrap().to_string();
        assert!(error.starts_with("linux.netDevices: a runtime that is not root"), "{error}");
        return;
    }
    assert_order(&steps(&config, Gate::Socket), "wait for the network devices", "enter the cgroup");
    config["linux"]["namespaces"].as_array_mut().unwrap().push(json!({ "type": "user" }));
    config["linux"]["uidMappings"] = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    config["linux"]["gidMappings"] = json!([{ "containerID": 0, "hostID": 100_000, "size": 65_536 }]);
    // One Go is for both.
    let text = steps(&config, Gate::Socket);
    assert!(text.contains("wait for the id maps") && !text.contains("wait for the network devices"), "{text}");
}

/// The agent serves a created container, so its filter is never as late as another one.
#[test]
fn a_filter_that_notifies_is_loaded_by_create() {
    let mut config = rich_config();
    config["process"]["noNewPrivileges"] = json!(true);
    config["linux"]["seccomp"] = json!({
        "defaultAction": "SCMP_ACT_ALLOW",
        "listenerPath": "/run/agent",
        "syscalls": [{ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" }],
    });
    let text = steps(&config, Gate::Socket);
    assert_order(&text, "set capabilities", "seccomp");
    assert_order(&text, "seccomp 1 syscalls", "report ready");
    assert!(planned(&config, Gate::Socket).seccomp_agent.is_some());
    config["process"]["noNewPrivileges"] = json!(false);
    assert_order(&steps(&config, Gate::Socket), "seccomp 1 syscalls", "become user");
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
        "\
report mounted, wait for the runtime's hooks
hook /bin/create-container    # hooks.createContainer[0]
console on /dev/console    # process.terminal
private procfs
pivot_root
make sure of it: enter /srv    # process.cwd
sysctl net.ipv4.ping_group_range = 0 0    # linux.sysctl
read-only mount /data    # mounts[7]
",
        PATHS,
        "\
read-only root    # root.readonly
set hostname ocirt    # hostname
new session
controlling terminal    # process.terminal
set no_new_privs    # process.noNewPrivileges
close descriptors from 3 on
as root: enter /srv    # process.cwd
set HOME of user 1000 from /etc/passwd    # process.env
set rlimit RLIMIT_NOFILE 1024:1024    # process.rlimits
cut the bounding set, keep capabilities    # process.capabilities
become user 1000:1000, groups 27, umask 0022    # process.user
set capabilities
enter /srv    # process.cwd
exec sh    # process.args[0]
report ready
wait for start at the gate
hook /bin/start-container    # hooks.startContainer[0]
reset signals
seccomp 2 syscalls, 9 instructions    # linux.seccomp
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
become root of the user namespace    # linux.uidMappings
unshare time, offsets monotonic 86400 0    # linux.timeOffsets
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
        "\
report mounted, wait for the runtime's hooks
hook /bin/create-container    # hooks.createContainer[0]
console on /dev/console    # process.terminal
private procfs
pivot_root
make sure of it: enter /srv    # process.cwd
sysctl net.ipv4.ping_group_range = 0 0    # linux.sysctl
read-only mount /data    # mounts[7]
",
        PATHS,
        "\
read-only root    # root.readonly
set hostname ocirt    # hostname
new session
controlling terminal    # process.terminal
close descriptors from 3 on
as root: enter /srv    # process.cwd
seccomp 2 syscalls, 9 instructions    # linux.seccomp
set HOME of user 1000 from /etc/passwd    # process.env
cut the bounding set, keep capabilities    # process.capabilities
become user 1000:1000, groups 27, umask 0022    # process.user
set capabilities
enter /srv    # process.cwd
exec sh    # process.args[0]
report ready
wait for the runtime's word to start
hook /bin/start-container    # hooks.startContainer[0]
reset signals
exec sh    # process.args[0]
",
    ];
    assert_lines(&steps(&in_user_namespace(), Gate::Link), &expected);
}

#[test]
fn nothing_of_a_joined_namespace_sees_into_init() {
    let mut config = default_config();
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "network" && namespace["type"] != "ipc");
    namespaces.push(json!({ "type": "network", "path": "/proc/self/ns/net" }));
    namespaces.push(json!({ "type": "ipc", "path": "/proc/self/ns/ipc" }));
    let text = steps(&config, Gate::Socket);
    assert_order(&text, "undumpable", "join net namespace");
    assert_order(&text, "undumpable", "join ipc namespace");
    // The id maps and the time offsets are written while init is dumpable.
    let text = steps(&in_user_namespace(), Gate::Socket);
    assert_order(&text, "wait for the id maps", "undumpable");
    assert_order(&text, "unshare time", "undumpable");
}

#[test]
fn the_host_goes_out_of_sight_after_mounts_and_hooks() {
    for config in [rich_config(), in_user_namespace()] {
        let text = steps(&config, Gate::Socket);
        assert_order(&text, "enter the cgroup", "unshare cgroup");
        assert_order(&text, "reset cpu affinity", "unshare cgroup");
        assert_order(&text, "propagation of the host's mounts", "enter rootfs");
        assert_order(&text, "mount ", "report mounted");
        assert_order(&text, "report mounted", "hook /bin/create-container");
        assert_order(&text, "hook /bin/create-container", "pivot_root");
        assert_order(&text, "private procfs", "pivot_root");
        assert_order(&text, "console on", "pivot_root");
        assert_order(&text, "device ", "pivot_root");
    }
}

#[test]
fn files_are_closed_while_init_is_root() {
    for config in [rich_config(), in_user_namespace()] {
        let text = steps(&config, Gate::Socket);
        for closing in ["sysctl ", "make sure of it: ", "read-only ", "mask ", "read-only root"] {
            assert_order(&text, "pivot_root", closing);
            assert_order(&text, closing, "cut the bounding set");
            assert_order(&text, closing, "become user");
        }
        assert_order(&text, "sysctl ", "read-only /proc/sys");
        assert_order(&text, "become user", "set capabilities");
    }
}

#[test]
fn a_filter_is_last_with_no_new_privs_and_precedes_the_loss_of_rights_without() {
    let mut config = rich_config();
    let text = steps(&config, Gate::Socket);
    assert_order(&text, "set no_new_privs", "seccomp ");
    assert_order(&text, "hook /bin/start-container", "seccomp ");
    assert_eq!(place(&text, "seccomp ") + 2, text.lines().count());

    config["process"]["noNewPrivileges"] = json!(false);
    let text = steps(&config, Gate::Socket);
    assert!(!text.contains("no_new_privs"));
    assert_order(&text, "read-only root", "seccomp ");
    assert_order(&text, "close descriptors", "seccomp ");
    assert_order(&text, "seccomp ", "cut the bounding set");
}

#[test]
fn nothing_of_the_host_lies_open_while_a_created_container_waits() {
    for config in [default_config(), rich_config(), in_user_namespace()] {
        for (gate, waiting) in
            [(Gate::Socket, "wait for start at the gate"), (Gate::Link, "wait for the runtime's word to start")]
        {
            let text = steps(&config, gate);
            assert_order(&text, "close descriptors from 3 on", "report ready");
            assert_eq!(place(&text, "report ready") + 1, place(&text, waiting));
        }
    }
    let plan = planned(&rich_config(), Gate::Socket);
    let after: Vec<_> = plan.start_steps().into_iter().map(|label| label.what).collect();
    let start = ["wait for start at the gate", "hook /bin/start-container", "reset signals"];
    assert_eq!(after.iter().take(3).collect::<Vec<_>>(), start.iter().collect::<Vec<_>>());
    assert_eq!(after.len(), 5);
}

#[test]
fn the_runtime_has_its_own_hooks_and_the_container_its_own() {
    let plan = planned(&rich_config(), Gate::Socket);
    let fields: Vec<_> = plan.runtime_hooks.iter().map(|hook| hook.field.as_str()).collect();
    assert_eq!(fields, ["hooks.prestart[0]", "hooks.createRuntime[0]"]);
    let text = plan.to_string();
    assert!(!text.contains("prestart") && !text.contains("poststart") && !text.contains("poststop"));
}

#[test]
fn what_only_the_host_may_do_for_a_user_namespace_is_done_from_outside() {
    let plan = planned(&in_user_namespace(), Gate::Socket);
    let outside = plan.outside.as_ref().unwrap();
    assert_eq!((outside.oom_score_adj.is_some(), plan.rlimits.len()), (true, 1));
    let text = plan.to_string();
    assert!(!text.contains("oom score") && !text.contains("rlimit"), "{text}");
    let plain = planned(&rich_config(), Gate::Socket);
    assert!(plain.outside.is_none() && plain.rlimits.is_empty());
}

#[test]
fn init_is_born_in_a_user_namespace_that_is_joined() {
    in_a_child(|| {
        // What was our own is another one then, and has every id.
        let other = std::fs::File::open("/proc/self/ns/user")?;
        namespace::unshare(Kinds::NONE.with(Kind::User))?;
        let mut config = in_user_namespace();
        let path = format!("/proc/self/fd/{}", other.as_raw_fd());
        let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
        namespaces.retain(|namespace| namespace["type"] != "user" && namespace["type"] != "ipc");
        namespaces.push(json!({ "type": "user", "path": path }));
        namespaces.push(json!({ "type": "ipc", "path": "/proc/self/ns/ipc" }));
        let plan = planned(&config, Gate::Socket);
        let entrance = plan.entrance.as_ref().unwrap();
        assert_eq!(entrance.user.kind(), Kind::User);
        // Where it is already it does not go: it might have no right to.
        assert_eq!((entrance.others.len(), plan.born_in.len()), (0, 0));
        assert!(entrance.time.is_some() && entrance.oom_score_adj.is_some() && plan.outside.is_none());
        assert_eq!(plan.rlimits.len(), 1);
        assert!(!Kinds::from_flags(plan.clone_flags as u32).contains(Kind::User));
        let text = plan.to_string();
        for absent in ["wait for the id maps", "oom score", "rlimit", "unshare time", "join ipc"] {
            assert!(!text.contains(absent), "{absent}: {text}");
        }
        assert_order(&text, "become root of the user namespace", "undumpable");
        Ok(())
    });
}

#[test]
fn a_failed_step_reads_from_the_field_to_the_reason() {
    let label = Label { index: 14, field: "mounts[3]".into(), what: "mount tmpfs on /tmp".into() };
    let fault = Fault::new("fsconfig", Errno::EINVAL, "tmpfs: Unknown parameter 'sice'");
    assert_eq!(
        StepError::new(Some(&label), &Failure::new(14, &fault)).to_string(),
        "mounts[3]: mount tmpfs on /tmp: fsconfig: invalid argument (tmpfs: Unknown parameter 'sice')"
    );
    let plan = planned(&default_config(), Gate::Socket);
    let fault = Fault::new("prctl", Errno::EPERM, "");
    assert_eq!(plan.word(&Failure::new(0, &fault)).to_string(), "name ocirt:init: prctl: operation not permitted");
    // What init says is checked, not trusted.
    assert_eq!(plan.word(&Failure::new(999, &fault)).to_string(), "step 999: prctl: operation not permitted");
}

/// The steps of an exec of the container's own process, from what is saved of the container.
fn exec_steps(config: &Value) -> String {
    let text = exec_plan(config, false).to_string();
    let lines = text.lines().map(|line| line.split_once(" bounding=").map_or(line, |(step, _)| step));
    lines.map(|line| format!("{line}\n")).collect()
}

fn exec_plan(config: &Value, is_scored_by_runtime: bool) -> ExecPlan {
    let spec: Spec = serde_json::from_value(config.clone()).unwrap();
    let plan = planned(config, Gate::Socket);
    let text = serde_json::to_string(&Saved::new(&spec, &plan, true).unwrap()).unwrap();
    let saved: Saved = serde_json::from_str(&text).unwrap();
    let request = ExecRequest {
        id: "test",
        rootfs: Path::new("/bundle/rootfs"),
        init: std::fs::File::open("/dev/null").unwrap().into(),
        to_join: saved.namespaces().without(Kind::Pid),
        is_scored_by_runtime,
        preserve_fds: 0,
        is_placed_when_ready: false,
    };
    exec(&saved.process, &saved, request).unwrap()
}

#[test]
fn the_score_is_the_processs_own_step_or_the_runtimes_part() {
    let text = |plan: &ExecPlan| plan.to_string().contains("oom score adjustment 100");
    let (own, born) = (exec_plan(&rich_config(), false), exec_plan(&rich_config(), true));
    assert!(text(&own) && own.born_with.is_none());
    assert!(!text(&born) && born.born_with.is_some());
}

#[test]
fn an_exec_with_everything() {
    let mut config = rich_config();
    config["process"]["execCPUAffinity"] = json!({ "initial": "0", "final": "0-1" });
    config["process"]["scheduler"] = json!({ "policy": "SCHED_BATCH" });
    config["linux"]["personality"] = json!({ "domain": "LINUX" });
    let expected = "\
name ocirt:exec
set oom score adjustment 100    # process.oomScoreAdj
enter the cgroup    # linux.cgroupsPath
set cpu affinity 0-1    # process.execCPUAffinity.final
undumpable
join init's namespaces ipc, uts, net, mnt, cgroup    # linux.namespaces
join session keyring _ses.test
open the root
console    # process.terminal
new session
controlling terminal    # process.terminal
set scheduler SCHED_BATCH    # process.scheduler
set personality LINUX    # linux.personality
set no_new_privs    # process.noNewPrivileges
close descriptors from 3 on
as root: enter /srv    # process.cwd
set HOME of user 1000 from /etc/passwd    # process.env
set rlimit RLIMIT_NOFILE 1024:1024    # process.rlimits
cut the bounding set, keep capabilities    # process.capabilities
become user 1000:1000, groups 27, umask 0022    # process.user
set capabilities
enter /srv    # process.cwd
exec sh    # process.args[0]
report ready
reset signals
seccomp 2 syscalls, 9 instructions    # linux.seccomp
exec sh    # process.args[0]
";
    assert_lines(&exec_steps(&config), &[expected]);
}

#[test]
fn an_exec_in_a_user_namespace() {
    let expected = "\
name ocirt:exec
set oom score adjustment 100    # process.oomScoreAdj
enter the cgroup    # linux.cgroupsPath
reset cpu affinity
undumpable
join init's namespaces user, ipc, uts, net, mnt, cgroup, time    # linux.namespaces
become root of the user namespace    # linux.uidMappings
join session keyring _ses.test
open the root
console    # process.terminal
new session
controlling terminal    # process.terminal
close descriptors from 3 on
as root: enter /srv    # process.cwd
seccomp 2 syscalls, 9 instructions    # linux.seccomp
set HOME of user 1000 from /etc/passwd    # process.env
cut the bounding set, keep capabilities    # process.capabilities
become user 1000:1000, groups 27, umask 0022    # process.user
set capabilities
enter /srv    # process.cwd
exec sh    # process.args[0]
report ready
wait for the runtime's word to start    # process.rlimits
reset signals
exec sh    # process.args[0]
";
    assert_lines(&exec_steps(&in_user_namespace()), &[expected]);
}

#[test]
fn an_exec_without_a_mount_namespace_changes_its_root() {
    let mut config = default_config();
    config["process"]["terminal"] = json!(false);
    config["root"]["readonly"] = json!(false);
    for list in ["maskedPaths", "readonlyPaths"] {
        config["linux"][list] = json!([]);
    }
    let namespaces = config["linux"]["namespaces"].as_array_mut().unwrap();
    namespaces.retain(|namespace| namespace["type"] != "mount");
    let text = exec_steps(&config);
    assert_order(&text, "join init's namespaces", "enter rootfs /bundle/rootfs");
    assert_order(&text, "enter rootfs", "chroot");
    assert_order(&text, "chroot", "close descriptors");
}

#[test]
fn what_is_saved_for_exec_is_small() {
    let spec: Spec = serde_json::from_value(rich_config()).unwrap();
    let plan = planned(&rich_config(), Gate::Socket);
    let text = serde_json::to_string(&Saved::new(&spec, &plan, false).unwrap()).unwrap();
    assert!(text.len() < 2000, "{text}");
    assert!(!text.contains("mounts") && !text.contains("hooks"), "{text}");
}
