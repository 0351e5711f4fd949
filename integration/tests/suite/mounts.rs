//! `mounts`, `root`, masked and readonly paths, devices: what the container sees in its file system (config.md, "Mounts").

use ocirt_integration::bundle::Bundle;
use ocirt_integration::runner::{Need, need};
use ocirt_integration::{host, probe, tests};
use serde_json::{Value, json};

tests![
    an_option_shows_in_mountinfo,
    an_option_reaches_the_file_system,
    a_bind_takes_its_flags_with_it,
    clearing_options_of_a_bind_are_honoured,
    recursive_options_reach_submounts,
    of_recursive_options_the_last_wins,
    ro_on_an_rbind_stops_at_the_top,
    a_file_can_be_bound,
    a_relative_source_is_relative_to_the_bundle,
    a_missing_destination_is_created,
    a_relative_destination_is_below_the_root,
    propagation_options_show,
    the_root_propagation_is_set,
    mounts_made_inside_stay_inside,
    a_host_mount_arrives_in_a_slave,
    tmpcopyup_keeps_what_was_there,
    a_remount_changes_flags,
    mounts_follow_the_order_of_the_config,
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
    a_mount_through_a_symlink_lands_inside,
    data_options_reach_the_kernel,
];

/// mountinfo's line for `/mnt` with these options on a fresh tmpfs.
fn tmpfs_with(options: &[&str]) -> Value {
    Bundle::new().mount("tmpfs", "tmpfs", "/mnt", options).run(probe!(mountof "/mnt")).ok().answer()
}

fn has(list: &Value, word: &str) -> bool {
    list.as_array().is_some_and(|all| all.iter().any(|item| item == word))
}

fn an_option_shows_in_mountinfo() {
    // The option set, the word that must show, the word that must not.
    let rows: &[(&[&str], &str, &str)] = &[
        (&["ro"], "ro", "rw"),
        (&["ro", "rw"], "rw", "ro"),
        (&["nosuid"], "nosuid", "-"),
        (&["nosuid", "suid"], "rw", "nosuid"),
        (&["nodev"], "nodev", "-"),
        (&["nodev", "dev"], "rw", "nodev"),
        (&["noexec"], "noexec", "-"),
        (&["noexec", "exec"], "rw", "noexec"),
        (&["noatime"], "noatime", "relatime"),
        (&["noatime", "atime"], "rw", "noatime"),
        (&["nodiratime"], "nodiratime", "-"),
        (&["nodiratime", "diratime"], "rw", "nodiratime"),
        (&["relatime"], "relatime", "noatime"),
        (&["strictatime"], "rw", "relatime"),
        (&["nosymfollow"], "nosymfollow", "-"),
        (&["nosymfollow", "symfollow"], "rw", "nosymfollow"),
        (&["defaults"], "rw", "ro"),
        (&[], "relatime", "noatime"),
    ];
    for (options, there, absent) in rows {
        let entry = tmpfs_with(options);
        assert!(has(&entry["options"], there), "{options:?}: no {there} in {entry}");
        assert!(!has(&entry["options"], absent), "{options:?}: {absent} in {entry}");
    }
}

fn an_option_reaches_the_file_system() {
    for (options, there) in [
        (&["sync"][..], "sync"),
        (&["dirsync"], "dirsync"),
        (&["lazytime"], "lazytime"),
        (&["size=64k"], "size=64k"),
        (&["mode=711"], "mode=711"),
        (&["mand"], "rw"),
        (&["silent"], "rw"),
        (&["loud"], "rw"),
        (&["iversion"], "rw"),
        (&["noiversion"], "rw"),
        (&["nomand"], "rw"),
        (&["lazytime", "nolazytime"], "rw"),
        (&["sync", "async"], "rw"),
        (&["norelatime"], "rw"),
        (&["nostrictatime"], "rw"),
    ] {
        let entry = tmpfs_with(options);
        assert!(has(&entry["super"], there), "{options:?}: no {there} in {entry}");
    }
}

fn a_bind_takes_its_flags_with_it() {
    let bundle = Bundle::new();
    let source = bundle.host_dir("source");
    std::fs::write(source.join("file"), "text").expect("file");
    let source = source.to_str().expect("UTF-8").to_owned();
    let bundle = bundle.mount("bind", &source, "/mnt", &["bind", "ro", "nosuid", "nodev", "noexec", "noatime"]);
    let output = bundle.run(probe!(mountof "/mnt"; read "/mnt/file"; touch "/mnt/new")).ok();
    let [entry, text, touch] = &output.answers()[..] else { panic!("three answers") };
    for word in ["ro", "nosuid", "nodev", "noexec", "noatime"] {
        assert!(has(&entry["options"], word), "no {word} in {entry}");
    }
    assert_eq!((text, &touch["error"]), (&json!("text"), &json!("EROFS")));
}

fn clearing_options_of_a_bind_are_honoured() {
    let bundle = Bundle::new();
    let source = bundle.host_dir("source");
    let path = source.to_str().expect("UTF-8").to_owned();
    mount_on_host(&["-t", "tmpfs", "-o", "nosuid,nodev,noexec", "clear"], &source);
    let bundle =
        bundle.mount("bind", &path, "/one", &["bind", "exec", "suid", "dev"]).mount("bind", &path, "/two", &["bind"]);
    let output = bundle.run(probe!(mountof "/one"; mountof "/two"));
    umount_on_host(&source);
    let answers = output.ok().answers();
    for word in ["nosuid", "nodev", "noexec"] {
        assert!(!has(&answers[0]["options"], word), "{word} was not cleared: {}", answers[0]);
        assert!(has(&answers[1]["options"], word), "{word} was lost: {}", answers[1]);
    }
}

fn mount_on_host(words: &[&str], target: &std::path::Path) {
    let done = std::process::Command::new("mount").args(words).arg(target).status().expect("mount");
    assert!(done.success(), "mount {words:?}");
}

fn umount_on_host(target: &std::path::Path) {
    let done = std::process::Command::new("umount").args(["-R", "-l"]).arg(target).status().expect("umount");
    assert!(done.success(), "umount {target:?}");
}

/// A bundle whose `/mnt` is a recursive bind of a tree with one submount, with these options; and mountinfo of both.
fn tree_with(options: &[&str]) -> (Value, Value) {
    let bundle = Bundle::new();
    let source = bundle.host_dir("source");
    mount_on_host(&["-t", "tmpfs", "top"], &source);
    let below = bundle.host_dir("source/below");
    mount_on_host(&["-t", "tmpfs", "below"], &below);
    let path = source.to_str().expect("UTF-8").to_owned();
    let output = bundle.mount("bind", &path, "/mnt", options).run(probe!(mountof "/mnt"; mountof "/mnt/below"));
    umount_on_host(&source);
    let answers = output.ok().answers();
    (answers[0].clone(), answers[1].clone())
}

fn recursive_options_reach_submounts() {
    let rows: &[(&[&str], &str, bool)] = &[
        (&["rbind", "rro"], "ro", true),
        (&["rbind", "rnosuid"], "nosuid", true),
        (&["rbind", "rnodev"], "nodev", true),
        (&["rbind", "rnoexec"], "noexec", true),
        (&["rbind", "rnoatime"], "noatime", true),
        (&["rbind", "rnodiratime"], "nodiratime", true),
        (&["rbind", "rnosymfollow"], "nosymfollow", true),
        (&["rbind", "rrelatime"], "relatime", true),
        (&["rbind", "rstrictatime"], "relatime", false),
    ];
    for (options, word, expected) in rows {
        let (top, below) = tree_with(options);
        assert_eq!(has(&top["options"], word), *expected, "{options:?} {top}");
        assert_eq!(has(&below["options"], word), *expected, "{options:?} below {below}");
    }
}

fn of_recursive_options_the_last_wins() {
    for (options, word) in [(["rbind", "rro", "rrw"], "ro"), (["rbind", "rnosuid", "rsuid"], "nosuid")] {
        let (top, below) = tree_with(&options);
        assert!(!has(&top["options"], word) && !has(&below["options"], word), "{options:?} {top} {below}");
    }
}

fn ro_on_an_rbind_stops_at_the_top() {
    let (top, below) = tree_with(&["rbind", "ro"]);
    assert!(has(&top["options"], "ro") && has(&below["options"], "rw"), "{top} {below}");
    let (_, below) = tree_with(&["bind"]);
    assert_eq!(below, Value::Null, "bind takes no submounts");
}

fn a_file_can_be_bound() {
    let bundle = Bundle::new();
    let source = bundle.dir.join("hosts");
    std::fs::write(&source, "from outside").expect("file");
    let source = source.to_str().expect("UTF-8").to_owned();
    let bundle = bundle.file("etc/hosts", "from inside").mount("bind", &source, "/etc/hosts", &["bind", "ro"]);
    let bundle = bundle.mount("", &source, "/etc/new/file", &["rbind", "rprivate"]);
    let output = bundle.run(probe!(read "/etc/hosts"; write "/etc/hosts" , "x"; read "/etc/new/file"));
    let answers = output.ok().answers();
    assert_eq!(answers, [json!("from outside"), json!({ "error": "EROFS" }), json!("from outside")]);
}

fn a_relative_source_is_relative_to_the_bundle() {
    let bundle = Bundle::new();
    std::fs::write(bundle.host_dir("volume").join("file"), "text").expect("file");
    let bundle = bundle.mount("bind", "volume", "/mnt", &["bind"]);
    assert_eq!(bundle.run(probe!(read "/mnt/file")).ok().answer(), "text");
}

fn a_missing_destination_is_created() {
    let bundle = Bundle::new().mount("tmpfs", "tmpfs", "/a/b/c", &[]);
    assert_eq!(bundle.run(probe!(mountof "/a/b/c")).ok().answer()["type"], "tmpfs");
}

fn a_relative_destination_is_below_the_root() {
    let bundle = Bundle::new().set("process.cwd", json!("/tmp")).mount("tmpfs", "tmpfs", "mnt", &[]);
    assert_eq!(bundle.run(probe!(mountof "/mnt")).ok().answer()["type"], "tmpfs");
}

fn propagation_options_show() {
    let rows = [
        ("shared", json!(["shared"])),
        ("rshared", json!(["shared"])),
        ("private", json!([])),
        ("rprivate", json!([])),
        ("slave", json!(["master"])),
        ("rslave", json!(["master"])),
        ("unbindable", json!(["unbindable"])),
        ("runbindable", json!(["unbindable"])),
    ];
    for (option, expected) in rows {
        let bundle = Bundle::new().set("linux.rootfsPropagation", json!("rslave"));
        let source = bundle.host_dir("source");
        mount_on_host(&["-t", "tmpfs", "top"], &source);
        let path = source.to_str().expect("UTF-8").to_owned();
        let output = bundle.mount("bind", &path, "/mnt", &["rbind", option]).run(probe!(mountof "/mnt"));
        umount_on_host(&source);
        let entry = output.ok().answer();
        let mut tags = entry["propagation"].clone();
        if option.ends_with("shared") && has(&tags, "master") {
            // A shared mount below a slave is both.
            tags = json!(["shared"]);
        }
        assert_eq!(tags, expected, "{option}: {entry}");
    }
}

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

fn mounts_made_inside_stay_inside() {
    let all = json!({ "bounding": ["CAP_SYS_ADMIN"], "effective": ["CAP_SYS_ADMIN"], "permitted": ["CAP_SYS_ADMIN"] });
    for propagation in ["rprivate", "rslave"] {
        let bundle = Bundle::new().set("process.capabilities", all.clone());
        let source = bundle.host_dir("source").to_str().expect("UTF-8").to_owned();
        let bundle = bundle.set("linux.rootfsPropagation", json!(propagation));
        let bundle = bundle.mount("bind", &source, "/mnt", &["rbind", propagation]);
        let container = bundle.create(probe!(mount "tmpfs", "/mnt", "tmpfs", ""; sleep 60));
        container.start().ok();
        assert_eq!(container.answers(1)[0], "ok");
        let outside = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        assert!(!outside.contains(&source), "a mount made inside appeared outside");
    }
}

fn a_host_mount_arrives_in_a_slave() {
    let bundle = Bundle::new().set("linux.rootfsPropagation", json!("rslave"));
    let source = bundle.host_dir("source");
    mount_on_host(&["-t", "tmpfs", "top"], &source);
    let below = bundle.host_dir("source/below");
    let path = source.to_str().expect("UTF-8").to_owned();
    let bundle = bundle.mount("bind", &path, "/mnt", &["rbind", "rslave"]);
    let container = bundle.create(probe!(waitfor "/mnt/below/mark"; mountof "/mnt/below"));
    container.start().ok();
    mount_on_host(&["-t", "tmpfs", "late"], &below);
    std::fs::write(below.join("mark"), "").expect("mark");
    let answers = container.answers(2);
    umount_on_host(&source);
    assert_eq!((&answers[0], &answers[1]["source"]), (&json!("ok"), &json!("late")));
}

fn tmpcopyup_keeps_what_was_there() {
    let bundle = Bundle::new().file("data/sub/file", "kept").symlink("data/link", "sub/file");
    std::os::unix::fs::chown(bundle.inside("data/sub/file"), Some(7), Some(8)).expect("chown");
    let bundle = bundle.mount("tmpfs", "tmpfs", "/data", &["tmpcopyup", "mode=755"]);
    let outside = bundle.inside("data/sub/file");
    let output = bundle
        .run(probe!(read "/data/link"; stat "/data/sub/file"; mountof "/data"; write "/data/sub/file", "changed"));
    let answers = output.ok().answers();
    assert_eq!(answers[0], "kept");
    assert_eq!((&answers[1]["uid"], &answers[1]["gid"]), (&json!(7), &json!(8)));
    assert_eq!((&answers[2]["type"], &answers[3]), (&json!("tmpfs"), &json!("ok")));
    assert_eq!(std::fs::read_to_string(outside).expect("file"), "kept");
}

fn a_remount_changes_flags() {
    let bundle = Bundle::new().mount("tmpfs", "tmpfs", "/mnt", &["nosuid"]);
    let bundle = bundle.mount("tmpfs", "tmpfs", "/mnt", &["remount", "ro", "nosuid"]);
    let output = bundle.run(probe!(touch "/mnt/new"; mounts)).ok();
    assert_eq!(output.answers()[0]["error"], "EROFS");
    let count =
        output.answers()[1].as_array().expect("mounts").iter().filter(|entry| entry["target"] == "/mnt").count();
    assert_eq!(count, 1, "remounted, not mounted twice");
}

fn mounts_follow_the_order_of_the_config() {
    let bundle = Bundle::new().mount("tmpfs", "first", "/a", &[]).mount("tmpfs", "second", "/a/b", &[]);
    let bundle = bundle.mount("tmpfs", "third", "/a", &[]);
    let output = bundle.run(probe!(mountof "/a"; ls "/a")).ok();
    assert_eq!((&output.answers()[0]["source"], &output.answers()[1]), (&json!("third"), &json!([])));
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
    assert!(!targets.iter().any(|target| target.to_string().contains("ocirt-suite")), "{targets:?}");
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
    need(Need::KernelFeature, made.success());
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
    assert_eq!(answers[3]["error"], "EROFS");
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

fn a_mount_through_a_symlink_lands_inside() {
    let bundle = Bundle::new().symlink("link", "/../../../data").mount("tmpfs", "linked", "/link", &[]);
    assert_eq!(bundle.run(probe!(mountof "/data")).ok().answer()["source"], "linked");
}

fn data_options_reach_the_kernel() {
    Bundle::new().mount("tmpfs", "tmpfs", "/mnt", &["sice=1"]).refused("/mnt");
    Bundle::new().mount("nosuchfs", "none", "/mnt", &[]).refused("/mnt");
    let entry = tmpfs_with(&["nr_inodes=100", "huge=never"]);
    assert!(has(&entry["super"], "nr_inodes=100"), "{entry}");
}
