//! `events`: a JSON object a line, which says what the container uses and when it runs out of memory.

use std::time::{Duration, Instant};

use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::needs::need_ocirt;
use ocirt_integration::runtime::{Call, call, kind};
use ocirt_integration::wait::eventually;
use ocirt_integration::{host, probe, tests};
use serde_json::{Value, json};

tests![
    stats_are_one_object_with_the_limits_and_the_usage,
    stats_have_the_fields_of_runc,
    stats_are_what_the_kernel_says,
    the_interval_is_a_duration_of_go,
    events_end_with_the_container,
    running_out_of_memory_is_an_event,
    a_container_that_does_not_run_has_no_events,
    events_of_a_created_and_of_a_paused_container,
];

fn limited() -> Bundle {
    let limits = json!({
        "devices": [{ "allow": false, "access": "rwm" }],
        "memory": { "limit": 64 << 20 },
        "pids": { "limit": 50 },
        "cpu": { "quota": 50_000, "period": 100_000 },
    });
    Bundle::new().set("linux.resources", limits)
}

fn running(bundle: Bundle, args: Vec<String>) -> Container {
    let container = bundle.create(args);
    container.start().ok();
    container
}

fn stats(container: &Container) -> Value {
    let output = call(["events", "--stats", container.id()]).ok();
    assert!(output.stdout.ends_with("}\n") && output.stdout.lines().count() == 1, "{:?}", output.stdout);
    output.json()
}

/// The lines of a call that goes on.
fn lines(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"))).collect()
}

fn stats_are_one_object_with_the_limits_and_the_usage() {
    let container = running(limited(), probe!(burn 200; spawn 60; sleep 60));
    container.answers(2);
    let event = stats(&container);
    assert_eq!((&event["type"], &event["id"]), (&json!("stats"), &json!(container.id())));
    let data = &event["data"];
    assert_eq!(data["pids"]["limit"], 50, "{data}");
    assert!(data["pids"]["current"].as_u64().is_some_and(|count| count >= 2), "{data}");
    assert_eq!(data["memory"]["usage"]["limit"], 64 << 20, "{data}");
    assert!(data["memory"]["usage"]["usage"].as_u64().is_some_and(|bytes| bytes > 4096 && bytes < 64 << 20), "{data}");
    let used = data["cpu"]["usage"]["total"].as_u64().expect("nanoseconds");
    assert!((20_000_000..5_000_000_000).contains(&used), "{used} ns");
    assert!(data["cpu"]["throttling"]["periods"].as_u64().is_some_and(|count| count > 0), "{data}");
}

/// The names that runc 1.1.5 writes on cgroup v1, and on v2 those that it has there.
fn stats_have_the_fields_of_runc() {
    let container = running(limited(), probe!(burn 200; sleep 60));
    container.answers(1);
    let data = &stats(&container)["data"];
    let names =
        |value: &Value| value.as_object().map(|all| all.keys().cloned().collect::<Vec<_>>()).unwrap_or_default();
    let sorted = |text: &str| {
        let mut all: Vec<String> = text.split(' ').map(str::to_owned).collect();
        all.sort();
        all
    };
    assert_eq!(names(data), sorted("cpu cpuset memory pids blkio hugetlb intel_rdt network_interfaces"));
    let all = names(&data["memory"]);
    for name in ["usage", "swap", "kernel", "kernelTCP", "raw"] {
        assert!(all.iter().any(|found| found == name), "memory.{name} in {all:?}");
    }
    for name in ["usage", "swap", "kernel", "kernelTCP"] {
        assert!(data["memory"][name]["limit"].is_u64() && data["memory"][name]["failcnt"].is_u64(), "{name}: {data}");
    }
    let cpuset = "cpu_exclusive mem_hardwall mem_exclusive memory_migrate memory_spread_page memory_spread_slab \
                  memory_pressure sched_load_balance sched_relax_domain_level";
    for name in cpuset.split_whitespace() {
        assert!(data["cpuset"][name].is_i64() || data["cpuset"][name].is_u64(), "cpuset.{name}: {data}");
    }
    assert!(data["cpu"]["usage"]["kernel"].is_u64() && data["cpu"]["usage"]["user"].is_u64(), "{data}");
    assert!(data["intel_rdt"].is_object() && data["hugetlb"].is_object() && data["blkio"].is_object(), "{data}");
    if !host::is_cgroup2() {
        assert!(data["cpu"]["usage"]["percpu"].as_array().is_some_and(|all| !all.is_empty()), "{data}");
        assert!(data["cpuset"]["cpus"].as_array().is_some_and(|all| !all.is_empty()), "{data}");
        assert!(data["memory"]["psi"].is_null() && data["memory"]["raw"]["rss"].is_u64(), "{data}");
    } else {
        assert!(data["memory"]["raw"]["anon"].is_u64(), "{data}");
        let has = container.cgroup("").join("memory.pressure");
        if kind() == "ocirt" && std::fs::read(has).is_ok() {
            let psi = &data["memory"]["psi"];
            assert!(psi["some"]["avg10"].is_number() && psi["full"]["total"].is_u64(), "{data}");
        }
    }
}

fn stats_are_what_the_kernel_says() {
    let container = running(limited(), probe!(eat 8; sleep 60));
    container.answers(1);
    call(["pause", container.id()]).ok();
    let number = |controller: &str, name: &str| -> u64 {
        let controller = if host::is_cgroup2() { "" } else { controller };
        container.cgroup_file(controller, name).parse().expect("a number")
    };
    let (usage, stat) = if host::is_cgroup2() { ("memory.current", "anon") } else { ("memory.usage_in_bytes", "rss") };
    let mut data = Value::Null;
    // The kernel still gives pages back that it had charged in advance.
    eventually("usage that stays", || {
        let before = number("memory", usage);
        data = stats(&container)["data"].clone();
        before == number("memory", usage) && data["memory"]["usage"]["usage"] == before
    });
    assert_eq!(data["pids"]["current"], number("pids", "pids.current"), "{data}");
    let text = container.cgroup_file(if host::is_cgroup2() { "" } else { "memory" }, "memory.stat");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("{stat} "))).expect("a line").to_owned();
    assert_eq!(data["memory"]["raw"][stat].to_string(), line);
    assert_eq!(data["memory"]["raw"].as_object().map(|raw| raw.len()), Some(text.lines().count()));
    call(["resume", container.id()]).ok();
}

fn the_interval_is_a_duration_of_go() {
    let container = running(Bundle::new(), probe!(sleep 60));
    let started = Instant::now();
    let mut events = Call::new(["events", "--interval", "100ms", container.id()]).spawn();
    eventually("three lines", || events.stdout().lines().count() >= 3);
    assert!(started.elapsed() >= Duration::from_millis(300));
    assert!(lines(&events.stdout()).iter().all(|event| event["type"] == "stats"));
    for (interval, words) in
        [("0s", "greater than 0"), ("-1s", "greater than 0"), ("5", "missing unit"), ("soon", "invalid duration")]
    {
        let output = call(["events", "--interval", interval, container.id()]);
        if words == "greater than 0" {
            output.fails(words)
        } else {
            output.fails_as_ocirt(words)
        };
    }
    call(["delete", "--force", container.id()]).ok();
    events.finish().ok();
}

fn events_end_with_the_container() {
    let container = running(Bundle::new(), probe!(waitfor "/data/go"));
    let mut events = Call::new(["events", "--interval=1h", container.id()]).spawn();
    std::thread::sleep(Duration::from_millis(200));
    assert!(events.child.try_wait().expect("wait").is_none(), "it ended: {}", events.stderr());
    std::fs::write(container.bundle.inside("/data/go"), "").expect("file");
    container.wait_for("stopped");
    // runc hears of it only when the cgroup is gone.
    call(["delete", "--force", container.id()]).ok();
    let output = events.finish().ok();
    assert_eq!(output.stdout, "");
}

fn running_out_of_memory_is_an_event() {
    let limits = json!({ "limit": 24 << 20, "swap": 24 << 20 });
    // A child does, so that the container lives on.
    let bundle = Bundle::new().set("linux.resources.memory", limits);
    let container = running(bundle, probe!(waitfor "/data/go"; eatchild 64; waitfor "/data/go"; sleep 60));
    let mut events = Call::new(["events", "--interval=1h", container.id()]).spawn();
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(events.stdout(), "");
    std::fs::write(container.bundle.inside("/data/go"), "").expect("file");
    assert_eq!(container.answers(2)[1], json!(128 + 9));
    eventually("an event", || !events.stdout().is_empty());
    assert_eq!(lines(&events.stdout())[0], json!({ "type": "oom", "id": container.id() }));
    assert_eq!(container.status(), "running");
    let count = events.stdout().lines().count();
    call(["delete", "--force", container.id()]).ok();
    let output = events.finish().ok();
    // The end of the cgroup is none.
    assert_eq!(output.stdout.lines().count(), count, "{}", output.stdout);
}

fn a_container_that_does_not_run_has_no_events() {
    call(["events", "nosuch"]).fails("does not exist");
    let container = running(Bundle::new(), probe!(print "x"));
    container.wait_for("stopped");
    for flags in [vec!["events", "--stats", container.id()], vec!["events", container.id()]] {
        let output = Call::new(flags).run().fails("not running");
        assert_eq!(output.stdout, "");
    }
}

fn events_of_a_created_and_of_a_paused_container() {
    let container = limited().create(probe!(sleep 60));
    assert_eq!(stats(&container)["data"]["pids"]["limit"], 50);
    container.start().ok();
    call(["pause", container.id()]).ok();
    assert_eq!(stats(&container)["data"]["pids"]["limit"], 50);
    call(["resume", container.id()]).ok();
    need_ocirt();
    // Counters of the container's own interfaces, where it has any but the loopback.
    assert!(stats(&container)["data"]["network_interfaces"].is_null());
}
