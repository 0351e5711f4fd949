//! `linux.namespaces`, id mappings, time offsets, names and sysctls (config-linux.md, "Namespaces").

use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::{Need, need, need_root};
use ocirt_integration::{host, probe, tests, user};
use serde_json::{Value, json};
use std::path::Path;

tests![
    each_namespace_listed_is_new,
    each_namespace_not_listed_is_the_callers,
    a_namespace_can_be_joined_by_path,
    all_namespaces_of_another_container_can_be_joined,
    without_namespaces_at_all_it_still_runs,
    time_offsets_are_set,
    time_offsets_are_set_in_a_new_user_namespace,
    a_user_namespace_maps_ids,
    a_user_namespace_keeps_the_rootfs_usable,
    a_user_namespace_maps_several_ranges,
    the_host_name_is_set,
    the_domain_name_is_set,
    the_loopback_is_up,
    sysctls_are_set,
    a_readonly_mount_stays_so_in_a_user_namespace,
    devices_in_a_user_namespace_are_usable,
    a_device_that_the_host_lacks_is_made_for_a_user_namespace,
    the_runtime_is_not_visible_inside,
];

fn own(kind: &str) -> Value {
    json!(std::fs::read_link(format!("/proc/self/ns/{kind}")).expect("ns").to_str())
}

/// The spec's word and the kernel's.
const KINDS: [(&str, &str); 7] = [
    ("pid", "pid"),
    ("network", "net"),
    ("mount", "mnt"),
    ("ipc", "ipc"),
    ("uts", "uts"),
    ("cgroup", "cgroup"),
    ("user", "user"),
];

fn each_namespace_listed_is_new() {
    for (word, file) in KINDS {
        let bundle =
            if word == "user" { Bundle::new().user_namespace(100_000) } else { Bundle::new().namespace(word, None) };
        let inside = bundle.run(probe!(ns)).ok().answer();
        assert_ne!(inside[file], own(file), "{word}");
    }
}

fn each_namespace_not_listed_is_the_callers() {
    for (word, file) in [
        ("network", "net"),
        ("ipc", "ipc"),
        ("uts", "uts"),
        ("pid", "pid"),
        ("cgroup", "cgroup"),
        ("user", "user"),
        ("time", "time"),
    ] {
        // rootless::without_a_user_namespace_it_is_refused
        if word == "user" && user::has_suite() {
            continue;
        }
        let bundle = Bundle::new().without_namespace(word).config(|spec| {
            if word == "uts" {
                spec.as_object_mut().expect("config").remove("hostname");
            }
        });
        assert_eq!(bundle.run(probe!(ns)).ok().answer()[file], own(file), "{word}");
    }
}

fn a_namespace_can_be_joined_by_path() {
    let donor = Bundle::new().namespace("cgroup", None).create(probe!(sleep 60));
    donor.start().ok();
    let pid = donor.pid();
    for (word, file) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid")] {
        let path = format!("/proc/{pid}/ns/{file}");
        let expected = std::fs::read_link(&path).expect("ns");
        let bundle = Bundle::new().beside(pid).namespace(word, Some(&path)).config(|spec| {
            if word == "uts" {
                spec.as_object_mut().expect("config").remove("hostname");
            }
        });
        let answers = bundle.run(probe!(ns; uname)).ok().answers();
        assert_eq!(answers[0][file], json!(expected.to_str()), "{word}");
        if word == "uts" {
            assert_eq!(answers[1]["hostname"], "guest");
        }
    }
}

/// A pod: the members join what the infra container made.
fn all_namespaces_of_another_container_can_be_joined() {
    let infra = Bundle::new().create(probe!(sleep 60));
    infra.start().ok();
    let pid = infra.pid();
    let mut bundle = Bundle::new().beside(pid).set("hostname", Value::Null);
    for (word, file) in [("network", "net"), ("ipc", "ipc"), ("uts", "uts"), ("pid", "pid")] {
        bundle = bundle.namespace(word, Some(&format!("/proc/{pid}/ns/{file}")));
    }
    let container = bundle.create(probe!(session; sleep 60));
    container.start().ok();
    let answer = &container.answers(1)[0];
    assert_ne!(answer["pid"], 1, "it is not the first process there");
    let member = container.pid();
    container.kill("KILL").ok();
    // As a shim does; a zombie would keep the namespace's first process from ending.
    assert_eq!(host::reap(member), 128 + 9);
    container.wait_for("stopped");
    container.delete().ok();
    assert_eq!(infra.status(), "running");
}

fn without_namespaces_at_all_it_still_runs() {
    let bundle = Bundle::new().set("hostname", Value::Null).without_namespace("pid");
    let namespaces =
        if user::has_suite() { json!([{ "type": "mount" }, { "type": "user" }]) } else { json!([{ "type": "mount" }]) };
    let bundle = bundle.set("linux.namespaces", namespaces);
    let bundle = bundle.config(|spec| {
        spec["mounts"]
            .as_array_mut()
            .expect("mounts")
            .retain(|mount| mount["destination"] != "/sys" && mount["destination"] != "/dev/mqueue");
    });
    assert_eq!(bundle.run(probe!(ns)).ok().answer()["pid"], own("pid"));
}

fn time_offsets_are_set() {
    need(Need::TimeNamespaces, Path::new("/proc/self/ns/time").exists());
    let offsets = json!({ "monotonic": { "secs": 100_000, "nanosecs": 5 }, "boottime": { "secs": 200_000 } });
    let bundle = Bundle::new().namespace("time", None).set("linux.timeOffsets", offsets);
    let output = bundle.run(probe!(clocks; ns)).ok();
    let inside = &output.answers()[0];
    assert_ne!(output.answers()[1]["time"], own("time"));
    let outside = std::process::Command::new(host::probe()).arg("clocks").output().expect("probe").stdout;
    let outside: Value = serde_json::from_slice(&outside).expect("JSON");
    for (clock, offset) in [("monotonic", 100_000), ("boottime", 200_000)] {
        let difference = inside[clock].as_i64().expect("a number") - outside[clock].as_i64().expect("a number");
        assert!((offset - 20..=offset).contains(&difference), "{clock} differs by {difference}");
    }
}

/// Its first process changes its ids, and could write the file of the offsets no more after that.
fn time_offsets_are_set_in_a_new_user_namespace() {
    need(Need::TimeNamespaces, Path::new("/proc/self/ns/time").exists());
    let bundle = Bundle::new().user_namespace(100_000).namespace("time", None);
    let bundle = bundle.set("linux.timeOffsets", json!({ "boottime": { "secs": 200_000, "nanosecs": 5 } }));
    let text = bundle.run(probe!(read "/proc/self/timens_offsets")).ok().answer();
    let words: Vec<_> = text.as_str().expect("offsets").split_whitespace().collect();
    assert_eq!(words, ["monotonic", "0", "0", "boottime", "200000", "5"]);
}

fn a_user_namespace_maps_ids() {
    let container = Bundle::new().user_namespace(100_000).create(probe!(id; read "/proc/self/uid_map"; sleep 60));
    container.start().ok();
    let answers = container.answers(2);
    assert_eq!(answers[0]["uid"], json!([0, 0, 0]));
    let words: Vec<_> = answers[1].as_str().expect("map").split_whitespace().map(str::to_owned).collect();
    assert_eq!(words, ["0", "100000", "65536"]);
    let status = container.proc_file("status");
    assert!(status.contains("Uid:\t100000\t100000\t100000\t100000"), "{status}");
    assert!(status.contains("Gid:\t100000\t100000\t100000\t100000"), "{status}");
}

fn a_user_namespace_keeps_the_rootfs_usable() {
    let bundle = Bundle::new().user_namespace(100_000).set("process.cwd", json!("/new"));
    let output = bundle.run(probe!(cwd; touch "/data/file"; stat "/data/file"; mountof "/proc"; mountof "/sys"; read "/dev/zero"; stat "/dev/pts"));
    let answers = output.ok().answers();
    assert_eq!((&answers[0], &answers[1], &answers[2]["uid"]), (&json!("/new"), &json!("ok"), &json!(0)));
    assert_eq!((&answers[3]["type"], &answers[4]["type"]), (&json!("proc"), &json!("sysfs")));
    assert!(answers[5].is_string());
}

fn a_user_namespace_maps_several_ranges() {
    let map = json!([
        { "containerID": 0, "hostID": 100_000, "size": 10 },
        { "containerID": 1000, "hostID": 120_000, "size": 1 },
        { "containerID": 2000, "hostID": 130_000, "size": 5 },
    ]);
    let bundle =
        Bundle::new().user_namespace(100_000).set("linux.uidMappings", map.clone()).set("linux.gidMappings", map);
    let user = json!({ "uid": 1000, "gid": 2004, "additionalGids": [3, 2001] });
    let container = bundle.set("process.user", user).create(probe!(id; sleep 60));
    container.start().ok();
    let answer = &container.answers(1)[0];
    assert_eq!((&answer["uid"][0], &answer["gid"][0]), (&json!(1000), &json!(2004)));
    let status = container.proc_file("status");
    assert!(status.contains("Uid:\t120000") && status.contains("Gid:\t130004"), "{status}");
    assert!(
        status.lines().any(|line| line.starts_with("Groups:") && line.contains("100003") && line.contains("130001")),
        "{status}"
    );
}

fn the_host_name_is_set() {
    let outside = std::fs::read_to_string("/proc/sys/kernel/hostname").expect("hostname");
    let answer = Bundle::new().set("hostname", json!("web-1.example")).run(probe!(uname)).ok().answer();
    assert_eq!(answer["hostname"], "web-1.example");
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/hostname").expect("hostname"), outside);
}

fn the_domain_name_is_set() {
    let answer = Bundle::new().set("domainname", json!("example.org")).run(probe!(uname)).ok().answer();
    assert_eq!(answer["domainname"], "example.org");
}

fn the_loopback_is_up() {
    let text = Bundle::new().run(probe!(read "/sys/class/net/lo/flags")).ok().answer();
    // IFF_UP is bit 0.
    assert_eq!(text, "0x9\n");
}

fn sysctls_are_set() {
    let sysctls = json!({
        "net.ipv4.ip_unprivileged_port_start": "0",
        "net/ipv4/ping_group_range": "0 100",
        "kernel.shmmni": "100",
        "fs.mqueue.msg_max": "11",
        "kernel.domainname": "by.sysctl",
    });
    let paths = [
        "net/ipv4/ip_unprivileged_port_start",
        "net/ipv4/ping_group_range",
        "kernel/shmmni",
        "fs/mqueue/msg_max",
        "kernel/domainname",
    ];
    let expected = ["0\n", "0\t100\n", "100\n", "11\n", "by.sysctl\n"];
    let outside = std::fs::read_to_string("/proc/sys/kernel/shmmni").expect("sysctl");
    for (path, expected) in paths.iter().zip(expected) {
        let mut sysctls = sysctls.clone();
        if user::has_suite() {
            // Its file is root's of the first user namespace.
            Bundle::new().set("linux.sysctl", json!({ "kernel.domainname": "x" })).refused("kernel.domainname");
            sysctls.as_object_mut().expect("an object").remove("kernel.domainname");
            if *path == "kernel/domainname" {
                continue;
            }
        }
        let bundle = Bundle::new().set("linux.sysctl", sysctls);
        assert_eq!(bundle.run(probe!(read format!("/proc/sys/{path}"))).ok().answer(), expected, "{path}");
    }
    assert_eq!(std::fs::read_to_string("/proc/sys/kernel/shmmni").expect("sysctl"), outside);
}

/// Root of a user namespace has CAP_SYS_ADMIN there, but flags of mounts from outside are locked.
fn a_readonly_mount_stays_so_in_a_user_namespace() {
    let all = json!(["CAP_SYS_ADMIN"]);
    let bundle = Bundle::new().user_namespace(100_000);
    let source = bundle.host_dir("source");
    let path = source.to_str().expect("UTF-8").to_owned();
    let done = std::process::Command::new("mount")
        .args(["-t", "tmpfs", "-o", "ro", "locked"])
        .arg(&source)
        .status()
        .expect("mount");
    assert!(done.success());
    let bundle = bundle.set("process.capabilities", json!({ "bounding": all, "effective": all, "permitted": all }));
    let bundle = bundle.mount("bind", &path, "/mnt", &["bind", "ro"]);
    let output = bundle.run(probe!(mount "", "/mnt", "", "remount,bind"; touch "/mnt/new"));
    std::process::Command::new("umount").arg(&source).status().expect("umount");
    let answers = output.ok().answers();
    assert_eq!((&answers[0]["error"], &answers[1]["error"]), (&json!("EPERM"), &json!("EROFS")));
}

fn devices_in_a_user_namespace_are_usable() {
    let bundle = Bundle::new().user_namespace(100_000);
    let answers = bundle
        .run(probe!(stat "/dev/null"; write "/dev/null", "x"; readlink "/dev/fd"; stat "/dev/full"))
        .ok()
        .answers();
    assert_eq!((&answers[0]["rdev"], &answers[1]), (&json!("1:3"), &json!("ok")));
    assert_eq!((&answers[2], &answers[3]["rdev"]), (&json!("/proc/self/fd"), &json!("1:7")));
}

/// A path of its own, as of Docker's `--device /dev/net/tun:/dev/mytun`: nobody inside may make a node that works.
fn a_device_that_the_host_lacks_is_made_for_a_user_namespace() {
    need_root();
    let device = |path: &str, uid: u32| json!({ "path": path, "type": "c", "major": 1, "minor": 5, "fileMode": 0o640, "uid": uid, "gid": 5 });
    let bundle = Bundle::new().user_namespace(100_000);
    let bundle =
        bundle.push("linux.devices", device("/dev/mine", 7)).push("linux.devices", device("/dev/below/too", 0));
    let answers = bundle
        .run(probe!(stat "/dev/mine"; stat "/dev/below/too"; write "/dev/below/too", "x"; mountof "/dev/mine"))
        .ok()
        .answers();
    for (answer, uid) in [(&answers[0], 7), (&answers[1], 0)] {
        assert_eq!(
            (&answer["rdev"], &answer["uid"], &answer["gid"]),
            (&json!("1:5"), &json!(uid), &json!(5)),
            "{answer}"
        );
        assert!(answer["mode"].to_string().contains("640"), "{answer}");
    }
    assert_eq!(answers[2], "ok", "it works");
    for word in ["nosuid", "noexec"] {
        if ocirt_integration::runtime::kind() == "ocirt" {
            assert!(ocirt_integration::has(&answers[3]["options"], word), "{}", answers[3]);
        }
    }
    assert!(!Path::new("/dev/mine").exists());
    // One whose owner nobody is cannot be made.
    let bundle = Bundle::new().user_namespace(100_000).push("linux.devices", device("/dev/mine", 70_000));
    let output = bundle.write(probe!(print "it ran")).call("run").run();
    assert!(output.status != 0 && !output.stdout.contains("it ran"), "{output:?}");
    host::assert_nothing_left();
}

fn the_runtime_is_not_visible_inside() {
    let listing = Bundle::new().run(probe!(ls "/proc")).ok().answer();
    let pids: Vec<_> = listing
        .as_array()
        .expect("names")
        .iter()
        .filter(|name| name.as_str().is_some_and(|n| n.parse::<u32>().is_ok()))
        .collect();
    assert_eq!(pids, ["1"]);
}
