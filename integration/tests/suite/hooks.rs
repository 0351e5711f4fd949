//! `hooks`: when each runs, where, with what, and what its failure means (config.md, "POSIX-platform Hooks").

use ocirt_integration::bundle::Bundle;
use ocirt_integration::host;
use ocirt_integration::needs::need_root;
use ocirt_integration::runtime::{self, call};
use ocirt_integration::wait::eventually;
use ocirt_integration::{probe, tests};
use serde_json::{Value, json};
use std::fs::File;
use std::path::{Path, PathBuf};

tests![
    each_hook_runs_at_its_time,
    hooks_of_a_kind_run_in_order,
    a_hook_gets_the_state,
    a_hook_has_only_its_own_environment,
    a_hook_runs_in_the_namespaces_that_the_specification_names,
    a_hook_gets_its_arguments,
    a_hook_without_env_has_that_of_those_around_it,
    a_hook_starts_in_the_bundle_or_where_the_container_is,
    no_descriptor_of_the_runtime_reaches_a_hook,
    a_hook_may_join_the_network_namespace_of_the_state,
    the_state_is_creating_while_create_hooks_run,
    a_hook_starts_with_no_signal_blocked_and_no_descriptor_of_the_caller,
    hooks_beside_a_shared_pid_namespace_find_the_container,
];

const ALL: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// The log all hooks of a bundle append to, as the host sees it; it is at the same path inside the container.
pub fn with_log(bundle: Bundle) -> (Bundle, PathBuf) {
    let directory = bundle.host_dir("hooks").to_str().expect("UTF-8").to_owned();
    let log = Path::new(&directory).join("log");
    (bundle.mount("bind", &directory, &directory, &["bind"]), log)
}

/// A hook that appends to `log` and then exits; startContainer resolves its path inside the container.
pub fn hook(kind: &str, log: &Path, name: &str, exit: i32, sleep: &str) -> Value {
    let probe = host::probe().to_str().expect("UTF-8").to_owned();
    let path = if kind == "startContainer" { "/probe".to_owned() } else { probe };
    json!({ "path": path, "args": ["probe", "hook", log, name, exit.to_string(), sleep] })
}

fn lines(log: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().map(|line| serde_json::from_str(line).expect("a line of the hook")).collect()
}

pub fn names(log: &Path) -> Vec<String> {
    lines(log).iter().map(|line| line["name"].as_str().unwrap_or("").to_owned()).collect()
}

#[track_caller]
pub fn of_kind(log: &Path, kind: &str) -> Value {
    lines(log).into_iter().find(|line| line["name"] == kind).unwrap_or_else(|| panic!("{kind} did not run"))
}

fn each_hook_runs_at_its_time() {
    let (mut bundle, log) = with_log(Bundle::new());
    for kind in ALL {
        bundle = bundle.hook(kind, hook(kind, &log, kind, 0, "0"));
    }
    let container = bundle.create(probe!(sleep 60));
    assert_eq!(names(&log), ALL[..3]);
    container.start().ok();
    assert_eq!(names(&log), ALL[..5]);
    container.kill("KILL").ok();
    container.wait_for("stopped");
    assert_eq!(names(&log), ALL[..5]);
    container.delete().ok();
    assert_eq!(names(&log), ALL);
    call(["delete", "--force", container.id()]).ok();
    assert_eq!(names(&log), ALL, "poststop runs once");
}

fn hooks_of_a_kind_run_in_order() {
    let (mut bundle, log) = with_log(Bundle::new());
    for kind in ALL {
        for number in 0..3 {
            bundle = bundle.hook(kind, hook(kind, &log, &format!("{kind}{number}"), 0, "0"));
        }
    }
    bundle.run(probe!(print "x")).ok();
    let expected: Vec<_> = ALL.iter().flat_map(|kind| (0..3).map(move |number| format!("{kind}{number}"))).collect();
    assert_eq!(names(&log), expected);
}

fn a_hook_gets_the_state() {
    let (mut bundle, log) = with_log(Bundle::new().set("annotations", json!({ "org.example": "kept" })));
    for kind in ALL {
        bundle = bundle.hook(kind, hook(kind, &log, kind, 0, "0"));
    }
    let (id, dir) = (bundle.id.clone(), bundle.dir.clone());
    let container = bundle.create(probe!(sleep 60));
    let pid = container.pid();
    container.start().ok();
    call(["delete", "--force", &id]).ok();
    // What the specification says of `status`, hook by hook; `creating` may be seen in all of the create ones.
    let statuses = [
        ("prestart", if runtime::kind() == "runc" { "creating" } else { "created" }),
        ("createRuntime", "creating"),
        ("createContainer", "creating"),
        ("startContainer", "created"),
        ("poststart", "running"),
        ("poststop", "stopped"),
    ];
    for (kind, status) in statuses {
        let state = &of_kind(&log, kind)["state"];
        assert_eq!(state["id"], id.as_str(), "{kind}");
        assert_eq!(state["bundle"], dir.to_str().expect("UTF-8"), "{kind}");
        assert_eq!(state["annotations"]["org.example"], "kept", "{kind}");
        assert!(state["ociVersion"].as_str().is_some_and(|version| version.starts_with("1.")), "{kind}");
        assert_eq!(state["status"], status, "{kind}");
        // "For hooks executed in the container namespace, it is the pid as seen by the container."
        match kind {
            "createContainer" | "startContainer" => assert_eq!(state["pid"], 1, "{kind}"),
            "poststop" => {}
            _ => assert_eq!(state["pid"], pid, "{kind}"),
        }
    }
}

fn a_hook_has_only_its_own_environment() {
    let (bundle, log) = with_log(Bundle::new());
    let mut with = hook("prestart", &log, "with", 0, "0");
    with["env"] = json!(["A=1", "B="]);
    let mut without = hook("poststop", &log, "without", 0, "0");
    without["env"] = json!([]);
    let bundle = bundle.hook("prestart", with).hook("poststop", without).write(probe!(print "x"));
    bundle.call("run").env("LEAKED", "1").run().ok();
    let all = lines(&log);
    assert_eq!(all[0]["env"], json!({ "A": "1", "B": "" }));
    assert_eq!(all[1]["env"], json!({}));
}

fn a_hook_runs_in_the_namespaces_that_the_specification_names() {
    let (mut bundle, log) = with_log(Bundle::new());
    for kind in ALL {
        bundle = bundle.hook(kind, hook(kind, &log, kind, 0, "0"));
    }
    let output = bundle.run(probe!(ns)).ok();
    let inside = &output.answer();
    let own = |name: &str| json!(std::fs::read_link(format!("/proc/self/ns/{name}")).expect("ns").to_str());
    for kind in ALL {
        let line = of_kind(&log, kind);
        let container = matches!(kind, "createContainer" | "startContainer");
        for name in ["mnt", "net", "uts", "ipc"] {
            let expected = if container { inside[name].clone() } else { own(name) };
            assert_eq!(line["ns"][name], expected, "{kind} {name}");
        }
        assert_eq!(line["ns"]["pid"] == inside["pid"], container, "{kind} pid");
    }
}

fn a_hook_gets_its_arguments() {
    let (bundle, log) = with_log(Bundle::new());
    let mut named = hook("prestart", &log, "named", 0, "0");
    named["args"][0] = json!("another name");
    bundle.hook("prestart", named).run(probe!(print "x")).ok();
    assert_eq!(lines(&log)[0]["argv0"], "another name");
}

fn a_hook_without_env_has_that_of_those_around_it() {
    let (mut bundle, log) = with_log(Bundle::new().set("process.env", json!(["PATH=/x", "OF=image"])));
    for kind in ALL {
        bundle = bundle.hook(kind, hook(kind, &log, kind, 0, "0"));
    }
    let bundle = bundle.write(vec!["/probe".to_owned(), "print".to_owned(), "x".to_owned()]);
    bundle.call("run").env("OF", "runtime").run().ok();
    for kind in ALL {
        let env = &of_kind(&log, kind)["env"];
        if kind == "startContainer" {
            assert_eq!(*env, json!({ "HOME": "/", "OF": "image", "PATH": "/x" }), "its program is the image's");
        } else {
            assert_eq!(env["OF"], "runtime", "{kind}: {env}");
        }
    }
}

fn a_hook_starts_in_the_bundle_or_where_the_container_is() {
    let (mut bundle, log) = with_log(Bundle::new().set("process.cwd", json!("/data")));
    for kind in ALL {
        bundle = bundle.hook(kind, hook(kind, &log, kind, 0, "0"));
    }
    let (dir, rootfs) = (bundle.dir.clone(), bundle.rootfs());
    bundle.run(probe!(print "x")).ok();
    for kind in ALL {
        let expected = match kind {
            "createContainer" => rootfs.to_str(),
            "startContainer" => Some("/data"),
            _ => dir.to_str(),
        };
        assert_eq!(of_kind(&log, kind)["cwd"].as_str(), expected, "{kind}");
    }
}

fn no_descriptor_of_the_runtime_reaches_a_hook() {
    let (mut bundle, log) = with_log(Bundle::new());
    for kind in ALL {
        bundle = bundle.hook(kind, hook(kind, &log, kind, 0, "0"));
    }
    bundle.run(probe!(print "x")).ok();
    let lines = lines(&log);
    assert_eq!(lines.len(), ALL.len(), "each hook has its line");
    for line in lines {
        let open: Vec<_> = line["fds"].as_object().expect("descriptors").keys().cloned().collect();
        // 3 is the hook's own log.
        assert!(open.iter().all(|fd| ["0", "1", "2", "3"].contains(&fd.as_str())), "{}: {}", line["name"], line["fds"]);
    }
}

/// What CNI and Docker's libnetwork do: a create hook enters the network namespace through the pid of the state.
fn a_hook_may_join_the_network_namespace_of_the_state() {
    // Init is not dumpable before it starts, so its directory in /proc is root's; crun's as well.
    need_root();
    let bundle = Bundle::new();
    let mark = bundle.dir.join("mark");
    let mark = mark.to_str().expect("UTF-8");
    let script = format!("pid=$(sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p'); readlink /proc/$pid/ns/net > {mark}");
    let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] });
    let answer = bundle.hook("createRuntime", hook).run(probe!(ns)).ok().answer();
    eventually("mark", || Path::new(mark).exists());
    assert_eq!(std::fs::read_to_string(mark).expect("mark").trim(), answer["net"]);
}

/// What a monitor sees that asks while `create` still works.
fn the_state_is_creating_while_create_hooks_run() {
    let bundle = Bundle::new();
    let (mark, root) = (bundle.dir.join("mark"), host::root());
    let runtime = ocirt_integration::runtime::path();
    let script = format!("{} --root {} state {} > {}", runtime.display(), root.display(), bundle.id, mark.display());
    let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"], "timeout": 10 });
    let container = bundle.hook("createRuntime", hook).create(probe!(sleep 60));
    let seen: Value = serde_json::from_str(&std::fs::read_to_string(mark).expect("mark")).expect("a state");
    assert_eq!(seen["status"], "creating");
    assert_eq!(container.status(), "created");
}

/// A program that a hook leaves running would be deaf, and hold what the runtime's caller left open.
fn a_hook_starts_with_no_signal_blocked_and_no_descriptor_of_the_caller() {
    let bundle = Bundle::new();
    let mark = bundle.dir.join("mark");
    let script =
        format!("(grep SigBlk /proc/self/status; test -e /proc/self/fd/3 || echo closed) > {}", mark.display());
    let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] });
    let bundle = bundle.hook("createRuntime", hook).write(probe!(print "x"));
    let extra = File::open("/dev/null").expect("null");
    bundle.call("run").descriptors(vec![extra.into()]).run().ok();
    assert_eq!(std::fs::read_to_string(mark).expect("mark"), "SigBlk:\t0000000000000000\nclosed\n");
}

/// Init is born after the first three kinds (docs/decisions/0011-born-last.md): what they are told serves all the same.
fn hooks_beside_a_shared_pid_namespace_find_the_container() {
    // Init is undumpable: no user looks into its namespaces.
    ocirt_integration::needs::need_root();
    ocirt_integration::needs::need_ocirt();
    let pod = super::exec::running(Bundle::new());
    let (mut bundle, log) = with_log(Bundle::new().beside(pod.pid()));
    for kind in ["prestart", "createContainer", "startContainer", "poststart"] {
        bundle = bundle.hook(kind, hook(kind, &log, kind, 0, "0"));
    }
    // The runtime's hook looks where the state sends it.
    let script = "tr -d '\\n' | sed 's/.*\"pid\":\\([0-9]*\\).*/\\1/' | { read pid; readlink /proc/$pid/ns/net; } > $0";
    let seen = bundle.dir.join("hooks/seen");
    let look = json!({ "path": "/bin/sh", "args": ["sh", "-c", script, seen], "env": ["PATH=/usr/bin:/bin"] });
    let pids = format!("/proc/{}/ns/pid", pod.pid());
    let container = bundle.hook("createRuntime", look).namespace("pid", Some(&pids)).create(probe!(sleep 60));
    container.start().ok();
    let net = std::fs::read_link(format!("/proc/{}/ns/net", container.pid())).expect("namespace");
    assert_eq!(std::fs::read_to_string(seen).expect("what the hook saw").trim(), net.to_str().expect("UTF-8"));
    assert_eq!(of_kind(&log, "createContainer")["state"]["pid"], Value::Null);
    let status = container.proc_file("status");
    let inside = status.lines().find_map(|line| line.strip_prefix("NSpid:")?.split_whitespace().last()?.parse().ok());
    assert_eq!(of_kind(&log, "startContainer")["state"]["pid"].as_u64(), inside);
    assert_eq!(of_kind(&log, "poststart")["state"]["pid"], container.pid());
    let [early, late] = ["createContainer", "startContainer"].map(|kind| of_kind(&log, kind)["ns"]["pid"].clone());
    assert_eq!(early, late);
    let pid = container.pid();
    call(["delete", "--force", container.id()]).ok();
    // The pid namespace ends with its last zombie.
    host::reap(pid);
}
