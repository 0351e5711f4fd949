//! The systemd driver: the container is a unit of systemd, which knows its limits; and it is one for no longer than it
//! has to. On a host without systemd most of this is skipped.

use std::process::{Command, Stdio};

use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::{Need, need, need_ocirt};
use ocirt_integration::runtime::{call, kind};
use ocirt_integration::wait::eventually;
use ocirt_integration::{host, probe, tests};
use serde_json::json;

tests![
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
    a_unit_is_gone_with_its_container,
    later_commands_need_no_flag,
    a_refused_limit_leaves_no_unit,
];

pub fn systemd(bundle: Bundle) -> Bundle {
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

fn a_path_that_systemd_cannot_have_is_refused() {
    need_ocirt();
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
    need_ocirt();
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
