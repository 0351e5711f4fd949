//! `ocirt wait`: callers who are not a container's parent are told how its process ended.

use std::process::Command;

use containerd_shim_ocirt::api::known::Empty;
use containerd_shim_ocirt::api::task::DeleteResponse;
use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::needs::{Need, need, need_ocirt, need_root};
use ocirt_integration::runtime::{Call, Output, Running, call};
use ocirt_integration::shim::{Events, Shim};
use ocirt_integration::wait::eventually;
use ocirt_integration::{host, probe, tests, user};

tests![
    a_zombie_is_asked,
    one_that_is_reaped_is_asked_of_the_kernel,
    a_run_that_keeps_the_container_keeps_its_exit_status,
    what_nobody_kept_is_unknown,
    what_the_shim_has_left_is_told,
    what_others_leave_in_the_place_of_that_is_not_believed,
    what_belongs_to_another_user_is_not_believed,
    a_container_of_the_shim_is_waited_for,
    a_wait_has_an_end,
    one_that_is_never_started_ends_too,
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

/// A kernel that keeps the exit status of a process that is reaped, for those who have its pidfd.
fn need_exit_info() {
    let release = Command::new("uname").arg("-r").output().expect("uname").stdout;
    let release = String::from_utf8_lossy(&release).into_owned();
    let numbers: Vec<u32> = release.split(['.', '-']).map_while(|number| number.parse().ok()).take(2).collect();
    need(Need::ExitInfo, numbers >= vec![6, 15]);
}

/// The waiting process sleeps over the end and the reaping.
fn one_that_is_reaped_is_asked_of_the_kernel() {
    need_ocirt();
    need_exit_info();
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

/// A container that ended, and was reaped by somebody who told nobody, and its record: the pid and the start time of its init.
fn ended() -> (Container, String) {
    let container = Bundle::new().start(probe!(sleep 60));
    let init = container.pid();
    let stat = std::fs::read_to_string(format!("/proc/{init}/stat")).expect("stat");
    let (_, fields) = stat.rsplit_once(") ").expect("fields");
    let start_time = fields.split(' ').nth(19).expect("field 22");
    container.kill("KILL").ok();
    assert_eq!(host::reap(init), 137);
    let process = format!("\"pid\":{init},\"startTime\":{start_time}");
    (container, process)
}

fn what_the_shim_has_left_is_told() {
    need_ocirt();
    let (container, process) = ended();
    let record = container.bundle.dir.join("ocirt-exit.json");
    std::fs::write(&record, format!("{{{process},\"exitStatus\":137,\"signal\":9}}")).expect("record");
    let output = call(["wait", "--format", "json", container.id()]);
    assert_eq!((output.status, output.stdout), (137, waited(&container, 137, ",\"signal\":9")));
}

/// Bundles lie where their makers want them.
fn what_others_leave_in_the_place_of_that_is_not_believed() {
    need_ocirt();
    let (container, process) = ended();
    let record = container.bundle.dir.join("ocirt-exit.json");
    let good = format!("{{{process},\"exitStatus\":0}}");
    let unknown = "its exit status is unknown";
    // Another process, one of the same pid that began at another time, and none of the bundle's own.
    for (text, words) in [
        ("{\"pid\":1,\"startTime\":0,\"exitStatus\":0}".to_owned(), unknown),
        (good.replace("\"startTime\":", "\"startTime\":1"), unknown),
        (good.replace(":0}", ":256}"), "ocirt-exit.json: no exit status: 256"),
        ("x".to_owned(), "ocirt-exit.json: expected value"),
        (" ".repeat(17 << 20), "ocirt-exit.json: larger than 16 MiB"),
    ] {
        std::fs::write(&record, text).expect("record");
        fails(&call(["wait", container.id()]), words);
    }
    let other = container.bundle.dir.join("other");
    std::fs::write(&other, &good).expect("record");
    std::fs::remove_file(&record).expect("record");
    std::os::unix::fs::symlink("other", &record).expect("link");
    fails(&call(["wait", container.id()]), "ocirt-exit.json: not a regular file");
    std::fs::remove_file(&record).expect("link");
    assert!(Command::new("mkfifo").arg(&record).status().expect("mkfifo").success());
    fails(&call(["wait", container.id()]), "ocirt-exit.json: not a regular file");
    std::fs::remove_file(&record).expect("FIFO");
    std::fs::rename(&other, &record).expect("record");
    assert_eq!(call(["wait", container.id()]).status, 0, "as it is");
}

fn what_belongs_to_another_user_is_not_believed() {
    need_ocirt();
    need_root();
    let (container, process) = ended();
    let record = container.bundle.dir.join("ocirt-exit.json");
    std::fs::write(&record, format!("{{{process},\"exitStatus\":0}}")).expect("record");
    std::os::unix::fs::chown(&record, Some(1000), None).expect("another owner");
    fails(&call(["wait", container.id()]), "ocirt-exit.json: belongs to user 1000");
}

/// The shim is the parent, and reaps at once; it is asked of while it runs and when it has ended.
fn a_container_of_the_shim_is_waited_for() {
    let _containerd = Events::listen();
    let shim = Shim::new(Bundle::new().namespace("cgroup", None), probe!(waitfor "/go"; exit 9));
    let mut link = shim.start();
    link.run(&shim);
    let mut waiting = Call::new(["wait", shim.id()]).spawn();
    std::fs::write(shim.bundle.dir.join("rootfs/go"), "").expect("file");
    let output = waiting.finish();
    assert_eq!((output.status, output.stdout.as_str(), output.stderr.as_str()), (9, "9\n", ""));
    assert_eq!(link.wait(&shim, ""), 9);
    let output = call(["wait", shim.id()]);
    assert_eq!((output.status, output.stdout.as_str(), output.stderr.as_str()), (9, "9\n", ""));
    link.call::<DeleteResponse>("Delete", &shim.of_process(""));
    link.call::<Empty>("Shutdown", &shim.of_container());
    shim.delete();
    shim.assert_nothing_left();
}

fn a_wait_has_an_end() {
    need_ocirt();
    let container = Bundle::new().create(probe!(sleep 60));
    for (timeout, words) in [("0s", "0ns"), ("100ms", "100ms")] {
        let output = call(["wait", "--timeout", timeout, container.id()]);
        fails(&output, &format!("--timeout: the container has not ended within {words}"));
    }
}

fn one_that_is_never_started_ends_too() {
    need_ocirt();
    let container = Bundle::new().create(probe!(sleep 60));
    let init = container.pid();
    let mut waiting = Call::new(["wait", "--timeout", "60s", container.id()]).spawn();
    holds_init(&waiting);
    container.kill("KILL").ok();
    if user::has_suite() {
        // It is undumpable until it executes its program: of its zombie, the kernel shows root alone how it ended.
        need_exit_info();
        assert_eq!(host::reap(init), 137);
    }
    let output = waiting.finish();
    assert_eq!(output.status, 137, "{output:?}");
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
