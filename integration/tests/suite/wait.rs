//! `ocirt wait`: callers who are not a container's parent are told how its process ended.

use std::process::Command;

use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::needs::{Need, need, need_ocirt};
use ocirt_integration::runtime::{Call, Output, Running, call};
use ocirt_integration::wait::eventually;
use ocirt_integration::{host, probe, tests};

tests![
    a_zombie_is_asked,
    one_that_is_reaped_is_asked_of_the_kernel,
    a_run_that_keeps_the_container_keeps_its_exit_status,
    what_nobody_kept_is_unknown,
    a_wait_has_an_end,
    what_cannot_be_waited_for_is_an_error,
];

fn waited(container: &Container, status: i32, signal: &str) -> String {
    format!("{{\"id\":\"{}\",\"exitStatus\":{status}{signal}}}\n", container.id())
}

/// A failure of wait's own has a status that few programs end with.
#[track_caller]
fn fails(output: &Output, words: &str) {
    assert_eq!((output.status, output.stdout.as_str()), (255, ""), "{output:?}");
    assert!(output.stderr.contains(words) && output.stderr.lines().count() == 1, "{output:?}");
}

/// This process is the parent of init, and does not reap it.
fn a_zombie_is_asked() {
    need_ocirt();
    let container = Bundle::new().create(probe!(waitfor "/go"; exit 7));
    let mut waiting = Call::new(["wait", container.id()]).spawn();
    container.start().ok();
    std::fs::write(container.bundle.inside("/go"), "").expect("file");
    let output = waiting.finish();
    assert_eq!((output.status, output.stdout.as_str(), output.stderr.as_str()), (7, "7\n", ""));
    // It may be asked again, and says the same.
    let output = call(["wait", "--format", "json", container.id()]);
    assert_eq!((output.status, output.stdout), (7, waited(&container, 7, "")));
}

/// The waiting process sleeps over the end and the reaping.
fn one_that_is_reaped_is_asked_of_the_kernel() {
    need_ocirt();
    let release = Command::new("uname").arg("-r").output().expect("uname").stdout;
    let release = String::from_utf8_lossy(&release).into_owned();
    let numbers: Vec<u32> = release.split(['.', '-']).map_while(|number| number.parse().ok()).take(2).collect();
    need(Need::ExitInfo, numbers >= vec![6, 15]);
    let container = Bundle::new().start(probe!(sleep 60));
    let init = container.pid();
    let mut waiting = Call::new(["wait", "--format", "json", container.id()]).spawn();
    holds_init(&waiting);
    host::signal(waiting.child.id(), libc::SIGSTOP);
    container.kill("KILL").ok();
    assert_eq!(host::reap(init), 137);
    host::signal(waiting.child.id(), libc::SIGCONT);
    let output = waiting.finish();
    assert_eq!((output.status, output.stdout), (137, waited(&container, 137, ",\"signal\":9")));
}

fn holds_init(waiting: &Running) {
    let directory = format!("/proc/{}/fd", waiting.child.id());
    eventually("it has init open", || {
        let links =
            std::fs::read_dir(&directory).expect("descriptors").filter_map(|entry| entry.ok()?.path().read_link().ok());
        links.filter(|link| link.to_string_lossy().contains("pidfd")).count() > 0
    });
}

fn a_run_that_keeps_the_container_keeps_its_exit_status() {
    need_ocirt();
    let bundle = Bundle::new().flags(&["--keep"]).write(probe!(exit 5));
    assert_eq!(bundle.call("run").run().status, 5);
    let output = call(["wait", "--timeout", "0", &bundle.id]);
    assert_eq!((output.status, output.stdout.as_str(), output.stderr.as_str()), (5, "5\n", ""));
    call(["delete", &bundle.id]).ok();
}

fn what_nobody_kept_is_unknown() {
    need_ocirt();
    let container = Bundle::new().start(probe!(sleep 60));
    let init = container.pid();
    container.kill("KILL").ok();
    assert_eq!(host::reap(init), 137);
    fails(&call(["wait", container.id()]), "its exit status is unknown: it was told to its parent alone");
}

fn a_wait_has_an_end() {
    need_ocirt();
    let container = Bundle::new().create(probe!(sleep 60));
    for (timeout, words) in [("0s", "0ns"), ("100ms", "100ms")] {
        let output = call(["wait", "--timeout", timeout, container.id()]);
        fails(&output, &format!("--timeout: the container has not ended within {words}"));
    }
    // One that is never started ends, too.
    let mut waiting = Call::new(["wait", "--timeout", "60s", container.id()]).spawn();
    container.kill("KILL").ok();
    assert_eq!(waiting.finish().status, 137);
}

fn what_cannot_be_waited_for_is_an_error() {
    need_ocirt();
    let container = Bundle::new().create(probe!(sleep 60));
    let calls: [(&[&str], &str); 4] = [
        (&["wait", "nowhere"], "wait nowhere: container does not exist"),
        (&["wait", "--timeout", "5", container.id()], "--timeout: missing unit in duration \"5\""),
        (&["wait", "--format", "xml", container.id()], "invalid format option"),
        (&["wait", "../x"], "wait: "),
    ];
    for (words, error) in calls {
        fails(&Call::new(words.iter().copied()).run(), error);
    }
}
