//! `linux.cgroupsPath` and `linux.resources`: the limits as the host sees them, and as the container feels them.

use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::needs::{Need, need, need_ocirt, need_root};
use ocirt_integration::runtime::call;
use ocirt_integration::{host, probe, tests, user};
use serde_json::{Value, json};

tests![
    a_path_in_the_form_of_a_unit_is_a_warning,
    each_v1_limit_is_written,
    cpu_idle_is_written_on_v1,
    each_v2_limit_is_written,
    a_memory_limit_kills,
    a_pids_limit_refuses,
    a_cpu_quota_throttles,
    cpuset_limits_the_cpus,
    devices_are_denied_and_allowed,
    devices_that_every_container_needs_work_under_deny_all,
    the_cgroups_path_is_used_and_removed,
    a_relative_cgroups_path_is_below_the_runtimes_choice,
    a_parent_cgroup_that_was_there_stays,
    the_container_is_in_every_controller,
    subgroups_of_the_container_are_removed,
    a_limit_the_kernel_refuses_names_the_field,
    a_cgroup_can_be_joined_that_exists,
    unified_keys_are_written,
    hooks_run_outside_the_containers_cgroup,
];

fn with(field: &str, value: Value) -> Bundle {
    Bundle::new().set(&format!("linux.resources.{field}"), value)
}

fn v1() {
    need(Need::CgroupV1, !host::is_cgroup2());
}

fn v2() {
    need(Need::CgroupV2, host::is_cgroup2());
}

/// `major:minor` of a disk of this machine, for the block controller.
fn disk() -> Option<(u64, u64)> {
    let names = std::fs::read_dir("/sys/block").ok()?;
    let text = names.flatten().find_map(|entry| std::fs::read_to_string(entry.path().join("dev")).ok())?;
    let (major, minor) = text.trim().split_once(':')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn each_v1_limit_is_written() {
    v1();
    // Field below linux.resources, its value, controller, file, the kernel's text.
    let rows = [
        ("memory.limit", json!(64 << 20), "memory", "memory.limit_in_bytes", "67108864"),
        ("memory.limit", json!(-1), "memory", "memory.limit_in_bytes", "9223372036854771712"),
        ("memory.reservation", json!(32 << 20), "memory", "memory.soft_limit_in_bytes", "33554432"),
        ("memory.swappiness", json!(10), "memory", "memory.swappiness", "10"),
        ("memory.disableOOMKiller", json!(true), "memory", "memory.oom_control", "oom_kill_disable 1"),
        ("cpu.shares", json!(512), "cpu", "cpu.shares", "512"),
        ("cpu", json!({ "quota": 50_000, "period": 200_000 }), "cpu", "cpu.cfs_quota_us", "50000"),
        ("cpu", json!({ "quota": 50_000, "period": 200_000 }), "cpu", "cpu.cfs_period_us", "200000"),
        ("cpu.cpus", json!("0"), "cpuset", "cpuset.cpus", "0"),
        ("cpu.mems", json!("0"), "cpuset", "cpuset.mems", "0"),
        ("pids.limit", json!(77), "pids", "pids.max", "77"),
        ("pids.limit", json!(-1), "pids", "pids.max", "max"),
    ];
    for (field, value, controller, file, expected) in rows {
        let container = with(field, value.clone()).create(probe!(sleep 60));
        let path = container.cgroup(controller).join(file);
        if !path.exists() || host::ignores_writes(&path) {
            eprintln!("no {file} in this kernel");
            continue;
        }
        let text = container.cgroup_file(controller, file);
        assert!(text == expected || text.starts_with(&format!("{expected}\n")), "{field}={value}: {file} is {text:?}");
        call(["delete", "--force", container.id()]).ok();
    }
    if let (Some((major, minor)), true) =
        (disk(), std::path::Path::new("/sys/fs/cgroup/blkio/blkio.throttle.read_bps_device").exists())
    {
        let limit = json!([{ "major": major, "minor": minor, "rate": 1_048_576 }]);
        let container = with("blockIO.throttleReadBpsDevice", limit).create(probe!(sleep 60));
        let text = container.cgroup_file("blkio", "blkio.throttle.read_bps_device");
        assert_eq!(text, format!("{major}:{minor} 1048576"));
    }
}

fn cpu_idle_is_written_on_v1() {
    v1();
    let container = with("cpu.idle", json!(1)).create(probe!(sleep 60));
    assert_eq!(container.cgroup_file("cpu", "cpu.idle"), "1");
}

fn each_v2_limit_is_written() {
    v2();
    let rows = [
        ("memory.limit", json!(64 << 20), "memory.max", "67108864"),
        ("memory.reservation", json!(32 << 20), "memory.low", "33554432"),
        ("memory", json!({ "limit": 64 << 20, "swap": 96 << 20 }), "memory.swap.max", "33554432"),
        ("cpu", json!({ "quota": 50_000, "period": 200_000 }), "cpu.max", "50000 200000"),
        ("cpu.shares", json!(1024), "cpu.weight", "100"),
        ("cpu.cpus", json!("0"), "cpuset.cpus", "0"),
        ("cpu.idle", json!(1), "cpu.idle", "1"),
        ("pids.limit", json!(77), "pids.max", "77"),
        ("unified", json!({ "memory.high": "50331648" }), "memory.high", "50331648"),
    ];
    let mut wrong = Vec::new();
    for (field, value, file, expected) in rows {
        let container = with(field, value.clone()).create(probe!(sleep 60));
        let text = container.cgroup_file("", file);
        if text != expected {
            wrong.push(format!("{field}={value}: {file} is {text:?} and not {expected:?}"));
        }
        call(["delete", "--force", container.id()]).ok();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn a_memory_limit_kills() {
    let limits = json!({ "limit": 32 << 20, "swap": 32 << 20 });
    assert_eq!(with("memory", limits.clone()).run(probe!(eat 64)).status, 128 + 9);
    assert_eq!(with("memory", limits).run(probe!(eat 16)).ok().answer(), 16);
}

fn a_pids_limit_refuses() {
    let answer = with("pids.limit", json!(6)).run(probe!(forks 20)).ok().answer();
    assert_eq!(answer, json!({ "children": 5, "refusal": "EAGAIN" }));
}

fn a_cpu_quota_throttles() {
    let milliseconds = with("cpu", json!({ "quota": 10_000, "period": 100_000 })).run(probe!(burn 1000)).ok().answer();
    let used = milliseconds.as_u64().expect("a number");
    assert!(used < 300, "{used} ms of a second at a quota of 10 %");
}

fn cpuset_limits_the_cpus() {
    let answer = with("cpu.cpus", json!("0")).run(probe!(status "Cpus_allowed_list")).ok().answer();
    assert_eq!(answer, "0");
}

/// `major, minor` of a device that is in no default list and that root may open in both directions.
fn spare_device() -> Option<(u32, u32)> {
    use std::os::unix::fs::MetadataExt;
    let paths = ["/dev/fuse", "/dev/cpu_dma_latency", "/dev/loop-control"];
    let meta = paths.iter().find_map(|path| std::fs::metadata(path).ok())?;
    Some((libc::major(meta.rdev()), libc::minor(meta.rdev())))
}

fn devices_are_denied_and_allowed() {
    // On v2 only root may load the filter.
    need_root();
    let spare = spare_device();
    need(Need::SpareDevice, spare.is_some());
    let (major, minor) = spare.unwrap_or_default();
    let deny = json!({ "allow": false, "access": "rwm" });
    let rule = |allow: bool, access: &str| json!({ "allow": allow, "type": "c", "major": major, "minor": minor, "access": access });
    let rows = [
        (json!([deny]), "EPERM", "EPERM"),
        (json!([deny, rule(true, "r")]), "", "EPERM"),
        (json!([deny, rule(true, "rw")]), "", ""),
        (json!([deny, { "allow": true, "type": "c", "major": major, "access": "rwm" }]), "", ""),
        (json!([{ "allow": true, "access": "rwm" }, rule(false, "w")]), "", "EPERM"),
        (json!([deny, rule(true, "rw"), rule(false, "w")]), "", "EPERM"),
    ];
    for (rules, read, write) in rows {
        let node = json!([{ "path": "/dev/odd", "type": "c", "major": major, "minor": minor }]);
        let bundle = with("devices", rules.clone()).set("linux.devices", node);
        let answers = bundle.run(probe!(open "/dev/odd"; openw "/dev/odd")).ok().answers();
        assert_eq!(answers[0]["error"].as_str().unwrap_or(""), read, "open for reading with {rules}");
        assert_eq!(answers[1]["error"].as_str().unwrap_or(""), write, "open for writing with {rules}");
    }
}

fn devices_that_every_container_needs_work_under_deny_all() {
    need_root();
    let bundle = with("devices", json!([{ "allow": false, "access": "rwm" }]));
    let names = ["null", "zero", "full", "random", "urandom", "ptmx"];
    let mut words = vec!["/probe".to_owned()];
    for name in names {
        words.extend(["open".into(), format!("/dev/{name}"), "+".into()]);
    }
    // Anyone may make a node; only opening it is controlled.
    words.extend(["mknod", "/tmp/node", "c", "1", "11", "+", "open", "/tmp/node"].map(String::from));
    let answers = bundle.run(words).ok().answers();
    for (name, answer) in names.iter().zip(&answers) {
        assert_eq!(answer, "ok", "/dev/{name}");
    }
    assert_eq!((&answers[names.len()], &answers[names.len() + 1]["error"]), (&json!("ok"), &json!("EPERM")));
}

/// Engines that are told of systemd, in front of a runtime that is not.
fn a_path_in_the_form_of_a_unit_is_a_warning() {
    need_ocirt();
    need(Need::Cgroupfs, !host::all_with_systemd());
    let bundle = Bundle::new();
    let path = json!(format!("{}.slice:suite:{}", host::tag(), bundle.id));
    let output = bundle.config(|spec| spec["linux"]["cgroupsPath"] = path).run(probe!(print "x")).ok();
    assert!(
        output.stderr.contains("linux.cgroupsPath: ") && output.stderr.contains("--systemd-cgroup"),
        "{}",
        output.stderr
    );
    // A name with colons is a directory of that name. Only root may make one at the top.
    need_root();
    let bundle = Bundle::new();
    let path = json!(format!("/{}:x:{}", host::tag(), bundle.id));
    let output = bundle.config(|spec| spec["linux"]["cgroupsPath"] = path).run(probe!(print "x")).ok();
    assert_eq!(output.stderr, "");
}

/// An absolute cgroupsPath of this test's own.
fn own_path(name: &str) -> String {
    format!("{}/{}{name}", user::cgroup_prefix(), host::tag())
}

/// The directory of `own_path("")`, in one hierarchy.
fn own_directory(controller: &str) -> std::path::PathBuf {
    let base = std::path::Path::new(host::CGROUPS);
    let base = if host::is_cgroup2() { base.to_owned() } else { base.join(controller) };
    base.join(own_path("").trim_start_matches('/'))
}

fn the_cgroups_path_is_used_and_removed() {
    let path = own_path("/deep/one");
    let container = Bundle::new().set("linux.cgroupsPath", json!(path)).create(probe!(sleep 60));
    let controller = if host::is_cgroup2() { "" } else { "pids" };
    let base = container.cgroup(controller);
    assert!(base.ends_with(path.trim_start_matches('/')), "{}", base.display());
    call(["delete", "--force", container.id()]).ok();
    assert!(!base.exists(), "{} is left", base.display());
    remove_parents();
}

/// Parents of an own path that the runtime made are the caller's to remove, as with runc.
fn remove_parents() {
    let mut all = host::cgroups(&host::tag());
    all.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    for path in all {
        for directory in [path.join("deep"), path] {
            let _ = std::fs::remove_dir(directory);
        }
    }
}

fn a_relative_cgroups_path_is_below_the_runtimes_choice() {
    let path = host::tag();
    let container = Bundle::new().set("linux.cgroupsPath", json!(path)).create(probe!(sleep 60));
    let controller = if host::is_cgroup2() { "" } else { "pids" };
    assert!(container.cgroup(controller).ends_with(&path));
    call(["delete", "--force", container.id()]).ok();
    host::assert_nothing_left();
}

fn a_parent_cgroup_that_was_there_stays() {
    let parent = own_directory("pids");
    let bundle = Bundle::new().set("linux.cgroupsPath", json!(own_path("/one")));
    user::make_cgroup(&parent);
    bundle.run(probe!(print "x")).ok();
    assert!(parent.exists() && !parent.join("one").exists());
    std::fs::remove_dir(&parent).expect("cgroup");
    remove_parents();
}

fn the_container_is_in_every_controller() {
    v1();
    let container = Bundle::new().create(probe!(sleep 60));
    for controller in ["cpu", "cpuacct", "cpuset", "memory", "devices", "freezer", "blkio", "pids", "name=systemd"] {
        let directory = controller.trim_start_matches("name=");
        if !std::path::Path::new("/sys/fs/cgroup").join(directory).exists() {
            continue;
        }
        let text = container.proc_file("cgroup");
        let line = text
            .lines()
            .find(|line| line.split(':').nth(1).is_some_and(|all| all.split(',').any(|one| one == controller)));
        assert!(line.is_some_and(|line| line.contains(container.id())), "{controller} in {text}");
    }
}

fn subgroup(container: &Container) -> std::path::PathBuf {
    container.cgroup(if host::is_cgroup2() { "" } else { "pids" }).join("sub")
}

fn subgroups_of_the_container_are_removed() {
    let container = Bundle::new().create(probe!(sleep 60));
    container.start().ok();
    user::make_cgroup(&subgroup(&container));
    user::make_cgroup(&subgroup(&container).join("sub"));
    call(["delete", "--force", container.id()]).ok();
    host::assert_nothing_left();
}

fn a_limit_the_kernel_refuses_names_the_field() {
    for (field, value, words) in
        [("cpu.cpus", json!("4096"), "cpuset"), ("cpu", json!({ "quota": 1, "period": 100_000 }), "quota")]
    {
        let words = if host::is_cgroup2() && words == "quota" { "cpu" } else { words };
        with(field, value).refused(words);
    }
}

fn a_cgroup_can_be_joined_that_exists() {
    let group = own_directory("freezer");
    let bundle = Bundle::new().set("linux.cgroupsPath", json!(own_path("")));
    user::make_cgroup(&group);
    let container = bundle.create(probe!(sleep 60));
    let text = container.proc_file("cgroup");
    assert!(text.contains(&host::tag()), "{text}");
    call(["delete", "--force", container.id()]).ok();
    let _ = std::fs::remove_dir(&group);
}

fn unified_keys_are_written() {
    v2();
    let container = with("unified", json!({ "memory.max": "33554432", "pids.max": "9" })).create(probe!(sleep 60));
    assert_eq!(
        (container.cgroup_file("", "memory.max"), container.cgroup_file("", "pids.max")),
        ("33554432".into(), "9".into())
    );
    call(["delete", "--force", container.id()]).ok();
    with("unified", json!({ "nosuch.controller": "1" })).refused("nosuch");
}

fn hooks_run_outside_the_containers_cgroup() {
    let bundle = with("pids.limit", json!(1));
    let mark = bundle.dir.join("mark");
    let script = format!("cat /proc/self/cgroup > {}", mark.display());
    let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script], "env": ["PATH=/usr/bin:/bin"] });
    let id = bundle.id.clone();
    bundle.hook("createRuntime", hook).run(probe!(print "x")).ok();
    assert!(!std::fs::read_to_string(mark).expect("mark").contains(&id));
}
