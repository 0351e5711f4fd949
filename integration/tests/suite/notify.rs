//! SCMP_ACT_NOTIFY: a system call waits for the answer of an agent (config-linux.md, "Seccomp").

use crate::exec::{exec, refused, running};
use ocirt_integration::agent::{Agent, Answer};
use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::host;
use ocirt_integration::needs::need_ocirt;
use ocirt_integration::runtime::{Call, call, kind, wait};
use ocirt_integration::wait::eventually;
use ocirt_integration::{probe, tests, user};
use serde_json::{Value, json};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::{Duration, Instant};

tests![
    an_agent_answers_what_is_notified,
    the_agent_gets_the_container_process_state,
    what_the_runtime_itself_calls_may_be_notified,
    an_exec_process_has_a_listener_of_its_own,
    each_flag_works_with_a_listener,
    when_the_agent_leaves_the_calls_do_not_exist,
    the_path_of_an_agent_is_ignored_when_nothing_is_notified,
    a_profile_that_would_hang_is_refused,
    an_agent_that_is_not_there_is_an_error,
    an_agent_that_does_not_take_the_state_is_not_waited_for_for_ever,
    an_agent_that_never_answers_is_not_waited_for_for_ever,
    a_signal_ends_the_wait_of_an_exec_for_its_agent,
];

const GETSID: i64 = libc::SYS_getsid;

fn notify(agent: &Agent, names: &[&str]) -> Bundle {
    with(&json!(agent.path), names)
}

fn with(path: &Value, names: &[&str]) -> Bundle {
    Bundle::new().set(
        "linux.seccomp",
        json!({
            "defaultAction": "SCMP_ACT_ALLOW",
            "architectures": ["SCMP_ARCH_X86_64"],
            "listenerPath": path,
            "listenerMetadata": "the=metadata",
            "syscalls": [{ "names": names, "action": "SCMP_ACT_NOTIFY" }],
        }),
    )
}

/// Both places of the filter: without no_new_privs it is loaded early.
fn an_agent_answers_what_is_notified() {
    let answer = |call| match i64::from(call) {
        GETSID => Answer::Value(4711),
        libc::SYS_mkdir => Answer::Errno(libc::ENOTBLK),
        _ => Answer::Continue,
    };
    for no_new_privileges in [true, false] {
        let agent = Agent::start(answer);
        let bundle = notify(&agent, &["getsid", "mkdir", "getpgid"]);
        let bundle = bundle.set("process.noNewPrivileges", json!(no_new_privileges));
        let verbs = probe!(call GETSID, 0; call libc::SYS_mkdir, 0, 0; call libc::SYS_getpgid, 0);
        let answers = bundle.run(verbs).ok().answers();
        assert_eq!(answers, [json!(4711), json!({ "error": "ENOTBLK" }), json!(1)]);
        for call in [GETSID, libc::SYS_mkdir, libc::SYS_getpgid] {
            assert!(agent.calls().contains(&(call as i32)), "{call}");
        }
    }
}

fn the_agent_gets_the_container_process_state() {
    let agent = Agent::start(|_| Answer::Value(7));
    let bundle = notify(&agent, &["getsid"]).set("annotations", json!({ "test.key": "test.value" }));
    let directory = bundle.dir.clone();
    let container = bundle.create(probe!(call GETSID, 0));
    // The agent serves it from create on.
    let states = agent.states(1);
    let [state] = states.as_slice() else { panic!("{states:?}") };
    assert_eq!(state["fds"], json!(["seccompFd"]));
    assert_eq!(state["pid"], json!(container.pid()));
    assert_eq!(state["metadata"], "the=metadata");
    assert!(state["ociVersion"].as_str().is_some_and(|version| version.starts_with("1.")), "{state}");
    let inner = &state["state"];
    assert_eq!(inner["id"], container.id());
    assert_eq!(inner["pid"], json!(container.pid()));
    assert_eq!(inner["status"], "creating");
    assert_eq!(inner["bundle"], json!(directory));
    assert_eq!(inner["annotations"]["test.key"], "test.value");
    assert!(inner["ociVersion"].is_string());
    container.start().ok();
    assert_eq!(container.answers(1), [json!(7)]);
    assert_eq!(agent.states(1).len(), 1);
    eventually("one connection, and closed", || agent.closed() == 1);
}

/// Nobody answers until the agent has the listener: the way to it must not need what is notified.
fn what_the_runtime_itself_calls_may_be_notified() {
    for no_new_privileges in [true, false] {
        let agent = Agent::start(|_| Answer::Continue);
        let names = [
            "sendmsg",
            "recvmsg",
            "close",
            "accept4",
            "execve",
            "execveat",
            "rt_sigaction",
            "fcntl",
            "prctl",
            "read",
            "openat2",
            "capset",
            "setuid",
            "setgid",
            "setresuid",
            "setresgid",
            "setgroups",
            "getsid",
        ];
        let bundle = notify(&agent, &names).set("process.noNewPrivileges", json!(no_new_privileges));
        if user::has_suite() {
            // Nobody but root may take it from an undumpable process (decision 0004).
            bundle.refused("pidfd_getfd: operation not permitted");
            continue;
        }
        let container = bundle.create(probe!(call GETSID, 0));
        container.start().ok();
        assert_eq!(container.answers(1), [json!(1)]);
        assert!(agent.calls().contains(&(libc::SYS_execve as i32)));
    }
}

fn an_exec_process_has_a_listener_of_its_own() {
    for (no_new_privileges, also) in [(true, "getpgid"), (false, "getpgid"), (true, "sendmsg")] {
        if user::has_suite() && also == "sendmsg" {
            continue;
        }
        let agent = Agent::start(|call| if i64::from(call) == GETSID { Answer::Value(9) } else { Answer::Continue });
        let bundle = notify(&agent, &["getsid", also]).set("process.noNewPrivileges", json!(no_new_privileges));
        let container = running(bundle);
        assert_eq!(exec(&container, &[], probe!(call GETSID, 0)).run().ok().answer(), json!(9));
        let states = agent.states(2);
        let [_, state] = states.as_slice() else { panic!("{states:?}") };
        assert_eq!((&state["fds"], &state["metadata"]), (&json!(["seccompFd"]), &json!("the=metadata")));
        assert_eq!((&state["state"]["pid"], &state["state"]["status"]), (&json!(container.pid()), &json!("running")));
        assert!(state["pid"].as_u64().is_some_and(|pid| pid != u64::from(container.pid())), "{state}");
        drop(agent);
        // Nobody listens any more.
        refused(exec(&container, &[], probe!(print "it ran")).run(), "no such file or directory");
    }
}

fn each_flag_works_with_a_listener() {
    for flags in [
        json!([]),
        json!(["SECCOMP_FILTER_FLAG_TSYNC"]),
        json!(["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]),
        json!(["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]),
    ] {
        let agent = Agent::start(|_| Answer::Value(5));
        let bundle = notify(&agent, &["getsid"]).set("linux.seccomp.flags", flags.clone());
        assert_eq!(bundle.run(probe!(call GETSID, 0)).ok().answer(), json!(5), "{flags}");
    }
}

fn when_the_agent_leaves_the_calls_do_not_exist() {
    let agent = Agent::start(|_| Answer::Leave);
    let answers = notify(&agent, &["getsid"]).run(probe!(call GETSID, 0; call GETSID, 0; print "on")).ok().answers();
    assert_eq!(answers, [json!({ "error": "ENOSYS" }), json!({ "error": "ENOSYS" }), json!("on")]);
}

fn the_path_of_an_agent_is_ignored_when_nothing_is_notified() {
    let bundle = with(&json!("/nowhere/agent.sock"), &["getsid"]);
    let bundle = bundle.set("linux.seccomp.syscalls.0.action", json!("SCMP_ACT_ERRNO"));
    assert_eq!(bundle.run(probe!(call GETSID, 0)).ok().answer()["error"], "EPERM");
}

fn a_profile_that_would_hang_is_refused() {
    let agent = Agent::start(|_| Answer::Continue);
    let path = json!(agent.path);
    let bundle = || with(&path, &["getsid"]);
    bundle().set("linux.seccomp.defaultAction", json!("SCMP_ACT_NOTIFY")).refused("SCMP_ACT_NOTIFY");
    with(&path, &["getsid", "write"]).refused("write");
    bundle()
        .set("linux.seccomp.listenerPath", Value::Null)
        .set("linux.seccomp.listenerMetadata", Value::Null)
        .refused("listenerPath");
    if kind() == "ocirt" {
        bundle().set("linux.seccomp.listenerPath", Value::Null).refused("linux.seccomp.listenerMetadata");
        bundle().set("linux.seccomp.listenerPath", json!("agent.sock")).refused("linux.seccomp.listenerPath");
    }
    assert_eq!(agent.states(0), [] as [Value; 0]);
}

fn an_agent_that_is_not_there_is_an_error() {
    let nobody = host::socket().with_extension("nobody");
    let (missing, regular) = (json!("/nowhere/agent.sock"), nobody.with_extension("regular"));
    std::fs::write(&regular, "").expect("a file");
    drop(std::os::unix::net::UnixListener::bind(&nobody).expect("a socket"));
    [&nobody, &regular].into_iter().for_each(|path| user::give_in_suite(path));
    for no_new_privileges in [true, false] {
        for (path, words) in [
            (&missing, "no such file or directory"),
            (&json!(nobody), "connection refused"),
            (&json!(regular), "connection refused"),
        ] {
            let bundle = with(path, &["getsid"]).set("process.noNewPrivileges", json!(no_new_privileges));
            bundle.refused(words);
        }
    }
    for path in [nobody, regular] {
        let _ = std::fs::remove_file(path);
    }
}

fn an_agent_that_does_not_take_the_state_is_not_waited_for_for_ever() {
    need_ocirt();
    let path = host::socket().with_extension("full");
    let listener = std::os::unix::net::UnixListener::bind(&path).expect("a socket");
    user::give_in_suite(&path);
    // SAFETY: no pointers. Room for one connection, which the test takes.
    unsafe { libc::listen(std::os::fd::AsRawFd::as_raw_fd(&listener), 0) };
    let _taken = std::os::unix::net::UnixStream::connect(&path).expect("a connection");
    let output = with(&json!(path), &["getsid"]).refused("linux.seccomp.listenerPath");
    assert!(output.stderr.contains("connect: resource temporarily unavailable"), "{}", output.stderr);
    let _ = std::fs::remove_file(path);
}

/// One that accepts no connection, and one that reads nothing: the kernel keeps state and listener for both, and nobody
/// answers. All is waited for at once, since it takes a minute. Hooks may take longer, beside an agent that answers.
fn an_agent_that_never_answers_is_not_waited_for_for_ever() {
    need_ocirt();
    let [idle, deaf] = ["idle", "deaf"].map(|name| host::socket().with_extension(name));
    let _idle = UnixListener::bind(&idle).expect("a socket");
    let accepting = UnixListener::bind(&deaf).expect("a socket");
    [&idle, &deaf].into_iter().for_each(|path| user::give_in_suite(path));
    std::thread::spawn(move || accepting.incoming().for_each(std::mem::forget));
    let agent = Agent::start(|_| Answer::Continue);
    let slow = json!({ "path": "/probe", "args": ["probe", "hook", "/log", "slow", "0", "34"] });
    let created = |path: &Path, hook: Option<Value>| {
        let bundle = with(&json!(path), &["execve"]);
        let bundle = hook.into_iter().fold(bundle, |bundle, hook| bundle.hook("startContainer", hook));
        bundle.create(probe!(print "it ran"))
    };
    let (hanging, patient) = ([created(&idle, None), created(&deaf, None)], created(&agent.path, Some(slow)));
    let begun = Instant::now();
    let start = |container: &Container| Call::new(["start", container.id()]).spawn();
    let mut starts = hanging.each_ref().map(start);
    let mut patient_start = start(&patient);
    let names = |command: &str| if command == "create" { ["capset", "setgid"] } else { ["getsid", "execve"] };
    // Without no_new_privs the filter is loaded early.
    let bundle = |command| with(&json!(deaf), &names(command)).set("process.noNewPrivileges", json!(false));
    let bundles = ["create", "run"].map(|command| bundle(command).write(probe!(print "it ran")));
    let mut undone = [bundles[0].call("create").spawn(), bundles[1].call("run").spawn()];
    let words = |path: &Path| format!("linux.seccomp.listenerPath: {}: the agent has not answered", path.display());
    for (call, path) in starts.iter_mut().chain(&mut undone).zip([&idle, &deaf, &deaf, &deaf]) {
        wait(&mut call.child, Duration::from_secs(45));
        let output = call.finish().fails(&words(path));
        assert!(output.stderr.lines().count() == 1 && !output.stdout.contains("it ran"), "{output:?}");
    }
    assert!(begun.elapsed() > Duration::from_secs(25), "{:?}", begun.elapsed());
    for container in hanging {
        assert_eq!((container.status().as_str(), container.stdout().as_str()), ("stopped", ""));
        container.delete().ok();
    }
    for bundle in bundles {
        call(["state", &bundle.id]).fails("does not exist");
    }
    wait(&mut patient_start.child, Duration::from_secs(20));
    patient_start.finish().ok();
    assert_eq!(patient.answers(1), [json!("it ran")]);
}

/// The agent has taken the listener, and lets the program wait.
fn a_signal_ends_the_wait_of_an_exec_for_its_agent() {
    need_ocirt();
    let agent = Agent::start(|_| Answer::Continue);
    let container = running(notify(&agent, &["execve"]));
    let path = agent.path.clone();
    drop(agent);
    let deaf = UnixListener::bind(&path).expect("a socket");
    user::give_in_suite(&path);
    let mut waiting = exec(&container, &[], probe!(print "it ran")).spawn();
    let _taken = deaf.accept().expect("a connection");
    let begun = Instant::now();
    // SAFETY: no memory is passed; the runtime is our child.
    unsafe { libc::kill(waiting.child.id() as i32, libc::SIGTERM) };
    let output = waiting.finish();
    assert!(output.status == 255 && begun.elapsed() < Duration::from_secs(8), "{output:?} {:?}", begun.elapsed());
    assert!(output.stderr.contains("signal 15 came while the process was set up"), "{output:?}");
    call(["delete", "--force", container.id()]).ok();
    let _ = std::fs::remove_file(path);
}
