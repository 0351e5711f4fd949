//! Only ESRCH says that a process is gone: any other failure to look at one, or to signal it, is an error of the command,
//! which leaves the process and its state as they are.

use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::needs::{Need, need, need_ocirt};
use ocirt_integration::runtime::{Call, call};
use ocirt_integration::wait::eventually;
use ocirt_integration::{host, probe, tests};
use serde_json::json;
use std::time::{Duration, Instant};

use super::inject::traced;

tests![
    a_process_that_cannot_be_opened_is_not_gone,
    a_process_that_cannot_be_killed_is_not_gone,
    a_process_that_is_gone_is_no_error,
    what_the_kernel_does_not_tell_of_a_process_is_no_end_of_it,
    the_error_of_a_child_is_told,
];

/// What the kernel may answer that has nothing to do with the process, and its words.
const ERRORS: [(&str, &str); 4] = [
    ("EMFILE", "too many open files"),
    ("ENFILE", "too many open files in system"),
    ("ENOMEM", "cannot allocate memory"),
    ("EPERM", "operation not permitted"),
];

fn needs_strace() {
    need_ocirt();
    need(Need::Strace, std::process::Command::new("strace").arg("-V").output().is_ok());
}

/// Running containers with and without a cgroup, by which it could be found.
fn containers() -> impl Iterator<Item = Container> {
    [&[][..], &["--cgroup-manager", "disabled"]].into_iter().map(|flags| {
        let container = Bundle::new().global(flags).create(probe!(sleep 600));
        container.start().ok();
        container
    })
}

/// The command fails with these words when the system call does with this error; the container goes on.
fn is_an_error(container: &Container, command: &[&str], call_name: &str, (errno, words): (&str, &str)) {
    let pid = container.pid();
    let (program, trace) = traced(&format!("-e inject={call_name}:error={errno}"));
    let begun = Instant::now();
    let command = Call::new(command.iter().map(|word| word.replace("ID", container.id())));
    let output = command.traced(&program).run();
    let trace = std::fs::read_to_string(trace).expect("trace");
    assert!(trace.contains("(INJECTED)"), "{call_name} {errno}: {output:?}");
    let status = if output.call.starts_with("exec") { 255 } else { 1 };
    let is_told = output.status == status && output.stderr.lines().count() == 1 && output.stderr.contains(words);
    assert!(is_told, "{call_name} {errno}: {output:?}");
    assert!(begun.elapsed() < Duration::from_secs(8), "{call_name} {errno}: it waited: {output:?}");
    let state = container.state();
    assert_eq!((&state["status"], &state["pid"]), (&json!("running"), &json!(pid)), "{errno}: {output:?}");
    assert!(host::is_alive(pid), "{errno}: {output:?}");
}

fn end(container: &Container) {
    let pid = container.pid();
    call(["delete", "--force", container.id()]).ok();
    host::reap(pid);
    host::assert_nothing_left();
}

fn a_process_that_cannot_be_opened_is_not_gone() {
    needs_strace();
    for container in containers() {
        for error in ERRORS {
            for command in [
                &["kill", "ID", "KILL"][..],
                &["kill", "ID", "0"],
                &["delete", "--force", "ID"],
                &["exec", "ID", "/probe", "print", "it ran"],
                &["mounts", "add", "ID", "/dev/null"],
            ] {
                is_an_error(&container, command, "pidfd_open", error);
            }
        }
        end(&container);
    }
}

fn a_process_that_cannot_be_killed_is_not_gone() {
    needs_strace();
    for container in containers() {
        for command in [&["kill", "ID", "KILL"][..], &["kill", "ID", "TERM"], &["delete", "--force", "ID"]] {
            is_an_error(&container, command, "pidfd_send_signal", ERRORS[3]);
        }
        end(&container);
    }
}

/// ESRCH comes where a process ends between two looks: `delete --force` has no error then.
fn a_process_that_is_gone_is_no_error() {
    needs_strace();
    let (program, trace) = traced("-e inject=pidfd_send_signal:delay_enter=1500000");
    let container = Bundle::new().start(probe!(sleep 600));
    let pid = container.pid();
    let mut delete = Call::new(["delete", "--force", container.id()]).traced(&program).spawn();
    // strace writes the call before it delays it: by then, all looks at the process are over.
    let is_held = || std::fs::read_to_string(&trace).is_ok_and(|trace| trace.contains("pidfd_send_signal("));
    eventually("delete is about to signal init", is_held);
    host::kill(pid);
    host::reap(pid);
    delete.finish().ok();
    let trace = std::fs::read_to_string(trace).expect("trace");
    assert!(trace.contains("ESRCH (No such process) (DELAYED)"), "{trace}");
    host::assert_nothing_left();
}

/// /proc/PID/stat, by which a process is told from a later one of its pid.
fn what_the_kernel_does_not_tell_of_a_process_is_no_end_of_it() {
    needs_strace();
    let mut container = Bundle::new().start(probe!(sleep 600));
    let (program, trace) = traced("");
    Call::new(["kill", container.id(), "0"]).traced(&program).run().ok();
    let trace = std::fs::read_to_string(trace).expect("trace");
    let opened: Vec<_> = trace.lines().filter(|line| line.starts_with("openat(")).collect();
    let looks: Vec<_> = opened.iter().enumerate().filter(|(_, line)| line.contains("/stat\"")).collect();
    assert!(looks.len() > 1, "{trace}");
    let mut count = 0;
    for (number, _) in looks {
        for command in [&["kill", "ID", "KILL"][..], &["state", "ID"], &["pause", "ID"], &["delete", "--force", "ID"]] {
            let (program, trace) = traced(&format!("-e inject=openat:error=EMFILE:when={}", number + 1));
            let command = command.iter().map(|word| word.replace("ID", container.id()));
            let output = Call::new(command).traced(&program).run();
            let trace = std::fs::read_to_string(trace).expect("trace");
            if trace.lines().any(|line| line.contains("/stat\"") && line.contains("(INJECTED)")) {
                assert!(output.status == 1 && output.stderr.contains("oo many open files"), "{output:?}");
                assert_eq!(container.status(), "running", "{output:?}");
                count += 1;
            } else {
                // The command looks elsewhere at that place, and may have done what it was asked to.
                end(&container);
                container = Bundle::new().start(probe!(sleep 600));
            }
        }
    }
    assert!(count > 1, "{count} looks were made to fail");
    end(&container);
}

/// A child of `mounts` leaves the host's mount namespace for it.
fn the_error_of_a_child_is_told() {
    needs_strace();
    let container = Bundle::new().start(probe!(sleep 600));
    let list = host::place().join("mounts.json");
    let mounts = json!([{ "destination": "/new", "type": "tmpfs", "source": "tmpfs" }]);
    std::fs::write(&list, mounts.to_string()).expect("list");
    for (errno, words) in [("ENOSPC", "no space left on device"), ("EPERM", "operation not permitted")] {
        let (program, _) = traced(&format!("-f -e inject=unshare:error={errno}"));
        let words_of_call = ["mounts", "add", container.id(), list.to_str().expect("UTF-8")];
        let output = Call::new(words_of_call).traced(&program).run().fails(words);
        assert!(output.stderr.contains("unshare"), "{output:?}");
    }
    end(&container);
}
