//! `mounts`: every option and its effect, as the container sees it (config.md, "Mounts").

use ocirt_integration::bundle::Bundle;
use ocirt_integration::{has, host, probe, tests, user};
use serde_json::{Value, json};

tests![
    an_option_shows_in_mountinfo,
    defaults_is_an_option_of_any_file_system,
    an_option_reaches_the_file_system,
    a_bind_takes_its_flags_with_it,
    clearing_options_of_a_bind_are_honoured,
    recursive_options_reach_submounts,
    of_recursive_options_the_last_wins,
    recursive_options_clear_what_submounts_have,
    rro_is_never_less_than_asked_for,
    ro_on_an_rbind_stops_at_the_top,
    a_file_can_be_bound,
    a_relative_source_is_relative_to_the_bundle,
    a_missing_destination_is_created,
    a_relative_destination_is_below_the_root,
    propagation_options_show,
    mounts_made_inside_stay_inside,
    a_host_mount_arrives_in_a_slave,
    tmpcopyup_keeps_what_was_there,
    a_remount_changes_flags,
    mounts_follow_the_order_of_the_config,
    a_mount_through_a_symlink_lands_inside,
    data_options_reach_the_kernel,
];

/// mountinfo's line for `/mnt` with these options on a fresh tmpfs.
fn tmpfs_with(options: &[&str]) -> Value {
    Bundle::new().mount("tmpfs", "tmpfs", "/mnt", options).run(probe!(mountof "/mnt")).ok().answer()
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
        (&[], "relatime", "noatime"),
    ];
    for (options, there, absent) in rows {
        let entry = tmpfs_with(options);
        assert!(has(&entry["options"], there), "{options:?}: no {there} in {entry}");
        assert!(!has(&entry["options"], absent), "{options:?}: {absent} in {entry}");
    }
}

fn defaults_is_an_option_of_any_file_system() {
    assert!(has(&tmpfs_with(&["defaults", "nosuid"])["options"], "nosuid"));
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
    let words = ["ro", "nosuid", "nodev", "noexec", "noatime"];
    // How times of access are kept is locked in a user namespace.
    let words = if user::has_suite() { &words[..4] } else { &words };
    let bundle = bundle.mount("bind", &source, "/mnt", &[&["bind"], words].concat());
    let output = bundle.run(probe!(mountof "/mnt"; read "/mnt/file"; touch "/mnt/new")).ok();
    let [entry, text, touch] = &output.answers()[..] else { panic!("three answers") };
    for word in words {
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
    if user::has_suite() {
        // user_namespaces(7): flags of mounts of a more privileged one are locked.
        return drop(output.fails("mounts[6]"));
    }
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
    // How times of access are kept is locked in a user namespace.
    for (options, word, expected) in rows.iter().filter(|row| !user::has_suite() || !row.0[1].ends_with("atime")) {
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

/// The other half of the recursive options: the source and what is below it have the flags, and lose them.
fn recursive_options_clear_what_submounts_have() {
    for (had, option, word) in [
        ("ro", "rrw", "ro"),
        ("nosuid", "rsuid", "nosuid"),
        ("nodev", "rdev", "nodev"),
        ("noexec", "rexec", "noexec"),
        ("noatime", "ratime", "noatime"),
        ("noatime", "rrelatime", "noatime"),
        ("nodiratime", "rdiratime", "nodiratime"),
        ("nosymfollow", "rsymfollow", "nosymfollow"),
        ("strictatime", "rnostrictatime", "strictatime"),
        ("noatime", "rnorelatime", "noatime"),
    ] {
        let bundle = Bundle::new();
        let source = bundle.host_dir("source");
        mount_on_host(&["-t", "tmpfs", "top"], &source);
        let below = bundle.host_dir("source/below");
        mount_on_host(&["-t", "tmpfs", "-o", had, "below"], &below);
        mount_on_host(&["-o", &format!("remount,bind,{had}")], &source);
        let path = source.to_str().expect("UTF-8").to_owned();
        let kept = bundle.mount("bind", &path, "/kept", &["rbind"]);
        let output = kept.mount("bind", &path, "/mnt", &["rbind", option]);
        let output = output.run(probe!(mountof "/kept/below"; mountof "/mnt"; mountof "/mnt/below"));
        umount_on_host(&source);
        if user::has_suite() && word != "nosymfollow" {
            output.fails("mounts[7]");
            continue;
        }
        let answers = output.ok().answers();
        let has_it = |entry: &Value| has(&entry["options"], word);
        assert!(had == "strictatime" || has_it(&answers[0]), "{option}: {}", answers[0]);
        assert!(!has_it(&answers[1]) && !has_it(&answers[2]), "{option}: {} {}", answers[1], answers[2]);
        assert!(option != "rnostrictatime" || has(&answers[2]["options"], "relatime"), "{}", answers[2]);
    }
}

/// Where the kernel, or a seccomp profile around the runtime, has no mount_setattr, nothing runs with less.
fn rro_is_never_less_than_asked_for() {
    let bundle = Bundle::new();
    let source = bundle.host_dir("source").to_str().expect("UTF-8").to_owned();
    let bundle = bundle.mount("bind", &source, "/mnt", &["rbind", "rro"]).write(probe!(touch "/mnt/new"));
    let output = bundle.call("run").without(vec![libc::SYS_mount_setattr]).run().fails("mount_setattr");
    assert_eq!(output.stdout, "");
    host::assert_nothing_left();
}

fn ro_on_an_rbind_stops_at_the_top() {
    let (top, below) = tree_with(&["rbind", "ro"]);
    assert!(has(&top["options"], "ro") && has(&below["options"], "rw"), "{top} {below}");
    if !user::has_suite() {
        // In a user namespace it would uncover what is below, and is refused.
        let (_, below) = tree_with(&["bind"]);
        assert_eq!(below, Value::Null, "bind takes no submounts");
    }
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
    let (uid, gid) = (user::host_id(7), user::host_id(8));
    std::os::unix::fs::chown(bundle.inside("data/sub/file"), Some(uid), Some(gid)).expect("chown");
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

fn a_mount_through_a_symlink_lands_inside() {
    let bundle = Bundle::new().symlink("link", "/../../../data").mount("tmpfs", "linked", "/link", &[]);
    assert_eq!(bundle.run(probe!(mountof "/data")).ok().answer()["source"], "linked");
}

fn data_options_reach_the_kernel() {
    Bundle::new().mount("tmpfs", "tmpfs", "/mnt", &["sice=1"]).refused("mnt");
    Bundle::new().mount("nosuchfs", "none", "/mnt", &[]).refused("mnt");
    let entry = tmpfs_with(&["nr_inodes=100", "huge=never"]);
    assert!(has(&entry["super"], "nr_inodes=100"), "{entry}");
}
