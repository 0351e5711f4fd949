//! Peers that do not answer: every wait for another process has an end, and an error that names what it was for.

use super::exec::{exec, running};
use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::{need_ocirt, need_root};
use ocirt_integration::runtime::{Call, Running};
use ocirt_integration::wait::eventually;
use ocirt_integration::{host, probe, tests, user};
use serde_json::{Value, json};
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Instant;

tests![
    a_hook_that_does_not_read_its_state_is_ended_at_its_timeout,
    a_hook_need_not_read_its_state,
    what_a_hook_has_started_ends_with_it_at_its_timeout,
    a_socket_that_nobody_accepts_from_is_not_waited_for_for_ever,
    a_fifo_that_nobody_reads_is_not_waited_for_for_ever,
    a_fifo_may_be_read_later_and_slowly,
    a_fifo_that_nobody_writes_is_not_waited_for_for_ever,
    a_start_does_not_wait_for_an_init_that_is_stopped,
    a_signal_ends_a_run_whose_init_does_not_go_on,
];

const ALL: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// With a state that fills every pipe.
fn large() -> Bundle {
    Bundle::new().set("annotations", json!({ "org.example.large": "x".repeat(1 << 20) }))
}

/// A hook that does what the probe does, never reading.
fn hook(kind: &str, words: &[&str]) -> Value {
    let path = if kind == "startContainer" { "/probe".into() } else { host::probe() };
    let args: Vec<_> = ["probe"].iter().chain(words).collect();
    json!({ "path": path, "args": args })
}

fn a_hook_that_does_not_read_its_state_is_ended_at_its_timeout() {
    need_ocirt();
    for kind in ALL {
        let mut deaf = hook(kind, &["sleep", "60"]);
        deaf["timeout"] = json!(1);
        let bundle = large().hook(kind, deaf).write(probe!(print "it ran"));
        let begun = Instant::now();
        let output = bundle.call("run").run();
        let took = begun.elapsed().as_secs_f64();
        assert!((0.9..8.0).contains(&took), "{kind} took {took}");
        assert!(output.stderr.contains(kind), "{kind}: {}", output.stderr);
        match kind {
            // What has run cannot be undone: a warning, as the specification has it.
            "poststop" => assert_eq!(output.status, 0, "{kind}: {}", output.stderr),
            _ => assert_eq!(output.status, 1, "{kind}: it counts as a success: {}", output.stderr),
        }
        Call::new(["delete", "--force", &bundle.id]).as_user(bundle.as_user()).run().ok();
        host::assert_nothing_left();
    }
}

fn a_hook_need_not_read_its_state() {
    for kind in ALL {
        large().hook(kind, hook(kind, &["print", "x"])).run(probe!(print "it ran")).ok();
    }
}

/// A shell that waits for its child is killed, and so is the child.
fn what_a_hook_has_started_ends_with_it_at_its_timeout() {
    need_ocirt();
    for kind in ["createRuntime", "createContainer"] {
        let script = "sleep 61 & sleep 62; true";
        let hook =
            json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"], "timeout": 1 });
        let bundle = Bundle::new().without_namespace("pid").hook(kind, hook).write(probe!(print "it ran"));
        bundle.call("create").run().fails(kind);
        host::assert_nothing_left();
    }
}

/// A listening socket without room for one more connection.
struct Full {
    path: PathBuf,
    _held: (UnixListener, UnixStream),
}

impl Full {
    fn new() -> Self {
        let path = host::socket().with_extension("full");
        let _ = fs::remove_file(&path);
        let listener = UnixListener::bind(&path).expect("a socket");
        user::give_in_suite(&path);
        // SAFETY: no pointers. Room for one connection, which is taken.
        unsafe { libc::listen(std::os::fd::AsRawFd::as_raw_fd(&listener), 0) };
        let taken = UnixStream::connect(&path).expect("a connection");
        Self { path, _held: (listener, taken) }
    }

    fn text(&self) -> &str {
        self.path.to_str().expect("UTF-8")
    }
}

impl Drop for Full {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// All calls at once, since each takes its ten seconds.
fn a_socket_that_nobody_accepts_from_is_not_waited_for_for_ever() {
    need_ocirt();
    let full = Full::new();
    let container = running(Bundle::new());
    let with_terminal = || Bundle::new().set("process.terminal", json!(true));
    let annotated = Bundle::new().set("annotations", json!({ "run.oci.pidfd_receiver": full.text() }));
    let bundles = [
        ("--console-socket", with_terminal().flags(&["--console-socket", full.text()])),
        ("--pidfd-socket", Bundle::new().flags(&["--pidfd-socket", full.text()])),
        ("run.oci.pidfd_receiver", annotated),
    ];
    let bundles = bundles.map(|(words, bundle)| (words, bundle.write(probe!(print "it ran"))));
    let mut calls: Vec<(&str, Running)> =
        bundles.iter().map(|(words, bundle)| (*words, bundle.call("create").spawn())).collect();
    for (words, flags) in [
        ("--console-socket", ["--tty", "--detach", "--console-socket", full.text()].as_slice()),
        ("--pidfd-socket", &["--pidfd-socket", full.text()]),
    ] {
        calls.push((words, exec(&container, flags, probe!(print "it ran")).spawn()));
    }
    let begun = Instant::now();
    for (words, call) in &mut calls {
        let output = call.finish();
        assert!([1, 255].contains(&output.status), "{output:?}");
        assert!(output.stderr.contains(*words) && output.stderr.contains(full.text()), "{words}: {}", output.stderr);
        assert!(output.stderr.contains("nobody has accepted a connection within 10 s"), "{words}: {}", output.stderr);
        assert!(!output.stdout.contains("it ran"), "{words}");
    }
    assert!((8..16).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
    Call::new(["delete", "--force", container.id()]).as_user(container.bundle.as_user()).run().ok();
    host::assert_nothing_left();
}

pub fn fifo(name: &str) -> PathBuf {
    let path = host::place().join(name);
    let name = std::ffi::CString::new(path.to_str().expect("UTF-8")).expect("no NUL");
    // SAFETY: a NUL-terminated path.
    assert_eq!(unsafe { libc::mkfifo(name.as_ptr(), 0o666) }, 0);
    user::give_in_suite(&path);
    path
}

fn a_fifo_that_nobody_reads_is_not_waited_for_for_ever() {
    need_ocirt();
    let path = fifo("log");
    let text = path.to_str().expect("UTF-8");
    let hooks = json!({ "run.oci.hooks.stdout": text });
    let bundle = Bundle::new().set("annotations", hooks).hook("createRuntime", json!({ "path": "/bin/true" }));
    let bundle = bundle.write(probe!(print "it ran"));
    let mut calls = [
        ("--log", Call::new(["state", "x"]).global(["--log", text]).spawn()),
        ("--log", Call::new(["list"]).global(["--log", &format!("file:{text}")]).spawn()),
        ("annotations.run.oci.hooks.stdout", bundle.call("run").spawn()),
    ];
    for (words, call) in &mut calls {
        let output = call.finish().fails(words);
        assert!(output.stderr.contains("nobody has opened the FIFO for reading within 10 s"), "{}", output.stderr);
    }
    host::assert_nothing_left();
}

/// What a reader that opens it late, and never takes more than a line, does not get is lost: no container waits for it.
fn a_fifo_may_be_read_later_and_slowly() {
    need_ocirt();
    let path = fifo("log");
    let text = path.to_str().expect("UTF-8");
    let mut call = Call::new(["state", "no-such"]).global(["--log", text, "--log-format", "json"]).spawn();
    std::thread::sleep(std::time::Duration::from_millis(300));
    let mut reader = File::open(&path).expect("FIFO");
    call.finish().fails("does not exist");
    let mut line = [0; 4096];
    let length = reader.read(&mut line).expect("a line");
    let line: Value = serde_json::from_slice(&line[..length]).expect("JSON");
    assert_eq!(line["code"], "does-not-exist");
    // Full, and nobody reads on.
    let mut writer = File::options().append(true).open(&path).expect("FIFO");
    // SAFETY: takes numbers.
    unsafe { libc::fcntl(std::os::fd::AsRawFd::as_raw_fd(&writer), libc::F_SETFL, libc::O_NONBLOCK) };
    while std::io::Write::write(&mut writer, &[b'x'; 512]).is_ok() {}
    let begun = Instant::now();
    Call::new(["state", "no-such"]).global(["--log", text]).run().fails("does not exist");
    assert!(begun.elapsed().as_secs() < 8, "{:?}", begun.elapsed());
}

/// A configuration whose writer never comes; and one that comes late.
fn a_fifo_that_nobody_writes_is_not_waited_for_for_ever() {
    need_ocirt();
    let container = running(Bundle::new());
    let path = fifo("process");
    let text = path.to_str().expect("UTF-8");
    let bundle = Bundle::new().flags(&["--config", text]).write(probe!(print "it ran"));
    let config = bundle.dir.join("config.json");
    let words = fs::read_to_string(&config).expect("config.json");
    let as_user = bundle.as_user();
    let mut calls = [
        bundle.call("run").spawn(),
        Call::new(["exec", "--process", text, container.id()]).as_user(as_user).spawn(),
        Call::new(["update", "--resources", text, container.id()]).as_user(as_user).spawn(),
    ];
    for call in &mut calls {
        let output = call.finish();
        assert!([1, 255].contains(&output.status) && output.stderr.contains(text), "{output:?}");
        assert!(output.stderr.contains("nobody has written the FIFO within 10 s"), "{}", output.stderr);
    }
    let mut call = bundle.call("run").spawn();
    std::thread::sleep(std::time::Duration::from_millis(300));
    fs::write(&path, words).expect("FIFO");
    assert_eq!(call.finish().ok().answer(), "it ran");
}

/// The container is still there for another start.
fn a_start_does_not_wait_for_an_init_that_is_stopped() {
    need_ocirt();
    need_root();
    let container = Bundle::new().create(probe!(print "it ran"; sleep 60));
    let pid = container.pid();
    host::signal(pid, libc::SIGSTOP);
    eventually("stopped", || host::process_state(pid) == Some('T'));
    let output = container.start().fails("start gate");
    assert!(output.stderr.contains("is it stopped"), "{}", output.stderr);
    host::signal(pid, libc::SIGCONT);
    container.start().ok();
    assert_eq!(container.answers(1), ["it ran"]);
}

/// `run` passes signals on to the container, and blocks them until there is one.
fn a_signal_ends_a_run_whose_init_does_not_go_on() {
    need_ocirt();
    for kind in ["createContainer", "startContainer"] {
        let begun = host::place().join(kind);
        let script = "echo > \"$0\"; exec sleep 63";
        let begin = begun.to_str().expect("UTF-8");
        let hook = match kind {
            "createContainer" => {
                json!({ "path": "/bin/sh", "args": ["sh", "-c", script, begin], "env": ["PATH=/usr/bin:/bin"] })
            }
            _ => hook(kind, &["sleep", "63"]),
        };
        let mut running = Bundle::new().hook(kind, hook).write(probe!(print "it ran")).call("run").spawn();
        if kind == "createContainer" {
            eventually("the hook runs", || begun.exists());
        } else {
            std::thread::sleep(std::time::Duration::from_secs(2));
        }
        let asked = Instant::now();
        host::signal(running.child.id(), libc::SIGTERM);
        let output = running.finish();
        assert!(asked.elapsed().as_secs_f64() < 30.0, "{kind}: {:?}", asked.elapsed());
        assert_eq!(output.status, 1, "{kind}: {}", output.stderr);
        assert!(output.stderr.contains("signal 15 came while init was set up"), "{kind}: {}", output.stderr);
        host::assert_nothing_left();
    }
}
