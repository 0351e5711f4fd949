//! The systemd driver of an ordinary user: the container is a unit of his own manager. The calls come from outside of
//! what is delegated to him, as after su(1) in a service, so that his manager has to move each process.

use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::exec::{exec, refused};
use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::needs::{Need, need};
use ocirt_integration::user::{self, USER};
use ocirt_integration::wait::eventually;
use ocirt_integration::{host, probe, tests};
use serde_json::json;

tests![
    a_container_is_a_scope_of_the_users_manager,
    exec_from_outside_is_moved_by_systemd,
    exec_into_a_cgroup_below_is_moved_there,
    what_systemd_refuses_ends_an_exec,
    later_commands_find_the_manager_by_themselves,
    limits_that_systemd_refuses_leave_nothing,
    without_a_manager_it_is_refused,
];

/// Where his manager listens. scripts/test makes the user and starts it, in the guest that systemd runs.
fn runtime_directory() -> PathBuf {
    let directory = PathBuf::from(format!("/run/user/{USER}"));
    need(Need::UserManager, directory.join("systemd/private").exists());
    directory
}

/// A bundle of the user for the driver, and the name of its unit.
fn bundle() -> (Bundle, String) {
    let directory = runtime_directory();
    let bundle = Bundle::new().rootless(user::one_id()).global(&["--systemd-cgroup"]);
    let unit = format!("suite-{}.scope", bundle.id);
    let path = json!(format!("user.slice:suite:{}", bundle.id));
    (bundle.set("linux.cgroupsPath", path).env("XDG_RUNTIME_DIR", directory.to_str().expect("UTF-8")), unit)
}

fn running(bundle: Bundle) -> Container {
    let container = bundle.create(probe!(print "up"; sleep 60));
    container.start().ok();
    container.answers(1);
    container
}

/// A property of a unit of his, as `systemctl --user show` has it.
fn show(unit: &str, property: &str) -> String {
    let words = ["--user", "show", "--value", "--property", property, unit];
    let mut command = Command::new("systemctl");
    command.args(words).env("XDG_RUNTIME_DIR", runtime_directory()).uid(USER).gid(USER).stdin(Stdio::null());
    let output = command.output().expect("systemctl");
    assert!(output.status.success(), "systemctl: {output:?}");
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

fn a_container_is_a_scope_of_the_users_manager() {
    let (bundle, unit) = bundle();
    let limits = json!({ "memory": { "limit": 67_108_864 }, "pids": { "limit": 33 } });
    let container = running(bundle.set("linux.resources", limits));
    assert_eq!((show(&unit, "ActiveState"), show(&unit, "TasksMax")), ("active".to_owned(), "33".to_owned()));
    let cgroup = container.proc_file("cgroup");
    let expected = format!("/user.slice/user-{USER}.slice/user@{USER}.service/user.slice/{unit}");
    assert!(cgroup.trim().ends_with(&expected), "{cgroup}");
    assert_eq!(container.cgroup_file("", "pids.max"), "33");
    assert_eq!(container.cgroup_file("", "memory.max"), "67108864");
    container.kill("KILL").ok();
    container.wait_for("stopped");
    container.delete().ok();
    assert_eq!(show(&unit, "LoadState"), "not-found");
    host::assert_nothing_left();
}

fn exec_from_outside_is_moved_by_systemd() {
    let container = running(bundle().0);
    let own = std::fs::read_to_string("/proc/self/cgroup").expect("cgroup");
    assert!(!own.contains(&format!("user@{USER}.service")), "the test is outside: {own}");
    let call = |args| exec(&container, &[], args).as_user(true);
    let answer = call(probe!(read "/proc/self/cgroup")).run().ok().answer();
    assert_eq!(answer.as_str().map(str::trim), Some(container.proc_file("cgroup").trim()));
    assert_eq!(call(probe!(exit 42)).run().status, 42);
    let processes = container.call(["ps", "--format=json", container.id()]).ok().json();
    assert_eq!(processes, json!([container.pid()]), "nobody stays");
}

/// As systemd in a container does: it moves everybody down, and hands out controllers.
fn exec_into_a_cgroup_below_is_moved_there() {
    let container = running(bundle().0);
    let own = container.cgroup("");
    let make = |name: &str| {
        std::fs::create_dir(own.join(name)).expect("cgroup");
        for path in [own.join(name), own.join(name).join("cgroup.procs")] {
            std::os::unix::fs::chown(path, Some(USER), Some(USER)).expect("chown");
        }
    };
    ["init", "other"].into_iter().for_each(make);
    let place = |flags: &[&str]| {
        let answer = exec(&container, flags, probe!(read "/proc/self/cgroup")).as_user(true).run().ok().answer();
        Path::new(answer.as_str().expect("text").trim()).file_name().expect("a name").to_owned()
    };
    assert_eq!(place(&["--cgroup", "other"]), "other");
    std::fs::write(own.join("init/cgroup.procs"), container.pid().to_string()).expect("init moves");
    std::fs::write(own.join("cgroup.subtree_control"), "+pids").expect("controllers");
    assert_eq!(place(&[]), "init", "where init is");
    assert_eq!(place(&["--cgroup", "other"]), "other");
}

fn what_systemd_refuses_ends_an_exec() {
    let container = running(bundle().0);
    let flags = ["--cgroup", "nope/../../nope"];
    refused(exec(&container, &flags, probe!(print "it ran")).as_user(true).run(), "leads out of");
    // One that is there no more: nobody can be put into it.
    let (bundle, unit) = bundle();
    let other = running(bundle);
    let state = host::root().join(other.id()).join("state.json");
    let text = std::fs::read_to_string(&state).expect("state");
    std::fs::write(&state, text.replace(&format!("\"{unit}\""), "\"suite-nosuch.scope\"")).expect("state");
    refused(
        exec(&other, &[], probe!(print "it ran")).as_user(true).run(),
        "systemd unit suite-nosuch.scope: systemd: ",
    );
    let processes = other.call(["ps", "--format=json", other.id()]).ok().json();
    assert_eq!(processes, json!([other.pid()]), "nobody stays");
    std::fs::write(&state, text).expect("state");
}

fn later_commands_find_the_manager_by_themselves() {
    let (bundle, unit) = bundle();
    let container = running(bundle);
    container.call(["pause", container.id()]).ok();
    assert_eq!(container.status(), "paused");
    container.call(["resume", container.id()]).ok();
    container.call(["update", "--pids-limit", "21", container.id()]).ok();
    assert_eq!((show(&unit, "TasksMax"), container.cgroup_file("", "pids.max")), ("21".to_owned(), "21".to_owned()));
    container.call(["delete", "--force", container.id()]).ok();
    eventually("the unit is gone", || show(&unit, "LoadState") == "not-found");
    host::assert_nothing_left();
}

fn limits_that_systemd_refuses_leave_nothing() {
    let (bundle, unit) = bundle();
    let bundle = bundle.set("linux.resources.unified", json!({ "nosuch.file": "1" }));
    bundle.refused("nosuch.file");
    assert_eq!(show(&unit, "LoadState"), "not-found");
}

fn without_a_manager_it_is_refused() {
    need(Need::Systemd, host::is_systemd());
    let bundle = Bundle::new().rootless(user::one_id()).global(&["--systemd-cgroup"]);
    let output = bundle.refused("--systemd-cgroup: ");
    assert!(output.stderr.contains("connect to systemd: "), "{}", output.stderr);
}
