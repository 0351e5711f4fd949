//! Long lists in config.json, and callers with an odd environment: an answer comes soon, and it is the right one.

use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::{need_ocirt, need_root};
use ocirt_integration::runtime::{Call, call};
use ocirt_integration::wait::eventually;
use ocirt_integration::{host, probe, tests};
use serde_json::{Map, Value, json};

tests![
    a_list_takes_no_longer_than_it_is_long,
    a_step_beyond_65536_is_named_rightly,
    of_a_name_given_often_the_last_value_counts,
    a_request_for_backtraces_costs_nothing,
    the_environment_of_the_caller_stays_as_it_is,
];

/// Entries of each list, first and then.
const FEW: usize = 5_000;
const MANY: usize = 8 * FEW;

/// Seconds of CPU time, and page faults, of the children that were waited for.
fn used() -> (f64, i64) {
    // SAFETY: an all-zero rusage is valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is live.
    assert_eq!(unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut usage) }, 0);
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    (seconds(usage.ru_utime) + seconds(usage.ru_stime), usage.ru_minflt)
}

/// A field of config.json with as many entries as are asked for, and the words of the refusal, if it is refused.
type Field = (&'static str, Value, &'static str);

fn fields(many: usize) -> Vec<Field> {
    let list = |entry: &dyn Fn(usize) -> Value| -> Value { (0..many).map(entry).collect() };
    let object = |name: &str, value: &Value| -> Value {
        (0..many).map(|index| (format!("{name}{index}"), value.clone())).collect::<Map<_, _>>().into()
    };
    let map = list(&|index| json!({ "containerID": index, "hostID": index, "size": 1 }));
    let rule = |index: usize| json!({ "allow": true, "type": "c", "major": index, "minor": 0, "access": "r" });
    let argument = |index: usize| json!({ "index": 1, "value": index, "op": "SCMP_CMP_EQ" });
    let compare = |index: usize| json!({ "names": ["kill"], "action": "SCMP_ACT_ERRNO", "args": [argument(index)] });
    let compared = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": list(&compare) });
    let device = |index: usize| json!({ "path": format!("/dev/x{index}"), "type": "c", "major": 1, "minor": 3 });
    vec![
        ("process.env", list(&|index| json!(format!("A{index}=x"))), ""),
        ("process.env", list(&|index| json!(format!("A{}=x", index % 10))), ""),
        (
            "process.rlimits",
            list(&|_| json!({ "type": "RLIMIT_NOFILE", "soft": 1, "hard": 1 })),
            "process.rlimits[1]: ",
        ),
        ("process.capabilities", json!({ "bounding": list(&|_| json!("CAP_KILL")) }), ""),
        ("process.user.additionalGids", list(&|index| json!(index)), ""),
        ("mounts", list(&|index| json!({ "destination": format!("/m{index}"), "type": "tmpfs", "source": "x" })), ""),
        ("hooks.poststop", list(&|_| json!({ "path": "/bin/true" })), ""),
        ("hooks.startContainer", list(&|_| json!({ "path": "relative" })), "hooks.startContainer[0].path: "),
        ("annotations", object("a", &json!("x")), ""),
        ("linux.maskedPaths", list(&|index| json!(format!("/m{index}"))), ""),
        ("linux.readonlyPaths", list(&|index| json!(format!("/m{index}"))), ""),
        ("linux.sysctl", object("net.a", &json!("1")), ""),
        ("linux.netDevices", object("e", &json!({})), ""),
        ("linux.devices", list(&device), ""),
        ("linux.resources.devices", list(&rule), "linux.resources.devices: more than 4096 rules"),
        ("linux.resources.devices", list(&|_| rule(7)), ""),
        ("linux.uidMappings", map, "linux.uidMappings: "),
        ("linux.seccomp", compared, "linux.seccomp: "),
    ]
}

/// The seconds of CPU time that it takes to plan a container with the field, or to refuse it as expected.
fn plan(many: usize, (field, value, words): Field) -> f64 {
    let mut bundle = Bundle::new().namespace("network", None).set(field, value);
    if field == "linux.uidMappings" {
        let groups: Value = (0..many).map(|index| json!(index)).collect();
        bundle = bundle.namespace("user", None).set("process.user.additionalGids", groups);
    }
    let bundle = bundle.write(probe!(print "it ran"));
    let (before, _) = used();
    let output = Call::new(["plan", bundle.dir.to_str().expect("UTF-8")]).run();
    let (after, _) = used();
    let said = output.stderr.lines().next().unwrap_or_default();
    let expected = format!("ocirt: plan: {words}");
    assert!(if words.is_empty() { output.status == 0 } else { said.starts_with(&expected) }, "{field}: {said}");
    after - before
}

/// Eight times the entries take about eight times the CPU time. Comparing each entry with all others takes 64 times as much.
fn a_list_takes_no_longer_than_it_is_long() {
    need_ocirt();
    need_root();
    for (few, many) in fields(FEW).into_iter().zip(fields(MANY)) {
        let name = few.0;
        let (few, many) = (plan(FEW, few), plan(MANY, many));
        // What takes no time at all may be any multiple of it.
        assert!(many < 0.2 || many < 24.0 * few, "{name}: {few:.3} s, and {many:.3} s for eight times as many");
    }
}

/// A number of 16 bits would name an early step, and hand over an early step's descriptor.
fn a_step_beyond_65536_is_named_rightly() {
    need_ocirt();
    let masks: Value = (0..70_000).map(|index| json!(format!("/m{index}"))).collect();
    let bundle = Bundle::new().set("linux.maskedPaths", masks);
    let output = bundle.write(vec!["/nowhere".into()]).call("create").run().fails("process.args[0]: ");
    assert!(!output.stderr.contains("maskedPaths"), "{}", output.stderr);
    host::assert_nothing_left();
}

fn of_a_name_given_often_the_last_value_counts() {
    let entries: Value = (0..1000).map(|index| json!(format!("A{}={index}", index % 3))).collect();
    let output = Bundle::new().set("process.env", entries).run(probe!(env));
    let answer = output.answer();
    assert_eq!([&answer["A0"], &answer["A1"], &answer["A2"]], ["999", "997", "998"]);
}

/// With `RUST_BACKTRACE=1` each error walked the stack, which touches the pages of the unwinder and its tables.
fn a_request_for_backtraces_costs_nothing() {
    need_ocirt();
    let faults = |variable: &str, value: &str| {
        let (_, before) = used();
        let call = Call::new(["kill", "absent", "KILL"]).env("RUST_LIB_BACKTRACE", "0");
        call.env(variable, value).run().fails("container does not exist");
        used().1 - before
    };
    // In turn, since what the page cache holds changes with time.
    let mut least = [i64::MAX; 3];
    for _ in 0..15 {
        for (least, value) in least.iter_mut().zip(["0", "1", "full"]) {
            *least = (*least).min(faults("RUST_LIB_BACKTRACE", value));
        }
    }
    let [without, with, full] = least;
    // The walk takes 24; what the page cache holds makes a difference of up to 9.
    assert!((with - without).abs() < 16 && (full - without).abs() < 16, "page faults: {least:?}");
}

/// What is put aside for that is there again for a program that inherits the caller's environment: here for the runtime
/// itself, which replaces itself by a read-only view of its binary.
fn the_environment_of_the_caller_stays_as_it_is() {
    need_ocirt();
    let bundle = Bundle::new().write(probe!(sleep 20000));
    let mut run = bundle.call("run").env("RUST_BACKTRACE", "full").env("RUST_LIB_BACKTRACE", "1").spawn();
    eventually("the container to run", || call(["state", &bundle.id]).stdout.contains("\"running\""));
    let environment = std::fs::read(format!("/proc/{}/environ", run.child.id())).expect("environ");
    call(["kill", &bundle.id, "KILL"]).ok();
    run.finish();
    for variable in ["RUST_BACKTRACE=full", "RUST_LIB_BACKTRACE=1"] {
        let is_there = environment.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes());
        assert!(is_there, "{variable}: {}", String::from_utf8_lossy(&environment));
    }
}
