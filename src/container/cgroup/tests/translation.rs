//! What becomes of a configuration, as text: directories on made-up hosts, files and values of both versions.

use std::path::Path;

use oci_spec::runtime::{Linux, LinuxResources};
use serde_json::{Value, json};

use crate::container::cgroup::host::layout::{Hierarchy, Layout};
use crate::container::cgroup::host::path::{CgroupPath, CgroupPlace};
use crate::container::cgroup::paths::Paths;
use crate::container::cgroup::prepared::{compile, group};
use crate::container::cgroup::wanted::resources::Writes;
use crate::container::cgroup::wanted::{v1, v2};
use crate::error::Faults;
use crate::sys::testing::skip;

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
    let place = CgroupPlace::compile(cgroups_path.map(Path::new), "web1").unwrap();
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
    assert_eq!(text(v1::compile(&everything(), &mut Faults::first())), expected);
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
    assert_eq!(text(v1::compile(&only_v1, &mut Faults::first())), expected);
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
    assert_eq!(text(v2::compile(&everything(), &mut Faults::first())), expected);
    let unlimited = resources(json!({ "memory": { "limit": -1 }, "pids": { "limit": -1 }, "cpu": { "quota": -1 } }));
    assert_eq!(
        text(v2::compile(&unlimited, &mut Faults::first())),
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
    assert_eq!(text(v2::compile(&both, &mut Faults::first())), expected);
    assert!(v1::compile(&both, &mut Faults::first()).unwrap_err().to_string().starts_with("linux.resources.unified: "));
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
    assert!(text(v1::compile(&docker, &mut Faults::first())).is_empty());
    assert!(text(v2::compile(&docker, &mut Faults::first())).is_empty());
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
        let error = refused(v2::compile(&resources(json), &mut Faults::first()));
        assert!(error.starts_with(&format!("linux.resources.{field}: ")), "{error}");
    }
    let error = refused(v1::compile(&resources(json!({ "cpu": { "shares": 1 } })), &mut Faults::first()));
    assert_eq!(error, "linux.resources.cpu.shares: 1 is not between 2 and 262144");
    let error = refused(v1::compile(&resources(json!({ "memory": { "swappiness": 101 } })), &mut Faults::first()));
    assert_eq!(error, "linux.resources.memory.swappiness: 101 is not between 0 and 100");
}

#[test]
fn kernel_memory_is_ignored_with_a_warning() {
    let kernel = resources(json!({ "memory": { "kernel": 100, "kernelTCP": 100, "useHierarchy": false } }));
    for writes in
        [v1::compile(&kernel, &mut Faults::first()).unwrap(), v2::compile(&kernel, &mut Faults::first()).unwrap()]
    {
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
    match compile(&linux, "x", || false, &mut Faults::first()) {
        Ok(cgroup) => {
            let view = cgroup.mount_view();
            assert_eq!(view.hierarchies.is_empty(), cgroup.layout == Layout::V2);
            assert_eq!(view.unified.is_some(), cgroup.layout != Layout::V1);
            assert!(cgroup.warnings().is_empty());
        }
        Err(error) => skip("cgroups", &format!("{error:#}")),
    }
}
