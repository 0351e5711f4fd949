//! A systemd that is not there, cannot be reached, is executed anew, is busy, or has a unit of the name already.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::{Need, need, need_ocirt};
use ocirt_integration::runtime::{Call, call, kind, path};
use ocirt_integration::wait::eventually;
use ocirt_integration::{host, probe, tests};

use super::systemd::{bundle, show, shows};

tests![
    without_systemd_the_flag_is_refused,
    a_cgroup_that_is_frozen_is_refused_at_once,
    a_unit_that_failed_is_replaced,
    a_unit_that_is_active_stays,
    delete_needs_no_systemd,
    create_without_a_connection_is_refused,
    the_system_bus_will_do,
    systemd_may_be_executed_anew_meanwhile,
    many_containers_start_at_once,
    a_runtime_in_another_pid_namespace_is_refused,
];

/// An empty directory over `path` in this test's mount namespace, for as long as it lives.
struct Hidden(PathBuf);

impl Hidden {
    fn new(path: &str) -> Self {
        let status = Command::new("mount").args(["-t", "tmpfs", "tmpfs", path]).status();
        assert!(status.expect("mount").success(), "mount over {path}");
        Self(path.into())
    }

    /// Hides systemd's private socket, but not that systemd is there.
    fn private_socket() -> Self {
        let hidden = Self::new("/run/systemd");
        std::fs::create_dir("/run/systemd/system").expect("directory");
        hidden
    }
}

impl Drop for Hidden {
    fn drop(&mut self) {
        assert!(Command::new("umount").arg(&self.0).status().expect("umount").success(), "umount {:?}", self.0);
    }
}

fn without_systemd_the_flag_is_refused() {
    let hidden = Path::new("/run/systemd").is_dir().then(|| Hidden::new("/run/systemd"));
    for flag in [&["--systemd-cgroup"][..], &["--cgroup-manager", "systemd"]] {
        let bundle = Bundle::new();
        let bundle = if host::all_with_systemd() { bundle } else { bundle.global(flag) };
        let output = bundle.write(probe!(print "it ran")).call("run").run().fails("systemd");
        assert!(output.stdout.is_empty() && output.stderr.lines().count() == 1, "{output:?}");
        if kind() != "ocirt" || host::all_with_systemd() {
            break;
        }
    }
    drop(hidden);
    host::assert_nothing_left();
}

/// systemd would start the unit all the same, and nobody would ever hear of a process in it.
fn a_cgroup_that_is_frozen_is_refused_at_once() {
    let (bundle, unit) = bundle();
    need(Need::CgroupV2, host::is_cgroup2());
    let cgroup = Path::new("/sys/fs/cgroup/system.slice").join(&unit);
    std::fs::create_dir(&cgroup).expect("cgroup");
    std::fs::write(cgroup.join("cgroup.freeze"), "1").expect("freeze");
    let begun = Instant::now();
    let bundle = bundle.write(probe!(print "it ran"));
    for command in ["create", "run"] {
        let output = bundle.call(command).run().fails("unexpectedly frozen");
        assert!(!output.stdout.contains("it ran"));
    }
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    assert_eq!(show(&unit, "LoadState"), "not-found");
    std::fs::write(cgroup.join("cgroup.freeze"), "0").expect("thaw");
    std::fs::remove_dir(&cgroup).expect("cgroup");
    host::assert_nothing_left();
}

fn a_unit_that_failed_is_replaced() {
    let (bundle, unit) = bundle();
    let words = ["--scope", "--quiet", "--property=RuntimeMaxSec=100ms", "--unit", &unit, "sleep", "20"];
    let mut run = Command::new("systemd-run").args(words).stdin(Stdio::null()).spawn().expect("systemd-run");
    eventually("the unit has failed", || show(&unit, "ActiveState") == "failed");
    run.wait().expect("systemd-run");
    let _container = bundle.create(probe!(sleep 60));
    assert_eq!(show(&unit, "ActiveState"), "active");
}

fn a_unit_that_is_active_stays() {
    let (bundle, unit) = bundle();
    let words = ["--scope", "--quiet", "--unit", &unit, "sleep", "60"];
    let mut run = Command::new("systemd-run").args(words).stdin(Stdio::null()).spawn().expect("systemd-run");
    eventually("the unit is active", || show(&unit, "ActiveState") == "active");
    let output = bundle.write(probe!(print "it ran")).call("run").run().fails(if kind() == "runc" {
        "not empty"
    } else {
        &unit
    });
    assert!(!output.stdout.contains("it ran"));
    assert_eq!(show(&unit, "ActiveState"), "active", "it is somebody else's");
    run.kill().expect("kill");
    run.wait().expect("systemd-run");
    host::assert_nothing_left();
}

fn delete_needs_no_systemd() {
    let (bundle, unit) = bundle();
    let container = bundle.create(probe!(sleep 60));
    let hidden = [Hidden::new("/run/systemd"), Hidden::new("/run/dbus")];
    let begun = Instant::now();
    call(["delete", "--force", container.id()]).ok();
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    drop(hidden);
    eventually("systemd has seen that all have ended", || show(&unit, "LoadState") == "not-found");
    host::assert_nothing_left();
}

fn create_without_a_connection_is_refused() {
    let (bundle, unit) = bundle();
    let hidden = [Hidden::private_socket(), Hidden::new("/run/dbus")];
    let bundle = bundle.write(probe!(print "it ran"));
    let output = bundle.call("run").run();
    drop(hidden);
    assert!(output.status == 1 && !output.stdout.contains("it ran"), "{output:?}");
    if kind() == "ocirt" {
        assert!(output.stderr.contains(&format!("systemd unit {unit}: connect to systemd: ")), "{}", output.stderr);
    }
    host::assert_nothing_left();
}

fn the_system_bus_will_do() {
    let (bundle, unit) = bundle();
    let hidden = Hidden::private_socket();
    let container = bundle.create(probe!(sleep 60));
    call(["delete", "--force", container.id()]).ok();
    drop(hidden);
    shows(&unit, &[("LoadState", "not-found")]);
}

fn systemd_may_be_executed_anew_meanwhile() {
    need_ocirt();
    need(Need::Systemd, host::is_systemd());
    // Its private socket is made anew, and all connections are closed.
    let socket = || std::fs::metadata("/run/systemd/private").map(|it| it.ino()).unwrap_or_default();
    let before = socket();
    let mut reexec = Command::new("systemctl").arg("daemon-reexec").stdin(Stdio::null()).spawn().expect("systemctl");
    let mut units = Vec::new();
    let begun = Instant::now();
    while units.len() < 3 || (socket() == before && begun.elapsed() < Duration::from_secs(10)) {
        let (bundle, unit) = bundle();
        let container = bundle.create(probe!(sleep 60));
        call(["delete", "--force", container.id()]).ok();
        units.push(unit);
    }
    reexec.wait().expect("systemctl");
    for unit in units {
        shows(&unit, &[("LoadState", "not-found")]);
    }
    host::assert_nothing_left();
}

fn many_containers_start_at_once() {
    let bundles: Vec<_> = (0..12).map(|_| bundle().0.write(probe!(sleep 60))).collect();
    let calls: Vec<Call> = bundles.iter().map(|bundle| bundle.call("create")).collect();
    let mut running: Vec<_> = calls.into_iter().map(Call::spawn).collect();
    running.iter_mut().for_each(|running| drop(running.finish().ok()));
    for bundle in &bundles {
        assert_eq!(show(&format!("suite-{}.scope", bundle.id), "ActiveState"), "active");
        call(["delete", "--force", &bundle.id]).ok();
    }
    host::assert_nothing_left();
}

/// systemd would take the pid of init for that of a process of its own, and move that into the unit.
fn a_runtime_in_another_pid_namespace_is_refused() {
    need_ocirt();
    let (bundle, unit) = bundle();
    let script = host::place().join("elsewhere");
    let text = format!("#!/bin/sh\nexec unshare --pid --fork --mount-proc {} \"$@\"\n", path().display());
    std::fs::write(&script, text).expect("script");
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).expect("chmod");
    let output = bundle.write(probe!(print "it ran")).call("run").program(&script).run();
    output.fails("systemd is in another pid namespace: it knows no process of this one");
    assert_eq!(show(&unit, "LoadState"), "not-found");
    host::assert_nothing_left();
}
