//! What is known to go wrong in other shims with exits, and with OOM events, each as an order of events. Numbers are
//! issues of containerd/containerd.

use super::*;

/// The runtime's `start` has not ended when the process has.
#[test]
fn exit_8557_before_start_has_ended_is_told_after_it() {
    let mut shim = Shim::with_created();
    shim.ask(start("c", ""));
    shim.ask(wait("c", ""));
    assert_eq!(shim.exited(init(1), 0), ["arm held 1 10s"]);
    assert_eq!(shim.ask(state("c", "")), ["#4: Created 100 0"], "nobody knows yet");
    let outputs = shim.done(2, Ok(Outcome::Done));
    let expected = ["event start c 100", "#2: started 100", "disarm held 1", "event exit c c 100 0", "#3: waited 0"];
    assert_eq!(outputs, expected);
}

/// Init is killed before it is started.
#[test]
fn exit_10589_of_a_container_that_is_not_started_is_told() {
    let mut shim = Shim::with_created();
    shim.ask(wait("c", ""));
    assert_eq!(
        shim.exited(init(1), 137),
        ["arm held 1 10s", "disarm held 1", "event exit c c 100 137", "#2: waited 137"]
    );
    assert_eq!(shim.ask(start("c", "")), ["#3: 9 the container is not created, or was started before"]);
}

/// `start` fails because the process has ended.
#[test]
fn exit_10651_of_a_container_whose_start_failed_is_told() {
    let mut shim = Shim::with_created();
    shim.ask(start("c", ""));
    shim.exited(init(1), 1);
    let outputs = shim.done(2, failed("gone"));
    assert_eq!(outputs, ["#2: 2 OCI runtime start failed: gone", "disarm held 1", "event exit c c 100 1"]);
}

/// The pidfd has come, and was readable, before the runtime's `create` ended.
#[test]
fn exit_10603_before_create_has_ended_is_told_after_it() {
    let mut shim = Shim::new();
    shim.ask(create("c"));
    assert_eq!(shim.exited(init(1), 1), [""; 0]);
    let outputs = shim.done(1, born(100));
    let expected = ["event create c 100", "#1: created 100", "arm held 1 10s", "disarm held 1", "event exit c c 100 1"];
    assert_eq!(outputs, expected);
}

#[test]
fn exit_9719_of_init_waits_for_those_of_its_execs() {
    let mut shim = Shim::with_exec();
    shim.ask(wait("c", ""));
    shim.ask(wait("c", "e"));
    assert_eq!(shim.exited(init(1), 137), ["arm held 1 10s"]);
    assert_eq!(shim.ask(state("c", "")), ["#7: Running 100 0"]);
    let outputs = shim.exited(process(1, 1), 137);
    let expected =
        ["event exit c e 200 137", "#6: waited 137", "disarm held 1", "event exit c c 100 137", "#5: waited 137"];
    assert_eq!(outputs, expected);
}

/// Init ends while an exec is being started: its exit waits for the end of that, and then for the exec's exit.
#[test]
fn exit_9828_of_init_waits_for_an_exec_that_is_being_started() {
    let mut shim = Shim::with_running();
    shim.ask(exec("c", "e"));
    shim.ask(start("c", "e"));
    assert_eq!(shim.exited(init(1), 0), ["arm held 1 10s"]);
    assert_eq!(shim.done(3, born(200)), ["event exec-started c e 200", "#4: started 200"]);
    let outputs = shim.exited(process(1, 1), 137);
    assert_eq!(outputs, ["event exit c e 200 137", "disarm held 1", "event exit c c 100 0"]);
}

/// An exec that has ended before the runtime's `exec` has: its exit is neither skipped nor told before its start.
#[test]
fn exit_9999_of_a_short_exec_is_told_after_its_start() {
    let mut shim = Shim::with_running();
    shim.ask(exec("c", "e"));
    shim.ask(wait("c", "e"));
    shim.ask(start("c", "e"));
    assert_eq!(shim.exited(process(1, 1), 0), [""; 0]);
    let expected = ["event exec-started c e 200", "#5: started 200", "event exit c e 200 0", "#4: waited 0"];
    assert_eq!(shim.done(3, born(200)), expected);
}

#[test]
fn exec_10634_is_not_started_when_init_has_ended() {
    let mut shim = Shim::with_exec();
    shim.ask(exec("c", "f"));
    shim.exited(init(1), 0);
    assert_eq!(shim.ask(start("c", "f")), ["#6: 9 the container's process has ended"]);
    assert_eq!(shim.ask(exec("c", "g")), ["#7: 9 the container has no running process"]);
    shim.ask(wait("c", "f"));
    let outputs = shim.exited(process(1, 1), 0);
    let expected = ["event exit c e 200 0", "disarm held 1", "#8: waited 255", "event exit c c 100 0"];
    assert_eq!(outputs, expected, "a process that cannot begin any more is not waited for");
}

/// rust-extensions: a Wait on an exec whose start failed is never answered.
#[test]
fn an_exec_that_failed_makes_waiters_return_and_can_be_deleted() {
    let mut shim = Shim::with_running();
    shim.ask(exec("c", "e"));
    shim.ask(wait("c", "e"));
    shim.ask(start("c", "e"));
    let outputs = shim.done(3, failed("no such file or directory"));
    let expected = ["#5: 2 OCI runtime exec failed: no such file or directory", "close 1.1", "#4: waited 255"];
    assert_eq!(outputs, expected);
    assert_eq!(shim.ask(wait("c", "e")), ["#6: waited 255"]);
    assert_eq!(shim.ask(delete("c", "e")), ["#7: deleted 0 255"]);
}

/// The reaper's queue was full, and exits were dropped after a second.
#[test]
fn exits_12678_of_a_thousand_execs_at_once_are_all_told() {
    let mut shim = Shim::with_running();
    for number in 1..=1000 {
        let id = format!("e{number}");
        shim.ask(exec("c", &id));
        shim.ask(wait("c", &id));
        shim.ask(start("c", &id));
        shim.done(2 + number, born(1000));
    }
    assert_eq!(shim.exited(init(1), 137), ["arm held 1 10s"]);
    for number in 1..1000 {
        let waiter = 3 * number + 1;
        let exit = [format!("event exit c e{number} 1000 137"), format!("#{waiter}: waited 137")];
        assert_eq!(shim.exited(process(1, number), 137), exit);
    }
    let last = shim.exited(process(1, 1000), 137);
    assert_eq!(last[2..], ["disarm held 1", "event exit c c 100 137"]);
}

/// `kill --all` inside the exit's handler waited for an exit that the full queue held back.
#[test]
fn kill_all_13539_is_a_job_that_nobody_else_waits_for() {
    let mut shim = Shim::with_exec();
    shim.ask(create("other"));
    shim.done(4, Ok(Outcome::Born { pid: 300, alone: false }));
    shim.ask(start("other", ""));
    shim.done(5, Ok(Outcome::Done));
    assert_eq!(shim.exited(init(2), 0), ["run J6 kill-all 2 9", "arm held 2 10s"]);
    assert_eq!(shim.ask(state("c", "e")), ["#7: Running 200 0"]);
    assert_eq!(shim.exited(process(1, 1), 0), ["event exit c e 200 0"], "others go on");
    assert_eq!(shim.done(6, failed("gone")), ["disarm held 2", "event exit other other 300 0"]);
}

/// A pid comes again; exits are known by their pidfds.
#[test]
fn a_pid_that_comes_again_is_another_process() {
    let mut shim = Shim::with_exec();
    shim.exited(process(1, 1), 1);
    shim.ask(exec("c", "f"));
    shim.ask(start("c", "f"));
    shim.done(4, born(200));
    assert_eq!(shim.exited(process(1, 1), 9), [""; 0], "each exit is told once");
    assert_eq!(shim.ask(state("c", "f")), ["#7: Running 200 0"]);
    assert_eq!(shim.exited(process(1, 2), 2), ["event exit c f 200 2"]);
}

#[test]
fn oom_12714_is_told_before_the_exit_that_it_explains() {
    let mut shim = Shim::with_running();
    let at = time(1000);
    let exit = Input::Exited { process: init(1), status: 137, at, out_of_memory: true };
    assert_eq!(shim.see(exit), ["event oom c", "arm held 1 10s", "disarm held 1", "event exit c c 100 137"]);
    assert_eq!(shim.see(Input::OutOfMemory(ContainerKey(1))), [""; 0], "and not after it");
}

/// Armed after `start`, an OOM of the first moments was missed.
#[test]
fn oom_12405_before_start_is_told() {
    let mut shim = Shim::with_created();
    assert_eq!(shim.see(Input::OutOfMemory(ContainerKey(1))), ["event oom c"]);
}

/// The watcher of the first container with an id was taken for that of the second.
#[test]
fn oom_13856_of_an_id_that_comes_again_is_that_of_the_new_container() {
    let mut shim = Shim::with_running();
    shim.exited(init(1), 0);
    shim.see(Input::Drained(init(1)));
    shim.ask(delete("c", ""));
    assert!(shim.done(3, Ok(Outcome::Done)).contains(&"forget 1".to_owned()));
    assert_eq!(shim.ask(create("c")), ["run J4 create 2"]);
    shim.done(4, born(101));
    assert_eq!(shim.see(Input::OutOfMemory(ContainerKey(1))), [""; 0]);
    assert_eq!(shim.see(Input::OutOfMemory(ContainerKey(2))), ["event oom c"]);
}

/// rust-extensions: an init that dies while it is paused is not thawed, and what is frozen with it never ends.
#[test]
fn an_init_that_dies_while_paused_is_thawed() {
    let mut shim = Shim::with_running();
    shim.ask(Request::Pause(of_container("c")));
    shim.done(3, Ok(Outcome::Done));
    let outputs = shim.exited(init(1), 137);
    assert_eq!(
        outputs,
        ["run J4 resume 1", "arm job J4 10s", "arm held 1 10s", "disarm held 1", "event exit c c 100 137"]
    );
    assert_eq!(shim.done(4, Ok(Outcome::Done)), ["disarm job J4"], "nobody had it resumed");
}

#[test]
fn an_init_that_dies_while_it_is_being_paused_is_thawed() {
    let mut shim = Shim::with_running();
    shim.ask(Request::Pause(of_container("c")));
    shim.exited(init(1), 137);
    assert_eq!(
        shim.done(3, Ok(Outcome::Done)),
        ["run J4 resume 1", "arm job J4 10s", "#3: 5 process already finished"]
    );
}
