//! create, start, state, kill, delete, run: in order, and in every wrong order (runtime.md, "Operations").

use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::host::{self, reap};
use ocirt_integration::runtime::{Call, call};
use ocirt_integration::wait::eventually;
use ocirt_integration::{probe, tests};
use serde_json::json;

tests![
    a_container_goes_from_created_over_running_to_stopped,
    the_program_does_not_run_before_start,
    a_command_in_the_wrong_status_is_refused_by_name,
    a_command_for_an_absent_container_says_that_it_does_not_exist,
    a_created_container_can_be_killed,
    a_created_container_can_be_deleted,
    a_running_container_is_deleted_by_force,
    deleting_by_force_what_is_absent_succeeds,
    a_container_can_be_deleted_by_prefix,
    run_returns_the_exit_status,
    run_returns_128_and_the_signal,
    a_detached_run_leaves_the_container_to_the_caller,
    run_deletes_afterwards_unless_told_to_keep,
    a_signal_can_be_a_name_or_a_number,
    a_real_time_signal_has_a_name,
    an_unknown_signal_is_refused,
    kill_sends_term_when_no_signal_is_given,
    kill_all_reaches_every_process,
    the_end_of_init_ends_every_process,
    without_a_pid_namespace_delete_ends_every_process,
    the_pid_file_holds_the_pid_and_nothing_else,
    an_id_may_be_letters_digits_and_a_few_signs,
    an_id_that_is_taken_is_refused_and_its_owner_stays,
    an_id_can_be_used_again_after_delete,
    config_edits_after_create_have_no_effect,
    the_bundle_is_the_working_directory_by_default,
    the_config_can_have_another_name,
    a_relative_bundle_is_reported_as_absolute,
    init_has_the_caller_as_its_parent,
    a_frozen_container_is_paused_and_can_be_deleted,
    create_reads_no_standard_input,
    many_containers_run_at_once,
];

fn sleeper() -> Container {
    Bundle::new().create(probe!(sleep 60))
}

fn a_container_goes_from_created_over_running_to_stopped() {
    let container = Bundle::new().create(probe!(sigwait));
    assert_eq!(container.status(), "created");
    container.start().ok();
    container.answers(1);
    assert_eq!(container.status(), "running");
    container.kill("USR1").ok();
    container.wait_for("stopped");
    assert_eq!(container.answers(2)[1], 10);
    assert_eq!(container.state()["pid"].as_u64().unwrap_or(0), 0, "a stopped container has no pid");
    container.delete().ok();
    call(["state", container.id()]).fails("does not exist");
    host::assert_nothing_left();
}

fn the_program_does_not_run_before_start() {
    let container = Bundle::new().create(probe!(print "here"));
    std::thread::sleep(std::time::Duration::from_millis(200));
    assert_eq!(container.stdout(), "");
    container.start().ok();
    assert_eq!(container.answers(1), [json!("here")]);
}

fn a_command_in_the_wrong_status_is_refused_by_name() {
    let container = sleeper();
    container.start().ok();
    container.start().fails_as_ocirt("cannot start an already running container");
    container.delete().fails("not stopped");
    container.kill("KILL").ok();
    container.wait_for("stopped");
    container.start().fails("stopped");
    container.kill("TERM").fails("container not running");
    container.delete().ok();
}

fn a_command_for_an_absent_container_says_that_it_does_not_exist() {
    for command in ["state", "start", "kill", "delete", "ps"] {
        call([command, "absent"]).fails("does not exist");
    }
}

fn a_created_container_can_be_killed() {
    let container = sleeper();
    container.kill("KILL").ok();
    container.wait_for("stopped");
    container.delete().ok();
    host::assert_nothing_left();
}

/// The specification forbids it; containerd and Podman rely on it, and runc and crun do it.
fn a_created_container_can_be_deleted() {
    let container = sleeper();
    container.delete().ok();
    host::assert_nothing_left();
}

fn a_running_container_is_deleted_by_force() {
    let container = sleeper();
    container.start().ok();
    call(["delete", "--force", container.id()]).ok();
    host::assert_nothing_left();
}

fn deleting_by_force_what_is_absent_succeeds() {
    for flag in ["--force", "-f", "-force"] {
        let output = call(["delete", flag, "absent"]).ok();
        assert_eq!(output.stdout, "");
    }
}

fn a_container_can_be_deleted_by_prefix() {
    let (one, two) = (sleeper(), sleeper());
    call(["delete", "--force", "--regex", &format!("^{}-[01]$", host::tag())]).ok();
    for container in [one, two] {
        call(["state", container.id()]).fails("does not exist");
    }
    host::assert_nothing_left();
}

fn run_returns_the_exit_status() {
    for status in [0, 1, 42, 255] {
        assert_eq!(Bundle::new().run(probe!(exit status)).status, status);
    }
    host::assert_nothing_left();
}

fn run_returns_128_and_the_signal() {
    // The first process of a pid namespace ignores its own default-action signals, so it needs the host's.
    for signal in [9, 15] {
        let output = Bundle::new().without_namespace("pid").run(probe!(raise signal));
        assert_eq!(output.status, 128 + signal);
    }
}

fn a_detached_run_leaves_the_container_to_the_caller() {
    let bundle = Bundle::new().flags(&["--detach"]).write(probe!(sleep 60));
    let id = bundle.id.clone();
    bundle.call("run").run().ok();
    let state = call(["state", &id]).ok().json();
    assert_eq!(state["status"], "running");
    call(["kill", &id, "KILL"]).ok();
    assert_eq!(reap(state["pid"].as_u64().expect("pid") as u32), 128 + 9);
    call(["delete", &id]).ok();
}

fn run_deletes_afterwards_unless_told_to_keep() {
    let bundle = Bundle::new().flags(&["--keep"]).write(probe!(exit 3));
    assert_eq!(bundle.call("run").run().status, 3);
    assert_eq!(call(["state", &bundle.id]).ok().json()["status"], "stopped");
    call(["delete", &bundle.id]).ok();
    let bundle = Bundle::new().write(probe!(exit 3));
    bundle.call("run").run();
    call(["state", &bundle.id]).fails("does not exist");
}

fn a_signal_can_be_a_name_or_a_number() {
    for (signal, number) in [("USR1", 10), ("SIGUSR2", 12), ("12", 12), ("hup", 1), ("35", 35), ("WINCH", 28)] {
        assert_eq!(received(signal), number, "{signal}");
    }
}

fn a_real_time_signal_has_a_name() {
    for (signal, number) in [("RTMIN", 34), ("RTMIN+1", 35), ("SIGRTMAX", 64), ("RTMAX-2", 62)] {
        assert_eq!(received(signal), number, "{signal}");
    }
}

/// The number of the signal that arrives when `signal` is sent.
fn received(signal: &str) -> serde_json::Value {
    let container = Bundle::new().create(probe!(sigwait));
    container.start().ok();
    container.answers(1);
    container.kill(signal).ok();
    container.answers(2)[1].clone()
}

fn an_unknown_signal_is_refused() {
    let container = sleeper();
    container.start().ok();
    for signal in ["SIGNOPE", "USR3", "1.5", "100"] {
        container.kill(signal).fails("signal");
    }
    assert_eq!(container.status(), "running");
}

fn kill_sends_term_when_no_signal_is_given() {
    let container = Bundle::new().create(probe!(sigwait));
    container.start().ok();
    container.answers(1);
    call(["kill", container.id()]).ok();
    assert_eq!(container.answers(2)[1], 15);
}

fn kill_all_reaches_every_process() {
    for flag in ["--all", "-a"] {
        let container = Bundle::new().without_namespace("pid").create(probe!(spawn 60; sleep 60));
        container.start().ok();
        let child = container.answers(1)[0].as_u64().expect("pid");
        call(["kill", flag, container.id(), "KILL"]).ok();
        container.wait_for("stopped");
        eventually("end of the child", || !host::descendants(std::process::id()).contains(&(child as u32)));
    }
}

fn the_end_of_init_ends_every_process() {
    let container = Bundle::new().create(probe!(spawn 60; sleep 60));
    container.start().ok();
    container.answers(1);
    container.kill("KILL").ok();
    container.wait_for("stopped");
    container.delete().ok();
    host::assert_nothing_left();
}

fn without_a_pid_namespace_delete_ends_every_process() {
    let container = Bundle::new().without_namespace("pid").create(probe!(spawn 60; exit 0));
    container.start().ok();
    container.answers(1);
    container.wait_for("stopped");
    container.delete().ok();
    host::assert_nothing_left();
}

fn the_pid_file_holds_the_pid_and_nothing_else() {
    let bundle = Bundle::new();
    let file = bundle.dir.join("pid");
    let container = bundle.flags(&["--pid-file", file.to_str().expect("UTF-8")]).create(probe!(sleep 60));
    assert_eq!(std::fs::read_to_string(file).expect("pid file"), container.pid().to_string());
}

fn an_id_may_be_letters_digits_and_a_few_signs() {
    let tag = host::tag();
    for id in [format!("{tag}.a"), format!("{tag}_B-c+9"), format!("{tag}{}", "x".repeat(200))] {
        let mut bundle = Bundle::new();
        bundle.id = id;
        assert_eq!(bundle.run(probe!(print "ok")).ok().answer(), "ok");
    }
    for id in ["", ".", "..", "a/b", "../x", "a b", "a\n", "ä", "a;b", "a:b", "a@b"] {
        let mut bundle = Bundle::new();
        bundle.id = id.to_owned();
        let output = bundle.run(probe!(print "it ran"));
        assert!(output.status != 0 && output.stdout.is_empty(), "{id:?} was accepted: {}", output.stderr);
    }
    host::assert_nothing_left();
}

fn an_id_that_is_taken_is_refused_and_its_owner_stays() {
    let owner = sleeper();
    let mut second = Bundle::new();
    second.id = owner.id().to_owned();
    let second = second.write(probe!(print "it ran"));
    second.call("create").run().fails("exist");
    assert_eq!(owner.status(), "created");
    owner.start().ok();
    second.call("run").run().fails("exist");
    assert_eq!(owner.status(), "running");
}

fn an_id_can_be_used_again_after_delete() {
    let first = sleeper();
    first.delete().ok();
    let mut second = Bundle::new();
    second.id = first.id().to_owned();
    assert_eq!(second.run(probe!(print "again")).answer(), "again");
}

fn config_edits_after_create_have_no_effect() {
    let container = Bundle::new().create(probe!(print "old"));
    let config = container.bundle.dir.join("config.json");
    let text = std::fs::read_to_string(&config).expect("config.json");
    std::fs::write(&config, text.replace("\"old\"", "\"new\"")).expect("config.json");
    container.start().ok();
    assert_eq!(container.answers(1), [json!("old")]);
    std::fs::write(&config, "{").expect("config.json");
    container.wait_for("stopped");
    container.delete().ok();
}

fn the_bundle_is_the_working_directory_by_default() {
    let bundle = Bundle::new().write(probe!(print "here"));
    assert_eq!(Call::new(["run", &bundle.id]).cwd(&bundle.dir).run().answer(), "here");
}

fn the_config_can_have_another_name() {
    let bundle = Bundle::new().write(probe!(print "here"));
    std::fs::rename(bundle.dir.join("config.json"), bundle.dir.join("other.json")).expect("rename");
    let dir = bundle.dir.to_str().expect("UTF-8");
    let other = bundle.dir.join("other.json");
    let other = other.to_str().expect("UTF-8");
    assert_eq!(call(["run", "--config", other, "--bundle", dir, &bundle.id]).ok().answer(), "here");
}

fn a_relative_bundle_is_reported_as_absolute() {
    let bundle = Bundle::new().write(probe!(sleep 60));
    let (parent, name) = (bundle.dir.parent().expect("parent"), bundle.dir.file_name().expect("name"));
    Call::new(["create", "-b", name.to_str().expect("UTF-8"), &bundle.id]).cwd(parent).run().ok();
    let state = call(["state", &bundle.id]).ok().json();
    assert_eq!(state["bundle"], bundle.dir.to_str().expect("UTF-8"));
}

/// A shim is the subreaper that collects the exit status.
fn init_has_the_caller_as_its_parent() {
    let container = Bundle::new().create(probe!(exit 7));
    let pid = container.pid();
    let stat = container.proc_file("stat");
    let parent = stat.rsplit_once(") ").expect("stat").1.split(' ').nth(1).expect("parent").to_owned();
    assert_eq!(parent, std::process::id().to_string());
    container.start().ok();
    assert_eq!(reap(pid), 7);
}

fn a_frozen_container_is_paused_and_can_be_deleted() {
    let container = sleeper();
    container.start().ok();
    let (file, frozen) = match host::is_cgroup2() {
        true => (container.cgroup("").join("cgroup.freeze"), "1"),
        false => (container.cgroup("freezer").join("freezer.state"), "FROZEN"),
    };
    std::fs::write(&file, frozen).expect("freezer");
    container.wait_for("paused");
    container.delete().fails_as_ocirt("paused");
    call(["delete", "--force", container.id()]).ok();
    host::assert_nothing_left();
}

fn create_reads_no_standard_input() {
    let bundle = Bundle::new();
    let text = bundle.dir.join("input");
    std::fs::write(&text, "for the container").expect("input");
    let bundle = bundle.write(probe!(stdin));
    let mut running = bundle.call("create").stdin(std::fs::File::open(text).expect("input")).spawn();
    running.finish().ok();
    call(["start", &bundle.id]).ok();
    eventually("answer", || running.stdout() == "\"for the container\"\n");
}

fn many_containers_run_at_once() {
    let bundles: Vec<_> = (0..8).map(|_| Bundle::new().write(probe!(print "one of many"))).collect();
    let mut running: Vec<_> = bundles.iter().map(|bundle| bundle.call("run").spawn()).collect();
    for call in &mut running {
        assert_eq!(call.finish().ok().answer(), "one of many");
    }
    host::assert_nothing_left();
}
