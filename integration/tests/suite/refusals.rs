//! Bad input: one message that names the fault, exit status 1, and nothing left behind.

use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::{Need, need, need_ocirt};
use ocirt_integration::runtime::{Call, call, kind};
use ocirt_integration::{host, probe, tests, user};
use serde_json::{Value, json};
use std::path::Path;

tests![
    a_bad_config_is_refused_by_field,
    a_bad_config_that_older_runtimes_accept_is_refused,
    a_bad_mount_is_refused,
    an_option_without_effect_on_a_bind_is_a_warning,
    intel_rdt_without_resctrl_is_refused,
    broken_json_is_located,
    a_missing_bundle_is_named,
    a_missing_config_is_named,
    a_missing_root_is_named,
    a_root_that_is_a_symlink_is_refused,
    a_root_that_is_a_file_is_refused,
    a_namespace_path_of_another_type_is_refused,
    a_namespace_path_that_does_not_exist_is_refused,
    any_version_one_is_accepted,
    another_major_version_is_refused,
    unknown_fields_are_ignored,
    an_unwritable_root_directory_is_an_error,
    a_full_disk_below_the_root_directory_leaves_nothing,
    a_missing_bind_source_is_named,
    an_unknown_command_or_flag_is_an_error,
    missing_arguments_are_an_error,
    the_error_is_one_line_on_standard_error_and_one_in_the_log,
    the_log_says_where_the_fault_is,
    the_text_log_says_the_same,
    a_log_that_cannot_be_opened_is_an_error,
    numbers_out_of_range_are_refused,
    a_kernel_below_the_floor_is_one_clear_error,
    a_missing_system_call_is_survived_or_named,
];

/// One field set to one value, and the words that the message must have: the field, as a user would look for it.
fn a_bad_config_is_refused_by_field() {
    let namespaces = |extra: Value| json!([{ "type": "mount" }, { "type": "pid" }, extra]);
    let rows = [
        ("process.args", json!([]), "args"),
        ("process.cwd", json!("relative"), "cwd"),
        ("process.cwd", json!(""), "cwd"),
        ("process.rlimits", json!([{ "type": "RLIMIT_NOPE", "soft": 1, "hard": 1 }]), "rlimit"),
        ("process.rlimits", json!([{ "type": "RLIMIT_NOFILE", "soft": 9, "hard": 1 }]), "rlimit"),
        ("process.oomScoreAdj", json!(2000), "oom"),
        ("process.apparmorProfile", json!("no-such-profile"), "apparmor"),
        ("process.selinuxLabel", json!("system_u:system_r:container_t:s0"), "selinux"),
        ("linux.namespaces", namespaces(json!({ "type": "pid" })), "pid"),
        ("linux.namespaces", namespaces(json!({ "type": "nope" })), "namespace"),
        ("linux.namespaces", namespaces(json!({ "type": "network", "path": "relative" })), "namespace"),
        ("linux.sysctl", json!({ "vm.swappiness": "10" }), "vm.swappiness"),
        ("linux.sysctl", json!({ "kernel.hostname": "x" }), "kernel.hostname"),
        ("linux.sysctl", json!({ "kernel.nope": "x" }), "kernel.nope"),
        ("linux.sysctl", json!({ "../../etc/passwd": "x" }), "passwd"),
        ("linux.seccomp", json!({ "defaultAction": "SCMP_ACT_NOPE" }), "SCMP_ACT_NOPE"),
        (
            "linux.seccomp",
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_NOPE"] }),
            "SCMP_ARCH_NOPE",
        ),
        ("linux.seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_NOPE"] }), "flag"),
        (
            "linux.seccomp",
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["getpid"], "action": "SCMP_ACT_ERRNO",
            "args": [{ "index": 6, "value": 1, "op": "SCMP_CMP_EQ" }] }] }),
            "seccomp",
        ),
        (
            "linux.seccomp",
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["getpid"], "action": "SCMP_ACT_ERRNO",
            "args": [{ "index": 0, "value": 1, "op": "SCMP_CMP_NOPE" }] }] }),
            "SCMP_CMP_NOPE",
        ),
        ("linux.devices", json!([{ "path": "/dev/x", "type": "z", "major": 1, "minor": 1 }]), "device"),
        ("linux.resources.devices", json!([{ "allow": true, "type": "z", "access": "r" }]), "device"),
        ("linux.rootfsPropagation", json!("nope"), "propagation"),
        ("hooks.prestart", json!([{ "path": "relative" }]), "hook"),
        ("hooks.createRuntime", json!([{ "path": "/bin/true", "timeout": 0 }]), "timeout"),
        ("root", Value::Null, "root"),
        ("process", Value::Null, "process"),
        ("hostname", json!("a".repeat(65)), "hostname"),
    ];
    refuse_each(&rows);
}

/// The same, for what runc 1.1 ignores or does not name.
fn a_bad_config_that_older_runtimes_accept_is_refused() {
    let rlimit = json!({ "type": "RLIMIT_NOFILE", "soft": 100, "hard": 100 });
    let rows = [
        ("process.rlimits", json!([rlimit, rlimit]), "rlimit"),
        ("process.scheduler", json!({ "policy": "SCHED_NOPE" }), "scheduler"),
        ("process.scheduler", json!({ "policy": "SCHED_FIFO", "priority": 1000 }), "scheduler"),
        ("process.ioPriority", json!({ "class": "IOPRIO_CLASS_NOPE", "priority": 1 }), "ioPriority"),
        ("process.ioPriority", json!({ "class": "IOPRIO_CLASS_BE", "priority": 9 }), "ioPriority"),
        ("linux.uidMappings", json!([{ "containerID": 0, "hostID": 1, "size": 1 }]), "uidMappings"),
        ("linux.gidMappings", json!([{ "containerID": 0, "hostID": 1, "size": 1 }]), "gidMappings"),
        ("linux.timeOffsets", json!({ "monotonic": { "secs": 1 } }), "timeOffsets"),
        ("linux.devices", json!([{ "path": "relative", "type": "c", "major": 1, "minor": 1 }]), "device"),
        ("linux.resources.devices", json!([{ "allow": true, "type": "c", "access": "xyz" }]), "device"),
        ("linux.personality", json!({ "domain": "NOPE" }), "personality"),
        ("linux.memoryPolicy", json!({ "mode": "MPOL_NOPE", "nodes": "0" }), "memoryPolicy"),
        ("linux.maskedPaths", json!(["relative"]), "maskedPaths"),
        ("root.path", json!(""), "root"),
        ("ociVersion", json!("not a version"), "ociVersion"),
        ("ociVersion", Value::Null, "ociVersion"),
    ];
    refuse_each(&rows);
}

#[track_caller]
fn refuse_each(rows: &[(&str, Value, &str)]) {
    let mut wrong = Vec::new();
    for (field, value, words) in rows {
        // Once more after the args are set, for the rows about them.
        let bundle =
            Bundle::new().set(field, value.clone()).write(probe!(print "it ran")).set(field, value.clone()).keep_args();
        let output = bundle.call("run").run();
        let named = output.stderr.to_lowercase().contains(&words.to_lowercase());
        if output.status != 1 || output.stdout.contains("it ran") || !named {
            let message = output.stderr.lines().next().unwrap_or("");
            wrong.push(format!("{field}={value}: status {}, no {words:?} in {message:?}", output.status));
        }
        host::assert_nothing_left();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn a_bad_mount_is_refused() {
    Bundle::new().mount("tmpfs", "tmpfs", "", &[]).refused_as_ocirt("mounts[6].destination");
    Bundle::new().mount("tmpfs", "tmpfs", "/x", &["nosuchoption"]).refused("nosuchoption");
    Bundle::new().mount("bind", "/tmp", "/x", &["bind", "nosuchoption"]).refused("nosuchoption");
    let words = if kind() == "ocirt" { "/proc/net/dev: the kernel detaches a mount there" } else { "net/dev" };
    Bundle::new().mount("bind", "/etc/hostname", "/proc/net/dev", &["bind"]).refused(words);
}

/// A file system's option on a bind: crun and runtime-tools take it, so it may not be an error, nor pass unnoticed.
fn an_option_without_effect_on_a_bind_is_a_warning() {
    need_ocirt();
    let output = Bundle::new().mount("bind", "/tmp", "/x", &["rbind", "mode=755"]).run(probe!(print "it ran")).ok();
    assert!(output.stderr.contains("warning: mounts[") && output.stderr.contains("mode=755"), "{}", output.stderr);
}

/// What the machine cannot do must be an error and never silence.
fn intel_rdt_without_resctrl_is_refused() {
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
    need(Need::NoResctrl, !mounts.contains(" - resctrl "));
    need_ocirt();
    for value in [json!({}), json!({ "closID": "/" }), json!({ "schemata": ["L3:0=f"], "enableMonitoring": true })] {
        Bundle::new().set("linux.intelRdt", value).refused("linux.intelRdt: no resctrl filesystem is mounted");
    }
}

fn broken_json_is_located() {
    let bundle = Bundle::new().write(probe!(print "it ran"));
    std::fs::write(bundle.dir.join("config.json"), "{\n  \"ociVersion\": \"1.0.2\",\n  nope\n}").expect("config.json");
    let output = bundle.call("run").run().fails_as_ocirt("config.json");
    assert!(output.stderr.contains("line 3") && output.stderr.contains("column 3"), "{}", output.stderr);
    std::fs::write(bundle.dir.join("config.json"), "{\"ociVersion\": \"1.0.2\", \"process\": {\"args\": 7}}")
        .expect("config.json");
    bundle.call("run").run().fails("process.args");
    host::assert_nothing_left();
}

fn a_missing_bundle_is_named() {
    call(["run", "--bundle", "/no/such/bundle", &host::new_id()]).fails("/no/such/bundle");
    host::assert_nothing_left();
}

fn a_missing_config_is_named() {
    let bundle = Bundle::new();
    bundle.call("run").run().fails("config.json");
    host::assert_nothing_left();
}

fn a_missing_root_is_named() {
    let output = Bundle::new().set("root.path", json!("nowhere")).refused("nowhere");
    assert!(
        output.stderr.contains("no such file or directory") || output.stderr.contains("does not exist"),
        "{}",
        output.stderr
    );
}

fn a_root_that_is_a_symlink_is_refused() {
    let bundle = Bundle::new();
    std::os::unix::fs::symlink("rootfs", bundle.dir.join("link")).expect("symlink");
    bundle.set("root.path", json!("link")).refused("root");
}

fn a_root_that_is_a_file_is_refused() {
    let bundle = Bundle::new();
    std::fs::write(bundle.dir.join("file"), "").expect("file");
    bundle.set("root.path", json!("file")).refused("not a directory");
}

fn a_namespace_path_of_another_type_is_refused() {
    for (kind, file) in [("network", "uts"), ("pid", "net"), ("ipc", "mnt"), ("mount", "ipc")] {
        Bundle::new().namespace(kind, Some(&format!("/proc/self/ns/{file}"))).refused("namespace");
    }
}

fn a_namespace_path_that_does_not_exist_is_refused() {
    Bundle::new().namespace("network", Some("/run/netns/nope-nope")).refused("/run/netns/nope-nope");
}

fn any_version_one_is_accepted() {
    for version in ["1.0.0", "1.0.2-dev", "1.2.1", "1.3.0", "1.99.0", "1.1.0+build", "1.0.0-rc5"] {
        let bundle = Bundle::new().set("ociVersion", json!(version));
        assert_eq!(bundle.run(probe!(print "ran")).ok().answer(), "ran", "{version}");
    }
}

fn another_major_version_is_refused() {
    Bundle::new().set("ociVersion", json!("2.0.0")).refused("ociVersion");
}

fn unknown_fields_are_ignored() {
    let bundle = Bundle::new()
        .set("future", json!({ "a": [1] }))
        .set("linux.future", json!(1))
        .set("process.future", json!("x"));
    assert_eq!(bundle.run(probe!(print "ran")).ok().answer(), "ran");
}

fn an_unwritable_root_directory_is_an_error() {
    let bundle = Bundle::new().write(probe!(print "it ran"));
    std::fs::write(bundle.dir.join("file"), "").expect("file");
    // What cannot be made is the first missing part.
    for (root, named) in
        [(bundle.dir.join("file/root"), "file"), ("/proc/nope".into(), "/proc/nope"), ("/sys/nope".into(), "/sys/nope")]
    {
        let output = bundle.call("run").root(Some(root)).run();
        assert!(output.status == 1 && output.stderr.contains(named), "{output:?}");
    }
    host::assert_nothing_left();
}

fn a_full_disk_below_the_root_directory_leaves_nothing() {
    let bundle = Bundle::new().write(probe!(print "it ran"));
    let root = bundle.host_dir("full");
    let mount = |options: &str| {
        let done = std::process::Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "full"])
            .arg(&root)
            .status()
            .expect("mount");
        assert!(done.success());
    };
    mount("size=4k,nr_inodes=20");
    std::fs::write(root.join(".filler"), vec![0u8; 4096]).expect("filler");
    bundle.call("create").root(Some(root.clone())).run().fails("no space left on device");
    let left: Vec<_> = std::fs::read_dir(&root)
        .expect("root")
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|name| name != ".filler")
        .collect();
    std::process::Command::new("umount").arg(&root).status().expect("umount");
    assert!(left.is_empty(), "{left:?}");
    host::assert_nothing_left();
}

fn a_missing_bind_source_is_named() {
    let output = Bundle::new().mount("bind", "/no/such/source", "/mnt", &["bind"]).refused("/no/such/source");
    assert!(output.stderr.to_lowercase().contains("no such file or directory"), "{}", output.stderr);
}

fn an_unknown_command_or_flag_is_an_error() {
    for words in [&["nope"][..], &["state", "--nope", "x"], &["create", "--nope"], &["--nope", "list"]] {
        let output = Call::new(words.iter().copied()).run();
        assert!(output.status != 0, "{words:?} succeeded: {}", output.stdout);
        assert!(format!("{}{}", output.stdout, output.stderr).contains("nope"), "{words:?}: {}", output.stderr);
    }
}

fn missing_arguments_are_an_error() {
    for command in ["create", "run", "start", "state", "kill", "delete", "ps"] {
        let output = call([command]);
        assert!(output.status != 0 && !output.stderr.contains("panic"), "{command}: {}", output.stderr);
    }
    let output = call(["state", "one", "two"]);
    assert!(output.status != 0, "too many arguments were accepted");
}

fn log_lines(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).expect("log");
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))).collect()
}

/// containerd and Podman take the last line whose level is error.
fn the_error_is_one_line_on_standard_error_and_one_in_the_log() {
    let log = host::place().join("log.json");
    let log_text = log.to_str().expect("UTF-8");
    let output = Call::new(["state", "absent"])
        .global(["--log", log_text, "--log-format", "json"])
        .run()
        .fails("does not exist");
    assert_eq!(output.stderr.trim_end().lines().count(), 1, "{}", output.stderr);
    let lines = log_lines(&log);
    let errors: Vec<_> = lines.iter().filter(|line| line["level"] == "error").collect();
    assert_eq!(errors.len(), 1, "{lines:?}");
    assert!(errors[0]["msg"].as_str().is_some_and(|text| text.contains("does not exist")), "{lines:?}");
    let time = errors[0]["time"].as_str().expect("time");
    assert!(time.len() >= 20 && time.as_bytes()[10] == b'T', "{time} is not RFC 3339");
    // It is appended to, since conmon and shims keep one file for several calls.
    Call::new(["state", "absent"]).global(["--log", log_text, "--log-format=json"]).run().fails("does not exist");
    assert_eq!(log_lines(&log).iter().filter(|line| line["level"] == "error").count(), 2);
}

fn the_log_says_where_the_fault_is() {
    need_ocirt();
    let log = host::place().join("log.json");
    let flags = ["--log", log.to_str().expect("UTF-8"), "--log-format", "json"];
    Bundle::new().global(&flags).mount("tmpfs", "tmpfs", "/mnt", &["sice=1"]).refused("mounts");
    let lines = log_lines(&log);
    let line = lines.iter().rfind(|line| line["level"] == "error").expect("an error");
    assert_eq!((&line["field"], &line["errno"]), (&json!("/mounts/6"), &json!("EINVAL")), "{line}");
    assert!(line["call"].is_string(), "{line}");
}

fn the_text_log_says_the_same() {
    let log = host::place().join("log.txt");
    Call::new(["state", "absent"]).global(["--log", log.to_str().expect("UTF-8")]).run().fails("does not exist");
    let text = std::fs::read_to_string(log).expect("log");
    assert!(text.contains("level=error") && text.contains("does not exist"), "{text}");
}

fn a_log_that_cannot_be_opened_is_an_error() {
    Call::new(["list"]).global(["--log", "/no/such/dir/log"]).run().fails("/no/such/dir/log");
    Call::new(["list"]).global(["--log-format", "yaml"]).run().fails("yaml");
}

/// CVE-2016-3697 and CVE-2026-30892: an id that does not fit must not become root.
fn numbers_out_of_range_are_refused() {
    for uid in [json!(4_294_967_296u64), json!(-1), json!("1000"), json!(1.5)] {
        let output = Bundle::new().set("process.user.uid", uid.clone()).run(probe!(id));
        assert!(output.status == 1 && output.stdout.is_empty(), "uid {uid}: {} {}", output.status, output.stdout);
    }
    host::assert_nothing_left();
}

/// quotactl_fd(2) came with the floor, Linux 5.14.
fn a_kernel_below_the_floor_is_one_clear_error() {
    need_ocirt();
    let bundle = Bundle::new().write(probe!(print "it ran"));
    let output = bundle.call("create").without(vec![libc::SYS_quotactl_fd]).run().fails("Linux 5.14");
    assert_eq!(output.stderr.trim_end().lines().count(), 1, "{}", output.stderr);
    host::assert_nothing_left();
}

/// Each newer call alone: a fallback, or an error that names the call; never half a container.
fn a_missing_system_call_is_survived_or_named() {
    let rows = [
        ("clone3", libc::SYS_clone3),
        ("pidfd_open", libc::SYS_pidfd_open),
        ("pidfd_send_signal", libc::SYS_pidfd_send_signal),
        ("close_range", libc::SYS_close_range),
        ("open_tree", libc::SYS_open_tree),
        ("move_mount", libc::SYS_move_mount),
        ("fsopen", libc::SYS_fsopen),
        ("mount_setattr", libc::SYS_mount_setattr),
        ("statx", libc::SYS_statx),
        ("keyctl", libc::SYS_keyctl),
        ("execveat", libc::SYS_execveat),
        ("memfd_create", libc::SYS_memfd_create),
    ];
    for (name, number) in rows {
        let bundle = Bundle::new();
        // newuidmap(1) needs some of them, too.
        let bundle = if user::has_suite() { bundle.rootless(user::one_id()) } else { bundle };
        let bundle = bundle.write(probe!(print "it ran"));
        let output = bundle.call("run").without(vec![number]).run();
        match output.status {
            0 => assert_eq!(output.answer(), "it ran", "without {name}"),
            1 => assert!(
                output.stderr.contains(name) || output.stderr.contains("kernel"),
                "without {name}: {}",
                output.stderr
            ),
            status => panic!("without {name}: status {status}: {}", output.stderr),
        }
        call(["delete", "--force", &bundle.id]);
        host::assert_nothing_left();
    }
}
