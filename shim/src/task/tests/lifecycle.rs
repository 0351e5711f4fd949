//! What each request does, in the usual order.

use super::*;
use crate::api::task::{CheckpointTaskRequest, CloseIoRequest, ResizePtyRequest, UpdateTaskRequest};

#[test]
fn a_container_from_create_to_shutdown() {
    let mut shim = Shim::new();
    assert_eq!(shim.ask(create_with_mount("c")), ["run J1 mount 1"]);
    assert_eq!(shim.done(1, Ok(Outcome::Done)), ["run J2 create 1"]);
    assert_eq!(shim.done(2, born(100)), ["event create c 100", "#1: created 100"]);
    assert_eq!(shim.ask(wait("c", "")), [""; 0]);
    assert_eq!(shim.ask(start("c", "")), ["run J3 start 1"]);
    assert_eq!(shim.done(3, Ok(Outcome::Done)), ["event start c 100", "#3: started 100"]);
    assert_eq!(shim.ask(state("c", "")), ["#4: Running 100 0"]);
    let exit = ["arm held 1 10s", "disarm held 1", "event exit c c 100 3", "#2: waited 3"];
    assert_eq!(shim.exited(init(1), 3), exit);
    assert_eq!(shim.ask(state("c", "")), ["#5: Stopped 100 3"]);
    assert_eq!(shim.see(Input::Drained(init(1))), [""; 0]);
    assert_eq!(shim.ask(delete("c", "")), ["close 1.0", "run J4 delete 1"]);
    assert_eq!(shim.done(4, Ok(Outcome::Done)), ["run J5 unmount 1"]);
    assert_eq!(shim.done(5, Ok(Outcome::Done)), ["event delete c 100 3", "#6: deleted 100 3", "forget 1"]);
    assert_eq!(shim.see(Input::Flushed), [""; 0]);
    assert_eq!(shim.ask(shutdown()), ["#7: ok", "unlink", "exit"]);
}

#[test]
fn an_exec_from_exec_to_delete() {
    let mut shim = Shim::with_running();
    assert_eq!(shim.ask(exec("c", "e")), ["event exec-added c e", "#3: ok"]);
    assert_eq!(shim.ask(state("c", "e")), ["#4: Created 0 0"]);
    assert_eq!(shim.ask(start("c", "e")), ["run J3 exec 1.1"]);
    assert_eq!(shim.done(3, born(200)), ["event exec-started c e 200", "#5: started 200"]);
    assert_eq!(shim.ask(wait("c", "e")), [""; 0]);
    assert_eq!(shim.ask(kill("c", "e", 15, false)), ["#7: ask signal 1.1 15"]);
    assert_eq!(shim.ask(Request::Pids(of_container("c"))), ["#8: ask pids 1 [(200, \"e\")]"]);
    assert_eq!(shim.exited(process(1, 1), 143), ["event exit c e 200 143", "#6: waited 143"]);
    assert_eq!(shim.ask(wait("c", "e")), ["#9: waited 143"], "the exit is known by now");
    assert_eq!(shim.ask(delete("c", "e")), ["arm drain 1.1 8s"]);
    let deleted = ["disarm drain 1.1", "close 1.1", "#10: deleted 200 143"];
    assert_eq!(shim.see(Input::Drained(process(1, 1))), deleted);
    assert_eq!(shim.ask(state("c", "e")), ["#11: 5 process e of container c"]);
}

#[test]
fn ids_and_orders_that_are_wrong_are_refused() {
    let mut shim = Shim::with_exec();
    let refused = [
        (create("c"), "6 container c"),
        (create("../x"), "3 id \"../x\": not of letters and digits, with '.', '_' or '-' between them"),
        (exec("c", ""), "3 exec id: empty"),
        (exec("c", "a/b"), "3 exec id \"a/b\": not of letters and digits, with '.', '_' or '-' between them"),
        (exec("c", "e"), "6 process e"),
        (exec("c", "c"), "6 process c"),
        (exec("x", "e"), "5 container x"),
        (start("c", ""), "9 the container is not created, or was started before"),
        (start("c", "e"), "9 the process was started before"),
        (start("c", "f"), "5 process f of container c"),
        (delete("c", ""), "9 cannot delete a running process"),
        (delete("c", "e"), "9 cannot delete a running process"),
        (delete("x", ""), "5 process x"),
        (wait("c", "f"), "5 process f of container c"),
        (Request::Resume(of_container("c")), "9 the container is not paused"),
        (Request::Stats(of_container("x")), "5 container x"),
    ];
    for (request, expected) in refused {
        let number = shim.next;
        assert_eq!(shim.ask(request), [format!("#{number}: {expected}")]);
    }
}

#[test]
fn signals_go_to_what_is_there() {
    let mut shim = Shim::with_created();
    assert_eq!(shim.ask(kill("c", "", 15, false)), ["#2: ask signal 1.0 15"], "created is enough");
    shim.ask(exec("c", "e"));
    assert_eq!(shim.ask(kill("c", "e", 15, false)), ["#4: 9 process not started"]);
    assert_eq!(shim.ask(kill("c", "", 9, true)), ["run J2 kill-all 1 9"]);
    assert_eq!(shim.done(2, Ok(Outcome::Done)), ["#5: ok"]);
    shim.exited(init(1), 137);
    assert_eq!(shim.ask(kill("c", "", 9, false)), ["#6: 5 process already finished"]);
    assert_eq!(shim.ask(kill("c", "e", 9, false)), ["#7: 5 process already finished"]);
    assert_eq!(shim.ask(kill("c", "", 9, true)), ["run J3 kill-all 1 9"], "others may live on");
    assert_eq!(shim.done(3, failed("no such process")), ["#8: 2 no such process"]);
}

#[test]
fn pause_and_resume() {
    let mut shim = Shim::with_running();
    assert_eq!(shim.ask(Request::Pause(of_container("c"))), ["run J3 pause 1"]);
    assert_eq!(shim.ask(state("c", "")), ["#4: Pausing 100 0"]);
    assert_eq!(shim.ask(Request::Pause(of_container("c"))), ["#5: 9 the container is not running"]);
    assert_eq!(shim.done(3, Ok(Outcome::Done)), ["event paused c", "#3: ok"]);
    assert_eq!(shim.ask(state("c", "")), ["#6: Paused 100 0"]);
    assert_eq!(shim.ask(exec("c", "e")), ["#7: 9 the container is paused"]);
    assert_eq!(shim.ask(kill("c", "", 9, false)), ["run J4 kill 1 9"], "the runtime can end what is frozen");
    assert_eq!(shim.ask(Request::Resume(of_container("c"))), ["run J5 resume 1"]);
    assert_eq!(shim.done(5, failed("busy")), ["#9: 2 busy"]);
    assert_eq!(shim.ask(Request::Resume(of_container("c"))), ["run J6 resume 1"]);
    assert_eq!(shim.done(6, Ok(Outcome::Done)), ["event resumed c", "#10: ok"]);
}

#[test]
fn a_terminal_is_resized_and_stdin_closed_once_it_is_open() {
    let mut shim = Shim::with_running();
    shim.ask(exec("c", "e"));
    let close = |exec_id: &str| {
        Request::CloseIo(CloseIoRequest { id: "c".to_owned(), exec_id: exec_id.to_owned(), stdin: true })
    };
    let resize = |exec_id: &str| {
        let exec_id = exec_id.to_owned();
        Request::ResizePty(ResizePtyRequest { id: "c".to_owned(), exec_id, width: 80, height: 25 })
    };
    assert_eq!(shim.ask(resize("e")), ["#4: ok"]);
    assert_eq!(shim.ask(close("e")), ["#5: ok"]);
    assert_eq!(shim.ask(start("c", "e")), ["run J3 exec 1.1 without stdin"]);
    assert_eq!(shim.ask(resize("")), ["#7: ask resize 1.0 80x25"]);
    assert_eq!(shim.ask(close("")), ["#8: ask close-stdin 1.0"]);
}

#[test]
fn update_checkpoint_and_stats_are_work_of_their_own() {
    let mut shim = Shim::with_running();
    let request = UpdateTaskRequest { id: "c".to_owned(), ..UpdateTaskRequest::default() };
    assert_eq!(shim.ask(Request::Update(request)), ["run J3 update 1"]);
    assert_eq!(shim.done(3, failed("pids.max")), ["#3: 2 pids.max"]);
    let save = CheckpointTaskRequest { id: "c".to_owned(), path: "/k".to_owned(), options: None };
    assert_eq!(shim.ask(Request::Checkpoint(save.clone())), ["run J4 checkpoint 1"]);
    assert_eq!(shim.done(4, Ok(Outcome::Done)), ["event checkpointed c /k", "#4: ok"]);
    assert_eq!(shim.ask(Request::Checkpoint(save)), ["run J5 checkpoint 1"]);
    assert_eq!(shim.done(5, failed("criu")), ["#5: 2 criu"], "no event");
    assert_eq!(shim.ask(Request::Stats(of_container("c"))), ["#6: ask stats 1"]);
}

#[test]
fn a_checkpoint_that_outlasts_its_container_is_answered_without_an_event() {
    let mut shim = Shim::with_running();
    let save = CheckpointTaskRequest { id: "c".to_owned(), path: "/k".to_owned(), options: None };
    shim.ask(Request::Checkpoint(save));
    shim.exited(init(1), 137);
    shim.see(Input::Drained(init(1)));
    shim.ask(delete("c", ""));
    shim.done(4, Ok(Outcome::Done));
    assert_eq!(shim.done(3, Ok(Outcome::Done)), ["#3: ok"]);
}

fn restore_request() -> Request {
    Request::Create(Box::new(CreateTaskRequest { checkpoint: "/k".to_owned(), ..create_request("c") }))
}

#[test]
fn a_container_is_restored_when_it_is_started() {
    let mut shim = Shim::new();
    assert_eq!(shim.ask(restore_request()), ["event create c 0", "#1: created 0"]);
    assert_eq!(shim.ask(exec("c", "e")), ["#2: 9 the container has no running process"]);
    assert_eq!(shim.ask(kill("c", "", 9, false)), ["#3: 9 process not started"]);
    assert_eq!(shim.ask(start("c", "")), ["run J1 restore 1"]);
    assert_eq!(shim.done(1, born(100)), ["event start c 100", "#4: started 100"]);
}

#[test]
fn a_restore_that_fails_leaves_a_container_that_can_be_deleted() {
    let mut shim = Shim::new();
    shim.ask(restore_request());
    shim.ask(wait("c", ""));
    shim.ask(start("c", ""));
    let outputs = shim.done(1, failed("criu"));
    assert_eq!(outputs, ["#3: 2 OCI runtime restore failed: criu", "close 1.0", "#2: waited 255"]);
    assert_eq!(shim.ask(delete("c", "")), ["run J2 delete 1"]);
    assert_eq!(shim.done(2, Ok(Outcome::Done)), ["event delete c 0 255", "#4: deleted 0 255", "forget 1"]);
}

#[test]
fn a_container_that_was_never_restored_can_be_deleted() {
    let mut shim = Shim::new();
    shim.ask(restore_request());
    shim.ask(wait("c", ""));
    assert_eq!(shim.ask(delete("c", "")), ["#2: waited 255", "run J1 delete 1"]);
}

#[test]
fn the_state_can_be_told_in_words() {
    let mut shim = Shim::with_exec();
    shim.ask(wait("c", ""));
    shim.ask(Request::Pause(of_container("c")));
    let dump = shim.tasks.dump();
    assert_eq!(dump.len(), 2, "{dump:?}");
    assert!(dump[0].starts_with("1 containers, 1 connections, 1 jobs, events on their way; Pause("), "{}", dump[0]);
    let expected = "container c: Pausing, Pausing, init 100, output open, 1 wait; exec e: Started, 200, output open";
    assert_eq!(dump[1], expected);
    shim.exited(init(1), 137);
    shim.ask(shutdown());
    let dump = shim.tasks.dump();
    assert!(dump[1].contains("init 100 exited 137 (not told), output open, 1 wait"), "{}", dump[1]);
}
