//! `pause` and `resume`: nobody in the container gets on meanwhile, and everybody goes on afterwards.

use std::io::Write;
use std::time::{Duration, Instant};

use super::exec::{exec, minimal};
use super::waits::fifo;
use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::needs::{need_ocirt, need_root};
use ocirt_integration::runtime::{Call, Output, Running, call, path};
use ocirt_integration::wait::eventually;
use ocirt_integration::{host, probe, tests};
use serde_json::json;

tests![
    a_paused_container_stands_still_and_goes_on,
    a_created_container_can_be_paused_and_started_afterwards,
    pause_and_resume_are_refused_in_the_wrong_status,
    a_paused_container_can_be_killed,
    a_paused_container_can_be_deleted_by_force,
    every_process_is_paused,
    only_the_container_itself_is_paused,
    a_container_that_ends_meanwhile_is_not_running,
    a_runtime_in_the_containers_cgroup_does_not_pause_itself,
    an_exec_that_a_pause_overtakes_goes_on_with_the_container,
    a_signal_ends_an_exec_that_a_pause_has_overtaken,
];

fn pause(container: &Container) -> Output {
    call(["pause", container.id()])
}

fn resume(container: &Container) -> Output {
    call(["resume", container.id()])
}

/// A container that prints numbers, started.
fn ticking() -> Container {
    let container = Bundle::new().create(probe!(tick 100000));
    container.start().ok();
    container.answers(2);
    container
}

/// What the kernel says of the container's freezer.
fn is_frozen(container: &Container) -> bool {
    match host::is_cgroup2() {
        true => container.cgroup_file("", "cgroup.events").contains("frozen 1"),
        false => container.cgroup_file("freezer", "freezer.state") == "FROZEN",
    }
}

/// Whether it prints anything within a time in which it would print ten times.
fn gets_on(container: &Container) -> bool {
    let before = container.stdout();
    std::thread::sleep(Duration::from_millis(100));
    container.stdout() != before
}

fn a_paused_container_stands_still_and_goes_on() {
    let container = ticking();
    assert!(gets_on(&container) && !is_frozen(&container));
    for _ in 0..2 {
        pause(&container).ok();
        assert_eq!(container.status(), "paused");
        assert!(is_frozen(&container) && !gets_on(&container));
        resume(&container).ok();
        assert_eq!(container.status(), "running");
        assert!(!is_frozen(&container));
        eventually("it goes on", || gets_on(&container));
    }
}

fn a_created_container_can_be_paused_and_started_afterwards() {
    let container = Bundle::new().create(probe!(print "on"; sleep 60));
    pause(&container).ok();
    assert_eq!(container.status(), "paused");
    container.start().fails("cannot start a container in the paused state");
    resume(&container).ok();
    assert_eq!(container.status(), "created");
    container.start().ok();
    assert_eq!(container.answers(1), ["on"]);
}

fn pause_and_resume_are_refused_in_the_wrong_status() {
    for command in ["pause", "resume"] {
        call([command, "nosuch"]).fails("container does not exist");
    }
    let container = ticking();
    resume(&container).fails("container not paused");
    pause(&container).ok();
    pause(&container).fails("container not running");
    assert!(is_frozen(&container), "a refused pause changes nothing");
    resume(&container).ok();
    container.kill("KILL").ok();
    container.wait_for("stopped");
    pause(&container).fails("container not running");
    resume(&container).fails("container not paused");
    assert_eq!(container.status(), "stopped");
}

fn a_paused_container_can_be_killed() {
    let container = ticking();
    pause(&container).ok();
    container.kill("KILL").ok();
    container.wait_for("stopped");
    container.delete().ok();
    host::assert_nothing_left();
}

fn a_paused_container_can_be_deleted_by_force() {
    let container = ticking();
    pause(&container).ok();
    container.delete().fails_as_ocirt("paused");
    assert_eq!(container.status(), "paused");
    call(["delete", "--force", container.id()]).ok();
    host::assert_nothing_left();
}

fn every_process_is_paused() {
    let container = Bundle::new().create(probe!(spawn 60; tick 100000));
    container.start().ok();
    container.answers(2);
    pause(&container).ok();
    let pids = call(["ps", "--format", "json", container.id()]).ok().json();
    let pids: Vec<u64> = pids.as_array().expect("a list").iter().filter_map(|pid| pid.as_u64()).collect();
    assert_eq!(pids.len(), 2, "{pids:?}");
    let sleeper = *pids.iter().find(|pid| **pid != u64::from(container.pid())).expect("the sleeper");
    let lives = || host::process_state(sleeper as u32).is_some_and(|letter| letter != 'Z');
    assert!(lives());
    // A signal that ends one waits until it goes on; on v2, those that kill do so at once (cgroup-v2.rst, "freeze").
    host::signal(sleeper as u32, libc::SIGTERM);
    std::thread::sleep(Duration::from_millis(50));
    assert!(lives() || host::is_cgroup2(), "it ended while it was paused");
    resume(&container).ok();
    eventually("the end of the sleeper", || !lives());
}

fn only_the_container_itself_is_paused() {
    let (one, other) = (ticking(), ticking());
    pause(&one).ok();
    assert_eq!((one.status(), other.status()), ("paused".to_owned(), "running".to_owned()));
    assert!(!gets_on(&one) && gets_on(&other));
    assert_eq!(other.state()["id"], json!(other.id()));
    resume(&one).ok();
}

/// runc 1.3.2 fixed "cgroup.freeze: no such device", which it said when the container ended at the wrong time.
fn a_container_that_ends_meanwhile_is_not_running() {
    for round in 0..25 {
        let container = Bundle::new().create(probe!(sleep 0.002));
        container.start().ok();
        std::thread::sleep(Duration::from_micros(round * 400));
        let paused = pause(&container);
        let resumed = resume(&container);
        if paused.status == 0 {
            assert!(resumed.status == 0 || resumed.stderr.contains("container not paused"), "{resumed:?}");
        } else {
            assert!(paused.stderr.contains("container not running"), "{paused:?}");
            assert!(resumed.stderr.contains("container not paused"), "{resumed:?}");
        }
        container.wait_for("stopped");
        container.delete().ok();
    }
    host::assert_nothing_left();
}

/// It would wait for itself for ever.
fn a_runtime_in_the_containers_cgroup_does_not_pause_itself() {
    need_ocirt();
    need_root();
    let container = ticking();
    let cgroup = container.cgroup(if host::is_cgroup2() { "" } else { "freezer" });
    let below = cgroup.join("below");
    std::fs::create_dir(&below).expect("cgroup");
    for inside in [&cgroup, &below] {
        let script = host::place().join("inside");
        let join = format!("echo $$ >{}/cgroup.procs", inside.display());
        std::fs::write(&script, format!("#!/bin/sh\n{join}\nexec {} \"$@\"\n", path().display())).expect("script");
        std::fs::set_permissions(&script, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("script");
        let output = Call::new(["pause", container.id()]).program(&script).run();
        output.fails("the runtime itself is in the cgroup");
        assert_eq!(container.status(), "running");
    }
}

/// An exec that has found its container running and reads its process.json, after which the container is paused.
fn overtaken(container: &Container, flags: &[&str]) -> Running {
    let path = fifo("process");
    let flags: Vec<_> = flags.iter().copied().chain(["--process", path.to_str().expect("UTF-8")]).collect();
    let process = exec(container, &flags, vec![]).spawn();
    // Opened once the runtime reads it.
    let mut file = std::fs::File::options().write(true).open(&path).expect("FIFO");
    pause(container).ok();
    file.write_all(minimal(probe!(print "it ran")).to_string().as_bytes()).expect("FIFO");
    drop(file);
    std::fs::remove_file(&path).expect("FIFO");
    process
}

fn an_exec_that_a_pause_overtakes_goes_on_with_the_container() {
    let container = ticking();
    let mut process = overtaken(&container, &[]);
    std::thread::sleep(Duration::from_secs(3));
    assert!(process.child.try_wait().expect("wait").is_none(), "{:?}", process.finish());
    assert_eq!((process.stdout().as_str(), container.status().as_str()), ("", "paused"));
    resume(&container).ok();
    assert_eq!(process.finish().ok().answer(), "it ran");
}

/// runc hears nothing before the container goes on. What is left of the process, frozen, never becomes the program.
fn a_signal_ends_an_exec_that_a_pause_has_overtaken() {
    need_ocirt();
    for (flags, status) in [(&[][..], 255), (&["--detach"], 128 + libc::SIGTERM)] {
        let container = ticking();
        let mut process = overtaken(&container, flags);
        std::thread::sleep(Duration::from_millis(500));
        assert!(process.child.try_wait().expect("wait").is_none(), "{:?}", process.finish());
        let begun = Instant::now();
        host::signal(process.child.id(), libc::SIGTERM);
        let output = process.finish();
        assert!(
            output.status == status && begun.elapsed() < Duration::from_secs(8),
            "{output:?} {:?}",
            begun.elapsed()
        );
        if flags.is_empty() {
            assert!(output.stderr.contains("signal 15 came while the process was set up"), "{output:?}");
        }
        assert_eq!(container.status(), "paused");
        resume(&container).ok();
        host::reap_all_but_init();
        assert_eq!(process.stdout(), "", "its program ran");
        call(["delete", "--force", container.id()]).ok();
    }
    host::assert_nothing_left();
}
