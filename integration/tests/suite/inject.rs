//! Every system call as the place of an accident: strace(1) kills the runtime there, or has the call fail.

use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::{Need, need, need_ocirt};
use ocirt_integration::runtime::{Call, Output, call, reachable, strace_flags};
use ocirt_integration::{host, probe, tests, user};
use serde_json::json;
use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

tests![
    create_killed_at_a_system_call_is_undone,
    start_killed_at_a_system_call_is_undone,
    delete_killed_at_a_system_call_can_be_repeated,
    create_with_a_failing_system_call_leaves_nothing,
    a_failing_system_call_does_not_hold_up_who_joins_a_user_namespace,
    delete_with_a_failing_system_call_can_be_repeated,
    run_with_a_failing_system_call_leaves_nothing_that_runs,
    exec_killed_at_a_system_call_leaves_the_container_alone,
    exec_with_a_failing_system_call_leaves_the_container_alone,
    a_slow_exec_is_not_open_to_the_container,
];

/// How long a test looks for accidents; the places are taken from all over the command, the more the faster it goes.
const ENOUGH: Duration = Duration::from_secs(15);

/// Calls whose failure is no accident that happens: a descriptor that is not closed; a number that is always there; and
/// what Rust's library and the allocator cannot do without, so that they end the process on the spot.
pub const NOT_FAILING: [&str; 11] = [
    "close",
    "geteuid",
    "poll",
    "exit_group",
    "getrandom",
    "clock_gettime",
    "mmap",
    "munmap",
    "mremap",
    "brk",
    "rt_sigaction",
];

fn bundle() -> Bundle {
    let limits = json!({ "memory": { "limit": 64 << 20 }, "pids": { "limit": 50 } });
    Bundle::new().set("linux.resources", limits).namespace("cgroup", None)
}

/// A call, and which one of its name.
pub struct Place {
    pub name: String,
    pub count: usize,
}

/// The runtime under strace with `options`, and where strace writes.
pub fn traced(options: &str) -> (PathBuf, PathBuf) {
    let (program, trace) = (host::place().join("traced"), host::place().join("trace"));
    let (flags, runtime) = (strace_flags(), reachable());
    let command = format!("strace {flags} -qq -o {} {options} {}", trace.display(), runtime.display());
    let text = format!("#!/bin/sh\nexec {command} \"$@\"\n");
    std::fs::write(&program, text).expect("script");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("script");
    (program, trace)
}

/// All system calls of the command that `prepare` makes, once it has found its own way: after `first`.
pub fn places(first: &str, prepare: impl Fn() -> (Bundle, Call)) -> Vec<Place> {
    need_ocirt();
    let has_strace = std::process::Command::new("strace").arg("-V").output().is_ok();
    need(Need::Strace, has_strace);
    let (program, trace) = traced("");
    let (bundle, call) = prepare();
    call.traced(&program).run().ok();
    undo(&bundle);
    let mut counts = BTreeMap::new();
    let mut all = Vec::new();
    let mut found = false;
    for line in std::fs::read_to_string(trace).expect("trace").lines() {
        let Some((name, _)) = line.split_once('(') else { continue };
        let count = counts.entry(name.to_owned()).or_insert(0);
        *count += 1;
        found |= line.contains(first);
        if found {
            all.push(Place { name: name.to_owned(), count: *count });
        }
    }
    assert!(all.len() > 10, "{} calls after {first}", all.len());
    all
}

pub fn undo(bundle: &Bundle) {
    if call(["state", &bundle.id]).stdout.contains("\"running\"") {
        end_others(bundle, "undo");
        host::reap_all_but_init();
    }
    host::reap_zombies();
    call(["delete", "--force", &bundle.id]).ok();
    host::assert_nothing_left();
}

/// `visit` for as many places as there is time for, spread evenly and each at most once.
pub fn each(places: &[Place], mut visit: impl FnMut(&Place)) {
    let begun = Instant::now();
    let stride = 7;
    for index in (0..stride).flat_map(|offset| (offset..places.len()).step_by(stride)) {
        if begun.elapsed() > ENOUGH {
            break;
        }
        visit(&places[index]);
    }
}

/// Kills the command at the places, and deletes what it was about.
fn kill_at_each(first: &str, prepare: impl Fn() -> (Bundle, Call)) {
    let places = places(first, &prepare);
    each(&places, |Place { name, count }| {
        let (program, _) = traced(&format!("-e inject={name}:signal=KILL:when={count}"));
        let (bundle, call) = prepare();
        call.traced(&program).run();
        undo(&bundle);
    });
}

/// What create looks at first that is about the container.
fn first_of_create() -> &'static str {
    if host::all_with_systemd() { "/run/systemd/system" } else { "/proc/self/cgroup" }
}

fn create() -> (Bundle, Call) {
    let bundle = bundle().write(probe!(sleep 60));
    let call = bundle.call("create");
    (bundle, call)
}

/// A created container, and `words` for it.
fn created(words: &[&str]) -> (Bundle, Call) {
    let container = bundle().create(probe!(sleep 60));
    let words = words.iter().copied().chain([container.id()]);
    let call = Call::new(words);
    (container.bundle, call)
}

fn create_killed_at_a_system_call_is_undone() {
    kill_at_each(first_of_create(), create);
}

fn start_killed_at_a_system_call_is_undone() {
    kill_at_each("state.json", || created(&["start"]));
}

fn delete_killed_at_a_system_call_can_be_repeated() {
    kill_at_each("state.json", || created(&["delete", "--force"]));
}

fn create_with_a_failing_system_call_leaves_nothing() {
    let places = places(first_of_create(), create);
    each(&places, |Place { name, count }| {
        // The standard library's, too: by recvfrom it hears that newuidmap(1) runs, and panics if it cannot.
        if NOT_FAILING.contains(&name.as_str()) || name == "recvfrom" && user::has_suite() {
            return;
        }
        // To be seen if it hangs.
        eprintln!("{name} {count}");
        let (program, _) = traced(&format!("-e inject={name}:error=ENOSPC:when={count}"));
        let (bundle, call) = create();
        let output: Output = call.traced(&program).run();
        let lines: Vec<_> = output.stderr.lines().collect();
        match output.status {
            // A call that the container can do without.
            0 => return undo(&bundle),
            1 => assert!(lines.len() == 1 && lines[0].starts_with("ocirt: create "), "{name} {count}: {output:?}"),
            _ => panic!("{name} {count}: {output:?}"),
        }
        host::assert_nothing_left();
    });
}

/// Those that the processes are made, heard and ended by which enter the user namespace for the runtime.
fn a_failing_system_call_does_not_hold_up_who_joins_a_user_namespace() {
    need_ocirt();
    need(Need::Strace, std::process::Command::new("strace").arg("-V").output().is_ok());
    let donor = super::userns_path::donor();
    for name in ["socketpair", "clone3", "recvmsg", "pidfd_send_signal", "waitid"] {
        for count in 1..=2 {
            let (program, _) = traced(&format!("-e inject={name}:error=ENOSPC:when={count}"));
            let bundle = super::userns_path::member(&donor).write(probe!(sleep 60));
            let output = bundle.call("create").program(&program).run();
            assert!(output.status <= 1 && output.stderr.lines().count() as i32 == output.status, "{name}: {output:?}");
            let left = call(["state", &bundle.id]).status == 0;
            assert_eq!(left, output.status == 0, "{name} {count}: {output:?}");
            call(["delete", "--force", &bundle.id]).ok();
        }
    }
}

/// A state file that cannot be read for a moment is not a broken one: the container must not be forgotten.
fn delete_with_a_failing_system_call_can_be_repeated() {
    // Not below the default cgroup, where it would be found by its name.
    let prepare = || {
        let bundle = bundle();
        let path = format!("{}/{}-elsewhere", user::cgroup_prefix(), bundle.id);
        let container = bundle.set("linux.cgroupsPath", json!(path)).create(probe!(sleep 60));
        let call = Call::new(["delete", "--force", container.id()]);
        (container.bundle, call)
    };
    let places = places("state.json", prepare);
    each(&places, |Place { name, count }| {
        if NOT_FAILING.contains(&name.as_str()) {
            return;
        }
        eprintln!("{name} {count}");
        let (program, _) = traced(&format!("-e inject={name}:error=EMFILE:when={count}"));
        let (bundle, call) = prepare();
        let output = call.traced(&program).run();
        assert!([0, 1].contains(&output.status), "{name} {count}: {output:?}");
        undo(&bundle);
    });
}

/// From the start of its program on: what comes before is as in `create`. What cannot be removed is left to `delete`.
fn run_with_a_failing_system_call_leaves_nothing_that_runs() {
    let prepare = || {
        let bundle = bundle().write(probe!(sleep 0.2));
        let call = bundle.call("run");
        (bundle, call)
    };
    let places = places("\"G\"", prepare);
    let (mut noticed, mut last) = (0, Vec::new());
    each(&places, |Place { name, count }| {
        if NOT_FAILING.contains(&name.as_str()) {
            return;
        }
        let (program, _) = traced(&format!("-e inject={name}:error=EIO:when={count}"));
        let (bundle, run) = prepare();
        let output: Output = run.traced(&program).run();
        let lines: Vec<_> = output.stderr.lines().collect();
        match output.status {
            // A call that it can do without.
            0 => {}
            1 => {
                noticed += 1;
                assert!(lines.len() == 1 && lines[0].starts_with("ocirt: run "), "{name} {count}: {output:?}");
            }
            _ => panic!("{name} {count}: {output:?}"),
        }
        last.push(name.clone());
        let state = call(["state", &bundle.id]);
        if state.status == 0 {
            let expected = output.status == 1 && state.json()["status"] == "stopped" && name != "waitid";
            assert!(expected, "{name} {count}: {output:?} {state:?}");
            call(["delete", &bundle.id]).ok();
        } else if output.status == 1 {
            // The directory alone may be there.
            call(["delete", "--force", &bundle.id]).ok();
        }
        host::assert_nothing_left();
    });
    assert!(noticed > 0 && last.iter().any(|name| name == "waitid"), "{noticed} noticed of {last:?}");
}

/// A running container, and an exec into it whose process would stay.
fn execed() -> (Bundle, Call) {
    let container = bundle().create(probe!(sleep 60));
    container.start().ok();
    let file = container.bundle.dir.join("exec-pid").display().to_string();
    let words = ["exec", "--detach", "--pid-file", &file, container.id()].map(str::to_owned);
    let call = Call::new(words.into_iter().chain(probe!(sleep 60)));
    (container.bundle, call)
}

/// The pids of the container but init; ends them.
fn end_others(bundle: &Bundle, what: &str) -> usize {
    let state = call(["state", &bundle.id]).ok().json();
    assert_eq!(state["status"], "running", "{what}");
    let pids = call(["ps", "--format", "json", &bundle.id]).ok().json();
    let others: Vec<u32> = pids
        .as_array()
        .into_iter()
        .flatten()
        .filter(|pid| **pid != state["pid"])
        .filter_map(|pid| u32::try_from(pid.as_u64()?).ok())
        .collect();
    for pid in &others {
        host::kill(*pid);
        host::reap(*pid);
    }
    others.len()
}

/// The process may have come to run; half of one never stays.
fn exec_killed_at_a_system_call_leaves_the_container_alone() {
    let places = places("state.json", execed);
    each(&places, |Place { name, count }| {
        let (program, _) = traced(&format!("-e inject={name}:signal=KILL:when={count}"));
        let (bundle, call) = execed();
        call.traced(&program).run();
        // The process that has no runtime any more ends by itself, unless it has become its program.
        let begun = Instant::now();
        while half_made(&bundle) {
            assert!(begun.elapsed() < Duration::from_secs(5), "{name} {count}: a half-made process stays");
            std::thread::sleep(Duration::from_millis(5));
        }
        assert!(end_others(&bundle, name) <= 1, "{name} {count}");
        undo(&bundle);
    });
}

/// Whether a process of the container is still one of the runtime's.
fn half_made(bundle: &Bundle) -> bool {
    let pids = call(["ps", "--format", "json", &bundle.id]).ok().json();
    let name = |pid: &serde_json::Value| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    pids.as_array().into_iter().flatten().any(|pid| ["ocirt", "traced", "ocirt:exec"].contains(&name(pid).trim()))
}

fn exec_with_a_failing_system_call_leaves_the_container_alone() {
    let places = places("state.json", execed);
    each(&places, |Place { name, count }| {
        if NOT_FAILING.contains(&name.as_str()) {
            return;
        }
        let (program, _) = traced(&format!("-e inject={name}:error=ENOSPC:when={count}"));
        let (bundle, call) = execed();
        let output: Output = call.traced(&program).run();
        let lines: Vec<_> = output.stderr.lines().collect();
        let others = end_others(&bundle, name);
        let pid_file = bundle.dir.join("exec-pid").exists();
        match output.status {
            // A call that it can do without.
            0 => assert!(others == 1 && pid_file, "{name} {count}: {output:?}"),
            255 => {
                assert!(lines.len() == 1 && lines[0].starts_with("ocirt: exec "), "{name} {count}: {output:?}");
                assert!(others == 0 && !pid_file, "{name} {count}: {others} processes, pid file {pid_file}");
            }
            _ => panic!("{name} {count}: {output:?}"),
        }
        undo(&bundle);
    });
}

/// CVE-2016-9962: strace holds the process up where it has joined everything, and is not yet root of the container's
/// user namespace.
fn a_slow_exec_is_not_open_to_the_container() {
    need(Need::Strace, std::process::Command::new("strace").arg("-V").output().is_ok());
    let container = super::exec_life::snooped().create(probe!(snoop 60));
    container.start().ok();
    container.answers(1);
    let (program, trace) = traced("-f -e trace=setgroups,setns -e inject=setgroups:delay_enter=100000");
    let words = ["exec", container.id()].map(str::to_owned);
    Call::new(words.into_iter().chain(probe!(print "x"))).traced(&program).run().ok();
    let trace = std::fs::read_to_string(trace).expect("trace");
    assert!(trace.contains("setns(") && trace.contains("DELAYED"), "{trace}");
    let found = container.stdout();
    assert_eq!(found.lines().count(), 1, "{found}");
}
