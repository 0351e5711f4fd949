//! The runtime is killed while one of its helper processes is at work: it is stopped, as by a file system
//! that does not answer.

use std::os::unix::fs::PermissionsExt;
use std::time::{Duration, Instant};

use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::host;
use ocirt_integration::runtime::{Call, call};
use ocirt_integration::wait::eventually;
use ocirt_integration::{probe, tests};
use serde_json::json;

use crate::inject::traced;
use crate::mount_accidents::needs_strace;

tests![
    a_helper_of_mounts_add_ends_with_the_runtime,
    a_helper_of_create_ends_with_the_runtime,
    a_helper_that_outlives_the_runtime_has_no_lock_and_undoes_its_work,
];

const ROOT: u32 = 100_000;

/// Less than the ten seconds for which a command waits for another one.
const SOON: Duration = Duration::from_secs(8);

/// Makes `call`, stops its helper where that has called `name` first, and kills the runtime. Returns the helper's pid.
fn orphan(call: Call, name: &str) -> u32 {
    let options = format!("-f -e trace={name} -e inject={name}:delay_enter=300s:when=1");
    let (program, trace) = traced(&options);
    std::fs::write(&trace, "").expect("trace");
    drop(call.traced(&program).spawn());
    let mut pid = None;
    eventually("the helper has come to the call", || {
        let text = std::fs::read_to_string(&trace).unwrap_or_default();
        let line = text.lines().find(|line| line.contains(&format!("{name}(")));
        pid = line.and_then(|line| line.split_whitespace().next()?.parse().ok());
        pid.is_some()
    });
    let pid: u32 = pid.expect("a pid");
    let runtime = parent(pid);
    host::signal(pid, libc::SIGSTOP);
    // Without its tracer it goes on, as far as the end of the call.
    host::kill(parent(runtime));
    eventually("the helper is stopped", || host::process_state(pid) == Some('T'));
    host::kill(runtime);
    eventually("the end of the runtime", || !lives(runtime));
    pid
}

fn parent(pid: u32) -> u32 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    let fields = text.rsplit_once(") ").expect("a name").1;
    fields.split(' ').nth(1).and_then(|parent| parent.parse().ok()).expect("the parent's pid")
}

fn lives(pid: u32) -> bool {
    host::process_state(pid).is_some_and(|state| !"ZX".contains(state))
}

#[track_caller]
fn works_soon<const N: usize>(words: [&str; N]) {
    let begun = Instant::now();
    call(words).ok();
    assert!(begun.elapsed() < SOON, "{words:?}: {:?}", begun.elapsed());
}

fn add(container: &Container) -> Call {
    let file = container.bundle.dir.join("mounts.json");
    let list = json!([{ "destination": "/new", "type": "tmpfs", "source": "tmpfs" }]);
    std::fs::write(&file, list.to_string()).expect("mounts.json");
    Call::new(["mounts", "add", container.id(), file.to_str().expect("UTF-8")])
}

/// As itself, and as root of the container's user namespace: to take other ids lets go of the parent.
fn a_helper_of_mounts_add_ends_with_the_runtime() {
    needs_strace();
    for (bundle, name) in [(Bundle::new(), "setns"), (Bundle::new().user_namespace(ROOT), "fsopen")] {
        let container = bundle.start(probe!(sleep 60));
        let helper = orphan(add(&container), name);
        eventually("the end of the helper", || !lives(helper));
        works_soon(["pause", container.id()]);
        works_soon(["delete", "--force", container.id()]);
        host::reap_zombies();
    }
    host::assert_nothing_left();
}

/// With a user namespace, a helper opens for init what lies below a directory that only the host's root may enter.
fn a_helper_of_create_ends_with_the_runtime() {
    needs_strace();
    let bundle = Bundle::new().user_namespace(ROOT);
    let private = bundle.host_dir("private");
    std::fs::set_permissions(&private, std::fs::Permissions::from_mode(0o700)).expect("chmod");
    let source = bundle.host_dir("private/source").display().to_string();
    let bundle = bundle.mount("bind", &source, "/mnt", &["bind"]).write(probe!(sleep 60));
    let helper = orphan(bundle.call("create"), "setns");
    eventually("the end of the helper", || !lives(helper));
    works_soon(["delete", "--force", &bundle.id]);
    host::reap_zombies();
    host::assert_nothing_left();
}

/// One that has begun to mount goes on, to unmount it all again.
fn a_helper_that_outlives_the_runtime_has_no_lock_and_undoes_its_work() {
    needs_strace();
    let container = Bundle::new().start(probe!(sleep 60));
    let before = container.proc_file("mountinfo");
    let helper = orphan(add(&container), "move_mount");
    works_soon(["pause", container.id()]);
    works_soon(["resume", container.id()]);
    assert!(lives(helper), "it was killed in the middle");
    host::signal(helper, libc::SIGCONT);
    eventually("the end of the helper", || !lives(helper));
    assert_eq!(container.proc_file("mountinfo"), before);
    works_soon(["delete", "--force", container.id()]);
    host::reap_zombies();
    host::assert_nothing_left();
}
