//! `--cgroup-manager disabled`, which Podman sends for `--cgroups=disabled`: no cgroup is made or entered, and what needs
//! one says so.

use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::needs::need_ocirt;
use ocirt_integration::runtime::{Call, call};
use ocirt_integration::wait::eventually;
use ocirt_integration::{host, probe, tests};
use serde_json::{Value, json};

tests![
    no_cgroup_is_made_or_entered,
    what_needs_a_cgroup_is_refused,
    limits_are_refused_by_field,
    every_process_of_a_pid_namespace_is_listed_and_ends,
    without_a_pid_namespace_init_is_killed,
    exec_joins_the_container_in_its_callers_cgroup,
    a_mount_of_cgroups_is_empty,
];

fn bundle() -> Bundle {
    // runc has no such flag.
    need_ocirt();
    Bundle::new().global(&["--cgroup-manager", "disabled"])
}

fn running(bundle: Bundle, args: Vec<String>) -> Container {
    let container = bundle.create(args);
    container.start().ok();
    container
}

fn no_cgroup_is_made_or_entered() {
    let own = std::fs::read_to_string("/proc/self/cgroup").expect("cgroup");
    let container = running(bundle(), probe!(print "on"; sleep 60));
    assert_eq!(container.answers(1), ["on"]);
    assert_eq!(container.proc_file("cgroup"), own);
    assert!(host::cgroups(&host::tag()).is_empty());
    assert_eq!(container.status(), "running");
    container.kill("KILL").ok();
    container.wait_for("stopped");
    container.delete().ok();
    host::assert_nothing_left();
    // With the flag in front of every command, as Podman has it.
    let output = bundle().run(probe!(print "ran")).ok();
    assert_eq!(output.answer(), "ran");
}

fn what_needs_a_cgroup_is_refused() {
    let container = running(bundle(), probe!(sleep 60));
    for words in [
        vec!["pause", container.id()],
        vec!["update", "--pids-limit", "5", container.id()],
        vec!["events", "--stats", container.id()],
    ] {
        Call::new(words).run().fails("the container has no cgroup");
    }
    assert_eq!(container.status(), "running");
    call(["resume", container.id()]).fails("container not paused");
}

fn limits_are_refused_by_field() {
    for (field, value) in [
        ("memory.limit", json!(64 << 20)),
        ("pids.limit", json!(50)),
        ("cpu.quota", json!(50_000)),
        ("unified", json!({ "pids.max": "50" })),
    ] {
        bundle()
            .set(&format!("linux.resources.{field}"), value)
            .refused(&format!("linux.resources.{field}: needs a cgroup"));
    }
    bundle().set("linux.cgroupsPath", json!(format!("/{}", host::tag()))).refused("linux.cgroupsPath: needs a cgroup");
    // No limit is what there is.
    bundle().set("linux.resources.pids", json!({ "limit": -1 })).run(probe!(print "ran")).ok();
}

fn pids(container: &Container) -> Vec<u64> {
    let list = call(["ps", "--format", "json", container.id()]).ok().json();
    list.as_array().map(|all| all.iter().filter_map(Value::as_u64).collect()).unwrap_or_default()
}

fn every_process_of_a_pid_namespace_is_listed_and_ends() {
    let container = running(bundle(), probe!(spawn 60; spawn 60; sleep 60));
    container.answers(2);
    let all = pids(&container);
    assert_eq!(all.len(), 3, "{all:?}");
    let table = call(["ps", container.id()]).ok().stdout;
    assert_eq!(table.lines().count(), 4, "{table}");
    let children: Vec<u32> = all.iter().map(|pid| *pid as u32).filter(|pid| *pid != container.pid()).collect();
    call(["kill", "--all", container.id(), "TERM"]).ok();
    let ended = |pid: &u32| host::process_state(*pid).is_none_or(|letter| letter == 'Z');
    eventually("the end of the children", || children.iter().all(ended));
    assert_eq!(container.status(), "running", "init has no handler for TERM, and the kernel spares it");
    call(["delete", "--force", container.id()]).ok();
    host::assert_nothing_left();
}

fn without_a_pid_namespace_init_is_killed() {
    let container = running(bundle().without_namespace("pid"), probe!(sleep 60));
    let pid = container.pid();
    assert_eq!(pids(&container), [u64::from(pid)]);
    container.kill("KILL").ok();
    container.wait_for("stopped");
    assert_eq!(host::reap(pid), 128 + 9);
    assert!(pids(&container).is_empty());
    container.delete().ok();
    let container = running(bundle().without_namespace("pid"), probe!(sleep 60));
    call(["delete", "--force", container.id()]).ok();
    host::assert_nothing_left();
}

fn exec_joins_the_container_in_its_callers_cgroup() {
    let own = std::fs::read_to_string("/proc/self/cgroup").expect("cgroup");
    let container = running(bundle(), probe!(sleep 60));
    let output = call(["exec", container.id(), "/probe", "read", "/proc/self/cgroup"]).ok();
    assert_eq!(output.answer(), json!(own));
    let output = call(["exec", "--cgroup", "sub", container.id(), "/probe", "print", "ran"]);
    assert!(output.status == 255 && output.stderr.contains("has no cgroup"), "{output:?}");
}

fn a_mount_of_cgroups_is_empty() {
    for namespaced in [false, true] {
        let mut bundle = bundle().mount("cgroup", "cgroup", "/sys/fs/cgroup", &["nosuid", "noexec", "nodev"]);
        if namespaced {
            bundle = bundle.namespace("cgroup", None);
        }
        let answers = bundle.run(probe!(ls "/sys/fs/cgroup"; mkdir "/sys/fs/cgroup/x")).ok().answers();
        assert_eq!(answers[0], json!([]), "{answers:?}");
        assert_eq!(answers[1]["error"], "EROFS", "{answers:?}");
    }
}
