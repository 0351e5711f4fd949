//! What else is known to go wrong in other shims: locks, deletion, shutdown, a runtime that hangs. Numbers are issues
//! of containerd/containerd. What concerns the way of events is in `queue`.

use super::*;

/// One lock for all: while a container of the pod was created, State of the others ran into its time limit.
#[test]
fn state_13483_of_others_does_not_wait_for_a_create() {
    let mut shim = Shim::with_exec();
    assert_eq!(shim.ask(create("slow")), ["run J4 create 2"]);
    assert_eq!(shim.ask(state("c", "")), ["#6: Running 100 0"]);
    assert_eq!(shim.ask(state("slow", "")), ["#7: 5 container slow"]);
    assert_eq!(shim.ask(kill("c", "", 15, false)), ["#8: ask signal 1.0 15"]);
    assert_eq!(shim.ask(Request::Connect(of_container("slow"))), ["#9: connected 50 0"]);
    assert_eq!(shim.exited(process(1, 1), 0), ["event exit c e 200 0"]);
    assert_eq!(shim.ask(create("slow")), ["#10: 6 container slow"]);
}

/// containerd's start asks each shim, and waits: Connect and Pids are answered whatever is under way.
#[test]
fn connect_13848_is_answered_whatever_is_under_way() {
    let mut shim = Shim::with_running();
    shim.exited(init(1), 0);
    shim.ask(delete("c", ""));
    assert_eq!(shim.ask(Request::Connect(of_container("c"))), ["#4: connected 50 100"]);
    assert_eq!(shim.ask(Request::Pids(of_container("c"))), ["#5: ask pids 1 []"]);
    assert_eq!(shim.ask(Request::Connect(of_container("never"))), ["#6: connected 50 0"]);
}

/// The client's time limit passed during a slow unmount; its second Delete got "not found", and nobody said Shutdown.
#[test]
fn delete_7496_again_waits_for_the_first_and_gets_its_answer() {
    let mut shim = Shim::with_ended_on_a_mount(137);
    assert_eq!(shim.ask(delete("c", "")), ["close 1.0", "run J3 delete 1"]);
    assert_eq!(shim.done(3, Ok(Outcome::Done)), ["run J4 unmount 1"]);
    assert_eq!(shim.see(Input::Disconnected(9)), [""; 0]);
    assert_eq!(shim.ask(delete("c", "")), [""; 0]);
    let outputs = shim.done(4, Ok(Outcome::Done));
    assert_eq!(outputs, ["event delete c 100 137", "#2: deleted 100 137", "#3: deleted 100 137", "forget 1"]);
    assert_eq!(shim.ask(delete("c", "")), ["#4: deleted 100 137"], "remembered");
    assert_eq!(shim.ask(state("c", "")), ["#5: 5 container c"]);
    shim.seconds += 60;
    assert_eq!(shim.ask(delete("c", "")), ["#6: 5 process c"], "for a minute");
}

/// An answer that had to be waited for may have found nobody. Those that are given at once would pile up: a probe has many.
#[test]
fn delete_of_an_exec_is_remembered_if_it_had_to_wait() {
    let mut shim = Shim::with_exec();
    shim.exited(process(1, 1), 0);
    assert_eq!(shim.ask(delete("c", "e")), ["arm drain 1.1 8s"]);
    let outputs = shim.see(Input::Drained(process(1, 1)));
    assert_eq!(outputs, ["disarm drain 1.1", "close 1.1", "#5: deleted 200 0"]);
    assert_eq!(shim.ask(delete("c", "e")), ["#6: deleted 200 0"], "remembered");
    let mut shim = Shim::with_exec();
    shim.exited(process(1, 1), 0);
    shim.see(Input::Drained(process(1, 1)));
    assert_eq!(shim.ask(delete("c", "e")), ["close 1.1", "#5: deleted 200 0"]);
    assert_eq!(shim.ask(delete("c", "e")), ["#6: 5 process ce"]);
}

#[test]
fn delete_8931_that_failed_can_be_tried_again() {
    let mut shim = Shim::with_ended_on_a_mount(0);
    shim.ask(delete("c", ""));
    shim.done(3, Ok(Outcome::Done));
    assert_eq!(shim.done(4, failed("unmount: device or resource busy")), ["#2: 2 unmount: device or resource busy"]);
    assert_eq!(shim.ask(state("c", "")), ["#3: Stopped 100 0"]);
    assert_eq!(shim.ask(delete("c", "")), ["run J5 delete 1"]);
    shim.done(5, Ok(Outcome::Done));
    assert_eq!(shim.done(6, Ok(Outcome::Done)), ["event delete c 100 0", "#4: deleted 100 0", "forget 1"]);
}

/// A Shutdown that comes while the last container is being deleted.
#[test]
fn shutdown_11871_during_a_delete_is_done_after_it() {
    let mut shim = Shim::with_running();
    assert_eq!(shim.ask(shutdown()), ["#3: ok"], "a container runs: nothing");
    shim.exited(init(1), 0);
    shim.see(Input::Drained(init(1)));
    shim.see(Input::Flushed);
    shim.ask(delete("c", ""));
    assert_eq!(shim.ask(shutdown()), ["#5: ok"]);
    let outputs = shim.done(3, Ok(Outcome::Done));
    assert_eq!(outputs, ["event delete c 100 0", "#4: deleted 100 0", "forget 1", "unlink", "arm flush 5s"]);
    assert_eq!(shim.see(Input::Flushed), ["exit"]);
}

/// A pod: containerd 2 says Shutdown after each Delete, and another container has begun.
#[test]
fn shutdown_is_not_about_a_container_that_came_later() {
    let mut shim = Shim::with_running();
    shim.exited(init(1), 0);
    shim.see(Input::Drained(init(1)));
    shim.ask(delete("c", ""));
    shim.ask(shutdown());
    shim.ask(create("d"));
    let outputs = shim.done(3, Ok(Outcome::Done));
    assert_eq!(outputs, ["event delete c 100 0", "#3: deleted 100 0", "forget 1"]);
}

#[test]
fn a_shim_6860_whose_create_never_comes_ends_by_itself() {
    let mut shim = Shim::new();
    assert_eq!(shim.see(Input::Disconnected(1)), ["arm idle 60s"]);
    assert_eq!(shim.see(Input::Timer(Timer::Idle)), ["unlink", "exit", "disarm idle"]);
}

/// While containerd is away, there is an exit that it does not know.
#[test]
fn a_shim_with_an_event_that_is_not_delivered_does_not_end_by_itself() {
    let mut shim = Shim::with_running();
    shim.exited(init(1), 0);
    shim.see(Input::Drained(init(1)));
    shim.ask(delete("c", ""));
    shim.done(3, Ok(Outcome::Done));
    assert_eq!(shim.see(Input::Disconnected(1)), [""; 0]);
    assert_eq!(shim.see(Input::Timer(Timer::Idle)), [""; 0], "a timer of before");
    assert_eq!(shim.see(Input::Flushed), ["arm idle 60s"]);
    assert_eq!(shim.see(Input::Connected), ["disarm idle"]);
}

/// A process that lives on has the pipe (`sh -c 'sleep 1d &'`), or nobody reads the FIFO.
#[test]
fn delete_13377_waits_for_output_less_long_than_its_client() {
    let mut shim = Shim::with_exec();
    shim.exited(process(1, 1), 0);
    assert_eq!(shim.ask(delete("c", "e")), ["arm drain 1.1 8s"]);
    let outputs = shim.see(Input::Timer(Timer::Drain(process(1, 1))));
    assert_eq!(outputs, ["disarm drain 1.1", "close 1.1", "#5: deleted 200 0"]);
}

/// With init's pid namespace everybody has gone who could write.
#[test]
fn delete_7802_waits_a_second_when_nobody_can_write_any_more() {
    let mut shim = Shim::with_running();
    shim.exited(init(1), 0);
    assert_eq!(shim.ask(delete("c", "")), ["arm drain 1.0 1s"]);
    let outputs = shim.see(Input::Timer(Timer::Drain(init(1))));
    assert_eq!(outputs, ["disarm drain 1.0", "close 1.0", "run J3 delete 1"]);
    assert_eq!(shim.see(Input::Drained(init(1))), [""; 0]);
}

/// Output was lost since the pipe was closed at the exit.
#[test]
fn output_12364_is_closed_by_delete_and_not_by_the_exit() {
    let mut shim = Shim::with_exec();
    shim.exited(process(1, 1), 0);
    let outputs = shim.exited(init(1), 0);
    assert!(!outputs.iter().any(|output| output.starts_with("close")), "{outputs:?}");
}

#[test]
fn a_create_11885_that_failed_closes_its_output_and_leaves_nothing() {
    let mut shim = Shim::new();
    shim.ask(create_with_mount("c"));
    shim.done(1, Ok(Outcome::Done));
    assert_eq!(
        shim.done(2, failed("no such file or directory")),
        ["close 1.0", "run J3 delete-force 1", "arm job J3 10s"]
    );
    assert_eq!(shim.done(3, Ok(Outcome::Done)), ["disarm job J3", "run J4 unmount 1"]);
    let answer = "#1: 2 OCI runtime create failed: no such file or directory";
    assert_eq!(shim.done(4, Ok(Outcome::Done)), [answer, "forget 1"]);
    assert_eq!(shim.ask(delete("c", "")), ["#2: 5 process c"]);
    assert_eq!(shim.ask(shutdown()), ["#3: ok", "unlink", "exit"]);
}

#[test]
fn mounts_that_failed_are_unmounted() {
    let mut shim = Shim::new();
    shim.ask(create_with_mount("c"));
    assert_eq!(shim.done(1, failed("mount: no such device")), ["run J2 unmount 1"]);
    assert_eq!(shim.done(2, Ok(Outcome::Done)), ["#1: 2 mount: no such device", "forget 1"]);
}

/// moby#40817, runc#2314: the runtime hangs in `create`. containerd gives up, deletes, and says Shutdown.
#[test]
fn a_create_40817_that_hangs_is_ended_by_delete_and_undone() {
    let mut shim = Shim::new();
    shim.ask(create("c"));
    assert_eq!(shim.ask(delete("c", "")), ["abort J1", "#2: 5 process c"]);
    assert_eq!(shim.ask(delete("c", "")), ["#3: 5 process c"], "once");
    assert_eq!(shim.ask(shutdown()), ["#4: ok"]);
    assert_eq!(shim.done(1, failed("killed")), ["close 1.0", "run J2 delete-force 1", "arm job J2 10s"]);
    let answer = "#1: 2 OCI runtime create failed: killed";
    assert_eq!(shim.done(2, Ok(Outcome::Done)), ["disarm job J2", answer, "forget 1", "unlink", "exit"]);
}

/// It has ended well just before: what it made is nobody's.
#[test]
fn a_create_that_nobody_waits_for_is_undone() {
    let mut shim = Shim::new();
    shim.ask(create("c"));
    shim.ask(delete("c", ""));
    assert_eq!(shim.done(1, born(100)), ["close 1.0", "run J2 delete-force 1", "arm job J2 10s"], "no event");
    assert_eq!(shim.exited(init(1), 137), [""; 0]);
    assert_eq!(
        shim.done(2, Ok(Outcome::Done)),
        ["disarm job J2", "#1: 1 deleted while it was being created", "forget 1"]
    );
}

/// The runtime hangs in `exec`, or an exec does not end; init's exit waits, but not for ever, and the order holds.
#[test]
fn an_exec_40817_that_hangs_holds_inits_exit_for_ten_seconds() {
    let mut shim = Shim::with_exec();
    shim.ask(exec("c", "f"));
    assert_eq!(shim.ask(start("c", "f")), ["run J4 exec 1.2"]);
    assert_eq!(shim.exited(init(1), 0), ["arm held 1 10s"]);
    let outputs = shim.see(Input::Timer(Timer::Held(ContainerKey(1))));
    assert_eq!(outputs, ["signal 1.1 9", "abort J4", "arm held 1 10s"]);
    assert_eq!(shim.exited(process(1, 1), 137), ["event exit c e 200 137"]);
    let outputs = shim.done(4, failed("killed"));
    let expected = ["#6: 2 OCI runtime exec failed: killed", "close 1.2", "disarm held 1", "event exit c c 100 0"];
    assert_eq!(outputs, expected);
    assert_eq!(shim.see(Input::Timer(Timer::Held(ContainerKey(1)))), [""; 0]);
}

#[test]
fn a_start_and_a_kill_40817_that_hang_are_ended_too() {
    let mut shim = Shim::new();
    shim.ask(create("c"));
    shim.done(1, Ok(Outcome::Born { pid: 100, alone: false }));
    shim.ask(start("c", ""));
    assert_eq!(shim.exited(init(1), 0), ["run J3 kill-all 1 9", "arm held 1 10s"]);
    let outputs = shim.see(Input::Timer(Timer::Held(ContainerKey(1))));
    assert_eq!(outputs, ["abort J3", "abort J2", "arm held 1 10s"]);
    assert_eq!(shim.done(3, failed("killed")), [""; 0]);
    let outputs = shim.done(2, failed("killed"));
    assert_eq!(outputs, ["#2: 2 OCI runtime start failed: killed", "disarm held 1", "event exit c c 100 0"]);
}

/// containerd/nerdbox#182: a `start` of the group finds the socket of a shim that is about to end.
#[test]
fn a_request_after_shutdown_is_unavailable() {
    let mut shim = Shim::new();
    assert_eq!(shim.ask(shutdown()), ["#1: ok", "unlink", "exit"]);
    assert_eq!(shim.see(Input::Connected), [""; 0]);
    assert_eq!(shim.ask(create("c")), ["#2: 14 the shim is shutting down"]);
}

/// A panic, since something happened after the channels were closed.
#[test]
fn nothing_13052_that_happens_after_shutdown_does_harm() {
    let mut shim = Shim::with_running();
    shim.exited(init(1), 0);
    shim.see(Input::Drained(init(1)));
    shim.ask(delete("c", ""));
    shim.done(3, Ok(Outcome::Done));
    assert_eq!(shim.ask(shutdown()), ["#4: ok", "unlink", "arm flush 5s"]);
    for input in [
        Input::OutOfMemory(ContainerKey(1)),
        Input::Drained(init(1)),
        Input::Timer(Timer::Held(ContainerKey(1))),
        Input::Timer(Timer::Drain(init(1))),
        Input::Done { job: JobKey(3), outcome: Ok(Outcome::Done) },
        Input::Disconnected(1),
    ] {
        assert_eq!(shim.see(input), [""; 0]);
    }
    assert_eq!(shim.exited(init(1), 0), [""; 0]);
    assert_eq!(shim.see(Input::Timer(Timer::Flush)), ["exit"], "containerd is away");
}

/// A client that goes away takes its Waits with it, and nothing else.
#[test]
fn a_client_that_goes_away_is_not_answered_and_what_it_wanted_is_done() {
    let mut shim = Shim::with_running();
    shim.ask(wait("c", ""));
    shim.see(Input::Disconnected(1));
    assert_eq!(shim.exited(init(1), 0), ["arm held 1 10s", "disarm held 1", "event exit c c 100 0"]);
}
