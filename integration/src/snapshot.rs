//! The host before and after a run of tests.
//!
//! Two kinds of facts: what no test may change, whoever looks, and what this run has made. The second is told by the run's
//! name, so that nothing of another run that lives at the same time, or that left something behind, is held against this one.

use crate::host::{cgroups, owner, units};
use std::collections::BTreeSet;
use std::path::Path;

/// What a run of tests may not change on the host.
pub struct Snapshot {
    facts: Vec<(&'static str, BTreeSet<String>)>,
}

impl Snapshot {
    /// Of the run that has `run` in the names of all that it makes.
    pub fn take(run: &str) -> Self {
        let lines = |path: &str| std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect();
        let states = ["/run/runc", "/run/crun", "/run/ocirt"].iter().flat_map(|path| names(path));
        Snapshot {
            facts: vec![
                ("mounts", lines("/proc/self/mountinfo")),
                ("devices", names("/dev")),
                ("etc", names("/etc")),
                ("hostname", lines("/proc/sys/kernel/hostname")),
                ("core_pattern", lines("/proc/sys/kernel/core_pattern")),
                ("network", network()),
                ("state", states.filter(|name| name.contains(run)).collect()),
                ("cgroups", cgroups(run).iter().map(|path| path.display().to_string()).collect()),
                ("units", units(run).into_iter().collect()),
                ("processes", processes(run)),
            ],
        }
    }

    /// `(what, line)` for each fact that differs from `later`.
    pub fn differences(&self, later: &Snapshot) -> Vec<(&'static str, String)> {
        let pairs = self.facts.iter().zip(&later.facts);
        let each = pairs.flat_map(|((what, before), (_, after))| {
            before.symmetric_difference(after).map(move |line| {
                let sign = if after.contains(line) { "new" } else { "gone" };
                (*what, format!("{sign}: {line}"))
            })
        });
        each.collect()
    }
}

/// The entries of a directory, each with its owner, mode and kind.
fn names(path: &str) -> BTreeSet<String> {
    let all = std::fs::read_dir(path).into_iter().flatten().flatten();
    all.map(|entry| format!("{} {}", entry.path().display(), owner(&entry.path()))).collect()
}

/// The network devices that are hardware, and the routes over them: a container may have taken one away.
fn network() -> BTreeSet<String> {
    let all = std::fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let hardware = all.filter(|entry| entry.path().join("device").exists());
    let names: BTreeSet<String> = hardware.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    let routes = std::fs::read_to_string("/proc/net/route").unwrap_or_default();
    let over = routes.lines().filter(|line| line.split('\t').next().is_some_and(|name| names.contains(name)));
    let fields = over.map(|line| line.split('\t').take(3).collect::<Vec<_>>().join(" "));
    fields.chain(names.iter().cloned()).collect()
}

/// Living processes whose program is one of the run's, which are below its directory.
fn processes(run: &str) -> BTreeSet<String> {
    let all = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let is_of_run = |entry: &std::fs::DirEntry| {
        let program = std::fs::read_link(entry.path().join("exe")).unwrap_or_default();
        program.starts_with(Path::new("/tmp").join(run))
    };
    all.filter(is_of_run).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot(lines: &[&str]) -> Snapshot {
        Snapshot { facts: vec![("mounts", lines.iter().map(|line| (*line).to_owned()).collect())] }
    }

    #[test]
    fn a_host_that_changed_is_reported_in_both_directions() {
        let found = snapshot(&["a", "b"]).differences(&snapshot(&["b", "c"]));
        assert_eq!(found, [("mounts", "gone: a".to_owned()), ("mounts", "new: c".to_owned())]);
        assert!(snapshot(&["a"]).differences(&snapshot(&["a"])).is_empty());
    }
}
