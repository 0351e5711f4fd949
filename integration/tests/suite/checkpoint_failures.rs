//! `checkpoint` and `restore` that are refused, fail or are killed: the container is as it was, and nothing is left.

use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::criu::{
    assert_counts_on, checkpoint, count, counting, images, required, restore, restore_call, save, with_criu,
};
use ocirt_integration::needs::{need_ocirt, need_root};
use ocirt_integration::runtime::{Call, Output, call};
use ocirt_integration::wait::eventually;
use ocirt_integration::{host, probe, tests};
use serde_json::json;
use std::fs;
use std::path::Path;

tests![
    only_a_running_container_is_saved,
    an_id_that_is_taken_is_refused,
    what_is_no_checkpoint_is_refused,
    bad_flags_are_refused,
    a_missing_criu_is_one_error,
    a_failure_quotes_crius_log,
    a_log_that_crius_configuration_has_elsewhere_is_quoted,
    an_old_criu_is_named_and_prints_nothing,
    what_a_criu_that_restores_prints_is_not_the_containers,
    a_killed_checkpoint_lets_the_container_go_on,
    a_killed_restore_is_undone_by_delete,
];

fn only_a_running_container_is_saved() {
    required();
    let container = Bundle::new().create(probe!(count "/count"));
    checkpoint(container.id(), &[]).fails("container cannot be checkpointed in created state");
    assert_eq!(container.status(), "created");
    container.start().ok();
    container.kill("KILL").ok();
    container.wait_for("stopped");
    checkpoint(container.id(), &[]).fails("container cannot be checkpointed in stopped state");
    container.delete().ok();
    checkpoint(container.id(), &[]).fails("does not exist");
    assert!(!images().exists());
    host::assert_nothing_left();
}

fn an_id_that_is_taken_is_refused() {
    required();
    let container = counting(Bundle::new());
    checkpoint(container.id(), &["--leave-running"]).ok();
    let (pid, before) = (container.pid(), count(&container.bundle));
    restore(&container.bundle).fails("exist");
    assert_eq!((container.status().as_str(), container.pid()), ("running", pid));
    assert_counts_on(&container.bundle, before);
}

fn what_is_no_checkpoint_is_refused() {
    required();
    let bundle = Bundle::new().write(probe!(count "/count"));
    restore(&bundle).fails("no such file or directory");
    host::assert_nothing_left();
    fs::create_dir_all(images()).expect("directory");
    restore(&bundle).fails("no such file or directory");
    host::assert_nothing_left();
    fs::remove_dir(images()).expect("directory");
    fs::write(images(), "a file").expect("file");
    restore(&bundle).fails("not a directory");
    host::assert_nothing_left();
    fs::remove_file(images()).expect("file");
    // One of which CRIU's half is broken.
    let container = counting(bundle);
    save(&container, &[]);
    restore_call(&container.bundle, &["--detach", "--pid-file", "/nope/pid"]).run().fails("--pid-file /nope/pid");
    call(["state", container.id()]).fails("does not exist");
    fs::write(images().join("pstree.img"), "broken").expect("file");
    restore(&container.bundle).fails("restore.log");
    call(["state", container.id()]).fails("does not exist");
    host::assert_nothing_left();
}

fn bad_flags_are_refused() {
    required();
    need_ocirt();
    let container = counting(Bundle::new());
    for (flag, value) in [
        ("--manage-cgroups-mode", "none"),
        ("--empty-ns", "pid"),
        ("--network-lock", "none"),
        ("--page-server", "host"),
        ("--status-fd", "99"),
        ("--status-fd", "-7"),
        ("--parent-path", "/absolute"),
        ("--image-path", "/nope/nope"),
        ("--work-path", "/nope/nope"),
    ] {
        let output = checkpoint(container.id(), &[flag, value]).fails(flag);
        assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
        assert_eq!(container.status(), "running");
    }
    call(["checkpoint", "--help"]).ok();
    call(["restore", "--help"]).ok();
    assert!(!images().join("mounts.json").exists());
    let before = count(&container.bundle);
    assert_counts_on(&container.bundle, before);
}

fn a_missing_criu_is_one_error() {
    required();
    need_ocirt();
    let container = counting(Bundle::new());
    let images = images();
    let words = ["checkpoint", "--image-path", images.to_str().expect("UTF-8"), container.id()];
    let output = Call::new(words).env("PATH", "/nope").run().fails("criu: executable file not found in $PATH");
    assert_eq!((output.stderr.lines().count(), container.status().as_str()), (1, "running"));
    save(&container, &[]);
    restore_call(&container.bundle, &["--detach"]).env("PATH", "/nope").run().fails("criu: executable file not found");
    host::assert_nothing_left();
}

fn a_failure_quotes_crius_log() {
    required();
    need_ocirt();
    let container = counting(Bundle::new());
    let work = host::place().join("work");
    let work = work.to_str().expect("UTF-8");
    let before = save(&container, &["--work-path", work]);
    assert!(Path::new(work).join("dump.log").exists());
    fs::remove_file(container.bundle.inside("/count")).expect("the file that it has open");
    let output = restore_call(&container.bundle, &["--detach", "--work-path", work]).run().fails("criu failed: criu ");
    assert!(output.stderr.contains("count") && output.stderr.contains("restore.log"), "{}", output.stderr);
    assert_eq!(output.stderr.lines().filter(|line| line.contains("criu failed")).count(), 1, "{}", output.stderr);
    host::assert_nothing_left();
    fs::write(container.bundle.inside("/count"), format!("{before:010}")).expect("file");
    restore_call(&container.bundle, &["--detach", "--work-path", work]).run().ok();
    assert_counts_on(&container.bundle, before);
}

/// A program in the place of criu, which does not know the request.
fn checkpoint_with(script: &str, container: &Container) -> Output {
    let directory = host::place().join("bin");
    fs::create_dir_all(&directory).expect("directory");
    let criu = directory.join("criu");
    fs::write(&criu, format!("#!/bin/sh\n{script}\n")).expect("script");
    fs::set_permissions(&criu, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("script");
    let images = images();
    let words = ["checkpoint", "--image-path", images.to_str().expect("UTF-8"), container.id()];
    let path = format!("{}:/usr/bin:/bin", directory.display());
    Call::new(words).env("PATH", &path).run()
}

fn a_log_that_crius_configuration_has_elsewhere_is_quoted() {
    need_ocirt();
    need_root();
    let [configuration, log] = ["criu.conf", "elsewhere.log"].map(|name| host::place().join(name));
    fs::write(&configuration, format!("tcp-established\nlog-file={}\n", log.display())).expect("configuration");
    let container = Bundle::new()
        .set("annotations", json!({ "org.criu.config": configuration.to_str().expect("UTF-8") }))
        .start(probe!(sleep 60));
    let line = "(00.1) Error (criu/x.c:1): the reason of it all";
    let output = checkpoint_with(&format!("echo '{line}' > {}", log.display()), &container);
    let output = output.fails("criu failed: the reason of it all");
    assert!(output.stderr.contains("elsewhere.log"), "{}", output.stderr);
    assert_eq!(container.status(), "running");
}

fn an_old_criu_is_named_and_prints_nothing() {
    need_ocirt();
    need_root();
    let container = Bundle::new().start(probe!(sleep 60));
    let script =
        "case $* in *--version*) echo 'Version: 3.17.1' ;; *) printf 'gar\\000bage\\n' >&2; echo more; exit 1 ;; esac";
    let output = checkpoint_with(script, &container).fails("is CRIU 3.17.1; checkpoint and restore need 4.1 or newer");
    assert_eq!((output.stdout.as_str(), output.stderr.lines().count()), ("", 1), "{:?}", output.stderr);
    assert!(!output.stderr.contains("bage"), "{:?}", output.stderr);
    assert_eq!(container.status(), "running");
}

fn what_a_criu_that_restores_prints_is_not_the_containers() {
    required();
    need_ocirt();
    let container = counting(Bundle::new());
    save(&container, &[]);
    // Of the host, CRIU sees the programs alone.
    let directory = Path::new("/usr/local/sbin");
    let status =
        std::process::Command::new("mount").args(["-t", "tmpfs", "programs"]).arg(directory).status().expect("mount");
    assert!(status.success());
    let script =
        "case $* in *--version*) echo 'Version: 3.17.1' ;; *) printf 'gar\\000bage\\n' >&2; echo more; exit 1 ;; esac";
    fs::write(directory.join("criu"), format!("#!/bin/sh\n{script}\n")).expect("script");
    fs::set_permissions(directory.join("criu"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("script");
    let call = restore_call(&container.bundle, &["--detach"]).env("PATH", "/usr/local/sbin:/usr/bin:/bin");
    let output = call.run().fails("is CRIU 3.17.1; checkpoint and restore need 4.1 or newer");
    assert_eq!((output.stdout.as_str(), output.stderr.lines().count()), ("", 1), "{:?}", output.stderr);
    assert!(!output.stderr.contains("bage"), "{:?}", output.stderr);
    let status = std::process::Command::new("umount").arg(directory).status().expect("umount");
    assert!(status.success());
    restore(&container.bundle).ok();
}

/// Kills the call at some moment of its work; false if it had ended by then.
fn killed_after(call: Call, milliseconds: u64) -> bool {
    let mut running = call.spawn();
    std::thread::sleep(std::time::Duration::from_millis(milliseconds));
    let killed = running.child.try_wait().expect("wait").is_none();
    running.child.kill().expect("kill");
    running.child.wait().expect("wait");
    killed
}

/// Moments from the start of the program to the end of CRIU's work on this machine.
const MOMENTS: [u64; 8] = [5, 20, 40, 60, 80, 110, 150, 200];

fn a_killed_checkpoint_lets_the_container_go_on() {
    required();
    need_ocirt();
    let container = counting(Bundle::new());
    let path = images();
    let mut killed = 0;
    for moment in MOMENTS {
        let words = ["checkpoint", "--leave-running", "--image-path", path.to_str().expect("UTF-8"), container.id()];
        killed += u32::from(killed_after(with_criu(Call::new(words)), moment));
        eventually("no longer frozen", || container.status() == "running");
        let before = count(&container.bundle);
        assert_counts_on(&container.bundle, before);
    }
    assert!(killed > 0, "no call was killed at work");
    // Whatever was left half-way: the next one works.
    eventually("a checkpoint", || checkpoint(container.id(), &["--leave-running"]).status == 0);
}

fn a_killed_restore_is_undone_by_delete() {
    required();
    need_ocirt();
    let container = counting(Bundle::new());
    let mut before = save(&container, &[]);
    let mut killed = 0;
    for moment in MOMENTS {
        killed += u32::from(killed_after(restore_call(&container.bundle, &["--detach"]), moment));
        call(["delete", "--force", container.id()]).ok();
        call(["state", container.id()]).fails("does not exist");
        eventually("nothing is left", || host::cgroups(container.id()).is_empty());
        let now = count(&container.bundle);
        std::thread::sleep(std::time::Duration::from_millis(50));
        assert_eq!(count(&container.bundle), now, "killed after {moment} ms, it runs on");
        before = before.max(now);
    }
    assert!(killed > 0, "no call was killed at work");
    restore(&container.bundle).ok();
    eventually("it counts", || count(&container.bundle) > before);
}
