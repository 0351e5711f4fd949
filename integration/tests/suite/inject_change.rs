//! An accident at each system call of the commands that change a container which is there: update, pause and resume.

use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::runtime::{Call, call};
use ocirt_integration::{host, probe, tests};
use serde_json::json;

use super::inject::{NOT_FAILING, Place, each, places, traced, undo};

tests![
    update_with_a_failing_system_call_is_all_or_nothing,
    update_killed_at_a_system_call_leaves_the_container_alone,
    pause_or_resume_killed_at_a_system_call_can_be_repeated_or_deleted,
    pause_or_resume_with_a_failing_system_call_can_be_repeated,
];

const UPDATE: [&str; 5] = ["update", "--memory=96m", "--pids-limit=60", "--cpu-share=300", "--cpu-quota=30000"];

/// A running container with limits, and an update of three of them.
fn limited() -> Container {
    let limits = json!({ "memory": { "limit": 64 << 20 }, "pids": { "limit": 50 }, "cpu": { "shares": 500 } });
    let container = Bundle::new().set("linux.resources", limits).create(probe!(sleep 60));
    container.start().ok();
    container
}

fn limits(container: &Container) -> [String; 3] {
    let file = |v1: (&str, &str), v2: &str| match host::is_cgroup2() {
        true => container.cgroup_file("", v2),
        false => container.cgroup_file(v1.0, v1.1),
    };
    [
        file(("memory", "memory.limit_in_bytes"), "memory.max"),
        file(("pids", "pids.max"), "pids.max"),
        file(("cpu", "cpu.shares"), "cpu.weight"),
    ]
}

fn updated() -> (Bundle, Call) {
    let container = limited();
    let call = Call::new(UPDATE.into_iter().chain([container.id()]));
    (container.bundle, call)
}

/// On an error every limit is as it was; on success every one is new.
fn update_with_a_failing_system_call_is_all_or_nothing() {
    let places = places("state.json", updated);
    let (old, new) = {
        let container = limited();
        let old = limits(&container);
        Call::new(UPDATE.into_iter().chain([container.id()])).run().ok();
        let new = limits(&container);
        undo(&container.bundle);
        (old, new)
    };
    assert!(old.iter().zip(&new).all(|(old, new)| old != new), "{old:?} {new:?}");
    let mut refused = 0;
    each(&places, |Place { name, count }| {
        if NOT_FAILING.contains(&name.as_str()) {
            return;
        }
        let (program, _) = traced(&format!("-e inject={name}:error=EIO:when={count}"));
        let container = limited();
        let output = Call::new(UPDATE.into_iter().chain([container.id()])).traced(&program).run();
        match output.status {
            0 => assert_eq!(limits(&container), new, "{name} {count}: {output:?}"),
            1 => {
                refused += 1;
                assert_eq!(limits(&container), old, "{name} {count}: {output:?}");
            }
            _ => panic!("{name} {count}: {output:?}"),
        }
        assert_eq!(container.status(), "running", "{name} {count}");
        undo(&container.bundle);
    });
    assert!(refused > 0, "{refused} of {} accidents were noticed", places.len());
}

/// What is left can be updated again, and deleted.
fn update_killed_at_a_system_call_leaves_the_container_alone() {
    let places = places("state.json", updated);
    each(&places, |Place { name, count }| {
        let (program, _) = traced(&format!("-e inject={name}:signal=KILL:when={count}"));
        let container = limited();
        Call::new(UPDATE.into_iter().chain([container.id()])).traced(&program).run();
        assert_eq!(container.status(), "running", "{name} {count}");
        Call::new(UPDATE.into_iter().chain([container.id()])).run().ok();
        assert_eq!(limits(&container)[..2], ["100663296", "60"], "{name} {count}");
        undo(&container.bundle);
    });
}

/// A container that runs, or that is paused, and the command that turns it into the other.
fn freezing(command: &str) -> (Container, Call) {
    let container = limited();
    if command == "resume" {
        call(["pause", container.id()]).ok();
    }
    let call = Call::new([command, container.id()]);
    (container, call)
}

fn places_of(command: &str) -> Vec<Place> {
    places("state.json", || {
        let (container, call) = freezing(command);
        (container.bundle, call)
    })
}

/// What is left can be paused and resumed, or deleted.
fn pause_or_resume_killed_at_a_system_call_can_be_repeated_or_deleted() {
    for command in ["pause", "resume"] {
        each(&places_of(command), |Place { name, count }| {
            let (program, _) = traced(&format!("-e inject={name}:signal=KILL:when={count}"));
            let (container, killed) = freezing(command);
            killed.traced(&program).run();
            if count % 2 == 0 {
                goes_on(&container, &format!("{command} killed at {name} {count}"));
            }
            call(["delete", "--force", container.id()]).ok();
            host::assert_nothing_left();
        });
    }
}

/// The container is as it was, or as it should be; and whichever it is, the next command works.
fn pause_or_resume_with_a_failing_system_call_can_be_repeated() {
    for (command, old, new) in [("pause", "running", "paused"), ("resume", "paused", "running")] {
        let (places, mut refused) = (places_of(command), 0);
        each(&places, |Place { name, count }| {
            if NOT_FAILING.contains(&name.as_str()) {
                return;
            }
            let (program, _) = traced(&format!("-e inject={name}:error=EIO:when={count}"));
            let (container, call) = freezing(command);
            let output = call.traced(&program).run();
            let status = container.status();
            match output.status {
                0 => assert_eq!(status, new, "{name} {count}: {output:?}"),
                1 => {
                    refused += 1;
                    assert_eq!(status, old, "{name} {count}: {output:?}");
                }
                _ => panic!("{name} {count}: {output:?}"),
            }
            goes_on(&container, &format!("{command} failing at {name} {count}"));
            undo(&container.bundle);
        });
        assert!(refused > 0, "{refused} of {} accidents of {command} were noticed", places.len());
    }
}

/// The container can be paused and resumed from where it is.
fn goes_on(container: &Container, what: &str) {
    let commands: &[&str] = if container.status() == "paused" { &["resume"] } else { &["pause", "resume"] };
    for command in commands {
        let output = call([command, container.id()]);
        assert_eq!(output.status, 0, "{command} after {what}: {output:?}");
    }
    assert_eq!(container.status(), "running", "{what}");
}
