//! `update` of a container that is a unit of systemd: what systemd knows of its limits and what the kernel has stay the
//! same, whether the update succeeds or not.

use std::collections::BTreeSet;
use std::process::Command;

use ocirt_integration::bundle::Container;
use ocirt_integration::needs::{Need, need, need_ocirt};
use ocirt_integration::runtime::{call, kind};
use ocirt_integration::{host, probe, tests};
use serde_json::{Value, json};

use super::systemd::{bundle, show, shows, systemctl};

tests![
    an_update_reaches_systemd_and_survives_a_reload,
    shares_end_the_idleness_of_a_container,
    an_update_that_fails_leaves_systemd_as_it_was,
];

/// `update` with these resources.
fn update(container: &Container, resources: &Value) {
    let file = container.bundle.dir.join("resources.json");
    std::fs::write(&file, resources.to_string()).expect("resources");
    call(["update", "--resources", file.to_str().expect("UTF-8"), container.id()]).ok();
}

fn an_update_reaches_systemd_and_survives_a_reload() {
    let (bundle, unit) = bundle();
    need(Need::CgroupV2, host::is_cgroup2());
    let fuse = json!({ "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw" });
    let container = bundle.push("linux.resources.devices", fuse).create(probe!(sleep 60));
    // systemd turns their order around when it is reloaded.
    let devices = || show(&unit, "DeviceAllow").lines().map(str::to_owned).collect::<BTreeSet<_>>();
    let before = devices();
    let limits = json!({ "memory": { "limit": 50_331_648 }, "pids": { "limit": 20 }, "cpu": { "quota": 30_500, "period": 100_000 } });
    update(&container, &limits);
    for _ in 0..2 {
        shows(&unit, &[("MemoryMax", "50331648"), ("TasksMax", "20"), ("CPUQuotaPerSecUSec", "310ms")]);
        assert_eq!(devices(), before, "devices are not touched");
        assert_eq!(container.cgroup_file("", "memory.max"), "50331648");
        assert_eq!(container.cgroup_file("", "pids.max"), "20");
        if kind() == "ocirt" && show(&unit, "NeedDaemonReload") == "no" {
            systemctl(&["daemon-reload"]);
        }
    }
}

/// As long as a cgroup is idle, the kernel takes no weight for it: systemd is the one to end that.
fn shares_end_the_idleness_of_a_container() {
    let (bundle, unit) = bundle();
    need(Need::CgroupV2, host::is_cgroup2());
    let container = bundle.set("linux.resources.cpu", json!({ "idle": 1 })).create(probe!(sleep 60));
    assert_eq!(container.cgroup_file("", "cpu.idle"), "1");
    call(["update", "--cpu-share", "512", container.id()]).ok();
    assert_eq!(container.cgroup_file("", "cpu.idle"), "0");
    assert_eq!(container.cgroup_file("", "cpu.weight"), show(&unit, "CPUWeight"));
}

/// What systemd shows of the limits, and what the cgroup has.
fn limits(unit: &str, container: &Container) -> [String; 10] {
    let properties =
        ["MemoryMax", "MemoryLow", "TasksMax", "CPUQuotaPerSecUSec", "AllowedCPUs"].map(|name| show(unit, name));
    let files =
        ["memory.max", "memory.low", "pids.max", "cpu.max", "cpuset.cpus"].map(|name| container.cgroup_file("", name));
    let mut all = properties.into_iter().chain(files);
    std::array::from_fn(|_| all.next().expect("limit"))
}

/// The last thing that an update does is to write what it did down; where it cannot, systemd has been told already.
fn an_update_that_fails_leaves_systemd_as_it_was() {
    need_ocirt();
    let (bundle, unit) = bundle();
    need(Need::CgroupV2, host::is_cgroup2());
    let resources = json!({ "memory": { "limit": 67_108_864 }, "pids": { "limit": 50 } });
    let container = bundle.set("linux.resources", resources).create(probe!(sleep 60));
    let before = limits(&unit, &container);
    let words = [
        "update",
        "--memory=48m",
        "--memory-reservation=24m",
        "--pids-limit=20",
        "--cpu-quota=30500",
        "--cpuset-cpus=0",
        container.id(),
    ];
    let directory = host::root().join(container.id());
    let mount = |words: &[&str]| assert!(Command::new("mount").args(words).arg(&directory).status().unwrap().success());
    mount(&["--bind", directory.to_str().expect("UTF-8")]);
    mount(&["-o", "remount,bind,ro"]);
    call(words).fails("state file");
    assert!(Command::new("umount").arg(&directory).status().unwrap().success());
    for _ in 0..2 {
        assert_eq!(limits(&unit, &container), before);
        systemctl(&["daemon-reload"]);
    }
    call(words).ok();
    let after = limits(&unit, &container);
    assert!(before.iter().zip(&after).all(|(before, after)| before != after), "{before:?} {after:?}");
}
