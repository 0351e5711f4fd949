//! `update`: other limits for a container that exists, as the host sees them and as the container feels them.

use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::needs::{Need, need, need_ocirt};
use ocirt_integration::runtime::{Call, Output, call};
use ocirt_integration::{host, probe, tests};
use serde_json::{Value, json};

tests![
    each_flag_is_written,
    each_field_of_a_document_is_written,
    a_document_comes_from_a_file_or_standard_input,
    what_is_not_given_stays,
    a_container_can_be_updated_in_every_living_status,
    memory_and_swap_go_up_and_down_together,
    a_lower_limit_of_processes_holds_at_once,
    a_refused_update_leaves_every_limit_as_it_was,
    nonsense_is_refused_by_flag_or_field,
    a_limit_below_the_usage_is_refused_when_asked_to,
    unified_keys_can_be_updated,
    idle_and_real_time_flags_are_written_or_refused,
];

pub fn update(container: &Container, flags: &[&str]) -> Output {
    let mut words = vec!["update"];
    words.extend(flags);
    words.push(container.id());
    Call::new(words).run()
}

/// `update --resources -` with this document.
pub fn update_by(container: &Container, document: &Value) -> Output {
    let path = container.bundle.dir.join("resources.json");
    std::fs::write(&path, document.to_string()).expect("document");
    let stdin = std::fs::File::open(path).expect("document");
    Call::new(["update", "--resources", "-", container.id()]).stdin(stdin).run()
}

fn sleeper() -> Container {
    let container = Bundle::new().create(probe!(sleep 60));
    container.start().ok();
    container
}

/// The text of the file of v1 or of v2; nothing if this kernel has none.
fn limit(container: &Container, v1: (&str, &str), v2: &str) -> Option<String> {
    let (controller, name) = if host::is_cgroup2() { ("", v2) } else { v1 };
    (!name.is_empty() && container.cgroup(controller).join(name).exists())
        .then(|| container.cgroup_file(controller, name))
}

/// Flag, field, JSON value, the file of v1 and what it has then, the file of v2 and what it has then.
type Row = (&'static str, &'static str, Value, (&'static str, &'static str), &'static str, &'static str, &'static str);

fn rows() -> Vec<Row> {
    vec![
        (
            "--memory=96m",
            "memory.limit",
            json!(96 << 20),
            ("memory", "memory.limit_in_bytes"),
            "100663296",
            "memory.max",
            "100663296",
        ),
        (
            "--memory-reservation=33554432",
            "memory.reservation",
            json!(33_554_432),
            ("memory", "memory.soft_limit_in_bytes"),
            "33554432",
            "memory.low",
            "33554432",
        ),
        (
            "--memory-swap=-1",
            "memory.swap",
            json!(-1),
            ("memory", "memory.memsw.limit_in_bytes"),
            "9223372036854771712",
            "memory.swap.max",
            "max",
        ),
        ("--cpu-share=512", "cpu.shares", json!(512), ("cpu", "cpu.shares"), "512", "cpu.weight", "59"),
        (
            "--cpu-quota=30000",
            "cpu.quota",
            json!(30_000),
            ("cpu", "cpu.cfs_quota_us"),
            "30000",
            "cpu.max",
            "30000 100000",
        ),
        (
            "--cpu-period=50000",
            "cpu.period",
            json!(50_000),
            ("cpu", "cpu.cfs_period_us"),
            "50000",
            "cpu.max",
            "max 50000",
        ),
        ("--cpuset-cpus=0", "cpu.cpus", json!("0"), ("cpuset", "cpuset.cpus"), "0", "cpuset.cpus", "0"),
        ("--cpuset-mems=0", "cpu.mems", json!("0"), ("cpuset", "cpuset.mems"), "0", "cpuset.mems", "0"),
        ("--pids-limit=77", "pids.limit", json!(77), ("pids", "pids.max"), "77", "pids.max", "77"),
        ("--pids-limit=-1", "pids.limit", json!(-1), ("pids", "pids.max"), "max", "pids.max", "max"),
    ]
}

fn expect(container: &Container, row: &Row) {
    let (flag, _, _, v1, in_v1, v2, in_v2) = row;
    match limit(container, *v1, v2) {
        _ if !host::is_cgroup2() && host::ignores_writes(&container.cgroup(v1.0).join(v1.1)) => {
            eprintln!("{flag}: this kernel ignores it");
        }
        Some(text) => assert_eq!(text, if host::is_cgroup2() { *in_v2 } else { *in_v1 }, "{flag}"),
        None => eprintln!("{flag}: no such file in this kernel"),
    }
}

fn each_flag_is_written() {
    for row in rows() {
        let container = sleeper();
        update(&container, &[row.0]).ok();
        expect(&container, &row);
        call(["delete", "--force", container.id()]).ok();
    }
    let container = sleeper();
    update(&container, &["--kernel-memory", "64m"]).ok();
    update(&container, &[]).ok();
}

fn each_field_of_a_document_is_written() {
    for row in rows() {
        let container = sleeper();
        let (section, field) = row.1.split_once('.').expect("two names");
        // As Go writes what nobody set.
        let mut document = json!({ "memory": null, "blockIO": { "weight": 0 }, "cpu": { "shares": 0, "cpus": "" } });
        document[section][field] = row.2.clone();
        update_by(&container, &document).ok();
        expect(&container, &row);
        call(["delete", "--force", container.id()]).ok();
    }
}

fn a_document_comes_from_a_file_or_standard_input() {
    let container = sleeper();
    let pids = || limit(&container, ("pids", "pids.max"), "pids.max").expect("pids.max");
    let path = container.bundle.dir.join("resources.json");
    let name = path.display().to_string();
    for (index, words) in
        [vec!["-r", &name], vec!["--resources", "-"], vec!["--resources=-"], vec!["-resources", &name]]
            .iter()
            .enumerate()
    {
        std::fs::write(&path, json!({ "pids": { "limit": 30 + index } }).to_string()).expect("document");
        let mut all = vec!["update"];
        all.extend(words.iter().copied());
        all.push(container.id());
        Call::new(all).stdin(std::fs::File::open(&path).expect("document")).run().ok();
        assert_eq!(pids(), (30 + index).to_string(), "{words:?}");
    }
    update(&container, &["-r", "/nosuch"]).fails("no such file or directory");
    std::fs::write(&path, "{").expect("document");
    update(&container, &["-r", &name]).fails_as_ocirt("line 1");
    assert_eq!(pids(), "33");
}

fn what_is_not_given_stays() {
    let container = sleeper();
    update(&container, &["--memory", "64m", "--cpu-quota", "20000", "--cpu-period", "50000"]).ok();
    update(&container, &["--pids-limit", "20"]).ok();
    update(&container, &["--cpu-quota", "10000"]).ok();
    update_by(&container, &json!({ "cpu": { "shares": 200 } })).ok();
    let quota = limit(&container, ("cpu", "cpu.cfs_quota_us"), "cpu.max");
    if let Some(quota) = quota {
        assert_eq!(quota, if host::is_cgroup2() { "10000 50000" } else { "10000" });
    }
    assert_eq!(limit(&container, ("memory", "memory.limit_in_bytes"), "memory.max").as_deref(), Some("67108864"));
    assert_eq!(limit(&container, ("pids", "pids.max"), "pids.max").as_deref(), Some("20"));
}

fn a_container_can_be_updated_in_every_living_status() {
    let container = Bundle::new().create(probe!(sleep 60));
    let pids = || limit(&container, ("pids", "pids.max"), "pids.max").expect("pids.max");
    update(&container, &["--pids-limit", "11"]).ok();
    assert_eq!((container.status().as_str(), pids().as_str()), ("created", "11"));
    container.start().ok();
    update(&container, &["--pids-limit", "12"]).ok();
    assert_eq!((container.status().as_str(), pids().as_str()), ("running", "12"));
    call(["pause", container.id()]).ok();
    update(&container, &["--pids-limit", "13"]).ok();
    assert_eq!((container.status().as_str(), pids().as_str()), ("paused", "13"));
    call(["resume", container.id()]).ok();
    container.kill("KILL").ok();
    container.wait_for("stopped");
    update(&container, &["--pids-limit", "14"]).fails("container not running");
    call(["update", "--pids-limit", "14", "nosuch"]).fails("container does not exist");
}

fn memory_and_swap_go_up_and_down_together() {
    let container = sleeper();
    let both = |container: &Container| {
        let memory = limit(container, ("memory", "memory.limit_in_bytes"), "memory.max");
        (memory, limit(container, ("memory", "memory.memsw.limit_in_bytes"), "memory.swap.max"))
    };
    need(Need::SwapAccounting, both(&container).1.is_some());
    let mega = |count: i64| (count << 20).to_string();
    for (memory, swap) in [(64, 96), (128, 256), (32, 48), (200, 200)] {
        update(&container, &["--memory", &mega(memory), "--memory-swap", &mega(swap)]).ok();
        let expected = if host::is_cgroup2() { mega(swap - memory) } else { mega(swap) };
        assert_eq!(both(&container), (Some(mega(memory)), Some(expected)));
    }
    // The sum stays when memory alone changes.
    update(&container, &["--memory", &mega(150)]).ok();
    assert_eq!(both(&container).1, Some(if host::is_cgroup2() { mega(50) } else { mega(200) }));
    update(&container, &["--memory-swap", &mega(300)]).ok();
    assert_eq!(both(&container), (Some(mega(150)), Some(if host::is_cgroup2() { mega(150) } else { mega(300) })));
    update(&container, &["--memory", &mega(400)]).fails("memory");
    assert_eq!(both(&container), (Some(mega(150)), Some(if host::is_cgroup2() { mega(150) } else { mega(300) })));
    update(&container, &["--memory", "-1"]).ok();
    let unlimited = if host::is_cgroup2() { "max" } else { "9223372036854771712" };
    assert_eq!(both(&container), (Some(unlimited.to_owned()), Some(unlimited.to_owned())));
}

fn a_lower_limit_of_processes_holds_at_once() {
    let container = Bundle::new().create(probe!(waitfor "/data/go"; forks 20));
    container.start().ok();
    update(&container, &["--pids-limit", "6"]).ok();
    std::fs::write(container.bundle.inside("/data/go"), "").expect("file");
    assert_eq!(container.answers(2)[1], json!({ "children": 5, "refusal": "EAGAIN" }));
}

fn a_refused_update_leaves_every_limit_as_it_was() {
    let container = sleeper();
    update(&container, &["--memory", "64m", "--cpu-quota", "20000", "--pids-limit", "40"]).ok();
    let all = || {
        let files = [
            (("memory", "memory.limit_in_bytes"), "memory.max"),
            (("cpu", "cpu.cfs_quota_us"), "cpu.max"),
            (("cpu", "cpu.shares"), "cpu.weight"),
            (("pids", "pids.max"), "pids.max"),
            (("cpuset", "cpuset.cpus"), "cpuset.cpus"),
        ];
        files.map(|(v1, v2)| limit(&container, v1, v2))
    };
    let before = all();
    let good = json!({ "limit": 96 << 20 });
    let cpu = json!({ "quota": 30_000, "shares": 77 });
    let bad_pids = json!({ "memory": good, "cpu": cpu, "pids": { "limit": 99_999_999_999_i64 } });
    update_by(&container, &bad_pids).fails("pids");
    assert_eq!(all(), before);
    let mut cpu = cpu;
    cpu["cpus"] = json!("4096");
    update_by(&container, &json!({ "memory": good, "cpu": cpu, "pids": { "limit": 50 } })).fails("cpuset");
    assert_eq!(all(), before);
    update_by(&container, &json!({ "memory": good, "pids": { "limit": "many" } })).fails("pids");
    assert_eq!(all(), before);
}

fn nonsense_is_refused_by_flag_or_field() {
    let container = sleeper();
    let pids = || limit(&container, ("pids", "pids.max"), "pids.max");
    let before = pids();
    for (flag, words) in [
        ("--memory=12x", "memory"),
        ("--memory=lots", "memory"),
        ("--memory-swap=-2", "memory"),
        ("--cpu-share=abc", "cpu-share"),
        ("--cpu-quota=1.5", "cpu-quota"),
        ("--pids-limit=abc", "pids-limit"),
        ("--blkio-weight=70000", "blockIO.weight"),
        ("--cpuset-cpus=x", "cpuset"),
        ("--l3-cache-schema=L3:0=f", "schema is not enabled"),
        ("--mem-bw-schema=MB:0=20", "schema is not enabled"),
    ] {
        let output = update(&container, &["--pids-limit=44", flag]);
        if words == "blockIO.weight" {
            output.fails_as_ocirt(words)
        } else {
            output.fails(words)
        };
        assert_eq!(pids(), before, "{flag}");
    }
}

fn a_limit_below_the_usage_is_refused_when_asked_to() {
    need_ocirt();
    let bundle = sleeper();
    // Without swap to go to, v1 refuses by itself and v2 when told to.
    let usage = || limit(&bundle, ("memory", "memory.usage_in_bytes"), "memory.current").expect("usage");
    assert!(usage().parse::<u64>().is_ok_and(|usage| usage > 4096), "{}", usage());
    let before = limit(&bundle, ("memory", "memory.limit_in_bytes"), "memory.max");
    let document = json!({ "memory": { "limit": 4096, "swap": 4096, "checkBeforeUpdate": true } });
    update_by(&bundle, &document).fails("current usage");
    assert_eq!(limit(&bundle, ("memory", "memory.limit_in_bytes"), "memory.max"), before);
    assert_eq!(bundle.status(), "running");
}

fn unified_keys_can_be_updated() {
    let container = sleeper();
    let document = json!({ "unified": { "memory.high": "50331648" } });
    if !host::is_cgroup2() {
        need_ocirt();
        update_by(&container, &document).fails("linux.resources.unified");
        return;
    }
    update_by(&container, &document).ok();
    assert_eq!(container.cgroup_file("", "memory.high"), "50331648");
    update_by(&container, &json!({ "unified": { "nosuch.file": "1" } })).fails("nosuch");
    assert_eq!(container.cgroup_file("", "memory.high"), "50331648");
}

fn idle_and_real_time_flags_are_written_or_refused() {
    need_ocirt();
    let container = sleeper();
    for (flag, value, v1, field) in [
        ("--cpu-idle", "1", "cpu.idle", "linux.resources.cpu.idle"),
        ("--cpu-idle", "0", "cpu.idle", "linux.resources.cpu.idle"),
        ("--cpu-rt-period", "500000", "cpu.rt_period_us", "linux.resources.cpu.realtimePeriod"),
        ("--cpu-rt-runtime", "1000", "cpu.rt_runtime_us", "linux.resources.cpu.realtimeRuntime"),
    ] {
        let before = limit(&container, ("cpu", v1), v1);
        let output = update(&container, &[flag, value]);
        match (&before, output.status) {
            (Some(_), 0) => assert_eq!(limit(&container, ("cpu", v1), v1).as_deref(), Some(value), "{flag}"),
            // No such file; or the parent has no real-time budget to give.
            _ => {
                output.fails(field);
                assert_eq!(limit(&container, ("cpu", v1), v1), before, "{flag}");
            }
        }
    }
}
