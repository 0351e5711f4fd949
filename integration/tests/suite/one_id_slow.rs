//! A command that is slow, and finds another container under its id when it goes on: it does not touch that one.

use super::inject::{each, places, traced};
use super::one_id::{bundle, needs_strace, next, pids_limit};
use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::runtime::{Call, call};
use ocirt_integration::wait::eventually;
use ocirt_integration::{corner, host, probe, tests};
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};

tests![
    a_slow_delete_spares_the_next_container,
    a_slow_forced_delete_spares_the_next_container,
    a_slow_update_spares_the_next_container,
    a_slow_pause_spares_the_next_container,
    a_slow_resume_spares_the_next_container,
    a_slow_start_spares_the_next_container,
    a_slow_kill_spares_the_next_container,
    a_slow_exec_spares_the_next_container,
    the_end_of_a_slow_run_spares_the_next_container,
];

/// Holds the command that `prepare` makes up at each of its system calls once it has found its container. Meanwhile the
/// container is deleted, and another one of its id is run, which must go on undisturbed.
fn spares_the_next(prepare: impl Fn() -> (Bundle, Call)) {
    needs_strace();
    let places = places("state.json", &prepare);
    let mut held = 0;
    each(&places, |place| {
        let (bundle, slow) = prepare();
        let options = format!("-e inject={}:delay_enter=300000:when={}", place.name, place.count);
        let (program, trace) = traced(&options);
        // That of the place before.
        let _ = std::fs::remove_file(&trace);
        let mut slow = slow.traced(&program).spawn();
        let has_looked = has_looked(&trace);
        let what = format!("{} {}", place.name, place.count);
        let deleted = call(["delete", "--force", &bundle.id]).ok();
        let next = next(&bundle.id);
        // Refused while the slow one still has the state directory.
        let ran = next.call("run").run();
        let before = call(["state", &next.id]);
        let slow = slow.finish();
        let lines = slow.stderr.lines().count();
        assert!([0, 1, 137, 255].contains(&slow.status), "{what}: {slow:?}");
        assert!(lines <= 1 && !slow.stderr.contains("panicked"), "{what}: {slow:?}");
        // If it was held before it had looked, the container was already the next one.
        if has_looked && is_held_after_its_look(&std::fs::read_to_string(&trace).expect("trace")) {
            held += 1;
            let (before, after) = (before.ok().json(), call(["state", &next.id]).ok().json());
            assert_eq!(after["status"], "running", "{what}: {deleted:?} {ran:?} {slow:?}");
            assert_eq!(after["pid"], before["pid"], "{what}: {slow:?}");
            assert_eq!(pids_limit(&next.id), "70", "{what}: {slow:?}");
        }
        call(["delete", "--force", &next.id]).ok();
        corner::undo();
        host::assert_nothing_left();
    });
    assert!(held > 0, "held at {held} of {} places only", places.len());
}

/// Waits until the traced command has found its container, a second at most: held before, it does not.
fn has_looked(trace: &Path) -> bool {
    let end = Instant::now() + Duration::from_secs(1);
    while Instant::now() < end {
        if std::fs::read_to_string(trace).is_ok_and(|trace| trace.contains("state.json")) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}

fn is_held_after_its_look(trace: &str) -> bool {
    let line = |word: &str| trace.lines().position(|line| line.contains(word));
    matches!((line("state.json"), line("(DELAYED)")), (Some(look), Some(held)) if held > look)
}

fn started() -> Container {
    bundle().start(probe!(sleep 60))
}

fn words(words: &[&str], container: Container) -> (Bundle, Call) {
    let call = Call::new(words.iter().map(|word| word.replace("ID", container.id())));
    (container.bundle, call)
}

fn a_slow_delete_spares_the_next_container() {
    spares_the_next(|| {
        let container = started();
        let pid = container.pid();
        container.kill("KILL").ok();
        host::reap(pid);
        words(&["delete", "ID"], container)
    });
}

fn a_slow_forced_delete_spares_the_next_container() {
    spares_the_next(|| words(&["delete", "--force", "ID"], started()));
}

fn a_slow_update_spares_the_next_container() {
    spares_the_next(|| words(&["update", "--pids-limit=60", "ID"], started()));
}

fn a_slow_pause_spares_the_next_container() {
    spares_the_next(|| words(&["pause", "ID"], started()));
}

fn a_slow_resume_spares_the_next_container() {
    spares_the_next(|| {
        let container = started();
        call(["pause", container.id()]).ok();
        words(&["resume", "ID"], container)
    });
}

fn a_slow_start_spares_the_next_container() {
    spares_the_next(|| words(&["start", "ID"], bundle().create(probe!(sleep 60))));
}

fn a_slow_kill_spares_the_next_container() {
    spares_the_next(|| words(&["kill", "ID", "KILL"], bundle().create(probe!(sleep 60))));
}

fn a_slow_exec_spares_the_next_container() {
    spares_the_next(|| words(&["exec", "ID", "/probe", "sleep", "1"], started()));
}

/// A `run` in the foreground deletes its container at the end.
fn the_end_of_a_slow_run_spares_the_next_container() {
    needs_strace();
    let (program, trace) = traced("-e inject=rmdir,unlinkat,unlink:delay_enter=700000:when=1");
    let bundle = bundle().write(probe!(print "here"; sleep 60));
    let mut slow = bundle.call("run").traced(&program).spawn();
    // `running` is said from the gate on; one that is killed before its program runs is an error of `run`.
    eventually("its program runs", || slow.stdout().contains("here"));
    call(["kill", &bundle.id, "KILL"]).ok();
    std::thread::sleep(Duration::from_millis(300));
    call(["delete", "--force", &bundle.id]).ok();
    let next = next(&bundle.id);
    let ran = next.call("run").run();
    assert_eq!(slow.finish().status, 137);
    assert!(std::fs::read_to_string(&trace).expect("trace").contains("DELAYED"));
    let state = call(["state", &next.id]).ok().json();
    assert_eq!((&state["status"], pids_limit(&next.id)), (&json!("running"), "70".to_owned()), "{ran:?}");
    call(["delete", "--force", &next.id]).ok();
    corner::undo();
    host::assert_nothing_left();
}
