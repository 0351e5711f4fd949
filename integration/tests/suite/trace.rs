//! `--trace` and `ocirt trace`: where the time went.

use std::path::{Path, PathBuf};

use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::need_ocirt;
use ocirt_integration::runtime::{Call, call};
use ocirt_integration::wait::eventually;
use ocirt_integration::{host, probe, tests};
use serde_json::{Value, json};

use crate::hooks::{hook, of_kind, with_log};

tests![
    a_trace_has_what_both_processes_did,
    commands_share_a_file_as_its_environment_says,
    hooks_are_below_the_commands_span,
    what_hangs_is_seen_when_the_runtime_is_killed,
    a_file_that_cannot_be_written_is_refused_before_anything_is_made,
    what_is_recorded_is_shown,
];

fn file() -> PathBuf {
    host::place().join("trace.json")
}

fn flags(file: &Path) -> [&str; 2] {
    ["--trace", file.to_str().expect("UTF-8")]
}

/// The file as a viewer takes it: whose closing bracket is optional.
fn events(file: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(file).expect("the trace");
    let text = text.trim_end().strip_suffix(',').unwrap_or_else(|| panic!("{text}"));
    serde_json::from_str(&format!("{text}]")).unwrap_or_else(|error| panic!("{error}: {text}"))
}

/// What `ocirt trace` makes of it.
fn runs(file: &Path) -> Vec<Value> {
    let runs = call(["trace", "--format", "json", file.to_str().expect("UTF-8")]).ok().json();
    runs.as_array().expect("a list").clone()
}

fn names(run: &Value) -> Vec<&str> {
    run["spans"].as_array().expect("spans").iter().map(|span| span["name"].as_str().expect("a name")).collect()
}

/// A step of the suite's bundles.
const PROC: &str = "mount proc on /proc (nosuid,noexec,nodev)";

fn a_trace_has_what_both_processes_did() {
    need_ocirt();
    let file = file();
    let bundle = Bundle::new().global(&flags(&file)).write(probe!(exit 4));
    assert_eq!(bundle.call("run").run().status, 4);
    let runs = runs(&file);
    let [run] = runs.as_slice() else { panic!("{runs:?}") };
    assert_eq!((&run["command"], &run["container"], &run["status"]), (&json!("run"), &json!(bundle.id), &json!(4)));
    let expected = ["plan", "clone init", PROC, "pivot_root", "wait for init", "remove the state"];
    for name in expected {
        assert!(names(run).contains(&name), "{name}: {run}");
    }
    // On one time line: nothing is outside of the command, and what init does follows its birth.
    let spans = run["spans"].as_array().expect("spans");
    let number = |value: &Value| value.as_f64().unwrap_or_else(|| panic!("{value}"));
    let (begin, length) = (number(&run["begin_us"]), number(&run["duration_us"]));
    for span in spans {
        let (since, took) = (number(&span["begin_us"]) - begin, number(&span["duration_us"]));
        assert!(since >= 0.0 && took >= 0.0 && since + took <= length + 1.0, "{span} in {begin}+{length}");
    }
    let of = |name: &str| spans.iter().find(|span| span["name"] == name).unwrap_or_else(|| panic!("{name}"));
    assert_eq!((&of(PROC)["lane"], &of("plan")["lane"]), (&json!("init"), &json!("runtime")));
    assert!(number(&of(PROC)["begin_us"]) > number(&of("clone init")["begin_us"]));
}

/// Also if they begin it at the same moment.
fn commands_share_a_file_as_its_environment_says() {
    need_ocirt();
    let file = file();
    let path = file.to_str().expect("UTF-8");
    let container = Bundle::new().create(probe!(sleep 60));
    let asked = || Call::new(["state", container.id()]).env("OCIRT_TRACE", path).spawn();
    let mut all: Vec<_> = (0..8).map(|_| asked()).collect();
    all.iter_mut().for_each(|state| drop(state.finish().ok()));
    Call::new(["start", container.id()]).env("OCIRT_TRACE", path).as_user(container.bundle.as_user()).run().ok();
    Call::new(["exec", container.id(), "/probe", "exit", "0"])
        .env("OCIRT_TRACE", path)
        .as_user(container.bundle.as_user())
        .run()
        .ok();
    Call::new(["delete", "--force", container.id()])
        .env("OCIRT_TRACE", path)
        .as_user(container.bundle.as_user())
        .run()
        .ok();
    let commands: Vec<Value> = runs(&file).iter().map(|run| run["command"].clone()).collect();
    assert_eq!(commands[8..], ["start", "exec", "delete"]);
    assert!(commands[..8].iter().all(|command| command == "state"), "{commands:?}");
    let begins = events(&file).iter().filter(|event| event["ph"] == "B" && event["cat"] == "command").count();
    assert_eq!(begins, 11);
    // An empty name is none.
    Call::new(["state", container.id()]).env("OCIRT_TRACE", "").run();
    assert_eq!(runs(&file).len(), 11);
}

fn hooks_are_below_the_commands_span() {
    need_ocirt();
    let file = file();
    let (bundle, log) = with_log(Bundle::new().global(&flags(&file)));
    let kinds = ["prestart", "createRuntime", "createContainer", "poststart"];
    let bundle = kinds.iter().fold(bundle, |bundle, kind| bundle.hook(kind, hook(kind, &log, kind, 0, "0")));
    let mut own = hook("poststop", &log, "own", 0, "0");
    own["env"] = json!(["A=b"]);
    let mut other = hook("poststop", &log, "other", 0, "0");
    other["env"] = json!(["TRACEPARENT=mine"]);
    let whole = log.with_file_name("environ");
    let copy = format!("cat /proc/$$/environ > {}", whole.display());
    let shell = json!({ "path": "/bin/sh", "args": ["sh", "-c", copy] });
    let bundle = bundle.hook("poststart", shell).hook("poststop", own).hook("poststop", other).write(probe!(exit 0));
    let (trace, parent) = ("4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7");
    bundle.call("run").env("TRACEPARENT", &format!("00-{trace}-{parent}-01")).run().ok();
    let runs = runs(&file);
    let [run] = runs.as_slice() else { panic!("{runs:?}") };
    assert_eq!((&run["trace_id"], &run["parent_id"]), (&json!(trace), &json!(parent)));
    let below = format!("00-{trace}-{}-01", run["span_id"].as_str().expect("an id"));
    for kind in kinds.into_iter().chain(["own"]) {
        assert_eq!(of_kind(&log, kind)["env"]["TRACEPARENT"], below, "{kind}");
    }
    assert_eq!(of_kind(&log, "own")["env"]["A"], "b");
    assert_eq!(of_kind(&log, "other")["env"]["TRACEPARENT"], "mine");
    // The caller's is gone, and not only behind it.
    let whole = std::fs::read_to_string(whole).expect("environ");
    let all: Vec<&str> = whole.split('\0').filter(|variable| variable.starts_with("TRACEPARENT=")).collect();
    assert_eq!(all, [format!("TRACEPARENT={below}")]);
    let spans = run["spans"].as_array().expect("spans");
    let hooks: Vec<&Value> = spans.iter().filter(|span| span["category"] == "hook").collect();
    let names: Vec<&str> = hooks.iter().filter_map(|span| span["name"].as_str()).collect();
    assert_eq!(names[..2], ["hooks.prestart[0]", "hooks.createRuntime[0]"]);
    assert_eq!(names.len(), 7, "{names:?}");
    // The one that init runs has its command as name, and its place beside it.
    assert!(hooks.iter().any(|span| span["field"] == "hooks.createContainer[0]"), "{hooks:?}");
}

fn what_hangs_is_seen_when_the_runtime_is_killed() {
    need_ocirt();
    let file = file();
    let (bundle, log) = with_log(Bundle::new().global(&flags(&file)));
    let bundle = bundle.hook("createRuntime", hook("createRuntime", &log, "hangs", 0, "60")).write(probe!(exit 0));
    let mut create = bundle.call("create").spawn();
    eventually("the hook runs", || file.exists() && std::fs::read_to_string(&file).expect("trace").contains("hooks."));
    host::kill_tree(create.child.id());
    create.finish();
    let runs = runs(&file);
    let [run] = runs.as_slice() else { panic!("{runs:?}") };
    assert_eq!((&run["duration_us"], &run["status"]), (&Value::Null, &Value::Null));
    let open: Vec<&Value> =
        run["spans"].as_array().expect("spans").iter().filter(|span| span["duration_us"].is_null()).collect();
    assert_eq!(open.iter().map(|span| &span["name"]).collect::<Vec<_>>(), ["hooks.createRuntime[0]"]);
    let text = call(["trace", file.to_str().expect("UTF-8")]).ok().stdout;
    assert!(text.contains("hooks.createRuntime[0], which did not end"), "{text}");
    call(["delete", "--force", &bundle.id]).ok();
}

fn a_file_that_cannot_be_written_is_refused_before_anything_is_made() {
    need_ocirt();
    let bundle = Bundle::new().global(&["--trace", "/dev/null"]).write(probe!(exit 0));
    bundle.call("run").run().fails("run: --trace \"/dev/null\": not a regular file");
    let bundle = Bundle::new().global(&["--trace", "/nonexistent/trace"]).write(probe!(exit 0));
    bundle.call("run").run().fails("run: --trace \"/nonexistent/trace\": open: no such file or directory");
    assert_eq!(call(["list", "--quiet"]).ok().stdout, "");
}

fn what_is_recorded_is_shown() {
    need_ocirt();
    let file = file();
    let path = file.to_str().expect("UTF-8").to_owned();
    let bundle = Bundle::new().global(&flags(&file)).write(probe!(exit 0));
    for _ in 0..10 {
        bundle.call("run").run().ok();
    }
    let text = call(["trace", &path]).ok().stdout;
    assert_eq!(text.lines().filter(|line| line.starts_with(&format!("run {}: ", bundle.id))).count(), 1, "{text}");
    assert!(text.lines().any(|line| line.ends_with(" ms  run") && line.trim_start().starts_with("10 ")), "{text}");
    let svg = call(["trace", "--svg", "--container", &bundle.id, &path]).ok().stdout;
    assert!(svg.starts_with("<svg ") && svg.contains("mount proc on /proc") && svg.ends_with("</svg>\n"), "{svg}");
    let piped = Call::new(["trace", "--format", "json", "-"]).stdin(std::fs::File::open(&file).expect("trace")).run();
    assert_eq!(piped.ok().json().as_array().map(Vec::len), Some(10));
    call(["trace", "--container", "nobody", &path]).fails("no command of ocirt is recorded there");
    call(["trace", "--svg", "--format", "json", &path]).fails("trace: --svg: a picture is not JSON");
    call(["trace", "/nonexistent"]).fails("trace: \"/nonexistent\": open: no such file or directory");
}
