//! `ocirt inspect`: everything about a container, as it is now.

use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::{need_ocirt, need_root};
use ocirt_integration::runtime::call;
use ocirt_integration::{host, probe, tests};
use serde_json::{Value, json};

tests![
    what_is_shown_is_what_the_kernel_says,
    a_container_that_has_ended_shows_what_is_known,
    the_limits_are_shown_beside_what_is_used,
    nothing_that_a_process_chooses_moves_the_terminal,
];

fn inspected(id: &str) -> Value {
    call(["inspect", "--format", "json", id]).ok().json()
}

fn what_is_shown_is_what_the_kernel_says() {
    need_ocirt();
    let bundle = Bundle::new().set("annotations", json!({ "io.container.manager": "libpod", "a": "b" }));
    let container = bundle.start(probe!(sleep 60));
    let found = inspected(container.id());
    let pid = container.pid();
    assert_eq!((&found["id"], &found["status"]), (&json!(container.id()), &json!("running")));
    assert_eq!((&found["pid"], &found["engine"], &found["exit"]), (&json!(pid), &json!("podman"), &Value::Null));
    assert_eq!(found["root"], json!(host::root()));
    assert_eq!(found["configuration"]["process"]["args"], json!(probe!(sleep 60)));
    for namespace in found["namespaces"].as_array().expect("namespaces") {
        let kind = namespace["type"].as_str().expect("a kind");
        let link = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/{kind}")).expect("ns");
        let inside = link(&pid.to_string());
        assert!(inside.to_string_lossy().ends_with(&format!("[{}]", namespace["inode"])), "{namespace} {inside:?}");
        assert_eq!(namespace["shared"], inside == link("self"), "{namespace}");
    }
    assert!(found["namespaces"].as_array().expect("namespaces").len() >= 7, "{found}");
    let destinations: Vec<&str> =
        found["mounts"].as_array().expect("mounts").iter().filter_map(|mount| mount["destination"].as_str()).collect();
    assert_eq!(destinations[0], "/");
    assert!(["/proc", "/dev", "/dev/shm"].iter().all(|place| destinations.contains(place)), "{destinations:?}");
    let processes = found["processes"].as_array().expect("processes");
    assert!(processes.iter().any(|process| process["pid"] == pid && process["name"] == "probe"), "{processes:?}");
    let text = call(["inspect", container.id()]).ok().stdout;
    for line in [format!("status      running, process {pid}"), "engine      podman".to_owned()] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    call(["inspect", "nobody"]).fails("container does not exist");
    call(["inspect", "--format", "table", container.id()]).fails("invalid format option");
}

fn a_container_that_has_ended_shows_what_is_known() {
    need_ocirt();
    let bundle = Bundle::new().flags(&["--keep"]).write(probe!(exit 5));
    assert_eq!(bundle.call("run").run().status, 5);
    let found = inspected(&bundle.id);
    assert_eq!((&found["status"], &found["pid"]), (&json!("stopped"), &json!(0)));
    assert_eq!(found["exit"], json!({ "exitStatus": 5 }));
    for list in ["namespaces", "processes", "mounts"] {
        assert_eq!(found[list], json!([]), "{list}");
    }
    assert_eq!(found["cgroup"]["stats"], Value::Null);
    let text = call(["inspect", &bundle.id]).ok().stdout;
    assert!(text.contains("\nexit status 5\n") && !text.contains("processes"), "{text}");
    call(["delete", &bundle.id]).ok();
}

fn the_limits_are_shown_beside_what_is_used() {
    need_ocirt();
    need_root();
    let bundle = Bundle::new()
        .set("linux.resources.memory", json!({ "limit": 64 << 20 }))
        .set("linux.resources.pids", json!({ "limit": 77 }));
    let container = bundle.start(probe!(sleep 60));
    let found = inspected(container.id());
    let stats = &found["cgroup"]["stats"];
    assert_eq!(stats["memory"]["usage"]["limit"], 64 << 20);
    assert_eq!((&stats["pids"]["limit"], &stats["pids"]["current"]), (&json!(77), &json!(1)));
    let paths = found["cgroup"]["paths"].as_object().expect("paths");
    assert!(!paths.is_empty() && paths.values().all(|path| host::is_cgroup(path.as_str().expect("a path").as_ref())));
    let text = call(["inspect", container.id()]).ok().stdout;
    assert!(text.contains(" of 64.0 MiB, at most ") && text.contains("pids        1 of 77\n"), "{text}");
    call(["pause", container.id()]).ok();
    assert_eq!(inspected(container.id())["cgroup"]["frozen"], true);
    call(["resume", container.id()]).ok();
}

/// A process names itself, and mounts where it likes.
fn nothing_that_a_process_chooses_moves_the_terminal() {
    need_ocirt();
    let bundle = Bundle::new().mount("tmpfs", "tmpfs", "/data/\u{1b}[2J\u{7}", &[]);
    let container = bundle.start(probe!(sleep 60));
    let text = call(["inspect", container.id()]).ok().stdout;
    assert!(text.contains("/data/\\u{1b}[2J\\u{7}"), "{text}");
    assert!(!text.chars().any(|c| c.is_control() && c != '\n'), "{text:?}");
}
