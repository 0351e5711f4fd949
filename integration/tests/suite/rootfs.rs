//! `root`, masked and readonly paths, devices, and the file systems that every container has (config-linux.md).

use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::{Need, need, need_root};
use ocirt_integration::{has, host, probe, tests, user};
use serde_json::json;

tests![
    the_root_propagation_is_set,
    a_readonly_root_refuses_writes,
    a_writable_root_is_the_bundles,
    the_old_root_is_gone,
    a_root_path_may_be_absolute,
    no_pivot_works,
    a_masked_file_reads_as_empty,
    a_masked_directory_is_empty_and_read_only,
    a_missing_masked_path_is_skipped,
    a_readonly_path_refuses_writes_and_its_neighbour_does_not,
    default_devices_are_there,
    dev_symlinks_are_there,
    a_device_is_made_with_its_owner_and_mode,
    a_device_that_exists_is_kept_or_refused,
    cgroup_v1_shows_only_the_containers_own,
    cgroup_v1_in_a_cgroup_namespace_is_mounted_afresh,
    cgroup_v2_shows_only_the_containers_own,
    proc_and_sysfs_are_the_containers,
    mqueue_and_shm_work,
];

fn the_root_propagation_is_set() {
    for (mode, tag) in [("slave", "master"), ("rslave", "master"), ("shared", "shared"), ("unbindable", "unbindable")] {
        let entry = Bundle::new().set("linux.rootfsPropagation", json!(mode)).run(probe!(mountof "/")).ok().answer();
        assert!(has(&entry["propagation"], tag), "{mode}: {entry}");
    }
    for mode in ["private", "rprivate"] {
        let entry = Bundle::new().set("linux.rootfsPropagation", json!(mode)).run(probe!(mountof "/")).ok().answer();
        assert_eq!(entry["propagation"], json!([]), "{mode}: {entry}");
    }
}

fn a_readonly_root_refuses_writes() {
    let bundle = Bundle::new().set("root.readonly", json!(true)).mount("tmpfs", "tmpfs", "/mnt", &[]);
    let outside = bundle.rootfs();
    let output = bundle.run(probe!(touch "/new"; touch "/mnt/new"; mountof "/"; touch "/dev/new")).ok();
    let answers = output.answers();
    assert_eq!((&answers[0]["error"], &answers[1]), (&json!("EROFS"), &json!("ok")));
    assert!(has(&answers[2]["options"], "ro"));
    assert!(!outside.join("new").exists());
}

fn a_writable_root_is_the_bundles() {
    let bundle = Bundle::new();
    let outside = bundle.inside("/new");
    assert_eq!(bundle.run(probe!(touch "/new")).ok().answer(), "ok");
    assert!(outside.exists());
}

fn the_old_root_is_gone() {
    let bundle = Bundle::new();
    let place = host::place().to_str().expect("UTF-8").to_owned();
    let output = bundle.run(probe!(mounts; ls "/"; stat place; stat "/../../../etc/debian_version")).ok();
    let answers = output.answers();
    let targets: Vec<_> = answers[0].as_array().expect("mounts").iter().map(|entry| entry["target"].clone()).collect();
    assert!(!targets.iter().any(|target| target.to_string().contains(&host::run())), "{targets:?}");
    assert_eq!(answers[1], json!(["data", "dev", "etc", "probe", "proc", "sys", "tmp"]));
    assert_eq!((&answers[2]["error"], &answers[3]["error"]), (&json!("ENOENT"), &json!("ENOENT")));
}

fn a_root_path_may_be_absolute() {
    let bundle = Bundle::new();
    let path = bundle.rootfs().to_str().expect("UTF-8").to_owned();
    assert_eq!(bundle.set("root.path", json!(path)).run(probe!(print "here")).ok().answer(), "here");
}

fn no_pivot_works() {
    let output = Bundle::new().flags(&["--no-pivot"]).run(probe!(ls "/"; touch "/new")).ok();
    assert_eq!(output.answers()[0], json!(["data", "dev", "etc", "probe", "proc", "sys", "tmp"]));
}

fn a_masked_file_reads_as_empty() {
    let bundle = Bundle::new().file("secret", "42").set("linux.maskedPaths", json!(["/secret"]));
    let output = bundle.run(probe!(read "/secret"; stat "/secret")).ok();
    assert_eq!(output.answers()[0], "");
    assert_eq!(output.answers()[1]["rdev"], "1:3");
}

fn a_masked_directory_is_empty_and_read_only() {
    let bundle = Bundle::new().file("data/file", "42").set("linux.maskedPaths", json!(["/data"]));
    let output = bundle.run(probe!(ls "/data"; touch "/data/new"; stat "/data/file")).ok();
    let expected = [json!([]), json!({ "error": "EROFS" }), json!({ "error": "ENOENT" })];
    assert_eq!(output.answers(), expected);
}

fn a_missing_masked_path_is_skipped() {
    let bundle = Bundle::new().set("linux.maskedPaths", json!(["/nope"])).set("linux.readonlyPaths", json!(["/nope2"]));
    assert_eq!(
        bundle.run(probe!(stat "/nope"; stat "/nope2")).ok().answers(),
        [json!({"error": "ENOENT"}), json!({"error": "ENOENT"})]
    );
}

fn a_readonly_path_refuses_writes_and_its_neighbour_does_not() {
    let bundle =
        Bundle::new().file("data/file", "42").file("tmp/file", "42").set("linux.readonlyPaths", json!(["/data"]));
    let output =
        bundle.run(probe!(write "/data/file", "x"; touch "/data/new"; read "/data/file"; write "/tmp/file", "x")).ok();
    let expected = [json!({ "error": "EROFS" }), json!({ "error": "EROFS" }), json!("42"), json!("ok")];
    assert_eq!(output.answers(), expected);
}

fn default_devices_are_there() {
    let rows =
        [("null", "1:3"), ("zero", "1:5"), ("full", "1:7"), ("random", "1:8"), ("urandom", "1:9"), ("tty", "5:0")];
    for (name, number) in rows {
        let path = format!("/dev/{name}");
        let answers = Bundle::new().run(probe!(stat path; open path)).ok().answers();
        assert_eq!(
            (&answers[0]["kind"], &answers[0]["rdev"], &answers[0]["mode"]),
            (&json!("char"), &json!(number), &json!("0666")),
            "{name}"
        );
        let refusal = if name == "tty" { json!({ "error": "ENXIO" }) } else { json!("ok") };
        assert_eq!(answers[1], refusal, "{name}");
    }
}

fn dev_symlinks_are_there() {
    for (name, target) in [
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        assert_eq!(Bundle::new().run(probe!(readlink format!("/dev/{name}"))).ok().answer(), target);
    }
    let answers = Bundle::new().run(probe!(readlink "/dev/ptmx"; stat "/dev/core")).ok().answers();
    assert!(answers[0] == "pts/ptmx" || answers[0] == "/dev/pts/ptmx", "{}", answers[0]);
}

fn a_device_is_made_with_its_owner_and_mode() {
    // In a user namespace devices are the host's, with the host's owner and mode.
    need_root();
    let devices = json!([
        { "path": "/dev/one", "type": "c", "major": 1, "minor": 3, "fileMode": 0o640, "uid": 1000, "gid": 2000 },
        { "path": "/dev/sub/fifo", "type": "p", "fileMode": 0o600 },
        { "path": "/dev/disk", "type": "b", "major": 7, "minor": 99, "fileMode": 0o660 },
        { "path": "/dev/unbuffered", "type": "u", "major": 1, "minor": 5 },
    ]);
    let bundle = Bundle::new().set("linux.devices", devices);
    let output =
        bundle.run(probe!(stat "/dev/one"; stat "/dev/sub/fifo"; stat "/dev/disk"; stat "/dev/unbuffered")).ok();
    let facts: Vec<_> = output
        .answers()
        .iter()
        .map(|stat| json!([stat["kind"], stat["rdev"], stat["mode"], stat["uid"], stat["gid"]]))
        .collect();
    assert_eq!(facts[0], json!(["char", "1:3", "0640", 1000, 2000]));
    assert_eq!(facts[1], json!(["fifo", "0:0", "0600", 0, 0]));
    assert_eq!(facts[2], json!(["block", "7:99", "0660", 0, 0]));
    assert_eq!(facts[3][1], "1:5");
}

/// "If a file already exists at path that does not match the requested device, the runtime MUST generate an error."
fn a_device_that_exists_is_kept_or_refused() {
    need_root();
    let bundle = || {
        let bundle = Bundle::new().config(|spec| {
            let mounts = spec["mounts"].as_array_mut().expect("mounts");
            mounts.retain(|mount| !mount["destination"].as_str().unwrap_or("").starts_with("/dev"));
        });
        bundle.set("linux.devices", json!([{ "path": "/dev/odd", "type": "c", "major": 1, "minor": 5 }]))
    };
    let same = bundle();
    let path = same.inside("dev/odd");
    let made = std::process::Command::new("mknod").arg(path).args(["c", "1", "5"]).status().expect("mknod");
    need(Need::DeviceNodes, made.success());
    assert_eq!(same.run(probe!(stat "/dev/odd")).ok().answer()["rdev"], "1:5");
    bundle().file("dev/odd", "a plain file").refused("/dev/odd");
}

fn cgroup_v1_shows_only_the_containers_own() {
    need(Need::CgroupV1, !host::is_cgroup2());
    let bundle =
        Bundle::new().mount("cgroup", "cgroup", "/sys/fs/cgroup", &["nosuid", "noexec", "nodev", "relatime", "ro"]);
    let id = bundle.id.clone();
    let output = bundle.run(probe!(ls "/sys/fs/cgroup"; mountof "/sys/fs/cgroup/pids"; touch "/sys/fs/cgroup/new"; mkdir "/sys/fs/cgroup/pids/x"; read "/sys/fs/cgroup/pids/cgroup.procs")).ok();
    let answers = output.answers();
    for name in ["pids", "memory", "cpu", "devices", "systemd"] {
        assert!(has(&answers[0], name), "no {name} in {}", answers[0]);
    }
    assert!(answers[1]["root"].as_str().is_some_and(|root| root.contains(&id)), "{}", answers[1]);
    assert!(has(&answers[1]["options"], "ro"), "{}", answers[1]);
    assert_eq!((&answers[2]["error"], &answers[3]["error"]), (&json!("EROFS"), &json!("EROFS")));
    assert_eq!(answers[4], "1\n");
}

fn cgroup_v1_in_a_cgroup_namespace_is_mounted_afresh() {
    need(Need::CgroupV1, !host::is_cgroup2());
    let bundle = Bundle::new().namespace("cgroup", None).mount("cgroup", "cgroup", "/sys/fs/cgroup", &["ro"]);
    let output = bundle
        .run(probe!(mountof "/sys/fs/cgroup/pids"; read "/proc/self/cgroup"; read "/sys/fs/cgroup/pids/cgroup.procs"))
        .ok();
    let answers = output.answers();
    assert_eq!((&answers[0]["type"], &answers[0]["root"]), (&json!("cgroup"), &json!("/")));
    let text = answers[1].as_str().expect("cgroups").to_owned();
    let pids = text.lines().find(|line| line.contains(":pids:")).expect("pids");
    assert!(pids.ends_with(":/"), "{text}");
    assert_eq!(answers[2], "1\n");
}

fn cgroup_v2_shows_only_the_containers_own() {
    need(Need::CgroupV2, host::is_cgroup2());
    for namespace in [true, false] {
        let bundle = Bundle::new().mount("cgroup", "cgroup", "/sys/fs/cgroup", &["ro"]);
        let bundle = if namespace { bundle.namespace("cgroup", None) } else { bundle };
        let answers = bundle.run(probe!(read "/sys/fs/cgroup/cgroup.procs"; touch "/sys/fs/cgroup/x")).ok().answers();
        assert_eq!((&answers[0], &answers[1]["error"]), (&json!("1\n"), &json!("EROFS")));
    }
}

fn proc_and_sysfs_are_the_containers() {
    let output = Bundle::new().run(probe!(session; mountof "/proc"; mountof "/sys"; write "/proc/sys/kernel/hostname", "x"; ls "/sys/class/net")).ok();
    let answers = output.answers();
    assert_eq!((&answers[1]["type"], &answers[2]["type"]), (&json!("proc"), &json!("sysfs")));
    assert!(has(&answers[2]["options"], "ro"));
    // In a user namespace it is nobody's, which is looked at first.
    assert_eq!(answers[3]["error"], if user::has_suite() { "EACCES" } else { "EROFS" });
    assert!(has(&answers[4], "lo") && !has(&answers[4], "eth0"), "{}", answers[4]);
}

fn mqueue_and_shm_work() {
    let output = Bundle::new()
        .run(probe!(touch "/dev/mqueue/one"; touch "/dev/shm/one"; mountof "/dev/mqueue"; mountof "/dev/shm"))
        .ok();
    let answers = output.answers();
    assert_eq!((&answers[0], &answers[1]), (&json!("ok"), &json!("ok")));
    assert_eq!((&answers[2]["type"], &answers[3]["type"]), (&json!("mqueue"), &json!("tmpfs")));
    assert!(has(&answers[3]["super"], "size=65536k"), "{}", answers[3]);
}
