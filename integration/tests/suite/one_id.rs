//! Several runtimes at work on one id at the same time: a slow command never touches the container that has its id now,
//! whoever only looks never waits, and nothing waits without an end.

use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::{Need, need, need_ocirt, need_root};
use ocirt_integration::runtime::{Call, Output, call, path};
use ocirt_integration::wait::eventually;
use ocirt_integration::{host, probe, tests};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::inject::traced;

tests![
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
pub fn bundle() -> Bundle {
    Bundle::new().set("linux.resources.pids", json!({ "limit": 50 }))
}

/// The next container of an id.
pub fn next(id: &str) -> Bundle {
    let mut bundle = Bundle::new().set("linux.resources.pids", json!({ "limit": 70 }));
    bundle.id = id.to_owned();
    bundle.flags(&["--detach"]).write(probe!(sleep 60))
}

pub fn needs_strace() {
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

pub fn pids_limit(id: &str) -> String {
    let file = |path: PathBuf| std::fs::read_to_string(path.join("pids.max")).ok();
    let found = host::cgroups(id).into_iter().find_map(file).unwrap_or_default();
    found.trim().to_owned()
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
