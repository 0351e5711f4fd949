//! Other runs of the suite on the same machine at the same time: what they have is theirs, and what this one leaves is found.

use ocirt_integration::snapshot::Snapshot;
use ocirt_integration::{host, needs, tests, wait};
use std::path::{Path, PathBuf};
use std::process::Command;

tests![only_the_cgroups_of_a_run_are_its_own, only_the_processes_of_a_run_are_its_own];

/// A cgroup that is there until the end of the test, in a hierarchy that every machine has.
struct Planted(PathBuf);

impl Planted {
    fn new(name: &str) -> Self {
        let hierarchy = ["freezer", "pids", ""].map(|name| Path::new(host::CGROUPS).join(name));
        let hierarchy = hierarchy.iter().find(|path| host::is_cgroup(path)).expect("a cgroup hierarchy");
        let path = hierarchy.join(name);
        std::fs::create_dir(&path).expect("cgroup");
        Planted(path)
    }
}

impl Drop for Planted {
    fn drop(&mut self) {
        std::fs::remove_dir(&self.0).expect("planted cgroup");
    }
}

/// What a run that is called `run` finds changed by `change`, of the kind `what`.
fn found<Made>(run: &str, what: &str, change: impl FnOnce() -> Made) -> Vec<String> {
    let before = Snapshot::take(run);
    let made = change();
    let differences = before.differences(&Snapshot::take(run));
    drop(made);
    differences.into_iter().filter(|(kind, _)| *kind == what).map(|(_, line)| line).collect()
}

fn only_the_cgroups_of_a_run_are_its_own() {
    needs::need_root();
    let (own, other) = (host::new_run(), host::new_run());
    let left = found(&own, "cgroups", || Planted::new(&format!("{own}t0000001-0")));
    assert!(left.len() == 1 && left[0].starts_with("new: ") && left[0].contains(&own), "{left:?}");
    // Neither what comes meanwhile nor what goes.
    assert_eq!(found(&own, "cgroups", || Planted::new(&format!("{other}t0000001-0"))), [""; 0]);
    let gone = Planted::new(&format!("{other}t0000001-1"));
    assert_eq!(found(&own, "cgroups", || drop(gone)), [""; 0]);
}

fn only_the_processes_of_a_run_are_its_own() {
    let start = || {
        let mut child = Command::new(host::probe()).args(["sleep", "60"]).spawn().expect("probe");
        // Its program is the probe once the fork is over.
        wait::eventually("the probe runs", || {
            let program = std::fs::read_link(format!("/proc/{}/exe", child.id())).unwrap_or_default();
            program == host::probe() || child.try_wait().expect("wait").is_some()
        });
        child
    };
    let other = host::new_run();
    let mut children = Vec::new();
    assert_eq!(found(&other, "processes", || children.push(start())), [""; 0]);
    let before = Snapshot::take(&host::run());
    children.push(start());
    let new = format!("new: {}", children[1].id());
    let differences = before.differences(&Snapshot::take(&host::run()));
    assert!(differences.iter().any(|(what, line)| *what == "processes" && *line == new), "{differences:?}");
    for mut child in children {
        child.kill().and_then(|()| child.wait()).expect("the probe's end");
    }
}
