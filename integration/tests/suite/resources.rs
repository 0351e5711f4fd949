//! `linux.resources` beyond memory, CPU and pids: block IO, network, huge pages, RDMA, bursts; set by `create` and
//! changed by `update`. What a kernel has no controller for is refused by the field's name.

use std::path::Path;

use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::needs::{Need, need, need_ocirt};
use ocirt_integration::runtime::{Call, Output, call};
use ocirt_integration::{host, probe, tests, user};
use serde_json::{Value, json};

tests![
    block_io_is_throttled_by_device,
    block_io_has_weights,
    leaf_weights_are_refused_where_there_are_none,
    packets_are_marked_on_v1_and_refused_on_v2,
    huge_pages_are_limited_or_refused_by_field,
    rdma_is_refused_by_field_without_the_device,
    a_burst_is_written,
    a_controller_that_create_did_not_need_is_enabled_for_update,
];

fn with(field: &str, value: Value) -> Bundle {
    Bundle::new().set(&format!("linux.resources.{field}"), value)
}

fn update(container: &Container, document: &Value) -> Output {
    let path = container.bundle.dir.join("resources.json");
    std::fs::write(&path, document.to_string()).expect("document");
    Call::new(["update", "--resources", &path.display().to_string(), container.id()]).run()
}

/// A file of the controller, on v2 of the one directory; nothing if this kernel does not have it.
fn file(container: &Container, controller: &str, name: &str) -> Option<String> {
    let controller = if host::is_cgroup2() { "" } else { controller };
    let text = container.proc_file("cgroup");
    let joined =
        text.lines().any(|line| line.split(':').nth(1).is_some_and(|all| all.split(',').any(|one| one == controller)));
    (joined && container.cgroup(controller).join(name).exists()).then(|| container.cgroup_file(controller, name))
}

fn has_controller(name: &str) -> bool {
    match host::is_cgroup2() {
        true => std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers")
            .is_ok_and(|all| all.split_whitespace().any(|one| one == name)),
        false => std::fs::read_dir("/sys/fs/cgroup")
            .into_iter()
            .flatten()
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().split(',').any(|one| one == name)),
    }
}

/// A disk of this machine.
fn disk() -> (u64, u64) {
    let names = std::fs::read_dir("/sys/block").into_iter().flatten().flatten();
    let numbers = names.filter_map(|entry| std::fs::read_to_string(entry.path().join("dev")).ok());
    let found = numbers.filter_map(|text| {
        let (major, minor) = text.trim().split_once(':')?;
        Some((major.parse().ok()?, minor.parse().ok()?))
    });
    let found = found.max();
    need(Need::BlockDevice, found.is_some() && has_controller(if host::is_cgroup2() { "io" } else { "blkio" }));
    found.unwrap_or_default()
}

const THROTTLES: [(&str, &str, &str); 4] = [
    ("throttleReadBpsDevice", "blkio.throttle.read_bps_device", "rbps"),
    ("throttleWriteBpsDevice", "blkio.throttle.write_bps_device", "wbps"),
    ("throttleReadIOPSDevice", "blkio.throttle.read_iops_device", "riops"),
    ("throttleWriteIOPSDevice", "blkio.throttle.write_iops_device", "wiops"),
];

fn block_io_is_throttled_by_device() {
    let (major, minor) = disk();
    let rates = |from: u64| -> Value {
        let rate = |index| json!([{ "major": major, "minor": minor, "rate": from + index }]);
        (0..4).map(|index: u64| (THROTTLES[index as usize].0.to_owned(), rate(index))).collect()
    };
    let container = with("blockIO", rates(1_048_576)).create(probe!(sleep 60));
    let expect = |from: u64| {
        for (index, (field, v1, key)) in THROTTLES.iter().enumerate() {
            let rate = from + index as u64;
            let text = file(&container, "blkio", if host::is_cgroup2() { "io.max" } else { v1 }).expect("a file");
            match host::is_cgroup2() {
                true => assert!(text.split_whitespace().any(|word| word == format!("{key}={rate}")), "{field}: {text}"),
                false => assert_eq!(text, format!("{major}:{minor} {rate}"), "{field}"),
            }
        }
    };
    expect(1_048_576);
    need_ocirt();
    update(&container, &json!({ "blockIO": rates(2_097_152) })).ok();
    expect(2_097_152);
    // One that is refused behind them: everything is as it was.
    let mut document = json!({ "blockIO": rates(4_194_304) });
    document["blockIO"]["throttleWriteIOPSDevice"] = json!([{ "major": 4095, "minor": 1, "rate": 1 }]);
    update(&container, &document).fails("blockIO.throttleWriteIOPSDevice[0]");
    expect(2_097_152);
    for (field, v1, _) in THROTTLES {
        let lifted = json!({ "blockIO": { field: [{ "major": major, "minor": minor, "rate": 0 }] } });
        update(&container, &lifted).ok();
        if !host::is_cgroup2() {
            assert_eq!(file(&container, "blkio", v1).as_deref(), Some(""), "{field}");
        }
    }
    if host::is_cgroup2() {
        assert_eq!(file(&container, "", "io.max").as_deref(), Some(""));
    }
}

fn block_io_has_weights() {
    let weight = |container: &Container| {
        let files = ["io.bfq.weight", "io.weight", "blkio.bfq.weight", "blkio.weight"];
        files.iter().find_map(|name| Some((*name, file(container, "blkio", name)?)))
    };
    let container = Bundle::new().create(probe!(sleep 60));
    need(Need::BlockWeight, weight(&container).is_some());
    let expect = |container: &Container, value: u64| {
        let (name, text) = weight(container).expect("a weight");
        let expected = if name == "io.weight" { 1 + (value - 10) * 9999 / 990 } else { value };
        let first = text.lines().next().unwrap_or_default().trim_start_matches("default ").to_owned();
        assert_eq!(first, expected.to_string(), "{name}: {text}");
    };
    call(["update", "--blkio-weight", "300", container.id()]).ok();
    expect(&container, 300);
    let other = with("blockIO.weight", json!(500)).create(probe!(sleep 60));
    expect(&other, 500);
    need_ocirt();
    call(["update", "--blkio-weight", "5000", other.id()]).fails("blockIO.weight");
    expect(&other, 500);
}

fn leaf_weights_are_refused_where_there_are_none() {
    need_ocirt();
    need(Need::NoLeafWeight, !Path::new("/sys/fs/cgroup/blkio/blkio.leaf_weight").exists());
    with("blockIO.leafWeight", json!(300)).refused("linux.resources.blockIO.leafWeight");
    let device = json!([{ "major": 8, "minor": 0, "leafWeight": 300 }]);
    with("blockIO.weightDevice", device).refused("linux.resources.blockIO.weightDevice[0].leafWeight");
}

fn packets_are_marked_on_v1_and_refused_on_v2() {
    need_ocirt();
    let network = json!({ "classID": 1_048_577, "priorities": [{ "name": "lo", "priority": 3 }] });
    if host::is_cgroup2() || !has_controller("net_cls") {
        with("network", network).refused("linux.resources.network.classID");
        with("network.priorities", json!([{ "name": "lo", "priority": 3 }]))
            .refused("linux.resources.network.priorities");
        return;
    }
    let container = with("network", network).create(probe!(sleep 60));
    assert_eq!(file(&container, "net_cls", "net_cls.classid").as_deref(), Some("1048577"));
    let priorities = |container: &Container| file(container, "net_prio", "net_prio.ifpriomap").unwrap_or_default();
    assert!(priorities(&container).lines().any(|line| line == "lo 3"), "{}", priorities(&container));
    let bad = json!([{ "name": "lo", "priority": 5 }, { "name": "nosuch0", "priority": 3 }]);
    update(&container, &json!({ "network": { "priorities": bad } })).fails("linux.resources.network.priorities[1]");
    assert!(priorities(&container).lines().any(|line| line == "lo 3"), "{}", priorities(&container));
}

fn huge_pages_are_limited_or_refused_by_field() {
    need_ocirt();
    let limit = json!([{ "pageSize": "2MB", "limit": 4_194_304 }]);
    if !has_controller("hugetlb") {
        with("hugepageLimits", limit).refused("linux.resources.hugepageLimits[0]: cgroup controller hugetlb");
        return;
    }
    let container = with("hugepageLimits", limit).create(probe!(sleep 60));
    let names = match host::is_cgroup2() {
        true => ["hugetlb.2MB.max", "hugetlb.2MB.rsvd.max"],
        false => ["hugetlb.2MB.limit_in_bytes", "hugetlb.2MB.rsvd.limit_in_bytes"],
    };
    for name in names {
        assert_eq!(file(&container, "hugetlb", name).as_deref(), Some("4194304"), "{name}");
    }
}

fn rdma_is_refused_by_field_without_the_device() {
    need_ocirt();
    need(Need::NoInfiniband, !Path::new("/sys/class/infiniband/nosuch0").exists());
    let limits = json!({ "nosuch0": { "hcaHandles": 2, "hcaObjects": 2000 } });
    let words = if has_controller("rdma") { "hca_handle=2 hca_object=2000" } else { "cgroup controller rdma" };
    let output = with("rdma", limits).refused(words);
    assert!(output.stderr.contains("linux.resources.rdma[\"nosuch0\"]"), "{}", output.stderr);
}

fn a_burst_is_written() {
    need_ocirt();
    let cpu = json!({ "quota": 50_000, "period": 100_000, "burst": 20_000 });
    let names = if host::is_cgroup2() { "cpu.max.burst" } else { "cpu.cfs_burst_us" };
    let plain = Bundle::new().create(probe!(sleep 60));
    let Some(_) = file(&plain, "cpu", names) else {
        with("cpu", cpu).refused("linux.resources.cpu.burst");
        return;
    };
    let container = with("cpu", cpu).create(probe!(sleep 60));
    assert_eq!(file(&container, "cpu", names).as_deref(), Some("20000"));
    call(["update", "--cpu-burst", "10000", container.id()]).ok();
    assert_eq!(file(&container, "cpu", names).as_deref(), Some("10000"));
    // Never more than the quota: nothing changes, not even what comes before it.
    call(["update", "--cpu-share", "77", "--cpu-burst", "90000", container.id()]).fails("linux.resources.cpu.burst");
    assert_eq!(file(&container, "cpu", names).as_deref(), Some("10000"));
}

fn a_controller_that_create_did_not_need_is_enabled_for_update() {
    need_ocirt();
    need(Need::CgroupV2, host::is_cgroup2());
    need(Need::Rdma, has_controller("rdma"));
    // A parent that passes on no more than the usual, which `create` is content with.
    let path = format!("{}/{}/one", user::cgroup_prefix(), host::tag());
    let bundle = Bundle::new().set("linux.cgroupsPath", json!(path));
    let above = Path::new(host::CGROUPS).join(user::cgroup_prefix().trim_start_matches('/'));
    let parent = above.join(host::tag());
    user::make_cgroup(&parent);
    for name in ["cpuset", "cpu", "io", "memory", "pids"] {
        let _ = std::fs::write(above.join("cgroup.subtree_control"), format!("+{name} +rdma"));
        std::fs::write(parent.join("cgroup.subtree_control"), format!("+{name}")).expect("subtree_control");
    }
    let container = bundle.create(probe!(sleep 60));
    assert_eq!(file(&container, "", "rdma.max"), None);
    // There is no such adapter; but the kernel was asked.
    let limits = json!({ "rdma": { "nosuch0": { "hcaHandles": 2 } } });
    update(&container, &limits).fails("linux.resources.rdma[\"nosuch0\"]: write \"nosuch0 hca_handle=2\" to rdma.max");
    assert_eq!(file(&container, "", "rdma.max").as_deref(), Some(""));
    update(&container, &json!({ "unified": { "nosuch.max": "1" } })).fails("cgroup controller nosuch is not available");
    call(["delete", "--force", container.id()]).ok();
    std::fs::remove_dir(parent).expect("cgroup");
}
