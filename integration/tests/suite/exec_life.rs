//! `exec` in time: containers in each state, processes in the foreground and detached, many at once, and containers that
//! end meanwhile.

use super::exec::{exec, refused, running};
use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::host::{self, reap};
use ocirt_integration::needs::need_ocirt;
use ocirt_integration::runtime::{Call, call};
use ocirt_integration::terminal::{Receiver, pty, read_until};
use ocirt_integration::wait::eventually;
use ocirt_integration::{probe, tests, user};
use serde_json::{Value, json};
use std::fs::File;
use std::time::{Duration, Instant};

tests![
    a_created_container_is_entered,
    a_stopped_or_absent_container_is_refused,
    a_paused_container_is_refused_unless_told,
    the_exit_status_is_the_processes,
    signals_are_forwarded,
    standard_input_and_output_are_the_callers,
    a_detached_process_is_left_to_the_caller,
    the_pid_file_holds_the_pid,
    a_pid_file_that_cannot_be_written_ends_the_process,
    the_pidfd_socket_receives_the_pidfd,
    the_console_socket_receives_the_terminal,
    a_foreground_terminal_is_passed_through,
    a_detached_terminal_needs_a_console_socket,
    a_sub_cgroup_is_entered,
    no_cgroup_outside_the_containers_is_entered,
    the_end_of_the_container_ends_the_process,
    nothing_of_the_runtime_is_open_to_the_container,
    five_hundred_execs_leave_nothing,
    containers_killed_while_execs_run_hang_nobody,
];

fn a_created_container_is_entered() {
    let container = Bundle::new().create(probe!(print "it ran"));
    if user::has_suite() {
        return refused(exec(&container, &[], probe!(print "it ran")).run(), "only root can enter");
    }
    assert_eq!(exec(&container, &[], probe!(print "inside")).run().ok().answer(), "inside");
    assert_eq!((container.status().as_str(), container.stdout().as_str()), ("created", ""));
    container.start().ok();
    container.answers(1);
}

fn a_stopped_or_absent_container_is_refused() {
    let container = running(Bundle::new());
    container.kill("KILL").ok();
    container.wait_for("stopped");
    refused(exec(&container, &[], probe!(print "it ran")).run(), "stopped");
    container.delete().ok();
    refused(exec(&container, &[], probe!(print "it ran")).run(), "does not exist");
    refused(Call::new(["exec", "absent", "/probe"]).run(), "does not exist");
    host::assert_nothing_left();
}

fn a_paused_container_is_refused_unless_told() {
    let container = running(Bundle::new());
    call(["pause", container.id()]).ok();
    refused(exec(&container, &[], probe!(print "it ran")).run(), "paused");
    let mut waiting = exec(&container, &["--ignore-paused"], probe!(print "x")).spawn();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!((waiting.stdout().as_str(), container.status().as_str()), ("", "paused"));
    call(["resume", container.id()]).ok();
    assert_eq!(waiting.finish().ok().answer(), "x");
}

fn the_exit_status_is_the_processes() {
    let container = running(Bundle::new());
    for status in [0, 1, 42, 255] {
        assert_eq!(exec(&container, &[], probe!(exit status)).run().status, status);
    }
    for signal in [9, 15, 6] {
        assert_eq!(exec(&container, &[], probe!(raise signal)).run().status, 128 + signal);
    }
    assert_eq!(container.status(), "running");
}

fn signals_are_forwarded() {
    let container = running(Bundle::new());
    // 34 is SIGRTMIN for most programs; musl, which the runtime may be built with, keeps it to itself.
    for signal in [libc::SIGTERM, libc::SIGINT, libc::SIGUSR1, libc::SIGHUP, 34] {
        let mut process = exec(&container, &[], probe!(sigwait)).spawn();
        eventually("the process waits", || process.stdout().contains("ready"));
        // SAFETY: no memory is passed; the runtime is our child.
        unsafe { libc::kill(process.child.id() as i32, signal) };
        assert_eq!(process.finish().ok().answers()[1], signal);
    }
}

fn standard_input_and_output_are_the_callers() {
    let container = running(Bundle::new());
    let file = container.bundle.dir.join("input");
    std::fs::write(&file, "typed").expect("file");
    let output = exec(&container, &[], probe!(stdin; eprint "said")).stdin(File::open(file).expect("file")).run().ok();
    assert_eq!((output.answers()[0].clone(), output.stderr.trim()), (json!("typed"), "said"));
}

/// The pid of the last process that a detached exec made.
fn detached(container: &Container, flags: &[&str], args: Vec<String>) -> u32 {
    let file = container.bundle.dir.join("exec-pid");
    let all: Vec<&str> =
        ["--detach", "--pid-file", file.to_str().expect("UTF-8")].into_iter().chain(flags.iter().copied()).collect();
    exec(container, &all, args).run().ok();
    let text = std::fs::read_to_string(&file).expect("pid file");
    text.parse().unwrap_or_else(|_| panic!("{text:?} is no pid"))
}

/// Ends a detached process: a pid namespace does not end before those who were put into it are reaped.
fn end(pid: u32) {
    host::kill(pid);
    reap(pid);
}

fn a_detached_process_is_left_to_the_caller() {
    let container = running(Bundle::new());
    let pid = detached(&container, &[], probe!(sleep 60));
    assert!(std::fs::read_to_string(format!("/proc/{pid}/cmdline")).expect("process").contains("sleep"));
    assert!(host::descendants(std::process::id()).contains(&pid));
    host::kill(pid);
    assert_eq!(reap(pid), 137);
    assert_eq!(reap(detached(&container, &[], probe!(exit 42))), 42);
    assert_eq!(container.status(), "running");
}

fn the_pid_file_holds_the_pid() {
    let container = running(Bundle::new());
    let pid = detached(&container, &[], probe!(sleep 60));
    let pids = call(["ps", "--format", "json", container.id()]).ok().json();
    assert!(pids.as_array().is_some_and(|pids| pids.contains(&json!(pid))), "{pids} {pid}");
    // Without a process there is no file.
    let file = container.bundle.dir.join("none");
    let flags = ["--detach", "--pid-file", file.to_str().expect("UTF-8")];
    refused(exec(&container, &flags, vec!["/nope".into()]).run(), "no such file or directory");
    assert!(!file.exists());
    end(pid);
}

fn a_pid_file_that_cannot_be_written_ends_the_process() {
    let container = running(Bundle::new());
    let flags = ["--detach", "--pid-file", "/nope/pid"];
    refused(exec(&container, &flags, probe!(sleep 60)).run(), "/nope/pid");
    eventually("the process is gone", || {
        call(["ps", "--format", "json", container.id()]).ok().json() == json!([container.pid()])
    });
}

fn the_pidfd_socket_receives_the_pidfd() {
    use std::os::fd::AsRawFd;
    let container = running(Bundle::new());
    let path = host::socket();
    let _ = std::fs::remove_file(&path);
    let receiver = Receiver::new(&path);
    let pid = detached(&container, &["--pidfd-socket", path.to_str().expect("UTF-8")], probe!(sleep 60));
    let (fd, _) = receiver.receive();
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).expect("fdinfo");
    assert!(info.lines().any(|line| line == format!("Pid:\t{pid}")), "{info}");
    end(pid);
    let _ = std::fs::remove_file(&path);
}

fn the_console_socket_receives_the_terminal() {
    let container = running(Bundle::new());
    let path = host::socket();
    let _ = std::fs::remove_file(&path);
    let receiver = Receiver::new(&path);
    let pid = detached(&container, &["--tty", "--console-socket", path.to_str().expect("UTF-8")], probe!(tty; sleep 1));
    let mut master = File::from(receiver.receive().0);
    let text = read_until(&mut master, |text| text.contains('\n'));
    let answer: Value = serde_json::from_str(text.lines().next().unwrap_or("")).expect("an answer");
    assert_eq!((&answer["tty"], &answer["controlling"]), (&json!([true, true, true]), &json!(true)));
    assert_eq!((&answer["name"], &answer["console"]), (&json!("/dev/pts/0"), &Value::Null), "/dev/console is init's");
    let _ = std::fs::remove_file(&path);
    end(pid);
}

fn a_foreground_terminal_is_passed_through() {
    use std::io::Write;
    let container = running(Bundle::new());
    let (mut master, slave) = pty(30, 90);
    let mut process = exec(&container, &["-t", "-u", "1000:1000"], probe!(tty; stdin)).terminal(&slave).spawn();
    drop(slave);
    let first = read_until(&mut master, |text| text.contains('\n'));
    let answer: Value = serde_json::from_str(first.lines().next().unwrap_or("")).expect("an answer");
    assert_eq!(
        (&answer["tty"], &answer["rows"], &answer["columns"]),
        (&json!([true, true, true]), &json!(30), &json!(90))
    );
    master.write_all(b"typed\n\x04").expect("terminal");
    let rest = read_until(&mut master, |text| text.contains("\"typed"));
    assert!(rest.contains("\"typed\\n\""), "{rest}");
    process.finish().ok();
}

fn a_detached_terminal_needs_a_console_socket() {
    let container = running(Bundle::new());
    refused(exec(&container, &["-t", "-d"], probe!(print "it ran")).run(), "console");
    refused(
        exec(&container, &["-t", "-d", "--console-socket", "/tmp/no-such-socket"], probe!(print "it ran")).run(),
        "",
    );
}

/// Where a process is, by the last component of its cgroup of each hierarchy.
fn leaf(container: &Container, flags: &[&str]) -> Vec<(String, String)> {
    let text = exec(container, flags, probe!(read "/proc/self/cgroup")).run().ok().answer();
    let fields = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1).map(str::to_owned);
        (
            fields.next().unwrap_or_default(),
            fields.next().unwrap_or_default().rsplit('/').next().unwrap_or_default().to_owned(),
        )
    };
    text.as_str().expect("text").lines().map(fields).collect()
}

fn a_sub_cgroup_is_entered() {
    let container = running(Bundle::new());
    let place = container.cgroup(if host::is_cgroup2() { "" } else { "pids" });
    user::make_cgroup(&place.join("sub"));
    user::make_cgroup(&place.join("sub/deeper"));
    let found = if host::is_cgroup2() {
        leaf(&container, &["--cgroup", "sub/deeper"])
    } else {
        leaf(&container, &["--cgroup", "pids:sub/deeper"])
    };
    let at = found.iter().filter(|(_, name)| name == "deeper").count();
    assert_eq!(at, 1, "{found:?}");
    // By its whole path from the container's own, "/" is the container's own.
    let own = leaf(&container, &["--cgroup", "/"]);
    assert!(
        own.iter().any(|(_, name)| name.contains(container.id())) && !own.iter().any(|(_, name)| name == "deeper"),
        "{own:?}"
    );
    refused(exec(&container, &["--cgroup", "nope"], probe!(print "it ran")).run(), "no such file or directory");
}

/// runc 1.5.2 compared paths as text, so that `/a/web` had `/a/web2` below it.
fn no_cgroup_outside_the_containers_is_entered() {
    let (container, other) = (running(Bundle::new()), running(Bundle::new()));
    let sibling = format!("../{}", other.id());
    for path in ["..", "../..", &sibling, "a/../..", "/../.."] {
        refused(exec(&container, &["--cgroup", path], probe!(print "it ran")).run(), "cgroup");
        if !host::is_cgroup2() {
            refused(exec(&container, &["--cgroup", &format!("pids:{path}")], probe!(print "it ran")).run(), "cgroup");
        }
    }
    for words in [&["--cgroup", "a", "--cgroup", "b"][..], &["--cgroup", ":a"], &["--cgroup", "nope:a"]] {
        refused(exec(&container, words, probe!(print "it ran")).run(), "");
    }
}

fn the_end_of_the_container_ends_the_process() {
    let container = running(Bundle::new());
    let mut process = exec(&container, &[], probe!(print "x"; sleep 60)).spawn();
    eventually("the process runs", || process.stdout().contains('x'));
    container.kill("KILL").ok();
    assert_eq!(process.finish().status, 137);
    container.wait_for("stopped");
}

/// CVE-2016-9962: a process of the container looks into every other one that appears, as long as they come.
fn nothing_of_the_runtime_is_open_to_the_container() {
    for bundle in [Bundle::new(), snooped()] {
        let container = bundle.create(probe!(snoop 60));
        container.start().ok();
        container.answers(1);
        for _ in 0..50 {
            exec(&container, &[], probe!(print "x")).run().ok();
        }
        let found = container.stdout();
        assert_eq!(found.lines().count(), 1, "{found}");
        // But what is there to be seen, it sees.
        let file = File::open("/etc/passwd").expect("file").into();
        exec(&container, &["--preserve-fds", "1"], probe!(sleep 1)).descriptors(vec![file]).run().ok();
        assert!(container.stdout().contains("/fd/3 "), "{}", container.stdout());
        call(["delete", "--force", container.id()]).ok();
    }
}

/// A container in a user namespace in which it may trace every process.
pub fn snooped() -> Bundle {
    let traces = json!(["CAP_SYS_PTRACE", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_KILL"]);
    let sets = json!({ "bounding": traces, "effective": traces, "permitted": traces });
    Bundle::new().user_namespace(100_000).set("process.capabilities", sets)
}

fn five_hundred_execs_leave_nothing() {
    need_ocirt();
    let container = running(Bundle::new().namespace("cgroup", None));
    let before = descriptors_of(container.pid());
    let numbers = std::sync::Mutex::new(0..500);
    // On one processor the container's cgroup gets no more than any other process, of which there are as many as calls.
    let at_once = if std::thread::available_parallelism().is_ok_and(|count| count.get() > 1) { 32 } else { 6 };
    std::thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let next = numbers.lock().expect("numbers").next();
                    let Some(number) = next else { break };
                    let output = exec(&container, &[], probe!(print number; exit 3)).run();
                    assert_eq!(
                        (output.status, output.stdout.trim().trim_matches('"')),
                        (3, number.to_string().as_str()),
                        "{output:?}"
                    );
                }
            });
        }
    });
    assert_eq!(call(["ps", "--format", "json", container.id()]).ok().json(), json!([container.pid()]));
    assert_eq!(descriptors_of(container.pid()), before);
    let state = std::fs::read_dir(host::root().join(container.id())).expect("state");
    let mut names: Vec<_> = state.flatten().map(|entry| entry.file_name()).collect();
    names.sort();
    assert_eq!(names, ["exec.json", "state.json", "told.json"]);
    container.kill("KILL").ok();
    container.wait_for("stopped");
    container.delete().ok();
    host::assert_nothing_left();
}

fn descriptors_of(pid: u32) -> usize {
    std::fs::read_dir(format!("/proc/{pid}/fd")).expect("descriptors").count()
}

fn containers_killed_while_execs_run_hang_nobody() {
    need_ocirt();
    let begun = Instant::now();
    let numbers = std::sync::Mutex::new(0..50u64);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                loop {
                    let next = numbers.lock().expect("numbers").next();
                    let Some(number) = next else { break };
                    kill_among_execs(number);
                }
            });
        }
    });
    assert!(begun.elapsed() < Duration::from_secs(80), "{:?}", begun.elapsed());
    host::assert_nothing_left();
}

fn kill_among_execs(number: u64) {
    let bundle = if number.is_multiple_of(4) { Bundle::new().without_namespace("pid") } else { Bundle::new() };
    let container = running(bundle);
    let mut all: Vec<_> = (0..4).map(|_| exec(&container, &[], probe!(sleep 30)).spawn()).collect();
    std::thread::sleep(Duration::from_micros(number * 300));
    call(["kill", container.id(), "KILL"]).ok();
    call(["delete", "--force", container.id()]).ok();
    for process in &mut all {
        // It ran and was killed, or the container was gone before.
        let output = process.finish();
        assert!([137, 255].contains(&output.status), "{output:?}");
        assert!(output.status == 137 || output.stderr.lines().count() == 1, "{output:?}");
    }
}
