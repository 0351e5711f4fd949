//! Each rule with a configuration that provokes it, and the nearest one that does not.

use serde_json::{Value, json};

use super::*;

/// A configuration in which nothing is found.
fn clean() -> Value {
    let namespaces: Value =
        ["pid", "network", "ipc", "uts", "mount", "cgroup"].iter().map(|kind| json!({ "type": kind })).collect();
    json!({
        "ociVersion": "1.3.0",
        "root": { "path": "rootfs" },
        "process": { "cwd": "/", "user": { "uid": 0, "gid": 0 }, "args": ["sh"] },
        "mounts": [
            { "destination": "/proc", "type": "proc", "source": "proc" },
            { "destination": "/sys", "type": "sysfs", "source": "sysfs" },
        ],
        "linux": {
            "namespaces": namespaces,
            "resources": { "pids": { "limit": 100 } },
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/sched_debug",
                "/proc/scsi", "/proc/timer_list", "/proc/timer_stats", "/sys/devices/virtual/powercap", "/sys/firmware",
            ],
        },
    })
}

/// The clean configuration with values in place of others, by dotted paths; null takes one out.
fn with(changes: &[(&str, Value)]) -> Spec {
    let mut config = clean();
    for (path, value) in changes {
        let pointer = format!("/{}", path.replace('.', "/"));
        let (above, key) = pointer.rsplit_once('/').unwrap();
        let above = match config.pointer_mut(above) {
            Some(above) => above,
            None => panic!("{path}: nothing above it"),
        };
        match above {
            Value::Array(list) => list.push(value.clone()),
            other => other[key] = value.clone(),
        }
    }
    serde_json::from_value(config).unwrap()
}

fn around() -> Surroundings {
    Surroundings { author: None, cgroup_v2: true, processors: Some("0-3".to_owned()) }
}

fn codes(spec: &Spec, around: &Surroundings) -> Vec<&'static str> {
    config(spec, around).into_iter().map(|finding| finding.code.text()).collect()
}

type Changes = Vec<(&'static str, Value)>;

fn seccomp(default: &str, rules: Value) -> Changes {
    vec![(
        "linux.seccomp",
        json!({ "defaultAction": default, "architectures": ["SCMP_ARCH_X86_64"], "syscalls": rules }),
    )]
}

fn rule(name: &str, action: &str, op: &str, value: u64) -> Value {
    json!({ "names": [name], "action": action, "args": [{ "index": 0, "value": value, "op": op }] })
}

fn bind(source: &str, options: &[&str]) -> Changes {
    vec![("mounts.-", json!({ "destination": "/x", "type": "bind", "source": source, "options": options }))]
}

const ALLOW: &str = "SCMP_ACT_ALLOW";
const ERRNO: &str = "SCMP_ACT_ERRNO";

/// Code, configuration that provokes it, nearest that does not.
fn rows() -> Vec<(&'static str, Changes, Changes)> {
    let user = |mut more: Changes| {
        let mut changes: Changes =
            vec![("process.user", json!({ "uid": 7, "gid": 7 })), ("process.noNewPrivileges", json!(true))];
        changes.append(&mut more);
        changes
    };
    let one = |path, value| -> Changes { vec![(path, value)] };
    let allowed = |names: &[&str]| json!({ "names": names, "action": ALLOW });
    let namespaces = |kinds: &[&str]| -> Value { kinds.iter().map(|kind| json!({ "type": kind })).collect() };
    let cgroup = |options: &[&str]| {
        let mount =
            json!({ "destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": options });
        vec![("linux.namespaces", namespaces(&["pid", "network", "ipc", "uts", "mount"])), ("mounts.-", mount)]
    };
    vec![
        (
            "user-name-ignored",
            one("process.user", json!({ "uid": 0, "gid": 0, "username": "web" })),
            one("process.user", json!({ "uid": 0, "gid": 0, "username": "" })),
        ),
        (
            "capabilities-not-ambient",
            user(one("process.capabilities", json!({ "bounding": ["CAP_KILL"] }))),
            user(one(
                "process.capabilities",
                json!({ "bounding": ["CAP_KILL"], "inheritable": ["CAP_KILL"], "ambient": ["CAP_KILL"] }),
            )),
        ),
        ("privileges-can-be-gained", user(one("process.noNewPrivileges", json!(false))), user(vec![])),
        ("cgroup-writable", cgroup(&["nosuid"]), cgroup(&["nosuid", "ro"])),
        ("cgroup-writable", bind("/sys/fs/cgroup/x", &["rbind"]), bind("/sys/fs/cgroup/x", &["rbind", "ro"])),
        ("bind-host-writable", bind("/proc/sys/../sys", &["rbind"]), bind("/proc/sys", &["rbind", "ro"])),
        ("bind-host-writable", bind("/", &["ro", "rw"]), bind("/srv", &["rw"])),
        ("bind-runtime-socket", bind("/run/docker.sock", &["ro"]), bind("/run/other.sock", &[])),
        (
            "masked-paths-missing",
            one("linux.maskedPaths", json!([])),
            vec![("linux.maskedPaths", json!([])), ("mounts", json!([]))],
        ),
        (
            "root-shared",
            one("linux.rootfsPropagation", json!("rshared")),
            one("linux.rootfsPropagation", json!("rslave")),
        ),
        (
            "devices-all-allowed",
            one("linux.resources.devices", json!([{ "allow": true, "access": "rwm" }])),
            one(
                "linux.resources.devices",
                json!([{ "allow": false, "access": "rwm" }, { "allow": true, "access": "m" }]),
            ),
        ),
        (
            "namespace-shared",
            one("linux.namespaces", namespaces(&["pid", "ipc", "uts", "mount"])),
            one("linux.namespaces", namespaces(&["pid", "network", "ipc", "uts", "mount"])),
        ),
        (
            "memory-without-swap",
            one("linux.resources.memory", json!({ "limit": 1 << 30 })),
            one("linux.resources.memory", json!({ "limit": 1 << 30, "swap": 1 << 30 })),
        ),
        (
            "memory-too-small",
            one("linux.resources.memory", json!({ "limit": 4096, "swap": 4096 })),
            one("linux.resources.memory", json!({ "limit": 1 << 20, "swap": 1 << 20 })),
        ),
        (
            "limit-impossible",
            one("linux.resources.cpu", json!({ "quota": 999 })),
            one("linux.resources.cpu", json!({ "quota": 1000 })),
        ),
        (
            "limit-impossible",
            one("linux.resources.cpu", json!({ "period": 1_000_001 })),
            one("linux.resources.cpu", json!({ "period": 1_000_000 })),
        ),
        (
            "limit-impossible",
            one("linux.resources.cpu", json!({ "cpus": "2-4" })),
            one("linux.resources.cpu", json!({ "cpus": "0,2-3" })),
        ),
        ("pids-unlimited", one("linux.resources.pids", json!({ "limit": -1 })), vec![]),
        (
            "seccomp-int-as-64-bits",
            seccomp(ALLOW, json!([rule("socket", ERRNO, "SCMP_CMP_EQ", 38)])),
            seccomp(
                ALLOW,
                json!([{ "names": ["socket"], "action": ERRNO, "args": [
                    { "index": 0, "value": 0xffff_ffff_u32, "valueTwo": 38, "op": "SCMP_CMP_MASKED_EQ" }] }]),
            ),
        ),
        (
            "seccomp-int-as-64-bits",
            seccomp(ERRNO, json!([rule("personality", ALLOW, "SCMP_CMP_NE", 8)])),
            seccomp(ERRNO, json!([rule("personality", ALLOW, "SCMP_CMP_EQ", 8)])),
        ),
        (
            "seccomp-two-not-equal",
            seccomp(ERRNO, json!([rule("mmap", ALLOW, "SCMP_CMP_NE", 1), rule("mmap", ALLOW, "SCMP_CMP_NE", 2)])),
            seccomp(ERRNO, json!([rule("mmap", ALLOW, "SCMP_CMP_NE", 1), rule("mremap", ALLOW, "SCMP_CMP_NE", 2)])),
        ),
        (
            "seccomp-socketcall-open",
            one(
                "linux.seccomp",
                json!({ "defaultAction": ERRNO, "architectures": ["SCMP_ARCH_X86"], "syscalls": [allowed(&["socketcall"])] }),
            ),
            one(
                "linux.seccomp",
                json!({ "defaultAction": ERRNO, "architectures": ["SCMP_ARCH_X86_64"], "syscalls": [allowed(&["socketcall"])] }),
            ),
        ),
        (
            "seccomp-x32-open",
            one(
                "linux.seccomp",
                json!({ "defaultAction": ALLOW, "architectures": ["SCMP_ARCH_X32"], "syscalls": [
                    { "names": ["bpf"], "action": ERRNO }] }),
            ),
            one(
                "linux.seccomp",
                json!({ "defaultAction": ERRNO, "architectures": ["SCMP_ARCH_X32"], "syscalls": [allowed(&["bpf"])] }),
            ),
        ),
        (
            "seccomp-clone3-open",
            seccomp(ERRNO, json!([rule("clone", ALLOW, "SCMP_CMP_EQ", 0), allowed(&["clone3"])])),
            seccomp(ERRNO, json!([allowed(&["clone", "clone3"])])),
        ),
        (
            "seccomp-clone3-eperm",
            seccomp(ERRNO, json!([allowed(&["openat2"])])),
            seccomp(ERRNO, json!([allowed(&["openat2"]), { "names": ["clone3"], "action": ERRNO, "errnoRet": 38 }])),
        ),
    ]
}

#[test]
fn each_rule_is_provoked_and_the_nearest_configuration_is_clean() {
    assert_eq!(codes(&with(&[]), &around()), [""; 0]);
    for (code, provoking, near) in rows() {
        assert_eq!(codes(&with(&provoking), &around()), [code], "{provoking:?}");
        assert_eq!(codes(&with(&near), &around()), [""; 0], "{code}: {near:?}");
    }
}

/// Where cgroup v1 is, writing is worse.
#[test]
fn a_writable_cgroup_of_v1_has_a_release_agent() {
    let v1 = Surroundings { cgroup_v2: false, ..around() };
    assert_eq!(codes(&with(&bind("/sys/fs/cgroup", &[])), &v1), ["bind-cgroup-v1-writable"]);
    assert_eq!(codes(&with(&bind("/sys/fs/cgroup", &["ro"])), &v1), [""; 0]);
}

#[test]
fn in_a_user_namespace_nothing_of_the_hosts_root_can_be_written() {
    let map = |host: u32| json!([{ "containerID": 0, "hostID": host, "size": 10 }]);
    let mut changes = bind("/etc", &["rw"]);
    changes.push(("linux.namespaces.-", json!({ "type": "user" })));
    changes.push(("linux.uidMappings", map(100_000)));
    assert_eq!(codes(&with(&changes), &around()), [""; 0]);
    changes.push(("linux.uidMappings", map(0)));
    assert_eq!(codes(&with(&changes), &around()), ["bind-host-writable"]);
}

#[test]
fn what_an_engine_always_does_is_no_finding() {
    let by = |author| Surroundings { author: Some(author), ..around() };
    let unlimited = with(&[("linux.resources.pids", json!({ "limit": -1 }))]);
    let user = with(&[
        ("process.user", json!({ "uid": 7, "gid": 7 })),
        ("process.capabilities", json!({ "bounding": ["CAP_KILL"] })),
    ]);
    assert_eq!(codes(&unlimited, &by(Author::Cri)), [""; 0]);
    assert_eq!(codes(&unlimited, &by(Author::Podman)), ["pids-unlimited"]);
    assert_eq!(codes(&user, &by(Author::Podman)), [""; 0]);
    assert_eq!(codes(&user, &around()), ["capabilities-not-ambient", "privileges-can-be-gained"]);
    // It masks one more than the others, and is asked for it.
    assert_eq!(codes(&unlimited, &by(Author::Docker)), ["masked-paths-missing"]);
}

/// The fixtures are what engines of 2020 to 2023 write; what is found is what has been learned since.
#[test]
fn what_is_found_in_configurations_of_engines() {
    const KNOWN: [&str; 11] = [
        "capabilities-not-ambient",
        "cgroup-writable",
        "devices-all-allowed",
        "masked-paths-missing",
        "memory-without-swap",
        "namespace-shared",
        "pids-unlimited",
        "seccomp-int-as-64-bits",
        "seccomp-socketcall-open",
        "seccomp-two-not-equal",
        "seccomp-clone3-eperm",
    ];
    let mut count = 0;
    for (name, config) in crate::fixtures::engines() {
        let author =
            ["docker", "cri", "podman"].into_iter().find(|engine| name.contains(engine)).and_then(Author::parse);
        let spec: Spec = serde_json::from_value(config).unwrap();
        let found = codes(&spec, &Surroundings { author, ..around() });
        count += 1;
        assert!(found.iter().all(|code| KNOWN.contains(code)), "{name}: {found:?}");
    }
    assert!(count > 8, "{count} configurations");
    assert!(Code::ALL.len() > KNOWN.len());
}

#[test]
fn a_list_of_processors_has_an_end() {
    let huge = with(&[("linux.resources.cpu", json!({ "cpus": "0-4294967295" }))]);
    let found = config(&huge, &around());
    assert_eq!(found.iter().map(|finding| finding.code).collect::<Vec<_>>(), [Code::LimitImpossible]);
}
