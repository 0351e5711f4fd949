//! The cgroup against the real kernel, in throw-away directories, on whichever layout this host has. Without the right
//! to make cgroups the tests are skipped, and say so.

use std::ffi::CStr;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Error;
use oci_spec::runtime::Linux;
use serde_json::{Value, json};

use super::path::Place;
use super::*;
use crate::sys::cgroup::testing::{reap, spawn};
use crate::sys::testing::{heap_free, skip};

/// A place for one test's cgroups, removed at its end.
struct Place1 {
    parent: String,
}

impl Place1 {
    fn new(test: &str) -> Option<Self> {
        let parent = format!("/ocirt-test-{}-{test}", std::process::id());
        let place = Self { parent };
        match place.compile("probe", json!({})).and_then(|cgroup| cgroup.create()) {
            Ok(created) => drop(created),
            Err(error) => {
                skip(&format!("{test}: cannot make cgroups here: {error:#}"));
                return None;
            }
        }
        Some(place)
    }

    fn compile(&self, name: &str, resources: Value) -> anyhow::Result<Cgroup> {
        let linux = json!({ "cgroupsPath": format!("{}/{name}", self.parent), "resources": resources });
        super::compile(&serde_json::from_value(linux).unwrap(), name, false)
    }

    fn create(&self, name: &str, resources: Value) -> anyhow::Result<Created> {
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

impl Drop for Place1 {
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
            let _ = crate::sys::cgroup::kill(self.0, 9);
            self.reap();
        }
    }
}

/// Starts a shell inside, the way init enters; returns when it has entered.
fn start(created: &Created, script: &CStr) -> Child {
    let join = created.join().unwrap();
    let pid = spawn(join.clone_into(), &|| heap_free(|| join.apply().is_ok()), script);
    let program = |of: &str| std::fs::read_link(format!("/proc/{of}/exe")).ok();
    until("the child becomes a shell", || program(&pid.to_string()) != program("self"));
    Child(pid, None)
}

/// What stays when the guard is told to let it.
fn kept(mut created: Created) -> Paths {
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
    let Some(place) = Place1::new("limits") else { return };
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
    let Some(place) = Place1::new("join") else { return };
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
    let Some(place) = Place1::new("drop") else { return };
    let created = place.create("a/b/c", json!({})).unwrap();
    assert!(created.paths().exists() && place.left_behind());
    drop(created);
    assert!(!place.left_behind());
}

#[test]
fn a_cgroup_with_processes_is_refused() {
    let Some(place) = Place1::new("inuse") else { return };
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
    let Some(place) = Place1::new("reuse") else { return };
    let paths = kept(place.create("c", json!({ "pids": { "limit": 5 } })).unwrap());
    let again = place.create("c", json!({ "pids": { "limit": 7 } })).unwrap();
    assert_eq!(value(&paths, "pids.max", "pids.max"), "7");
    drop(again);
    assert!(paths.exists());
    paths.remove().unwrap();
}

#[test]
fn a_frozen_cgroup_is_refused() {
    let Some(place) = Place1::new("isfrozen") else { return };
    let first = place.create("c", json!({})).unwrap();
    first.paths().freeze().unwrap();
    let error = format!("{:#}", place.create("c", json!({})).unwrap_err());
    assert!(error.contains("container's cgroup unexpectedly frozen"), "{error}");
}

#[test]
fn frozen_processes_stand_still_until_they_are_thawed() {
    let Some(place) = Place1::new("freeze") else { return };
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
    let Some(place) = Place1::new("killpaused") else { return };
    let created = place.create("c", json!({})).unwrap();
    let mut child = start(&created, c"exec sleep 1000");
    created.paths().freeze().unwrap();
    created.paths().kill_all(9).unwrap();
    assert_eq!(child.reap(), 128 + 9);
}

#[test]
fn other_signals_reach_all_and_leave_a_paused_container_paused() {
    let Some(place) = Place1::new("signal") else { return };
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
    let Some(place) = Place1::new("below") else { return };
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
    let Some(place) = Place1::new("remove") else { return };
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
    let Some(place) = Place1::new("refused") else { return };
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
    let Some(place) = Place1::new("missing") else { return };
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
    let Some(place) = Place1::new("race") else { return };
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
fn devices(place: &Place1, rules: Value) -> (bool, bool) {
    let created = place.create("c", json!({ "devices": rules })).unwrap();
    let kmsg = start(&created, c"exec 3</dev/kmsg").reap() == 0;
    let null = start(&created, c"exec 3>/dev/null").reap() == 0;
    (kmsg, null)
}

#[test]
fn device_rules_are_the_kernels() {
    let Some(place) = Place1::new("devices") else { return };
    if std::fs::File::open("/dev/kmsg").is_err() {
        skip("device_rules_are_the_kernels: /dev/kmsg cannot be opened here at all");
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
    let Some(place) = Place1::new("filters") else { return };
    if place.compile("x", json!({})).unwrap().layout != Layout::V2 {
        return skip("the_kernel_takes_every_filter: cgroup v1 has no device filters");
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
    let Some(place) = Place1::new("oldrules") else { return };
    let paths = kept(place.create("c", json!({ "devices": [{ "allow": false, "access": "rwm" }] })).unwrap());
    let (kmsg, null) = devices(&place, json!([{ "allow": true, "access": "rwm" }]));
    assert!(kmsg || std::fs::File::open("/dev/kmsg").is_err());
    assert!(null);
    paths.remove().unwrap();
}

#[test]
fn state_keeps_what_later_commands_need() {
    let paths = Paths::new(
        Layout::Hybrid,
        [("cpu,cpuacct".into(), "cpu,cpuacct/x".into()), (String::new(), "unified/x".into())].into_iter(),
    );
    let text = serde_json::to_string(&paths).unwrap();
    let expected = r#"{"layout":"hybrid","directories":{"":"/sys/fs/cgroup/unified/x","cpu,cpuacct":"/sys/fs/cgroup/cpu,cpuacct/x"}}"#;
    assert_eq!(text, expected);
    assert_eq!(serde_json::from_str::<Paths>(&text).unwrap(), paths);
    assert_eq!(paths.directory_of("cpuacct"), Some("/sys/fs/cgroup/cpu,cpuacct/x"));
    assert_eq!(paths.directory_of("memory"), None);
}

fn hierarchy(controllers: &str, mount: &str, own: &str) -> Hierarchy {
    let own = CgroupPath::clean(Path::new(own)).unwrap();
    Hierarchy { controllers: controllers.to_owned(), mount: mount.to_owned(), own }
}

/// The directories on a host like this, without looking at the one we are on.
fn placed(layout: Layout, hierarchies: &[Hierarchy], cgroups_path: Option<&str>) -> Vec<String> {
    let place = Place::compile(cgroups_path.map(Path::new), "web1").unwrap();
    let groups = hierarchies.iter().map(|hierarchy| group(hierarchy.clone(), layout, &place));
    groups.map(|group| group.directory()).collect()
}

#[test]
fn the_directory_is_where_runc_would_have_it() {
    let v1 = [hierarchy("cpu", "cpu", "/"), hierarchy("memory", "memory", "/ci/job")];
    assert_eq!(placed(Layout::V1, &v1, Some("/a/b")), ["cpu/a/b", "memory/a/b"]);
    assert_eq!(placed(Layout::V1, &v1, Some("a/../../b")), ["cpu/b", "memory/ci/job/b"]);
    assert_eq!(placed(Layout::V1, &v1, Some("s:p:n")), ["cpu/s:p:n", "memory/ci/job/s:p:n"]);
    assert_eq!(placed(Layout::V1, &v1, None), ["cpu/web1", "memory/ci/job/web1"]);
    let v2 = [hierarchy("", "", "/user.slice/session-1.scope")];
    assert_eq!(placed(Layout::V2, &v2, Some("/a/b")), ["a/b"]);
    assert_eq!(placed(Layout::V2, &v2, Some("b")), ["user.slice/b"]);
    assert_eq!(placed(Layout::V2, &v2, None), ["user.slice/web1"]);
    let hybrid = [hierarchy("", "unified", "/init.scope")];
    assert_eq!(placed(Layout::Hybrid, &hybrid, None), ["unified/init.scope/web1"]);
}

fn text(writes: anyhow::Result<Writes>) -> Vec<String> {
    writes.unwrap().list.iter().map(|write| format!("{} = {}", write.file, write.value)).collect()
}

fn resources(json: Value) -> LinuxResources {
    serde_json::from_value(json).unwrap()
}

fn everything() -> LinuxResources {
    resources(json!({
        "memory": { "limit": 100, "swap": 300, "reservation": 50 },
        "cpu": { "shares": 1024, "quota": 50_000, "period": 100_000, "burst": 1000, "idle": 1, "cpus": "0-1", "mems": "0" },
        "pids": { "limit": 0 },
        "blockIO": {
            "weight": 500,
            "weightDevice": [{ "major": 8, "minor": 0, "weight": 100 }],
            "throttleReadBpsDevice": [{ "major": 8, "minor": 0, "rate": 600 }],
            "throttleWriteIOPSDevice": [{ "major": 8, "minor": 16, "rate": 0 }]
        },
        "hugepageLimits": [{ "pageSize": "2MB", "limit": 4_194_304 }],
        "rdma": { "mlx4_0": { "hcaHandles": 2, "hcaObjects": 2000 }, "mlx5_1": { "hcaHandles": 3 } }
    }))
}

#[test]
fn every_resource_has_its_v1_file() {
    let expected = [
        "cpuset.cpus = 0-1",
        "cpuset.mems = 0",
        "cpu.shares = 1024",
        "cpu.idle = 1",
        "cpu.cfs_period_us = 100000",
        "cpu.cfs_quota_us = 50000",
        "cpu.cfs_burst_us = 1000",
        "memory.limit_in_bytes = 100",
        "memory.memsw.limit_in_bytes = 300",
        "memory.soft_limit_in_bytes = 50",
        "pids.max = 1",
        "blkio.weight = 500",
        "blkio.weight_device = 8:0 100",
        "blkio.throttle.read_bps_device = 8:0 600",
        "blkio.throttle.write_iops_device = 8:16 0",
        "hugetlb.2MB.limit_in_bytes = 4194304",
        "hugetlb.2MB.rsvd.limit_in_bytes = 4194304",
        "rdma.max = mlx4_0 hca_handle=2 hca_object=2000",
        "rdma.max = mlx5_1 hca_handle=3",
    ];
    assert_eq!(text(v1::compile(&everything())), expected);
    let only_v1 = resources(json!({
        "cpu": { "realtimePeriod": 1_000_000, "realtimeRuntime": 5000 },
        "memory": { "limit": -1, "swappiness": 10, "disableOOMKiller": true },
        "blockIO": { "leafWeight": 20 },
        "network": { "classID": 1_048_577, "priorities": [{ "name": "eth0", "priority": 5 }] }
    }));
    let expected = [
        "cpu.rt_period_us = 1000000",
        "cpu.rt_runtime_us = 5000",
        "memory.limit_in_bytes = -1",
        "memory.memsw.limit_in_bytes = -1",
        "memory.oom_control = 1",
        "memory.swappiness = 10",
        "blkio.leaf_weight = 20",
        "net_cls.classid = 1048577",
        "net_prio.ifpriomap = eth0 5",
    ];
    assert_eq!(text(v1::compile(&only_v1)), expected);
}

#[test]
fn every_resource_has_its_v2_translation() {
    let expected = [
        "pids.max = 1",
        "memory.swap.max = 200",
        "memory.max = 100",
        "memory.low = 50",
        "io.bfq.weight = 500",
        "io.bfq.weight = 8:0 100",
        "io.max = 8:0 rbps=600",
        "io.max = 8:16 wiops=max",
        "cpu.weight = 100",
        "cpu.idle = 1",
        "cpu.max = 50000 100000",
        "cpu.max.burst = 1000",
        "cpuset.cpus = 0-1",
        "cpuset.mems = 0",
        "hugetlb.2MB.max = 4194304",
        "hugetlb.2MB.rsvd.max = 4194304",
        "rdma.max = mlx4_0 hca_handle=2 hca_object=2000",
        "rdma.max = mlx5_1 hca_handle=3",
    ];
    assert_eq!(text(v2::compile(&everything())), expected);
    let unlimited = resources(json!({ "memory": { "limit": -1 }, "pids": { "limit": -1 }, "cpu": { "quota": -1 } }));
    assert_eq!(
        text(v2::compile(&unlimited)),
        ["pids.max = max", "memory.swap.max = max", "memory.max = max", "cpu.max = max 100000"]
    );
}

#[test]
fn unified_comes_last_line_by_line_and_in_order() {
    let both = resources(json!({
        "pids": { "limit": 5 },
        "unified": { "pids.max": "7", "io.max": "8:0 rbps=1\n8:16 wbps=2\n", "cgroup.max.depth": "3" }
    }));
    let expected =
        ["pids.max = 5", "cgroup.max.depth = 3", "io.max = 8:0 rbps=1", "io.max = 8:16 wbps=2", "pids.max = 7"];
    assert_eq!(text(v2::compile(&both)), expected);
    assert!(v1::compile(&both).unwrap_err().to_string().starts_with("linux.resources.unified: "));
}

#[test]
fn dockers_zeroes_set_nothing() {
    let docker = resources(json!({
        "memory": { "disableOOMKiller": false, "limit": 0, "swappiness": u64::MAX },
        "cpu": { "shares": 0, "quota": 0, "period": 0, "cpus": "" },
        "blockIO": { "weight": 0 },
        "network": { "classID": 0, "priorities": [] },
        "unified": {}
    }));
    assert!(text(v1::compile(&docker)).is_empty());
    assert!(text(v2::compile(&docker)).is_empty());
}

#[test]
fn what_a_layout_cannot_do_is_refused_by_field() {
    let refused = |compiled: anyhow::Result<Writes>| compiled.unwrap_err().to_string();
    for (json, field) in [
        (json!({ "memory": { "swappiness": 10 } }), "memory.swappiness"),
        (json!({ "memory": { "disableOOMKiller": true } }), "memory.disableOOMKiller"),
        (json!({ "cpu": { "realtimeRuntime": 10 } }), "cpu.realtimeRuntime"),
        (json!({ "blockIO": { "leafWeight": 10 } }), "blockIO.leafWeight"),
        (json!({ "network": { "classID": 10 } }), "network.classID"),
        (json!({ "memory": { "limit": 10, "swap": 5 } }), "memory.swap"),
        (json!({ "unified": { "a/b.c": "1" } }), "unified[\"a/b.c\"]"),
        (json!({ "unified": { "..": "1" } }), "unified[\"..\"]"),
        (json!({ "unified": { "memory": "1" } }), "unified[\"memory\"]"),
        (json!({ "hugepageLimits": [{ "pageSize": "../x", "limit": 1 }] }), "hugepageLimits[0].pageSize"),
        (
            json!({ "blockIO": { "throttleReadBpsDevice": [{ "major": -8, "minor": 0, "rate": 1 }] } }),
            "blockIO.throttleReadBpsDevice[0]",
        ),
    ] {
        let error = refused(v2::compile(&resources(json)));
        assert!(error.starts_with(&format!("linux.resources.{field}: ")), "{error}");
    }
    let error = refused(v1::compile(&resources(json!({ "cpu": { "shares": 1 } }))));
    assert_eq!(error, "linux.resources.cpu.shares: 1 is not between 2 and 262144");
    let error = refused(v1::compile(&resources(json!({ "memory": { "swappiness": 101 } }))));
    assert_eq!(error, "linux.resources.memory.swappiness: 101 is not between 0 and 100");
}

#[test]
fn kernel_memory_is_ignored_with_a_warning() {
    let kernel = resources(json!({ "memory": { "kernel": 100, "kernelTCP": 100, "useHierarchy": false } }));
    for writes in [v1::compile(&kernel).unwrap(), v2::compile(&kernel).unwrap()] {
        assert!(writes.list.is_empty());
        let fields: Vec<&str> = writes.warnings.iter().filter_map(|warning| warning.split(": ").next()).collect();
        assert_eq!(
            fields,
            ["kernel", "kernelTCP", "useHierarchy"].map(|field| format!("linux.resources.memory.{field}"))
        );
    }
}

#[test]
fn engines_configurations_compile_on_this_host() {
    let linux: Linux = serde_json::from_value(json!({
        "cgroupsPath": "/docker/x",
        "resources": {
            "devices": [{ "allow": false, "access": "rwm" }, { "allow": true, "type": "c", "major": 1, "minor": 3, "access": "rwm" }],
            "memory": { "limit": 100_663_296, "reservation": 33_554_432, "swap": 209_715_200, "disableOOMKiller": false },
            "cpu": { "shares": 256, "quota": 70_000, "period": 100_000, "cpus": "0,1" },
            "pids": { "limit": 200 }, "blockIO": { "weight": 0 }
        }
    }))
    .unwrap();
    match super::compile(&linux, "x", false) {
        Ok(cgroup) => {
            let view = cgroup.mount_view();
            assert_eq!(view.hierarchies.is_empty(), cgroup.layout == Layout::V2);
            assert_eq!(view.unified.is_some(), cgroup.layout != Layout::V1);
            assert!(cgroup.warnings().is_empty());
        }
        Err(error) => skip(&format!("engines_configurations_compile_on_this_host: {error:#}")),
    }
}
