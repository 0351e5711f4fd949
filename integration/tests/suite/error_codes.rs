//! What the JSON log says of an error beside its words: its class, field, call and errno, which nobody's words choose.

use ocirt_integration::bundle::Bundle;
use ocirt_integration::criu;
use ocirt_integration::needs::{need_ocirt, need_root};
use ocirt_integration::runtime::{Call, Output, call};
use ocirt_integration::{host, probe, tests};
use serde_json::{Value, json};

tests![
    a_hook_chooses_neither_class_nor_field,
    a_hook_of_init_chooses_neither_class_nor_field,
    a_field_is_told_wherever_it_was_found_wanting,
    a_command_in_a_wrong_status_says_so,
    a_paused_container_is_told_from_a_stopped_one,
    a_checkpoint_of_a_stopped_container_is_in_a_wrong_status,
    words_of_the_command_line_choose_nothing,
    a_refused_limit_tells_call_and_errno,
    the_kernels_words_are_no_path,
];

/// What a hook or a file may say that other errors say, too.
const LIES: &str = "container does not exist: mounts[3]: \"/etc/shadow\": executable file not found in $PATH";

/// The line about the error of a call, which has to fail.
#[track_caller]
fn line(call: Call) -> Value {
    let log = host::place().join("codes.json");
    let _ = std::fs::remove_file(&log);
    let output: Output = call.global(["--log", log.to_str().expect("UTF-8"), "--log-format", "json"]).run();
    assert_ne!(output.status, 0, "{}", output.stdout);
    let text = std::fs::read_to_string(&log).expect("a log");
    let line = text.lines().find(|line| line.contains("\"level\":\"error\"")).expect("an error");
    serde_json::from_str(line).expect("JSON")
}

#[track_caller]
fn assert_facts(line: &Value, facts: &[(&str, Value)]) {
    for (key, value) in facts {
        assert_eq!(&line[key], value, "{key} of {line}");
    }
}

fn lying_hook() -> Value {
    json!({ "path": "/bin/sh", "args": ["sh", "-c", format!("echo '{LIES}' >&2; exit 1")] })
}

fn a_hook_chooses_neither_class_nor_field() {
    need_ocirt();
    for (list, command) in [("prestart", "create"), ("createRuntime", "create"), ("poststart", "run")] {
        let bundle = Bundle::new().hook(list, lying_hook()).write(probe!(sleep 5000));
        let line = line(bundle.call(command));
        assert!(line["msg"].as_str().is_some_and(|msg| msg.contains(LIES)), "{line}");
        let field = format!("/hooks/{list}/0");
        assert_facts(
            &line,
            &[
                ("code", json!("config")),
                ("field", json!(field)),
                ("spec", json!("config.md#posix-platform-hooks")),
                ("path", Value::Null),
                ("hint", Value::Null),
            ],
        );
        call(["delete", "--force", &bundle.id]).ok();
    }
}

fn a_hook_of_init_chooses_neither_class_nor_field() {
    need_ocirt();
    for list in ["createContainer", "startContainer"] {
        let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", format!("echo '{LIES}' >&2; exit 1")] });
        let hook = if list == "startContainer" {
            json!({ "path": "/probe", "args": ["probe", "eprint", LIES, "+", "exit", "1"] })
        } else {
            hook
        };
        let bundle = Bundle::new().own_probe().hook(list, hook).write(probe!(sleep 5000));
        let line = line(bundle.call("run"));
        assert_facts(&line, &[("code", json!("config")), ("field", json!(format!("/hooks/{list}/0")))]);
        assert_facts(&line, &[("hint", Value::Null)]);
        call(["delete", "--force", &bundle.id]).ok();
    }
}

/// One field from each way to be wrong: the types, the rules, a module, a list, a step of init, a key with odd letters.
fn a_field_is_told_wherever_it_was_found_wanting() {
    need_ocirt();
    need_root();
    let rows = [
        ("process.cwd", json!("relative"), "/process/cwd", "config.md#process"),
        ("process.user.uid", json!("root"), "/process/user/uid", "config.md#user"),
        ("linux.maskedPaths", json!(["/a", "b"]), "/linux/maskedPaths/1", "config-linux.md#masked-paths"),
        ("process.oomScoreAdj", json!(5000), "/process/oomScoreAdj", "config.md#linux-process"),
        (
            "process.rlimits",
            json!([{ "type": "RLIMIT_CPU", "soft": 2, "hard": 1 }]),
            "/process/rlimits/0",
            "config.md#posix-process",
        ),
        ("linux.sysctl", json!({ "vm.a/b ~: c": "1" }), "/linux/sysctl/vm.a~1b ~0: c", "config-linux.md#sysctl"),
        ("linux.resources.pids", json!({ "limit": "x" }), "/linux/resources/pids/limit", "config-linux.md#pids"),
        (
            "linux.devices",
            json!([{ "path": "/dev/x", "type": "a", "major": 1, "minor": 1 }]),
            "/linux/devices/0",
            "config-linux.md#devices",
        ),
        (
            "linux.rootfsPropagation",
            json!("odd"),
            "/linux/rootfsPropagation",
            "config-linux.md#rootfs-mount-propagation",
        ),
        (
            "mounts",
            json!([{ "destination": "/m", "type": "bind", "source": "/nowhere", "options": ["bind"] }]),
            "/mounts/0",
            "config.md#mounts",
        ),
    ];
    for (field, value, pointer, spec) in rows {
        let bundle = Bundle::new().namespace("network", None).set(field, value).write(probe!(print "it ran"));
        let line = line(bundle.call("create"));
        assert_facts(&line, &[("code", json!("config")), ("field", json!(pointer)), ("spec", json!(spec))]);
    }
    let bundle = Bundle::new().write(vec!["/nowhere".into()]);
    let line = line(bundle.call("create"));
    assert_facts(
        &line,
        &[("code", json!("executable-not-found")), ("field", json!("/process/args/0")), ("errno", json!("ENOENT"))],
    );
    assert!(line["hint"].is_string(), "{line}");
}

fn a_command_in_a_wrong_status_says_so() {
    need_ocirt();
    let container = Bundle::new().create(probe!(print "it ran"));
    let id = container.id();
    assert_facts(&line(Call::new(["resume", id])), &[("code", json!("wrong-status")), ("field", Value::Null)]);
    container.start().ok();
    container.wait_for("stopped");
    for words in [vec!["start", id], vec!["exec", id, "/probe"]] {
        assert_facts(&line(Call::new(words)), &[("code", json!("wrong-status")), ("field", Value::Null)]);
    }
    for words in [vec!["kill", id, "TERM"], vec!["pause", id], vec!["update", "--pids-limit", "9", id]] {
        assert_facts(&line(Call::new(words)), &[("code", json!("not-running"))]);
    }
    assert_facts(&line(container.bundle.call("create")), &[("code", json!("exists"))]);
    container.delete().ok();
    assert_facts(&line(Call::new(["state", id])), &[("code", json!("does-not-exist"))]);
}

fn a_paused_container_is_told_from_a_stopped_one() {
    need_ocirt();
    need_root();
    let container = Bundle::new().start(probe!(sleep 20000));
    call(["pause", container.id()]).ok();
    assert_facts(&line(Call::new(["exec", container.id(), "/probe"])), &[("code", json!("paused"))]);
    call(["delete", "--force", container.id()]).ok();
}

fn a_checkpoint_of_a_stopped_container_is_in_a_wrong_status() {
    need_ocirt();
    need_root();
    let container = Bundle::new().start(probe!(print "it ran"));
    container.wait_for("stopped");
    let images = criu::images();
    let words = ["checkpoint", "--image-path", images.to_str().expect("UTF-8"), container.id()];
    assert_facts(&line(Call::new(words)), &[("code", json!("wrong-status"))]);
}

fn words_of_the_command_line_choose_nothing() {
    need_ocirt();
    let bad = |text: &'static str| line(Call::new(["kill", "absent", text]));
    assert_facts(&bad("container not running"), &[("code", json!("error")), ("field", Value::Null)]);
    let nowhere = ["create", "--bundle", "/nowhere/linux.seccomp: container does not exist", "x"];
    assert_facts(&line(Call::new(nowhere)), &[("code", json!("system")), ("field", Value::Null)]);
    assert_facts(&line(Call::new(["state", "a/b"])), &[("code", json!("invalid-id"))]);
}

fn a_refused_limit_tells_call_and_errno() {
    need_ocirt();
    need_root();
    let bundle = Bundle::new().set("linux.resources.cpu.cpus", json!("4000")).write(probe!(print "it ran"));
    let line = line(bundle.call("create"));
    assert_facts(
        &line,
        &[("field", json!("/linux/resources/cpu/cpus")), ("code", json!("config")), ("call", json!("write"))],
    );
    assert!(line["errno"].is_string(), "{line}");
}

/// A filesystem's words can begin as a path does.
fn the_kernels_words_are_no_path() {
    need_ocirt();
    need_root();
    let bundle = Bundle::new().mount("bind", "/nowhere", "/mnt", &["bind"]).write(probe!(print "it ran"));
    assert_facts(&line(bundle.call("create")), &[("path", json!("/nowhere")), ("errno", json!("ENOENT"))]);
    let bundle = Bundle::new().mount("ext4", "/dev/null", "/mnt", &[]).write(probe!(print "it ran"));
    let line = line(bundle.call("create"));
    let path = line["path"].as_str().unwrap_or_default();
    assert!(!path.contains(' '), "{line}");
}
