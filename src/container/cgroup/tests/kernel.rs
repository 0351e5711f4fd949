//! The cgroup against the real kernel, in throw-away directories, on whichever layout this host has. Without the right
//! to make cgroups the tests are skipped, and say so.

use std::ffi::CStr;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Error;
use serde_json::{Value, json};

use crate::container::cgroup::host::layout::Layout;
use crate::container::cgroup::prepared::{self, Cgroup};
use crate::container::cgroup::{CreatedCgroup, Paths};
use crate::error::Faults;
use crate::sys::cgroup::testing::{reap, spawn};
use crate::sys::process;
use crate::sys::testing::{heap_free, skip};

/// A place for one test's cgroups, removed at its end.
pub struct Ground {
    parent: String,
}

impl Ground {
    pub fn new(test: &str) -> Option<Self> {
        let parent = format!("/ocirt-test-{}-{test}", std::process::id());
        let place = Self { parent };
        match place.compile("probe", json!({})).and_then(|cgroup| cgroup.create()) {
            Ok(created) => drop(created),
            Err(error) => {
                skip("cgroups", &format!("{test}: {error:#}"));
                return None;
            }
        }
        Some(place)
    }

    fn compile(&self, name: &str, resources: Value) -> anyhow::Result<Cgroup> {
        let linux = json!({ "cgroupsPath": format!("{}/{name}", self.parent), "resources": resources });
        prepared::compile(&serde_json::from_value(linux).unwrap(), name, || false, &mut Faults::first())
    }

    pub fn create(&self, name: &str, resources: Value) -> anyhow::Result<CreatedCgroup> {
        self.compile(name, resources)?.create()
    }

    fn error(&self, resources: Value) -> String {
        let error: Error = self.create("error", resources).map(drop).unwrap_err();
        assert!(!self.left_behind(), "{error:#}");
        format!("{error:#}")
    }

    /// Whether any hierarchy still has this place.
    fn left_behind(&self) -> bool {
        let probe = self.compile("probe", json!({})).unwrap();
        probe.paths().directories.values().any(|directory| Path::new(directory).parent().unwrap().exists())
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        if let Ok(cgroup) = self.compile("probe", json!({})) {
            for directory in cgroup.paths().directories.values() {
                let _ = std::fs::remove_dir(Path::new(directory).parent().unwrap());
            }
        }
    }
}

/// A process of a test, which does not outlive it.
struct Child(i32, Option<i32>);

impl Child {
    fn reap(&mut self) -> i32 {
        let status = self.1.unwrap_or_else(|| reap(self.0));
        self.1 = Some(status);
        status
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.1.is_none() {
            let _ = process::pidfd_open(self.0).and_then(|pidfd| process::pidfd_send_signal(pidfd.as_fd(), 9));
            self.reap();
        }
    }
}

/// Starts a shell inside, the way init enters; returns when it has entered.
fn start(created: &CreatedCgroup, script: &CStr) -> Child {
    let join = created.join().unwrap();
    let pid = spawn(join.clone_into(), &|| heap_free(|| join.apply().is_ok()), script);
    let program = |of: &str| std::fs::read_link(format!("/proc/{of}/exe")).ok();
    until("the child becomes a shell", || program(&pid.to_string()) != program("self"));
    Child(pid, None)
}

/// What stays when the guard is told to let it.
fn kept(mut created: CreatedCgroup) -> Paths {
    created.keep();
    created.paths().clone()
}

/// The value of a v1 or a v2 file, whichever the host has.
fn value(paths: &Paths, v1: &str, v2: &str) -> String {
    let name = if paths.layout == Layout::V2 { v2 } else { v1 };
    let directory = paths.directory_of(name.split('.').next().unwrap()).unwrap();
    std::fs::read_to_string(format!("{directory}/{name}")).unwrap().trim().to_owned()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn limits_are_in_force_before_anybody_is_inside() {
    let Some(place) = Ground::new("limits") else { return };
    let resources = json!({
        "memory": { "limit": 67_108_864, "reservation": 33_554_432, "swap": 167_772_160 },
        "cpu": { "shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0", "mems": "0" },
        "pids": { "limit": 100 }
    });
    let mut created = place.create("c", resources).unwrap();
    let paths = created.paths().clone();
    let v2 = paths.layout == Layout::V2;
    assert_eq!(value(&paths, "memory.limit_in_bytes", "memory.max"), "67108864");
    let swap = if v2 { "100663296" } else { "167772160" };
    assert_eq!(value(&paths, "memory.memsw.limit_in_bytes", "memory.swap.max"), swap);
    // Later kernels take v1's soft limit and forget it.
    let reservation = value(&paths, "memory.soft_limit_in_bytes", "memory.low");
    assert!(reservation == "33554432" || !v2 && reservation == "9223372036854771712", "{reservation}");
    assert_eq!(value(&paths, "cpu.shares", "cpu.weight"), if v2 { "59" } else { "512" });
    assert_eq!(value(&paths, "cpu.cfs_quota_us", "cpu.max"), if v2 { "50000 100000" } else { "50000" });
    assert_eq!(value(&paths, "cpuset.cpus", "cpuset.cpus"), "0");
    assert_eq!(value(&paths, "pids.max", "pids.max"), "100");
    assert!(paths.pids().unwrap().is_empty());

    let mut child = start(&created, c"exec sleep 1000");
    assert_eq!(paths.pids().unwrap(), [child.0]);
    created.keep();
    drop(created);
    paths.kill_all(9).unwrap();
    assert_eq!(child.reap(), 128 + 9);
    paths.remove().unwrap();
    assert!(!paths.exists());
    paths.remove().unwrap();
}

#[test]
fn a_process_is_in_every_hierarchy_after_it_joined() {
    let Some(place) = Ground::new("join") else { return };
    let created = place.create("c", json!({})).unwrap();
    let mut child = start(&created, c"exec sleep 1000");
    let cgroups = std::fs::read_to_string(format!("/proc/{}/cgroup", child.0)).unwrap();
    created.paths().kill_all(9).unwrap();
    child.reap();
    for controllers in created.paths().directories.keys() {
        let line = format!(":{controllers}:{}/c\n", place.parent);
        assert!(cgroups.contains(&line), "{line:?} is not in {cgroups}");
    }
}

#[test]
fn dropping_removes_what_was_made_and_its_parents() {
    let Some(place) = Ground::new("drop") else { return };
    let created = place.create("a/b/c", json!({})).unwrap();
    assert!(created.paths().exists() && place.left_behind());
    drop(created);
    assert!(!place.left_behind());
}

#[test]
fn a_cgroup_with_processes_is_refused() {
    let Some(place) = Ground::new("inuse") else { return };
    let first = place.create("c", json!({})).unwrap();
    let mut child = start(&first, c"exec sleep 1000");
    let error = format!("{:#}", place.create("c", json!({})).unwrap_err());
    assert!(
        error.starts_with("linux.cgroupsPath: container's cgroup is not empty: 1 process(es) found in /"),
        "{error}"
    );
    assert_eq!(first.paths().pids().unwrap(), [child.0]);
    first.paths().kill_all(9).unwrap();
    child.reap();
}

#[test]
fn an_empty_cgroup_of_an_earlier_run_is_used_but_not_removed_by_the_guard() {
    let Some(place) = Ground::new("reuse") else { return };
    let paths = kept(place.create("c", json!({ "pids": { "limit": 5 } })).unwrap());
    let again = place.create("c", json!({ "pids": { "limit": 7 } })).unwrap();
    assert_eq!(value(&paths, "pids.max", "pids.max"), "7");
    drop(again);
    assert!(paths.exists());
    paths.remove().unwrap();
}

#[test]
fn a_frozen_cgroup_is_refused() {
    let Some(place) = Ground::new("isfrozen") else { return };
    let first = place.create("c", json!({})).unwrap();
    first.paths().freeze().unwrap();
    let error = format!("{:#}", place.create("c", json!({})).unwrap_err());
    assert!(error.contains("container's cgroup unexpectedly frozen"), "{error}");
}

#[test]
fn frozen_processes_stand_still_until_they_are_thawed() {
    let Some(place) = Ground::new("freeze") else { return };
    let created = place.create("c", json!({})).unwrap();
    let paths = created.paths().clone();
    let file = std::env::temp_dir().join(format!("ocirt-test-{}-freeze", std::process::id()));
    let script = format!("while :; do echo >>{}; done", file.display());
    let mut child = start(&created, &std::ffi::CString::new(script).unwrap());
    let size = || std::fs::metadata(&file).map_or(0, |file| file.len());
    until("the loop runs", || size() > 0);
    assert!(!paths.is_frozen().unwrap());
    paths.freeze().unwrap();
    assert!(paths.is_frozen().unwrap());
    let before = size();
    std::thread::sleep(Duration::from_millis(60));
    assert_eq!(size(), before);
    paths.thaw().unwrap();
    assert!(!paths.is_frozen().unwrap());
    until("the loop goes on", || size() > before);
    paths.kill_all(9).unwrap();
    child.reap();
    std::fs::remove_file(file).unwrap();
}

#[test]
fn a_paused_container_dies_by_sigkill() {
    let Some(place) = Ground::new("killpaused") else { return };
    let created = place.create("c", json!({})).unwrap();
    let mut child = start(&created, c"exec sleep 1000");
    created.paths().freeze().unwrap();
    created.paths().kill_all(9).unwrap();
    assert_eq!(child.reap(), 128 + 9);
}

#[test]
fn other_signals_reach_all_and_leave_a_paused_container_paused() {
    let Some(place) = Ground::new("signal") else { return };
    let created = place.create("c", json!({})).unwrap();
    let paths = created.paths();
    let children = [start(&created, c"exec sleep 1000"), start(&created, c"exec sleep 1001")];
    until("both are inside", || paths.pids().unwrap().len() == 2);
    paths.freeze().unwrap();
    paths.kill_all(15).unwrap();
    assert!(paths.is_frozen().unwrap());
    paths.thaw().unwrap();
    assert_eq!(children.map(|mut child| child.reap()), [128 + 15; 2]);
}

#[test]
fn killing_reaches_cgroups_below_and_processes_that_fork() {
    let Some(place) = Ground::new("below") else { return };
    let created = place.create("c", json!({ "pids": { "limit": 60 } })).unwrap();
    let paths = created.paths().clone();
    let main = paths.directory_of("devices").unwrap().to_owned();
    let script = format!("mkdir {main}/sub; echo $$ > {main}/sub/cgroup.procs; while :; do sleep 5 & sleep 0.01; done");
    let mut child = start(&created, &std::ffi::CString::new(script).unwrap());
    until("children below", || paths.pids().unwrap().len() > 3);
    paths.kill_all(9).unwrap();
    assert!(paths.pids().unwrap().is_empty());
    child.reap();
    kept(created).remove().unwrap();
    assert!(!Path::new(&main).exists());
}

#[test]
fn removing_kills_what_is_left_and_takes_the_cgroups_below_too() {
    let Some(place) = Ground::new("remove") else { return };
    let created = place.create("c", json!({})).unwrap();
    let mut child = start(&created, c"exec sleep 1000");
    let paths = kept(created);
    for directory in paths.directories.values() {
        std::fs::create_dir_all(format!("{directory}/x/y")).unwrap();
    }
    paths.freeze().unwrap();
    paths.remove().unwrap();
    assert_eq!(child.reap(), 128 + 9);
    assert!(paths.directories.values().all(|directory| !Path::new(directory).exists()));
}

#[test]
fn a_refused_value_is_quoted_and_leaves_nothing_behind() {
    let Some(place) = Ground::new("refused") else { return };
    let v2 = place.compile("x", json!({})).unwrap().layout == Layout::V2;
    let (value, file) = if v2 { ("5 100000", "cpu.max") } else { ("5", "cpu.cfs_quota_us") };
    let expected = format!("linux.resources.cpu.quota: write {value:?} to {file}: invalid argument");
    assert_eq!(place.error(json!({ "cpu": { "quota": 5 } })), expected);
    let error = place.error(json!({ "cpu": { "cpus": "4000" } }));
    let reasons = ["numerical result out of range", "invalid argument", "permission denied"];
    let starts = "linux.resources.cpu.cpus: write \"4000\" to cpuset.cpus: ";
    assert!(reasons.iter().any(|reason| error == format!("{starts}{reason}")), "{error}");
}

#[test]
fn a_missing_controller_is_named_with_its_field() {
    let Some(place) = Ground::new("missing") else { return };
    if place.compile("x", json!({})).unwrap().layout == Layout::V2 {
        let error = place.error(json!({ "unified": { "nonesuch.max": "1" } }));
        assert_eq!(error, "linux.resources.unified[\"nonesuch.max\"]: cgroup controller nonesuch is not available");
        let error = place.error(json!({ "unified": { "memory.nonesuch": "1" } }));
        assert_eq!(
            error,
            "linux.resources.unified[\"memory.nonesuch\"]: write \"1\" to memory.nonesuch: no such file or directory"
        );
    } else if !place.compile("x", json!({})).unwrap().groups.iter().any(|group| group.hierarchy.has("net_cls")) {
        let error = place.error(json!({ "network": { "classID": 5 } }));
        assert_eq!(error, "linux.resources.network.classID: cgroup controller net_cls is not available");
    }
}

#[test]
fn containers_that_share_a_new_parent_do_not_disturb_each_other() {
    let Some(place) = Ground::new("race") else { return };
    std::thread::scope(|scope| {
        for worker in 0..4 {
            let place = &place;
            scope.spawn(move || {
                for round in 0..20 {
                    drop(place.create(&format!("shared/{worker}-{round}"), json!({ "pids": { "limit": 9 } })).unwrap());
                }
            });
        }
    });
    // A parent that another one used when its maker went stays; nothing else does.
    let probe = place.compile("shared/probe", json!({})).unwrap();
    for directory in probe.paths().directories.values() {
        let shared = Path::new(directory).parent().unwrap();
        assert!(!shared.exists() || std::fs::remove_dir(shared).is_ok(), "{shared:?}");
    }
}

/// Whether a shell inside can read /dev/kmsg (1:11, which no container gets by default) and write /dev/null.
fn devices(place: &Ground, rules: Value) -> (bool, bool) {
    let created = place.create("c", json!({ "devices": rules })).unwrap();
    let kmsg = start(&created, c"exec 3</dev/kmsg").reap() == 0;
    let null = start(&created, c"exec 3>/dev/null").reap() == 0;
    (kmsg, null)
}

#[test]
fn device_rules_are_the_kernels() {
    let Some(place) = Ground::new("devices") else { return };
    if std::fs::File::open("/dev/kmsg").is_err() {
        skip("kmsg", "it cannot be opened at all");
        return;
    }
    assert_eq!(devices(&place, json!([{ "allow": false, "access": "rwm" }])), (false, true));
    assert_eq!(devices(&place, json!([])), (false, true));
    let kmsg = json!({ "allow": true, "type": "c", "major": 1, "minor": 11, "access": "r" });
    assert_eq!(devices(&place, json!([{ "allow": false, "access": "rwm" }, kmsg])), (true, true));
    assert_eq!(devices(&place, json!([{ "allow": true, "access": "rwm" }])), (true, true));
    let no_kmsg = json!({ "allow": false, "type": "c", "major": 1, "minor": 11, "access": "r" });
    assert_eq!(devices(&place, json!([{ "allow": true, "access": "rwm" }, no_kmsg])), (false, true));
}

#[test]
fn the_kernel_takes_every_filter() {
    let Some(place) = Ground::new("filters") else { return };
    if place.compile("x", json!({})).unwrap().layout != Layout::V2 {
        return skip("cgroup2", "version 1 has no device filters");
    }
    let rule = |allow: bool, kind: &str, major: Option<i64>, access: &str| {
        let major = major.map_or(json!(-1), |major| json!(major));
        json!({ "allow": allow, "type": kind, "major": major, "access": access })
    };
    let (all, none) = (rule(true, "a", None, "rwm"), rule(false, "a", None, "rwm"));
    for rules in [
        json!([all]),
        json!([none]),
        json!([rule(true, "c", None, "rwm")]),
        json!([all, rule(false, "c", None, "rwm"), rule(false, "b", None, "rwm")]),
        json!([all, rule(false, "b", Some(8), "w"), rule(true, "a", None, "rm")]),
        json!([none, rule(true, "a", Some(4_294_967_295), "rw"), rule(false, "c", Some(10), "r")]),
    ] {
        drop(place.create("c", json!({ "devices": rules })).unwrap());
    }
}

#[test]
fn rules_of_an_earlier_run_do_not_outlive_it() {
    let Some(place) = Ground::new("oldrules") else { return };
    let paths = kept(place.create("c", json!({ "devices": [{ "allow": false, "access": "rwm" }] })).unwrap());
    let (kmsg, null) = devices(&place, json!([{ "allow": true, "access": "rwm" }]));
    assert!(kmsg || std::fs::File::open("/dev/kmsg").is_err());
    assert!(null);
    paths.remove().unwrap();
}
