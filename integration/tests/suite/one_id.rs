//! Several runtimes at work on one id at the same time: a slow command never touches the container that has its id now,
//! whoever only looks never waits, and nothing waits without an end.

use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::needs::{Need, need, need_ocirt, need_root};
use ocirt_integration::runtime::{Call, Output, call, path};
use ocirt_integration::wait::eventually;
use ocirt_integration::{corner, host, probe, tests};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::inject::{each, places, traced};

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
    a_create_that_ends_is_never_called_stopped,
    five_hundred_creates_are_never_called_stopped,
    a_start_that_loses_to_kill_says_so,
    after_a_start_that_fails_the_container_has_stopped,
    a_hook_of_create_may_look_and_delete,
    a_hook_of_poststart_may_change_the_container,
    a_command_that_waits_in_vain_names_what_it_waits_for,
    a_killed_create_locks_nobody_out,
];

/// A container with limits that tells it from the next one of its id.
fn bundle() -> Bundle {
    Bundle::new().set("linux.resources.pids", json!({ "limit": 50 }))
}

/// The next container of an id.
fn next(id: &str) -> Bundle {
    let mut bundle = Bundle::new().set("linux.resources.pids", json!({ "limit": 70 }));
    bundle.id = id.to_owned();
    bundle.flags(&["--detach"]).write(probe!(sleep 60))
}

fn needs_strace() {
    need_ocirt();
    need(Need::Strace, std::process::Command::new("strace").arg("-V").output().is_ok());
}

fn shell(script: &str) -> Value {
    json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] })
}

/// A command of the runtime as a shell types it.
fn typed(words: &str) -> String {
    format!("{} --root {} {words}", path().display(), host::root().display())
}

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

fn pids_limit(id: &str) -> String {
    let file = |path: PathBuf| std::fs::read_to_string(path.join("pids.max")).ok();
    let found = host::cgroups(id).into_iter().find_map(file).unwrap_or_default();
    found.trim().to_owned()
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

/// `state` is held between its two looks, at the file and at the process that creates the container, until the latter is
/// gone.
fn a_create_that_ends_is_never_called_stopped() {
    needs_strace();
    let creating = || {
        let bundle = bundle();
        let (mark, gate) = (bundle.dir.join("mark"), bundle.dir.join("go"));
        let script = format!("touch {}; while ! test -e {}; do sleep 0.02; done", mark.display(), gate.display());
        let bundle = bundle.hook("createRuntime", shell(&script)).write(probe!(sleep 60));
        let running = bundle.call("create").spawn();
        eventually("the hook runs", || mark.exists());
        (bundle, running, gate)
    };
    let (program, trace) = traced("");
    let (bundle, mut create, gate) = creating();
    Call::new(["state", &bundle.id]).traced(&program).run().ok();
    std::fs::write(gate, "").expect("gate");
    create.finish().ok();
    let trace = std::fs::read_to_string(trace).expect("trace");
    let opened: Vec<_> = trace.lines().filter(|line| line.starts_with("openat(")).collect();
    let stat = opened.iter().position(|line| line.contains("/stat\"")).expect("a look at the process") + 1;
    for _ in 0..3 {
        let (program, _) = traced(&format!("-e inject=openat:delay_enter=1500000:when={stat}"));
        let (bundle, mut create, gate) = creating();
        let mut state = Call::new(["state", &bundle.id]).traced(&program).spawn();
        // strace tells of a call when it is over.
        std::thread::sleep(Duration::from_millis(700));
        std::fs::write(gate, "").expect("gate");
        create.finish().ok();
        let state = state.finish().ok().json();
        assert_eq!(state["status"], "created");
        call(["delete", "--force", &bundle.id]).ok();
    }
}

fn five_hundred_creates_are_never_called_stopped() {
    need_ocirt();
    let begun = Instant::now();
    let mut seen = std::collections::BTreeMap::new();
    for _ in 0..500 {
        let bundle = bundle().write(probe!(sleep 60));
        let mut create = bundle.call("create").spawn();
        loop {
            let state = call(["state", &bundle.id]);
            let status = if state.status == 0 { state.json()["status"].to_string() } else { "none".to_owned() };
            *seen.entry(status.clone()).or_insert(0) += 1;
            if status == "\"created\"" {
                break;
            }
            assert!(["none", "\"creating\""].contains(&status.as_str()), "{state:?} {seen:?}");
        }
        create.finish().ok();
        call(["delete", "--force", &bundle.id]).ok();
        std::fs::remove_dir_all(&bundle.dir).expect("bundle");
        host::reap_zombies();
        // Of a slow machine, less will do.
        if begun.elapsed() > Duration::from_secs(60) {
            break;
        }
    }
    assert!(seen["\"creating\""] > 3, "{seen:?}");
}

fn a_start_that_loses_to_kill_says_so() {
    needs_strace();
    for _ in 0..3 {
        let container = bundle().create(probe!(sleep 60));
        let pid = container.pid();
        let (program, _) = traced("-e inject=connect:delay_enter=1000000:when=1");
        let mut start = Call::new(["start", container.id()]).traced(&program).spawn();
        std::thread::sleep(Duration::from_millis(500));
        container.kill("KILL").ok();
        start.finish().fails("cannot start a container that has stopped");
        host::reap(pid);
        container.delete().ok();
        host::assert_nothing_left();
    }
}

/// Init is slow to end: strace holds it there.
fn after_a_start_that_fails_the_container_has_stopped() {
    needs_strace();
    need_root();
    for field in ["hooks.startContainer", "process.args"] {
        let bundle = bundle();
        let bundle = match field {
            "process.args" => bundle.file("nothing", "not a program").config(|_| {}),
            _ => bundle.hook("startContainer", json!({ "path": "/probe", "args": ["/probe", "exit", "1"] })),
        };
        if field == "process.args" {
            std::fs::set_permissions(bundle.inside("nothing"), std::os::unix::fs::PermissionsExt::from_mode(0o755))
                .expect("mode");
        }
        let args = if field == "process.args" { vec!["/nothing".to_owned()] } else { probe!(sleep 60) };
        let container = bundle.create(args);
        let pid = container.pid();
        let log = host::place().join("of-init");
        let mut strace = std::process::Command::new("strace")
            .args(["-qq", "-p", &pid.to_string(), "-e", "trace=exit_group,exit", "-o"])
            .arg(&log)
            .args(["-e", "inject=exit_group,exit:delay_enter=1000000"])
            .spawn()
            .expect("strace");
        eventually("strace is there", || !container.proc_file("status").contains("TracerPid:\t0\n"));
        let output = container.start();
        assert_eq!(output.status, 1, "{field}: {output:?}");
        match field {
            // Of a hook's failure the container is destroyed (runtime.md, "Lifecycle", step 7).
            "hooks.startContainer" => call(["state", container.id()]).fails("does not exist"),
            _ => {
                assert_eq!(container.status(), "stopped", "{field}");
                container.delete().ok()
            }
        };
        strace.wait().expect("strace");
        host::reap_zombies();
        host::assert_nothing_left();
    }
}

/// `state` never waits; `delete --force` ends the `create` that waits for the hook, and does not wait for itself.
fn a_hook_of_create_may_look_and_delete() {
    need_ocirt();
    for kind in ["prestart", "createRuntime"] {
        let bundle = bundle();
        let said = bundle.dir.join("said");
        let look = format!("{} > {}", typed(&format!("state {}", bundle.id)), said.display());
        let refused = ["start", "pause", "resume", "update --pids-limit 7", "delete"];
        let refused: String =
            refused.iter().map(|it| format!("{} && exit 3; ", typed(&format!("{it} {}", bundle.id)))).collect();
        let script = format!("{look} || exit 4; ({refused} true) 2>{}.errors", said.display());
        let bundle = bundle.hook(kind, shell(&script)).write(probe!(sleep 60));
        let begun = Instant::now();
        bundle.call("create").run().ok();
        assert!(begun.elapsed() < Duration::from_secs(5), "{kind}: a hook waited");
        let state: Value = serde_json::from_str(&std::fs::read_to_string(&said).expect("state")).expect("JSON");
        assert_eq!(state["status"], "creating", "{kind}");
        call(["delete", "--force", &bundle.id]).ok();

        let bundle = self::bundle();
        let said = bundle.dir.join("said");
        let script = format!("{}; echo $? > {}", typed(&format!("delete --force {}", bundle.id)), said.display());
        let bundle = bundle.hook(kind, shell(&script)).write(probe!(sleep 60));
        assert_eq!(bundle.call("create").run().status, 137, "{kind}");
        eventually("the hook has ended", || std::fs::read_to_string(&said).is_ok_and(|said| said == "0\n"));
        host::reap_zombies();
        host::assert_nothing_left();
    }
}

fn a_hook_of_poststart_may_change_the_container() {
    need_ocirt();
    for command in ["run", "start"] {
        let bundle = bundle();
        let script = typed(&format!("update --pids-limit 60 {}", bundle.id));
        let bundle = bundle.hook("poststart", shell(&script));
        let begun = Instant::now();
        let id = if command == "run" {
            let bundle = bundle.flags(&["--detach"]).write(probe!(sleep 60));
            bundle.call("run").run().ok();
            bundle.id
        } else {
            bundle.start(probe!(sleep 60)).bundle.id
        };
        assert!(begun.elapsed() < Duration::from_secs(5), "{command}: the hook waited");
        assert_eq!(pids_limit(&id), "60", "{command}");
        call(["delete", "--force", &id]).ok();

        // One that deletes the container and fails leaves nothing, and nothing of the next container is touched.
        let bundle = self::bundle();
        let script = format!("{}; exit 1", typed(&format!("delete --force {}", bundle.id)));
        let bundle = bundle.hook("poststart", shell(&script));
        let output = if command == "run" {
            bundle.flags(&["--detach"]).write(probe!(sleep 60)).call("run").run()
        } else {
            bundle.create(probe!(sleep 60)).start()
        };
        output.fails("hooks.poststart[0]");
        host::reap_zombies();
        host::assert_nothing_left();
    }
}

/// A poststop hook that wants to delete what is being deleted.
fn a_command_that_waits_in_vain_names_what_it_waits_for() {
    need_ocirt();
    let bundle = bundle();
    let said = bundle.dir.join("said");
    let script = format!("{} 2> {}", typed(&format!("delete --force {}", bundle.id)), said.display());
    let container = bundle.hook("poststop", shell(&script)).start(probe!(sleep 60));
    let begun = Instant::now();
    let output: Output = call(["delete", "--force", container.id()]).ok();
    assert!(output.stderr.contains("hooks.poststop[0]"), "{output:?}");
    assert!(begun.elapsed() < Duration::from_secs(15));
    let said = std::fs::read_to_string(said).expect("message");
    let is_named = said.contains(&format!("delete --force {})", container.id()));
    assert!(is_named && said.contains("is still changing the container after 10 s"), "{said}");
    host::reap_zombies();
    host::assert_nothing_left();
}

/// Its init, which runs a hook, lives on for a while.
fn a_killed_create_locks_nobody_out() {
    need_ocirt();
    need_root();
    let bundle = bundle();
    let mark = bundle.dir.join("mark");
    let script = format!("touch {}; sleep 30", mark.display());
    let bundle = bundle.hook("createContainer", shell(&script)).write(probe!(sleep 60));
    let mut create = bundle.call("create").spawn();
    eventually("the hook runs", || mark.exists());
    host::kill(create.child.id());
    create.finish();
    let begun = Instant::now();
    call(["delete", "--force", &bundle.id]).ok();
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    host::reap_zombies();
    host::assert_nothing_left();
}
