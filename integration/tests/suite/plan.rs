//! `ocirt plan`: what create would do, with nothing done.

use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::need_ocirt;
use ocirt_integration::runtime::{Call, call};
use ocirt_integration::{host, probe, tests};
use serde_json::json;

tests![both_sides_are_printed_and_nothing_changes, what_would_fail_is_said, it_takes_the_command_line_of_create,];

/// A path where nothing is, which plan does not look at.
const NOPE: &str = "/nope";

fn both_sides_are_printed_and_nothing_changes() {
    need_ocirt();
    let bundle = Bundle::new()
        .set("linux.sysctl", json!({ "net.ipv4.ip_unprivileged_port_start": "0" }))
        .set("linux.resources.pids", json!({ "limit": 77 }))
        .hook("createRuntime", json!({ "path": "/bin/true" }))
        .write(probe!(print "x"));
    let text = call(["plan", bundle.dir.to_str().expect("UTF-8")]).ok().stdout;
    for word in ["/proc", "/dev/pts", "pivot", "ip_unprivileged_port_start", "guest", "/probe"] {
        assert!(text.to_lowercase().contains(word), "no {word} in {text}");
    }
    let outside: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix("runtime: ")).collect();
    for (begin, end) in [
        ("make cgroup /sys/fs/cgroup/", "# linux.cgroupsPath"),
        ("write \"77\" to /sys/fs/cgroup/", "/pids.max    # linux.resources.pids.limit"),
        ("clone init into new namespaces: ", "# linux.namespaces"),
        ("hook /bin/true", "# hooks.createRuntime[0]"),
    ] {
        assert!(
            outside.iter().any(|line| line.starts_with(begin) && line.ends_with(end)),
            "no {begin} {end} in {text}"
        );
    }
    assert!(!bundle.inside("dev/pts").exists());
    host::assert_nothing_left();
}

fn what_would_fail_is_said() {
    need_ocirt();
    let bundle = Bundle::new()
        .mount("bind", "/no/such/source", "/mnt", &["bind"])
        .set("linux.resources.memory", json!({ "limit": 4096 }))
        .hook("createRuntime", json!({ "path": "/no/such/hook" }))
        .write(vec!["/no/such/program".to_owned()]);
    let directory = bundle.dir.to_str().expect("UTF-8");
    let output = call(["plan", directory]);
    assert_eq!(output.status, 3, "{output:?}");
    assert!(output.stdout.contains("pivot"), "{output:?}");
    let place = |field: &str| output.stderr.contains(&format!("ocirt: warning: {field}: "));
    for field in ["mounts[6].source", "process.args[0]", "hooks.createRuntime[0].path", "linux.resources.memory.limit"]
    {
        assert!(place(field), "{field}: {output:?}");
    }
    let output = call(["plan", "--format", "json", directory]);
    let report = output.json();
    assert_eq!((output.status, output.stderr.as_str()), (3, ""));
    assert_eq!(report["findings"].as_array().map(Vec::len), Some(4), "{report}");
    assert!(report["runtime"][0]["what"].as_str().is_some_and(|what| what.starts_with("make cgroup ")), "{report}");
    let init = report["init"].as_array().expect("steps");
    assert!(init.iter().any(|step| step["field"] == "mounts[6]" && step["what"].is_string()), "{report}");
    assert!(!bundle.inside("dev/pts").exists());
    host::assert_nothing_left();
}

fn it_takes_the_command_line_of_create() {
    need_ocirt();
    let bundle = Bundle::new().write(probe!(print "x"));
    let directory = bundle.dir.to_str().expect("UTF-8");
    let config = bundle.dir.join("config.json");
    let config = config.to_str().expect("UTF-8");
    let plain = call(["plan", "-b", directory]).ok().stdout;
    let flags = ["--pidfd-socket", NOPE, "-p", NOPE, "--no-new-keyring", "--no-pivot", "-f", config];
    let words = ["plan"].into_iter().chain(flags).chain(["-b", directory, "--id", &bundle.id]);
    let other = Call::new(words).run().ok().stdout;
    assert!(plain.contains("pivot") && !other.contains("pivot_root"), "{other}");
    host::assert_nothing_left();
}
