//! `ocirt gc`: what killed runtimes and engines have left goes away, and nothing else.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::need_ocirt;
use ocirt_integration::runtime::{Call, Output, call};
use ocirt_integration::wait::eventually;
use ocirt_integration::{host, probe, tests, user};
use serde_json::{Value, json};

tests![
    a_killed_create_is_undone,
    a_killed_delete_is_finished,
    a_stopped_container_is_deleted_with_its_hooks,
    a_dry_run_only_tells,
    what_lives_stays,
    what_changes_between_the_looks_stays,
    what_cannot_be_understood_is_kept_and_told,
    wrong_values_are_refused,
];

fn gc(words: &[&str]) -> Output {
    Call::new(["gc", "--grace", "100ms"].into_iter().chain(words.iter().copied())).run()
}

fn rows(output: &Output) -> Vec<(String, String)> {
    let word = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let rows = output.json();
    let rows = rows.as_array().expect("a list");
    rows.iter().map(|row| (word(row, "id"), word(row, "outcome"))).collect()
}

fn directory(id: &str) -> PathBuf {
    host::root().join(id)
}

/// Killed anywhere between its first and its last step.
fn a_killed_create_is_undone() {
    need_ocirt();
    let limits = json!({ "memory": { "limit": 64 << 20 }, "pids": { "limit": 50 } });
    let bundle = || Bundle::new().set("linux.resources", limits.clone()).write(probe!(sleep 60));
    let begun = Instant::now();
    let whole = bundle();
    whole.call("create").run().ok();
    let span = begun.elapsed();
    call(["delete", "--force", &whole.id]).ok();
    let mut killed = 0;
    for step in 0..30 {
        let bundle = bundle();
        let mut running = bundle.call("create").spawn();
        std::thread::sleep(span * step / 30);
        host::kill(running.child.id());
        running.finish();
        killed += usize::from(directory(&bundle.id).exists());
        // One that was done before it was killed is a container; it lives, and stays.
        let state = Call::new(["state", bundle.id.as_str()]).run();
        if state.status == 0 && state.json()["status"] == "created" {
            assert_eq!(rows(&gc(&["--format", "json"])), []);
            call(["kill", &bundle.id, "KILL"]).ok();
        }
        eventually("it is undone", || {
            host::reap_zombies();
            gc(&[]).ok();
            !directory(&bundle.id).exists()
        });
        host::assert_nothing_left();
    }
    assert!(killed > 5, "{killed} left something");
}

fn a_killed_delete_is_finished() {
    need_ocirt();
    let bundle = Bundle::new().write(probe!(exit 0));
    // It has removed all but the directory.
    call(["list"]).ok();
    std::fs::create_dir_all(directory(&bundle.id)).expect("directory");
    std::fs::set_permissions(directory(&bundle.id), Permissions::from_mode(0o700)).expect("mode");
    user::give_in_suite(&host::root());
    let output = gc(&["-f", "json"]);
    assert_eq!((output.status, rows(&output)), (0, vec![(bundle.id.clone(), "removed".to_owned())]));
    assert!(!directory(&bundle.id).exists());
}

fn a_stopped_container_is_deleted_with_its_hooks() {
    need_ocirt();
    let bundle = Bundle::new();
    let told = bundle.dir.join("told");
    let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", format!("cat > {}", told.display())] });
    let container = bundle.hook("poststop", hook).start(probe!(exit 0));
    container.wait_for("stopped");
    let output = gc(&[]).ok();
    let expected = format!("{}: removed: its processes have ended, and nobody deletes it\n", container.id());
    assert_eq!(output.stdout, expected);
    let state: Value = serde_json::from_str(&std::fs::read_to_string(told).expect("the hook ran")).expect("JSON");
    assert_eq!(state["id"], container.id());
    host::assert_nothing_left();
    assert_eq!(gc(&[]).ok().stdout, "");
    assert_eq!(gc(&["--format=json"]).ok().stdout, "[]\n");
}

fn a_dry_run_only_tells() {
    need_ocirt();
    let container = Bundle::new().start(probe!(exit 0));
    container.wait_for("stopped");
    let output = gc(&["--dry-run", "--format", "json"]);
    assert_eq!(rows(&output), [(container.id().to_owned(), "would-be-removed".to_owned())]);
    assert_eq!(container.status(), "stopped");
    container.delete().ok();
}

fn what_lives_stays() {
    need_ocirt();
    let created = Bundle::new().create(probe!(sleep 60));
    let running = Bundle::new().start(probe!(sleep 60));
    let paused = Bundle::new().start(probe!(sleep 60));
    call(["pause", paused.id()]).ok();
    // Init is gone; what it has left runs on.
    let bundle = if host::is_cgroup2() { Bundle::new() } else { Bundle::new().set("linux.cgroupsPath", Value::Null) };
    let outlived = bundle.without_namespace("pid").start(probe!(spawn 60; exit 0));
    outlived.wait_for("stopped");
    // Its user wants to look at it.
    let kept = Bundle::new().flags(&["--keep"]).write(probe!(exit 0));
    kept.call("run").run().ok();
    assert_eq!(rows(&gc(&["-f", "json"])), []);
    let statuses = [&created, &running, &paused, &outlived].map(|container| container.status());
    assert_eq!(statuses, ["created", "running", "paused", "stopped"]);
    call(["resume", paused.id()]).ok();
    call(["delete", &kept.id]).ok();
}

/// An engine deletes what has stopped; one of the same name comes after it.
fn what_changes_between_the_looks_stays() {
    need_ocirt();
    let container = Bundle::new().start(probe!(exit 0));
    container.wait_for("stopped");
    let mut collecting = Call::new(["gc", "--grace", "2s", "-f", "json"]).spawn();
    // It has looked once: it sleeps.
    std::thread::sleep(Duration::from_millis(700));
    container.delete().ok();
    let again = container.bundle.call("create").run();
    assert_eq!(again.status, 0, "{again:?}");
    container.start().ok();
    container.wait_for("stopped");
    assert_eq!(rows(&collecting.finish()), []);
    assert_eq!(container.status(), "stopped");
}

fn what_cannot_be_understood_is_kept_and_told() {
    need_ocirt();
    let container = Bundle::new().start(probe!(sleep 60));
    let file = directory(container.id()).join("state.json");
    let whole = std::fs::read(&file).expect("state");
    std::fs::write(&file, "{").expect("state");
    let output = gc(&["--format", "json"]);
    assert_eq!((output.status, rows(&output)), (1, vec![(container.id().to_owned(), "kept".to_owned())]));
    assert!(output.stdout.contains("state.json") && file.exists(), "{output:?}");
    std::fs::write(&file, whole).expect("state");
    assert_eq!(container.status(), "running");
}

fn wrong_values_are_refused() {
    need_ocirt();
    call(["gc", "--grace", "5"]).fails("--grace: missing unit in duration \"5\"");
    call(["gc", "--format", "xml"]).fails("invalid format option");
    call(["gc", "id"]).fails("unexpected argument 'id'");
}
