//! What --debug writes, and what is kept from the standard error of programs.

use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::{need_ocirt, need_root};
use ocirt_integration::runtime::{Call, call};
use ocirt_integration::{host, probe, tests};
use serde_json::{Value, json};

tests![
    the_debug_log_has_each_step_in_order,
    the_debug_log_has_each_hook,
    the_debug_log_of_start_has_the_steps_that_were_left,
    a_warning_of_exec_is_not_in_the_programs_standard_error,
];

/// A log of this test, which is emptied by each look.
struct Log(std::path::PathBuf);

impl Log {
    fn new() -> Self {
        Log(host::place().join("debug.log"))
    }

    fn flags(&self) -> [&str; 3] {
        ["--debug", "--log", self.0.to_str().expect("UTF-8")]
    }

    /// The monotonic time never goes back, and every line has one but those of whole commands.
    fn take(&self) -> String {
        let text = std::fs::read_to_string(&self.0).expect("the log");
        std::fs::remove_file(&self.0).expect("the log");
        let times: Vec<f64> =
            text.lines().filter_map(|line| line.split_once(": [")?.1.split_once("] ")?.0.parse().ok()).collect();
        assert!(!times.is_empty() && times.is_sorted(), "{text}");
        assert!(text.lines().all(|line| line.contains("level=debug")), "{text}");
        text
    }
}

/// Every step of the plan is there, of init and of an exec.
fn the_debug_log_has_each_step_in_order() {
    need_ocirt();
    let log = Log::new();
    let flags = log.flags();
    let lines = |what: &str| {
        let text = log.take();
        assert!(
            text.lines().count() > 10 && text.contains(&format!("{what}: ")) && text.contains(" us in all"),
            "{text}"
        );
        text
    };
    let bundle = Bundle::new().global(&flags).write(probe!(print "x"));
    assert_eq!(bundle.call("run").run().ok().answers(), ["x"]);
    let text = lines("run");
    for step in ["plan: ", "cgroup: ", "mount proc on /proc", "pivot_root", "reset signals"] {
        assert!(text.contains(step), "{step} in {text}");
    }
    let container = Bundle::new().global(&flags).create(probe!(sleep 60));
    assert!(lines("create").contains("report ready"));
    container.start().ok();
    let exec = Call::new(["exec", container.id(), "/probe", "print", "x"]).as_user(container.bundle.as_user());
    assert_eq!(exec.global(flags).run().ok().stderr, "");
    assert!(lines("exec").contains("set capabilities"));
}

/// Of the runtime's own hooks and of those that init runs, in their order, also of one that fails.
fn the_debug_log_has_each_hook() {
    need_ocirt();
    let log = Log::new();
    let nothing = json!({ "path": "/bin/true" });
    let in_the_rootfs = json!({ "path": "/probe", "args": probe!(print "x") });
    let with_hooks = || {
        let host = ["createRuntime", "createContainer", "poststart", "poststop"];
        let bundle = host.iter().fold(Bundle::new(), |bundle, kind| bundle.hook(kind, nothing.clone()));
        bundle.hook("startContainer", in_the_rootfs.clone()).global(&log.flags())
    };
    let bundle = with_hooks().write(probe!(print "x"));
    bundle.call("run").run().ok();
    let text = log.take();
    let at =
        |text: &str, kind: &str| text.find(&format!("hooks.{kind}[0]")).unwrap_or_else(|| panic!("{kind}: {text}"));
    let kinds = ["createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    assert!(kinds.map(|kind| at(&text, kind)).is_sorted(), "{text}");
    assert!(text.lines().any(|line| line.contains("] hooks.createRuntime[0]: ") && line.contains(" us\"")), "{text}");
    let failing = with_hooks().hook("createRuntime", json!({ "path": "/bin/false" })).write(probe!(print "x"));
    failing.call("run").run().fails("createRuntime");
    let text = std::fs::read_to_string(host::place().join("debug.log")).expect("the log");
    for kind in ["hooks.createRuntime[0]: ", "hooks.createRuntime[1]: ", "hooks.poststop[0]: "] {
        assert!(text.contains(&format!("] {kind}")), "{kind}{text}");
    }
}

fn the_debug_log_of_start_has_the_steps_that_were_left() {
    need_ocirt();
    let log = Log::new();
    let hook = json!({ "path": "/probe", "args": probe!(print "x") });
    let bundle = Bundle::new().hook("startContainer", hook.clone()).hook("startContainer", hook);
    let container = bundle.create(probe!(sleep 60));
    let start = Call::new(["start", container.id()]).as_user(container.bundle.as_user());
    start.global(log.flags()).run().ok();
    let text = log.take();
    let steps: Vec<&str> = text.lines().filter(|line| line.contains("] step")).collect();
    let [first, second, last] = steps.as_slice() else { panic!("{text}") };
    assert!(first.contains("(hooks.startContainer[0]): ") && second.contains("(hooks.startContainer[1]): "), "{text}");
    assert!(last.contains("exec"), "{text}");
}

/// CRI-O calls exec without --log, and what the runtime says would be the program's.
fn a_warning_of_exec_is_not_in_the_programs_standard_error() {
    need_ocirt();
    need_root();
    let container = Bundle::new().start(probe!(sleep 60));
    let file = container.bundle.dir.join("process.json");
    let process = json!({
        "cwd": "/", "user": { "uid": 0, "gid": 0 }, "args": probe!(print "x"), "env": ["PATH=/"],
        "capabilities": { "bounding": ["NET_ADMIN"] }
    });
    std::fs::write(&file, process.to_string()).expect("process.json");
    let words = ["exec", "--process", file.to_str().expect("UTF-8"), container.id()];
    let output = call(words).ok();
    assert_eq!((output.answer(), output.stderr.as_str()), (Value::from("x"), ""));
    let log = host::place().join("log");
    Call::new(words).global(["--log", log.to_str().expect("UTF-8")]).run().ok();
    let text = std::fs::read_to_string(log).expect("the log");
    assert!(text.contains("ignoring unknown capability") && text.contains("did you mean CAP_NET_ADMIN"), "{text}");
}
