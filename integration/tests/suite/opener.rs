//! Sources that the container's root may not reach, in a user namespace: the runtime opens them, and what it opens is
//! no better than what the container could have mounted itself.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::need_ocirt;
use ocirt_integration::{corner, has, host, probe, tests, user};
use serde_json::json;

tests![
    a_source_below_a_private_directory_is_bound,
    many_sources_are_bound_in_their_order,
    a_rootfs_below_a_private_directory_is_entered,
    a_mount_made_inside_stays_inside,
    a_mount_of_the_host_arrives_as_the_options_say,
    a_read_only_mount_of_the_host_stays_read_only,
    what_the_host_has_covered_stays_covered,
    a_source_that_is_missing_is_named,
    an_opener_that_is_not_answered_ends_with_the_container,
    without_the_rights_it_is_an_error_and_nothing_stays,
];

const ROOT: u32 = 100_000;

/// A directory that only the runtime's user may enter, and in it one with the file `file`.
fn private(bundle: &Bundle) -> PathBuf {
    let private = bundle.host_dir("private");
    std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o700)).expect("chmod");
    let source = bundle.host_dir("private/source");
    std::fs::write(source.join("file"), "from outside").expect("file");
    source
}

fn mount(words: &[&str], target: &Path) {
    let done = std::process::Command::new("mount").args(words).arg(target).status().expect("mount");
    assert!(done.success(), "mount {words:?}");
}

fn umount(path: &Path) {
    let done = std::process::Command::new("umount").args(["-R", "-l"]).arg(path).status().expect("umount");
    assert!(done.success(), "umount {path:?}");
}

/// Whether the runtime may do this: only root may map the ids of a filesystem of the host.
fn may(options: &[&str]) -> bool {
    !user::has_suite() || !options.iter().any(|option| option.ends_with("idmap"))
}

/// A container whose root may do everything inside its user namespace.
fn powerful() -> Bundle {
    let all = ["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE", "CAP_CHOWN", "CAP_SYS_CHROOT"];
    let sets = json!({ "bounding": all, "effective": all, "permitted": all });
    Bundle::new().user_namespace(ROOT).set("process.capabilities", sets)
}

fn text(path: &Path) -> String {
    path.to_str().expect("UTF-8").to_owned()
}

fn a_source_below_a_private_directory_is_bound() {
    for options in [&["bind", "ro"][..], &["rbind", "rprivate"], &["bind", "idmap"]].into_iter().filter(|it| may(it)) {
        let bundle = Bundle::new().user_namespace(ROOT);
        let source = private(&bundle);
        let file = text(&source.join("file"));
        let bundle = bundle.mount("bind", &text(&source), "/mnt", options).mount("bind", &file, "/etc/file", options);
        let answers = bundle.run(probe!(read "/mnt/file"; read "/etc/file"; mountof "/mnt")).ok().answers();
        assert_eq!((&answers[0], &answers[1]), (&json!("from outside"), &json!("from outside")), "{options:?}");
        assert_eq!(has(&answers[2]["options"], "ro"), options.contains(&"ro"));
    }
}

/// More than fit into one message; some below the rootfs, which an earlier mount may have covered.
fn many_sources_are_bound_in_their_order() {
    let mut bundle = Bundle::new().user_namespace(ROOT);
    let source = private(&bundle);
    let rootfs = text(&bundle.rootfs());
    bundle = bundle.mount("bind", &text(&source), "/covered", &["bind"]);
    bundle = bundle.mount("bind", &format!("{rootfs}/covered"), "/again", &["rbind"]);
    for number in 0..150 {
        std::fs::create_dir(source.join(format!("{number}"))).expect("directory");
        std::fs::write(source.join(format!("{number}/name")), format!("{number}")).expect("file");
        bundle = bundle.mount("bind", &text(&source.join(format!("{number}"))), &format!("/mnt/{number}"), &["bind"]);
    }
    let answers = bundle.run(probe!(read "/mnt/0/name"; read "/mnt/149/name"; read "/again/file")).ok().answers();
    assert_eq!(answers, [json!("0"), json!("149"), json!("from outside")]);
}

fn a_rootfs_below_a_private_directory_is_entered() {
    let bundle = Bundle::new().user_namespace(ROOT);
    std::fs::set_permissions(&bundle.dir, std::fs::Permissions::from_mode(0o700)).expect("chmod");
    let outside = bundle.inside("/data/new");
    assert_eq!(bundle.run(probe!(touch "/data/new"; ls "/")).ok().answers()[0], "ok");
    assert!(outside.exists());
}

fn a_mount_made_inside_stays_inside() {
    let all = [&["rbind"][..], &["rbind", "rslave"], &["rbind", "idmap"], &["rbind", "rshared"]];
    for options in all.into_iter().filter(|it| may(it)) {
        let bundle = powerful();
        let source = private(&bundle);
        let bundle = bundle.mount("bind", &text(&source), "/mnt", options);
        let container = bundle.create(probe!(mount "tmpfs", "/mnt", "tmpfs", ""; sleep 60));
        container.start().ok();
        assert_eq!(container.answers(1)[0], "ok", "{options:?}");
        let outside = std::fs::read_to_string("/proc/self/mountinfo").expect("mountinfo");
        assert!(!outside.contains(&text(&source)), "{options:?}: a mount made inside appeared outside");
        container.kill("KILL").ok();
    }
}

fn a_mount_of_the_host_arrives_as_the_options_say() {
    let all =
        [(&["rbind", "rslave"][..], true), (&["rbind", "rslave", "idmap"], true), (&["rbind", "rprivate"], false)];
    for (options, arrives) in all.into_iter().filter(|(options, _)| may(options)) {
        let bundle = powerful();
        let source = private(&bundle);
        mount(&["-t", "tmpfs", "-o", "mode=755", "top"], &source);
        std::fs::create_dir(source.join("below")).expect("directory");
        let bundle = bundle.set("linux.rootfsPropagation", json!("rslave"));
        let bundle = bundle.mount("bind", &text(&source), "/mnt", options);
        let container = bundle.create(probe!(waitfor "/mnt/go"; mountof "/mnt/below"; sleep 60));
        container.start().ok();
        mount(&["-t", "tmpfs", "late"], &source.join("below"));
        std::fs::write(source.join("go"), "").expect("mark");
        let answers = container.answers(2);
        assert_eq!(answers[1]["source"] == "late", arrives, "{options:?}: {}", answers[1]);
        container.kill("KILL").ok();
        umount(&source);
    }
}

fn a_read_only_mount_of_the_host_stays_read_only() {
    for options in [&["bind"][..], &["bind", "idmap"]].into_iter().filter(|it| may(it)) {
        let bundle = powerful();
        let source = private(&bundle);
        mount(&["-t", "tmpfs", "-o", "ro,nosuid,mode=777", "top"], &source);
        let bundle = bundle.mount("bind", &text(&source), "/mnt", options);
        let output =
            bundle.run(probe!(touch "/mnt/new"; mount "none", "/mnt", "", "remount,bind,rw"; touch "/mnt/new"));
        umount(&source);
        let answers = output.ok().answers();
        assert_eq!(answers[0]["error"], "EROFS", "{options:?}");
        assert_eq!((&answers[1]["error"], &answers[2]["error"]), (&json!("EPERM"), &json!("EROFS")), "{options:?}");
    }
}

fn what_the_host_has_covered_stays_covered() {
    for options in [&["rbind"][..], &["rbind", "ridmap"]].into_iter().filter(|it| may(it)) {
        let bundle = powerful();
        let source = private(&bundle);
        std::fs::write(bundle.host_dir("private/source/covered").join("secret"), "42").expect("file");
        mount(&["-t", "tmpfs", "-o", "mode=755", "cover"], &source.join("covered"));
        let bundle = bundle.mount("bind", &text(&source), "/mnt", options);
        let output = bundle.run(probe!(umount "/mnt/covered"; stat "/mnt/covered/secret"));
        umount(&source.join("covered"));
        let answers = output.ok().answers();
        assert_eq!((&answers[0]["error"], &answers[1]["error"]), (&json!("EINVAL"), &json!("ENOENT")), "{options:?}");
    }
    // One mount alone would uncover it.
    let bundle = powerful();
    let source = private(&bundle);
    bundle.host_dir("private/source/covered");
    mount(&["-t", "tmpfs", "cover"], &source.join("covered"));
    let output = bundle.mount("bind", &text(&source), "/mnt", &["bind"]).run(probe!(print "it ran"));
    umount(&source.join("covered"));
    output.fails("/mnt");
}

fn a_source_that_is_missing_is_named() {
    let bundle = Bundle::new().user_namespace(ROOT);
    let source = private(&bundle);
    let bundle = bundle.mount("bind", &text(&source), "/mnt", &["bind"]);
    let output = bundle.mount("bind", &text(&source.join("nope")), "/other", &["bind"]).refused("source/nope");
    assert!(output.stderr.to_lowercase().contains("no such file or directory"), "{}", output.stderr);
}

/// Killed while the runtime opens for it, init takes the opener's word to nobody, and nothing is left.
fn an_opener_that_is_not_answered_ends_with_the_container() {
    for _ in 0..5 {
        let bundle = Bundle::new().user_namespace(ROOT);
        let source = private(&bundle);
        let bundle = bundle.mount("bind", &text(&source), "/mnt", &["bind"]);
        let bundle = bundle.write(probe!(print "it ran"));
        let mut running = bundle.call("create").spawn();
        std::thread::sleep(std::time::Duration::from_millis(4));
        drop(running.finish());
        corner::undo();
        host::assert_nothing_left();
    }
}

/// As below an engine whose own seccomp profile forbids it.
fn without_the_rights_it_is_an_error_and_nothing_stays() {
    need_ocirt();
    for (missing, name, options) in [
        (libc::SYS_setns, "setns", &["bind"][..]),
        (libc::SYS_mount_setattr, "mount_setattr", &["bind", "idmap"]),
        (libc::SYS_open_tree, "open_tree", &["bind"]),
    ]
    .into_iter()
    .filter(|row| may(row.2))
    {
        let bundle = Bundle::new().user_namespace(ROOT);
        let source = private(&bundle);
        let bundle = bundle.mount("bind", &text(&source), "/mnt", options).write(probe!(print "it ran"));
        let output = bundle.call("run").without(vec![missing]).run().fails(name);
        assert!(!output.stdout.contains("it ran"), "without {name}");
        host::assert_nothing_left();
    }
}
