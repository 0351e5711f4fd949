//! The systemd driver: the container is a unit of systemd, which knows its limits; and it is one for no longer than it
//! has to. On a host without systemd most of this is skipped.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use ocirt_integration::bundle::Bundle;
use ocirt_integration::runner::{Need, need};
use ocirt_integration::runtime::{Call, call, eventually, kind};
use ocirt_integration::{host, probe, tests};
use serde_json::json;

tests![
    without_systemd_the_flag_is_refused,
    a_path_that_systemd_cannot_have_is_refused,
    an_annotation_that_is_no_property_is_refused,
    a_container_is_a_scope_of_systemd,
    the_default_names_are_those_of_runc,
    a_nested_slice_is_below_its_parents,
    limits_are_properties_and_are_in_force,
    device_rules_are_properties,
    annotations_are_properties,
    a_name_that_ends_in_slice_is_a_slice,
    what_systemd_has_no_property_for_is_written,
    a_unit_that_failed_is_replaced,
    a_unit_that_is_active_stays,
    a_unit_is_gone_with_its_container,
    delete_needs_no_systemd,
    create_without_a_connection_is_refused,
    the_system_bus_will_do,
    later_commands_need_no_flag,
    a_refused_limit_leaves_no_unit,
    systemd_may_be_executed_anew_meanwhile,
    many_containers_start_at_once,
];

fn systemd(bundle: Bundle) -> Bundle {
    if host::all_with_systemd() { bundle } else { bundle.global(&["--systemd-cgroup"]) }
}

/// A bundle for the driver, in the system's slice, and the name of its unit.
pub fn bundle() -> (Bundle, String) {
    need(Need::Systemd, host::is_systemd());
    let bundle = systemd(Bundle::new());
    let unit = format!("suite-{}.scope", bundle.id);
    let path = json!(format!("system.slice:suite:{}", bundle.id));
    (bundle.set("linux.cgroupsPath", path), unit)
}

/// What systemctl prints; tried again while systemd is executed anew by another test.
pub fn systemctl(words: &[&str]) -> String {
    let run = || Command::new("systemctl").args(words).stdin(Stdio::null()).output().expect("systemctl");
    let mut text = String::new();
    eventually("systemctl", || {
        let output = run();
        text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        output.status.success()
    });
    text
}

/// A property of a unit as `systemctl show` has it.
pub fn show(unit: &str, property: &str) -> String {
    systemctl(&["show", "--value", "--property", property, unit])
}

#[track_caller]
pub fn shows(unit: &str, properties: &[(&str, &str)]) {
    for (property, value) in properties {
        assert_eq!(show(unit, property), *value, "{property}");
    }
}

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

fn a_path_that_systemd_cannot_have_is_refused() {
    need(Need::Ocirt, kind() == "ocirt");
    for path in
        ["a:b:c", "a.slice:b", "a.slice:b:c:d", "a--b.slice:b:c", "../x.slice:b:c", "a.slice:b:", "a.slice:b:c/d"]
    {
        let output = systemd(Bundle::new()).config(|spec| spec["linux"]["cgroupsPath"] = json!(path)).refused(path);
        assert!(output.stderr.contains("linux.cgroupsPath: "), "{}", output.stderr);
    }
}

fn an_annotation_that_is_no_property_is_refused() {
    need(Need::Systemd, host::is_systemd());
    let rows = [
        ("TimeoutStopSec", "'5'"),
        ("CollectMode", "bare"),
        ("CollectMode", "'unterminated"),
        ("CollectMode", ""),
        ("A b", "1"),
        ("", "1"),
        ("NoSuchProperty", "1"),
        ("TimeoutStopUSec", "uint64 x"),
        ("TimeoutStopUSec", "uint32 -1"),
        ("TimeoutStopUSec", "1 2"),
        ("Before", "['a.service', 1]"),
        ("Before", "["),
        ("Before", "('a.service',"),
    ];
    for (name, value) in rows {
        let key = format!("org.systemd.property.{name}");
        let bundle = systemd(Bundle::new()).config(|spec| spec["annotations"] = json!({ &key: value }));
        let words = if kind() == "ocirt" { format!("annotations: {key}: ") } else { name.to_owned() };
        bundle.refused(&words);
    }
}

fn a_container_is_a_scope_of_systemd() {
    let (bundle, unit) = bundle();
    let id = bundle.id.clone();
    let container = bundle.create(probe!(sleep 60));
    shows(
        &unit,
        &[
            ("ActiveState", "active"),
            ("Slice", "system.slice"),
            ("Delegate", "yes"),
            ("DefaultDependencies", "no"),
            ("MemoryAccounting", "yes"),
            ("TasksAccounting", "yes"),
            ("Description", &format!("libcontainer container {id}")),
        ],
    );
    assert_eq!(show(&unit, "ControlGroup"), format!("/system.slice/{unit}"));
    let cgroups = container.proc_file("cgroup");
    assert!(cgroups.lines().any(|line| line.ends_with(&format!("/system.slice/{unit}"))), "{cgroups}");
    container.start().ok();
    container.wait_for("running");
}

fn the_default_names_are_those_of_runc() {
    need(Need::Systemd, host::is_systemd());
    let container = systemd(Bundle::new()).create(probe!(sleep 60));
    let unit = format!("runc-{}.scope", container.id());
    shows(&unit, &[("ActiveState", "active"), ("ControlGroup", &format!("/system.slice/{unit}"))]);
}

fn a_nested_slice_is_below_its_parents() {
    let (bundle, unit) = bundle();
    let tag = host::tag();
    let path = json!(format!("{tag}-a.slice:suite:{}", bundle.id));
    let container = bundle.set("linux.cgroupsPath", path).create(probe!(sleep 60));
    shows(&unit, &[("ControlGroup", &format!("/{tag}.slice/{tag}-a.slice/{unit}"))]);
    call(["delete", "--force", container.id()]).ok();
    // Slices stay until somebody stops them.
    systemctl(&["stop", &format!("{tag}.slice")]);
    host::assert_nothing_left();
}

fn limits_are_properties_and_are_in_force() {
    let (bundle, unit) = bundle();
    let resources = json!({
        "memory": { "limit": 67_108_864, "reservation": 33_554_432, "swap": 134_217_728 },
        "cpu": { "shares": 1024, "quota": 12_500, "period": 50_000, "cpus": "0" },
        "pids": { "limit": 77 },
        "unified": { "memory.high": "60000000" },
    });
    need(Need::CgroupV2, host::is_cgroup2());
    let container = bundle.set("linux.resources", resources).create(probe!(sleep 60));
    shows(
        &unit,
        &[
            ("MemoryMax", "67108864"),
            ("MemoryLow", "33554432"),
            ("MemoryHigh", "60000000"),
            ("MemorySwapMax", "67108864"),
            ("CPUQuotaPerSecUSec", "250ms"),
            ("CPUQuotaPeriodUSec", "50ms"),
            ("AllowedCPUs", "0"),
            ("TasksMax", "77"),
        ],
    );
    let file = |name| container.cgroup_file("", name);
    assert_eq!((file("memory.max").as_str(), file("memory.swap.max").as_str()), ("67108864", "67108864"));
    assert_eq!((file("cpu.max").as_str(), file("pids.max").as_str()), ("12500 50000", "77"));
    assert_eq!(file("cpu.weight"), show(&unit, "CPUWeight"));
}

fn device_rules_are_properties() {
    let (bundle, unit) = bundle();
    let fuse = json!({ "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw" });
    let container = bundle.push("linux.resources.devices", fuse).create(probe!(sleep 60));
    let devices = show(&unit, "DeviceAllow");
    assert_eq!(show(&unit, "DevicePolicy"), "strict");
    for entry in ["/dev/char/10:229 rw", "/dev/char/1:3 rwm", "char-* m", "block-* m"] {
        assert!(devices.contains(entry), "{entry} in {devices}");
    }
    call(["delete", "--force", container.id()]).ok();
    let (bundle, unit) = self::bundle();
    let all = json!([{ "allow": true, "access": "rwm" }]);
    let _privileged = bundle.set("linux.resources.devices", all).create(probe!(sleep 60));
    shows(&unit, &[("DevicePolicy", "auto"), ("DeviceAllow", "")]);
}

fn annotations_are_properties() {
    let (bundle, unit) = bundle();
    let annotations = json!({
        "org.systemd.property.TimeoutStopSec": "7",
        "org.systemd.property.CollectMode": "'inactive-or-failed'",
        "org.systemd.property.Documentation": "['man:one(1)', 'man:two(2)']",
        "org.systemd.property.SendSIGHUP": "true",
    });
    let _container = bundle.set("annotations", annotations).create(probe!(sleep 60));
    shows(
        &unit,
        &[
            ("TimeoutStopUSec", "7s"),
            ("CollectMode", "inactive-or-failed"),
            ("Documentation", "\"man:one(1)\" \"man:two(2)\""),
            ("SendSIGHUP", "yes"),
        ],
    );
}

fn a_name_that_ends_in_slice_is_a_slice() {
    need(Need::Ocirt, kind() == "ocirt");
    let (bundle, _) = bundle();
    let unit = format!("{}-sub.slice", host::tag());
    let path = json!(format!("{}.slice:suite:{unit}", host::tag()));
    let container = bundle.set("linux.cgroupsPath", path).create(probe!(sleep 60));
    shows(&unit, &[("ActiveState", "active"), ("ControlGroup", &format!("/{0}.slice/{unit}", host::tag()))]);
    let cgroups = container.proc_file("cgroup");
    assert!(cgroups.lines().any(|line| line.ends_with(&unit)), "{cgroups}");
    call(["delete", "--force", container.id()]).ok();
    systemctl(&["stop", &format!("{}.slice", host::tag())]);
    host::assert_nothing_left();
}

fn what_systemd_has_no_property_for_is_written() {
    let (bundle, _) = bundle();
    need(Need::CgroupV2, host::is_cgroup2());
    let unified = json!({ "cgroup.max.depth": "3", "cpu.max.burst": "1000", "cpu.max": "20000 100000" });
    let container = bundle.set("linux.resources.unified", unified).create(probe!(sleep 60));
    assert_eq!(container.cgroup_file("", "cgroup.max.depth"), "3");
    assert_eq!(container.cgroup_file("", "cpu.max.burst"), "1000");
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

fn a_unit_is_gone_with_its_container() {
    for words in [&["delete", "--force"][..], &["kill", "KILL"]] {
        let (bundle, unit) = bundle();
        let container = bundle.create(probe!(sleep 60));
        container.start().ok();
        assert_eq!(show(&unit, "ActiveState"), "active");
        match words {
            ["delete", ..] => drop(call(["delete", "--force", container.id()]).ok()),
            _ => {
                container.kill("KILL").ok();
                container.wait_for("stopped");
                container.delete().ok();
            }
        }
        shows(&unit, &[("LoadState", "not-found")]);
        host::assert_nothing_left();
    }
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

fn later_commands_need_no_flag() {
    let (bundle, unit) = bundle();
    let container = bundle.create(probe!(tick 100000));
    container.start().ok();
    container.answers(1);
    call(["pause", container.id()]).ok();
    assert_eq!(container.status(), "paused");
    call(["resume", container.id()]).ok();
    container.answers(3);
    call(["update", "--pids-limit", "33", container.id()]).ok();
    shows(&unit, &[("TasksMax", "33")]);
    let list = call(["ps", "--format", "json", container.id()]).ok().json();
    assert_eq!(list, json!([container.pid()]));
    container.kill("KILL").ok();
    container.wait_for("stopped");
    container.delete().ok();
    host::assert_nothing_left();
}

fn a_refused_limit_leaves_no_unit() {
    let (bundle, unit) = bundle();
    need(Need::CgroupV2, host::is_cgroup2());
    bundle.set("linux.resources.unified", json!({ "nosuch.file": "1" })).refused("nosuch.file");
    shows(&unit, &[("LoadState", "not-found")]);
}

fn systemd_may_be_executed_anew_meanwhile() {
    need(Need::Ocirt, kind() == "ocirt");
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
