//! What people with scripts notice after they switch from runc or crun: small things that engines do not see.

use super::exec::{exec, running};
use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::need_root;
use ocirt_integration::runtime::{Call, call};
use ocirt_integration::{has, host, probe, tests};
use serde_json::{Value, json};

tests![
    what_is_left_of_a_container_is_killed_with_its_signal,
    a_signal_to_end_ends_a_created_container,
    a_device_path_may_end_with_a_slash,
    norelatime_leaves_what_the_source_has,
    a_domain_name_is_said_once,
    a_path_that_is_masked_twice_is_one_mount,
    a_file_on_a_directory_is_refused_in_words,
    features_has_the_key_that_callers_of_runc_look_for,
    a_user_namespace_without_root_is_refused,
    no_containers_are_an_empty_list,
    spec_writes_a_cgroup_namespace_where_runc_does,
    a_capability_of_exec_is_ambient_where_it_is_inheritable,
];

/// Without a pid namespace of its own, nothing but the cgroup tells what belongs to it.
fn what_is_left_of_a_container_is_killed_with_its_signal() {
    let container = Bundle::new().without_namespace("pid").create(probe!(spawn 60; exit 0));
    container.start().ok();
    let left = container.answers(1)[0].as_i64().expect("a pid");
    container.wait_for("stopped");
    let is_there = || {
        let status = std::fs::read_to_string(format!("/proc/{left}/status")).unwrap_or_default();
        status.contains("State:") && !status.contains("Z (zombie)")
    };
    assert!(is_there());
    // Other signals are for init.
    container.kill("TERM").fails("not running");
    assert!(is_there());
    container.kill("KILL").ok();
    ocirt_integration::wait::eventually("what was left is gone", || !is_there());
    container.delete().ok();
}

/// In a pid namespace of its own the kernel keeps these signals from an init that does not handle them.
fn a_signal_to_end_ends_a_created_container() {
    for signal in ["TERM", "INT", "HUP", "QUIT"] {
        let container = Bundle::new().create(probe!(sleep 60));
        container.kill(signal).ok();
        container.wait_for("stopped");
        container.delete().ok();
    }
    let container = Bundle::new().create(probe!(sleep 60));
    container.kill("USR1").ok();
    assert_eq!(container.status(), "created");
    // A program that runs chooses for itself.
    container.kill("KILL").ok();
    let container = running(Bundle::new());
    container.kill("TERM").ok();
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(container.status(), "running");
}

fn a_device_path_may_end_with_a_slash() {
    need_root();
    let device = json!({ "path": "/dev/extra/", "type": "c", "major": 1, "minor": 3, "fileMode": 0o666 });
    let answer = Bundle::new().push("linux.devices", device).run(probe!(stat "/dev/extra")).ok().answer();
    assert_eq!(answer["rdev"], "1:3");
}

fn norelatime_leaves_what_the_source_has() {
    // In a user namespace the flags of the source are locked.
    need_root();
    for (options, expected) in [
        (&["bind", "norelatime"][..], "noatime"),
        (&["bind", "nostrictatime"], "noatime"),
        (&["bind", "relatime", "norelatime"], "noatime"),
        (&["bind", "relatime"], "relatime"),
    ] {
        let bundle = Bundle::new();
        let source = bundle.host_dir("source");
        let mount = |words: &[&str]| {
            let done = std::process::Command::new("mount").args(words).arg(&source).status().expect("mount");
            assert!(done.success());
        };
        mount(&["-t", "tmpfs", "-o", "noatime", "tmpfs"]);
        let source = source.to_str().expect("UTF-8").to_owned();
        let answer = bundle.mount("bind", &source, "/mnt", options).run(probe!(mountof "/mnt")).ok().answer();
        let done = std::process::Command::new("umount").arg(&source).status().expect("umount");
        assert!(done.success());
        assert!(has(&answer["options"], expected), "{options:?}: {answer}");
    }
}

fn a_domain_name_is_said_once() {
    // Only root of the host may set it, whatever the user namespace.
    need_root();
    let bundle = |value: &str| {
        let bundle = Bundle::new().set("domainname", json!("a.example"));
        bundle.set("linux.sysctl", json!({ "kernel.domainname": value }))
    };
    bundle("b.example").refused("conflicts with the OCI \"domainname\" field");
    // With or without the field, the same is no conflict.
    for bundle in [bundle("a.example"), bundle("a.example").set("domainname", Value::Null)] {
        let answer = bundle.run(probe!(read "/proc/sys/kernel/domainname")).ok().answer();
        assert_eq!(answer.as_str().map(str::trim), Some("a.example"));
    }
}

fn a_path_that_is_masked_twice_is_one_mount() {
    let bundle = Bundle::new().set("linux.maskedPaths", json!(["/etc", "/data", "/etc"]));
    let answer = bundle.run(probe!(mounts)).ok().answer();
    let masks = answer.as_array().expect("mounts").iter().filter(|mount| mount["target"] == "/etc");
    assert_eq!(masks.count(), 1, "masks of /etc");
}

/// Docker adds to an error with these words what the usual mistake is.
fn a_file_on_a_directory_is_refused_in_words() {
    let bundle = Bundle::new();
    let (directory, file) = (bundle.host_dir("directory"), bundle.dir.join("file"));
    std::fs::write(&file, "x").expect("file");
    for (source, destination, words) in [
        (&file, "/data", "not a directory (/data is a directory, and the source is a file)"),
        (
            &directory,
            "/probe",
            "not a directory (/probe is a file, or lies below one, where a directory is to be mounted)",
        ),
    ] {
        let bundle = Bundle::new().mount("bind", source.to_str().expect("UTF-8"), destination, &["bind"]);
        let output = bundle.run(probe!(print "it ran")).fails("not a directory");
        if ocirt_integration::runtime::kind() == "ocirt" {
            assert!(output.stderr.contains(words), "{}", output.stderr);
        }
    }
}

fn features_has_the_key_that_callers_of_runc_look_for() {
    let features = call(["features"]).ok().json();
    assert_eq!(features["annotations"]["org.opencontainers.runc.checkpoint.enabled"], "true");
}

/// Who sets it up is root of it.
fn a_user_namespace_without_root_is_refused() {
    let map = |host: u32| json!([{ "containerID": 1000, "hostID": host, "size": 1 }]);
    let bundle = Bundle::new().namespace("user", None).set("process.user", json!({ "uid": 1000, "gid": 1000 }));
    let bundle = bundle.set("linux.uidMappings", map(100_000)).set("linux.gidMappings", map(100_000));
    // The group of terminals is not mapped either.
    let bundle = bundle.set("mounts", json!([{ "destination": "/proc", "type": "proc", "source": "proc" }]));
    bundle.refused("mapp");
}

/// A root directory is made by the first container: before, there are none.
fn no_containers_are_an_empty_list() {
    let root = host::place().join("no-such-root");
    let output = Call::new(["list", "--quiet"]).root(Some(root.clone())).run().ok();
    assert_eq!(output.stdout.trim(), "");
    assert!(!root.exists());
}

/// With cgroup v1 scripts add one themselves, and twice is an error.
fn spec_writes_a_cgroup_namespace_where_runc_does() {
    // The directory is root's.
    need_root();
    let directory = host::place().join("spec");
    std::fs::create_dir_all(&directory).expect("directory");
    for rootless in [&[][..], &["--rootless"]] {
        Call::new(["spec"].iter().chain(rootless).copied()).cwd(&directory).run().ok();
        let file = directory.join("config.json");
        let spec: Value = serde_json::from_slice(&std::fs::read(&file).expect("config.json")).expect("JSON");
        std::fs::remove_file(file).expect("config.json");
        let namespaces = spec["linux"]["namespaces"].as_array().expect("namespaces");
        let has_one = namespaces.iter().any(|namespace| namespace["type"] == "cgroup");
        assert_eq!(has_one, host::is_cgroup2(), "{rootless:?}");
    }
}

/// So that a program of an ordinary user has it. What is not inheritable stays so (CVE-2022-29162).
fn a_capability_of_exec_is_ambient_where_it_is_inheritable() {
    let both = json!(["CAP_KILL", "CAP_CHOWN"]);
    let container = running(Bundle::new().set(
        "process.capabilities",
        json!({ "bounding": both, "permitted": ["CAP_CHOWN"], "effective": ["CAP_CHOWN"], "inheritable": ["CAP_KILL"] }),
    ));
    for (name, is_ambient) in [("CAP_KILL", true), ("CAP_CHOWN", false)] {
        let answer = exec(&container, &["--cap", name], probe!(caps)).run().ok().answer();
        assert_eq!(has(&answer["ambient"], name), is_ambient, "{answer}");
        assert!(has(&answer["effective"], name) && has(&answer["bounding"], name), "{answer}");
    }
}
