//! `hooks` that fail, or do not end: what their failure means, and what it undoes (runtime.md, "Lifecycle").

use super::hooks::{hook, names, of_kind, with_log};
use ocirt_integration::bundle::Bundle;
use ocirt_integration::host;
use ocirt_integration::runtime::{self, call};
use ocirt_integration::{probe, tests};
use serde_json::{Value, json};
use std::time::Instant;

tests![
    a_failing_hook_before_start_undoes_the_container,
    a_failing_start_container_hook_fails_start,
    what_a_failing_hook_says_is_in_the_error,
    a_failing_poststart_hook_fails_start,
    poststop_hooks_run_whenever_create_or_run_fails,
    no_poststop_hook_runs_before_any_other_could,
    start_destroys_a_container_whose_hook_fails,
    a_failing_poststop_hook_is_a_warning,
    a_hook_past_its_timeout_is_killed,
    a_missing_hook_program_is_an_error,
    what_hooks_leave_ends_with_a_failed_create,
];

fn a_failing_hook_before_start_undoes_the_container() {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let (bundle, log) = with_log(Bundle::new());
        let bundle = bundle
            .hook(kind, hook(kind, &log, kind, 3, "0"))
            .hook("poststop", hook("poststop", &log, "poststop", 0, "0"));
        let bundle = bundle.write(probe!(print "it ran"));
        let output = bundle.call("create").run().fails("hook");
        assert!(
            output.stderr.contains(kind) || output.stderr.contains("probe"),
            "{kind}: which hook? {}",
            output.stderr
        );
        host::assert_nothing_left();
        call(["state", &bundle.id]).fails("does not exist");
        assert_eq!(names(&log), [kind, "poststop"]);
    }
}

fn a_failing_start_container_hook_fails_start() {
    let (bundle, log) = with_log(Bundle::new());
    let bundle = bundle.hook("startContainer", hook("startContainer", &log, "startContainer", 3, "0"));
    let container = bundle.create(probe!(print "it ran"));
    container.start().fails("hook");
    assert_eq!(container.stdout(), "");
    call(["state", container.id()]).fails("does not exist");
    host::assert_nothing_left();
}

/// What the other hooks of an engine have taken is given back by its poststop hook: addresses, ports.
fn poststop_hooks_run_whenever_create_or_run_fails() {
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "process.args"] {
        for command in ["create", "run"] {
            if command == "create" && ["startContainer", "poststart"].contains(&kind) {
                continue;
            }
            let (bundle, log) = with_log(Bundle::new());
            let bundle = bundle.hook("poststop", hook("poststop", &log, "poststop", 0, "0"));
            let (bundle, args) = match kind {
                "process.args" => (bundle, vec!["/no/such/program".to_owned()]),
                _ => (bundle.hook(kind, hook(kind, &log, kind, 3, "0")), probe!(sleep 60)),
            };
            let bundle = bundle.write(args);
            let output = bundle.call(command).run();
            assert_ne!(output.status, 0, "{command}, {kind}: {output:?}");
            assert_eq!(names(&log).last().map(String::as_str), Some("poststop"), "{command}, {kind}: {output:?}");
            assert_eq!(of_kind(&log, "poststop")["state"]["status"], "stopped", "{command}, {kind}");
            call(["delete", "--force", &bundle.id]).ok();
            assert_eq!(names(&log).iter().filter(|name| *name == "poststop").count(), 1, "{command}, {kind}");
            host::assert_nothing_left();
        }
    }
}

/// A container that never came as far as its hooks owes nothing.
fn no_poststop_hook_runs_before_any_other_could() {
    let (bundle, log) = with_log(Bundle::new());
    let bundle = bundle.hook("poststop", hook("poststop", &log, "poststop", 0, "0"));
    let bundle = bundle.mount("bind", "/no/such/source", "/mnt", &["bind"]).write(probe!(print "x"));
    assert_ne!(bundle.call("create").run().status, 0);
    assert_eq!(names(&log), [""; 0]);
}

/// runtime.md, "Lifecycle", steps 7, 9 and 12: it is destroyed, also without `delete`.
fn start_destroys_a_container_whose_hook_fails() {
    for kind in ["startContainer", "poststart"] {
        let (bundle, log) = with_log(Bundle::new());
        let bundle = bundle
            .hook(kind, hook(kind, &log, kind, 3, "0"))
            .hook("poststop", hook("poststop", &log, "poststop", 0, "0"));
        let container = bundle.create(probe!(sleep 60));
        container.start().fails("exit status 3");
        call(["state", container.id()]).fails("does not exist");
        assert_eq!(names(&log), [kind, "poststop"]);
        host::assert_nothing_left();
        // Engines delete it all the same.
        call(["delete", container.id()]).fails("does not exist");
        call(["delete", "--force", container.id()]).ok();
    }
}

/// A hook that says `words` on standard error, and something else on standard output.
fn saying(kind: &str, words: &str, exit: &str) -> Value {
    let path = if kind == "startContainer" { "/probe".into() } else { host::probe() };
    json!({ "path": path, "args": ["probe", "print", "its output", "+", "eprint", words, "+", "exit", exit] })
}

/// Also of those that init runs, which have no other way to be heard; the container's own output is not theirs.
fn what_a_failing_hook_says_is_in_the_error() {
    for kind in ["prestart", "createRuntime", "createContainer", "startContainer", "poststart"] {
        if runtime::kind() != "ocirt" && ["startContainer", "poststart"].contains(&kind) {
            continue;
        }
        let fails = |words: &str| {
            let bundle = Bundle::new().hook(kind, saying(kind, "what another said", "0"));
            let bundle = bundle.hook(kind, saying(kind, words, "3"));
            let output = bundle.run(probe!(sleep 60)).fails("exit status 3");
            assert!(!output.stdout.contains("its output"), "{kind}: {output:?}");
            assert!(!output.stderr.contains("what another said"), "{kind}: {output:?}");
            output.stderr
        };
        let stderr = fails("its last words");
        assert!(stderr.contains("its last words"), "{kind}: {stderr}");
        if runtime::kind() != "ocirt" {
            continue;
        }
        assert!(stderr.ends_with(": its last words\n"), "{kind}: {stderr}");
        let long = fails(&"x".repeat(20_000));
        assert!(long.contains(&"x".repeat(4000)) && long.len() < 5000, "{kind}: {} bytes", long.len());
        assert!(fails("a\u{1b}[31m\u{7}b").contains("a\\u{1b}[31m\\u{7}b"), "{kind}");
    }
    host::assert_nothing_left();
}

/// New in runtime-spec 1.3.0; before, it was a warning.
fn a_failing_poststart_hook_fails_start() {
    let (bundle, log) = with_log(Bundle::new());
    let bundle = bundle.hook("poststart", hook("poststart", &log, "poststart", 3, "0"));
    let container = bundle.create(probe!(sleep 60));
    container.start().fails("hook");
    call(["state", container.id()]).fails("does not exist");
    host::assert_nothing_left();
}

fn a_failing_poststop_hook_is_a_warning() {
    let (bundle, log) = with_log(Bundle::new());
    let bundle = bundle.hook("poststop", hook("poststop", &log, "first", 3, "0"));
    let container = bundle.hook("poststop", hook("poststop", &log, "second", 0, "0")).create(probe!(sleep 60));
    container.kill("KILL").ok();
    container.wait_for("stopped");
    container.delete().ok();
    assert_eq!(names(&log), ["first", "second"]);
    host::assert_nothing_left();
}

fn a_hook_past_its_timeout_is_killed() {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let (bundle, log) = with_log(Bundle::new());
        let mut slow = hook(kind, &log, kind, 0, "60");
        slow["timeout"] = json!(1);
        let begun = Instant::now();
        bundle.hook(kind, slow).write(probe!(print "it ran")).call("create").run().fails("hook");
        let took = begun.elapsed().as_secs_f64();
        assert!((0.9..10.0).contains(&took), "{kind} took {took}");
        host::assert_nothing_left();
    }
}

fn a_missing_hook_program_is_an_error() {
    let bundle = Bundle::new().hook("createRuntime", json!({ "path": "/no/such/hook" }));
    let bundle = bundle.write(probe!(print "it ran"));
    bundle.call("create").run().fails("no such file or directory");
    host::assert_nothing_left();
}

/// Without a pid namespace nothing else would end them, and the cgroup would stay.
fn what_hooks_leave_ends_with_a_failed_create() {
    let background = json!({ "path": "/bin/sh", "args": ["sh", "-c", "sleep 60 </dev/null >/dev/null 2>&1 &"] });
    let bundle = Bundle::new().without_namespace("pid").hook("createContainer", background);
    bundle.hook("createContainer", json!({ "path": "/bin/false" })).refused("createContainer");
}
