//! A runtime killed at any point: `delete --force` undoes whatever there is.

use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::need_ocirt;
use ocirt_integration::runtime::call;
use ocirt_integration::wait::eventually;
use ocirt_integration::{host, probe, tests};
use serde_json::json;
use std::time::{Duration, Instant};

tests![
    a_killed_create_is_undone_by_delete,
    a_killed_run_is_undone_by_delete,
    a_killed_start_is_undone_by_delete,
    a_killed_delete_can_be_repeated,
    no_command_hangs_on_a_killed_create,
    a_broken_state_file_can_be_deleted_by_force,
    a_lost_cgroup_does_not_stop_delete,
    two_hundred_runs_leave_nothing,
    the_death_of_the_caller_does_not_end_a_created_container,
];

fn bundle() -> Bundle {
    let limits = json!({ "memory": { "limit": 64 << 20 }, "pids": { "limit": 50 }, "devices": [{ "allow": false, "access": "rwm" }] });
    Bundle::new().set("linux.resources", limits).namespace("cgroup", None)
}

/// How long an undisturbed `words` takes: the span in which to kill.
fn span(command: &str) -> Duration {
    let bundle = bundle().write(probe!(print "x"));
    let begun = Instant::now();
    bundle.call(command).run().ok();
    let took = begun.elapsed();
    call(["delete", "--force", &bundle.id]).ok();
    took
}

/// Kills `command` after each of 40 delays within its usual span, and undoes it.
fn kill_at_each_point(command: &str) {
    let span = span(command);
    for step in 0..40 {
        let bundle = bundle().write(probe!(sleep 60));
        let mut running = bundle.call(command).spawn();
        std::thread::sleep(span * step / 36);
        host::kill(running.child.id());
        running.finish();
        call(["delete", "--force", &bundle.id]).ok();
        host::assert_nothing_left();
    }
}

fn a_killed_create_is_undone_by_delete() {
    need_ocirt();
    kill_at_each_point("create");
}

fn a_killed_run_is_undone_by_delete() {
    need_ocirt();
    kill_at_each_point("run");
}

fn a_killed_start_is_undone_by_delete() {
    need_ocirt();
    for step in 0..20u32 {
        let container = bundle().create(probe!(sleep 60));
        let mut running = ocirt_integration::runtime::Call::new(["start", container.id()]).spawn();
        std::thread::sleep(Duration::from_micros(u64::from(step) * 150));
        host::kill(running.child.id());
        running.finish();
        // Stopped, if the death came while init listened to `start`.
        assert!(["created", "running", "stopped"].contains(&container.status().as_str()));
        call(["delete", "--force", container.id()]).ok();
        host::assert_nothing_left();
    }
}

fn a_killed_delete_can_be_repeated() {
    need_ocirt();
    for step in 0..20u32 {
        let container = bundle().create(probe!(sleep 60));
        let mut running = ocirt_integration::runtime::Call::new(["delete", "--force", container.id()]).spawn();
        std::thread::sleep(Duration::from_micros(u64::from(step) * 200));
        host::kill(running.child.id());
        running.finish();
        call(["delete", "--force", container.id()]).ok();
        host::assert_nothing_left();
    }
}

fn no_command_hangs_on_a_killed_create() {
    need_ocirt();
    let span = span("create");
    for step in 0..10 {
        let bundle = bundle().write(probe!(sleep 60));
        let mut running = bundle.call("create").spawn();
        std::thread::sleep(span * step / 10);
        host::kill(running.child.id());
        running.finish();
        for words in [
            &["state", &bundle.id][..],
            &["list"],
            &["kill", &bundle.id, "KILL"],
            &["start", &bundle.id],
            &["ps", &bundle.id],
        ] {
            ocirt_integration::runtime::Call::new(words.iter().copied()).run();
        }
        call(["delete", "--force", &bundle.id]).ok();
        host::assert_nothing_left();
    }
}

fn a_broken_state_file_can_be_deleted_by_force() {
    need_ocirt();
    for text in ["", "{", "null"] {
        let container = bundle().create(probe!(sleep 60));
        let pid = container.pid();
        for entry in std::fs::read_dir(host::root().join(container.id())).expect("state").flatten() {
            if entry.file_name().to_string_lossy().ends_with(".json") {
                std::fs::write(entry.path(), text).expect("state");
            }
        }
        let output = call(["state", container.id()]);
        assert_eq!(output.status, 1, "{output:?}");
        call(["delete", "--force", container.id()]).ok();
        host::kill(pid);
        for path in host::cgroups(container.id()) {
            // Until the killed process is gone, the cgroup is not empty.
            eventually("removal of a cgroup", || std::fs::remove_dir(&path).is_ok() || !path.exists());
        }
        host::assert_nothing_left();
    }
}

fn a_lost_cgroup_does_not_stop_delete() {
    let container = Bundle::new().create(probe!(sleep 60));
    let pid = container.pid();
    host::kill(pid);
    host::reap(pid);
    let cgroups = host::cgroups(container.id());
    // systemd may remove that of a scope in which nobody is before we do.
    let is_of_systemd = host::all_with_systemd();
    assert!(is_of_systemd || !cgroups.is_empty(), "it has a cgroup");
    for path in cgroups {
        let removed = std::fs::remove_dir(&path);
        assert!(removed.is_ok() || is_of_systemd && !path.exists(), "{}: {removed:?}", path.display());
    }
    assert_eq!(container.status(), "stopped");
    container.delete().ok();
    host::assert_nothing_left();
}

fn two_hundred_runs_leave_nothing() {
    need_ocirt();
    let numbers = std::sync::Mutex::new(0..200);
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                loop {
                    let next = numbers.lock().expect("numbers").next();
                    let Some(number) = next else { break };
                    let output = bundle().run(probe!(print number)).ok();
                    assert_eq!(output.answer(), number.to_string());
                }
            });
        }
    });
    assert_eq!(call(["list", "-q"]).ok().stdout, "");
    host::assert_nothing_left();
}

/// conmon and shims end `create` before anything else happens.
fn the_death_of_the_caller_does_not_end_a_created_container() {
    let bundle = Bundle::new().write(probe!(sleep 60));
    let program = ocirt_integration::runtime::reachable();
    let script = bundle.dir.join("caller");
    let text = format!("#!/bin/sh\n{} \"$@\" </dev/null >/dev/null 2>&1; exit 0\n", program.display());
    std::fs::write(&script, text).expect("script");
    std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("chmod");
    bundle.call("create").program(&script).run().ok();
    assert_eq!(call(["state", &bundle.id]).ok().json()["status"], "created");
    call(["start", &bundle.id]).ok();
}
