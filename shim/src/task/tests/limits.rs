//! Every wait has an end: that of the client's time limit, or one of the shim's own.

use super::*;
use crate::api::known::Any;

const KILLED: &str = "exit status 137";

#[test]
fn a_create_whose_client_has_gone_is_ended_and_undone() {
    let mut shim = Shim::new();
    shim.ask(create_with_mount("c"));
    assert_eq!(shim.expired(1), ["abort J1"]);
    // The mount was quicker. What comes after it is not wanted any more.
    assert_eq!(shim.done(1, Ok(Outcome::Done)), ["run J2 unmount 1"]);
    assert_eq!(shim.done(2, Ok(Outcome::Done)), ["#1: 1 deleted while it was being created", "forget 1"]);
    shim.ask(create("c"));
    assert_eq!(shim.expired(2), ["abort J3"]);
    assert_eq!(shim.done(3, failed(KILLED)), ["close 2.0", "run J4 delete-force 2", "arm job J4 10s"]);
}

/// A runtime that hangs in `create` hangs in `delete` as well: the shim would stay with both, and the id be taken for ever.
#[test]
fn an_undo_that_hangs_is_ended() {
    let mut shim = Shim::new();
    shim.ask(create("c"));
    shim.done(1, failed("so"));
    assert_eq!(shim.see(Input::Timer(Timer::Job(JobKey(2)))), ["abort J2"]);
    let outputs = shim.done(2, failed(KILLED));
    assert_eq!(outputs, ["disarm job J2", "#1: 2 OCI runtime create failed: so", "forget 1"]);
    assert_eq!(shim.ask(create("c")), ["run J3 create 2"]);
}

#[test]
fn a_start_an_exec_and_a_pause_whose_clients_have_gone_are_ended() {
    let mut shim = Shim::with_created();
    shim.ask(start("c", ""));
    assert_eq!(shim.expired(2), ["abort J2"]);
    assert_eq!(shim.done(2, failed(KILLED)), ["#2: 2 OCI runtime start failed: exit status 137"]);
    assert_eq!(shim.ask(start("c", "")), ["run J3 start 1"], "and may be tried again");
    let mut shim = Shim::with_exec();
    shim.ask(exec("c", "f"));
    shim.ask(start("c", "f"));
    shim.ask(Request::Pause(of_container("c")));
    assert_eq!(shim.expired(6), ["abort J4"]);
    assert_eq!(shim.expired(7), ["abort J5"]);
    assert_eq!(shim.done(5, failed(KILLED)), ["#7: 2 exit status 137"]);
    assert_eq!(shim.ask(state("c", "")), ["#8: Running 100 0"]);
}

/// The runtime's `delete` hangs: the client's second try gets one of its own.
#[test]
fn a_delete_whose_clients_have_all_gone_is_ended_and_may_be_tried_again() {
    let mut shim = Shim::with_running();
    shim.exited(init(1), 0);
    shim.see(Input::Drained(init(1)));
    assert_eq!(shim.ask(delete("c", "")), ["close 1.0", "run J3 delete 1"]);
    shim.ask(delete("c", ""));
    assert_eq!(shim.expired(3), ["#3: 4 the time limit of the request has passed"], "another one waits");
    assert_eq!(shim.expired(4), ["abort J3", "#4: 4 the time limit of the request has passed"]);
    assert_eq!(shim.done(3, failed(KILLED)), [""; 0]);
    assert_eq!(shim.ask(delete("c", "")), ["run J4 delete 1"]);
    assert_eq!(shim.done(4, Ok(Outcome::Done)), ["event delete c 100 0", "#5: deleted 100 0", "forget 1"]);
}

/// Of a deletion, unmounting is what may take its time, and is not begun anew (#7496).
#[test]
fn an_unmount_whose_client_has_gone_goes_on() {
    let mut shim = Shim::with_ended_on_a_mount(137);
    shim.ask(delete("c", ""));
    shim.done(3, Ok(Outcome::Done));
    assert_eq!(shim.expired(2), ["#2: 4 the time limit of the request has passed"]);
    assert_eq!(shim.done(4, Ok(Outcome::Done)), ["event delete c 100 137", "forget 1"]);
    assert_eq!(shim.ask(delete("c", "")), ["#3: deleted 100 137"], "remembered");
}

/// Before the runtime is called, the deletion is not begun at all.
#[test]
fn a_delete_whose_client_has_gone_while_output_was_waited_for_is_none() {
    let mut shim = Shim::with_running();
    shim.exited(init(1), 0);
    assert_eq!(shim.ask(delete("c", "")), ["arm drain 1.0 1s"]);
    assert_eq!(shim.expired(3), ["#3: 4 the time limit of the request has passed"]);
    assert_eq!(shim.see(Input::Timer(Timer::Drain(init(1)))), [""; 0]);
    assert_eq!(shim.ask(delete("c", "")), ["disarm drain 1.0", "close 1.0", "run J3 delete 1"]);
}

/// A client that polls by `Wait` with a time limit leaves nothing behind each time.
#[test]
fn a_wait_whose_client_has_gone_is_answered_and_forgotten() {
    let mut shim = Shim::with_exec();
    shim.ask(wait("c", ""));
    shim.ask(wait("c", "e"));
    for request in [5, 6] {
        let answer = format!("#{request}: 4 the time limit of the request has passed");
        assert_eq!(shim.expired(request), [answer]);
    }
    assert_eq!(shim.exited(process(1, 1), 0), ["event exit c e 200 0"]);
    assert_eq!(shim.expired(1), [""; 0], "answered long ago");
}

/// As JSON values it is a multiple of its length.
#[test]
fn a_process_of_more_than_a_mebibyte_is_refused() {
    let described = |length: usize| {
        let Request::Exec(mut request) = exec("c", "long") else { panic!() };
        request.spec = Some(Any { value: vec![b' '; length], ..Any::default() });
        Request::Exec(request)
    };
    let mut shim = Shim::with_running();
    let answer = "#3: 8 process long: 1048577 bytes of JSON: more than 1048576";
    assert_eq!(shim.ask(described((1 << 20) + 1)), [answer]);
    assert_eq!(shim.ask(described(1 << 20)), ["event exec-added c long", "#4: ok"]);
}
