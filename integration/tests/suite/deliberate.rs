//! Claims that are false: each must be reported, or the harness proves nothing.

use ocirt_integration::bundle::Bundle;
use ocirt_integration::{host, probe, runtime, tests};
use std::process::Command;

tests![a_false_answer, a_left_process, a_left_mount, a_left_cgroup, a_missing_refusal];

fn a_false_answer() {
    assert_eq!(Bundle::new().file("secret", "42").run(probe!(read "/secret")).answer(), "43");
}

fn a_missing_refusal() {
    Bundle::new().refused("permission denied");
}

fn a_left_process() {
    let mut left = Command::new(host::probe()).args(["sleep", "30"]).spawn().expect("probe");
    host::assert_nothing_left();
    left.wait().expect("probe");
}

fn a_left_mount() {
    let place = host::place().to_owned();
    let done = Command::new("mount").args(["-t", "tmpfs", "left"]).arg(place).status().expect("mount");
    assert!(done.success());
}

fn a_left_cgroup() {
    let place =
        if std::path::Path::new("/sys/fs/cgroup/pids").exists() { "/sys/fs/cgroup/pids" } else { "/sys/fs/cgroup" };
    let group = std::path::Path::new(place).join(host::tag());
    std::fs::create_dir(&group).expect("cgroup");
    let found = host::cgroups(&host::tag());
    std::fs::remove_dir(&group).expect("cgroup");
    assert!(found.is_empty(), "{found:?} {}", runtime::kind());
}
