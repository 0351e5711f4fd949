//! `ocirt verify`: a container that is as it was told, and those in which somebody has changed something behind its back.

mod intruder;
mod plants;

use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::needs::{Need, need, need_ocirt, need_root};
use ocirt_integration::runtime::{Call, call};
use ocirt_integration::wait::eventually;
use ocirt_integration::{fixtures, host, probe, tests};
use serde_json::{Value, json};
use std::path::Path;

use super::engines::{adjusted, restrict};
use intruder::cgroup;

tests![
    what_is_planted_is_found,
    a_clean_container_has_no_difference,
    containers_of_engines_have_no_difference,
    processes_that_come_and_go_are_no_difference,
    a_file_system_that_never_answers_is_not_asked,
    what_was_updated_is_what_is_wanted,
    what_was_mounted_later_belongs_to_it,
    a_process_may_have_less_and_namespaces_of_its_own,
    the_table_shows_what_differs_and_all_if_asked,
    the_json_is_as_documented,
    what_cannot_be_verified_is_an_error,
];

const DOCUMENT: &str = include_str!("../../../docs/verify.md");

/// What is told of the container, and the exit status.
#[track_caller]
pub fn verify(container: &Container) -> (i32, Value) {
    let output = container.call(["verify", "--format", "json", container.id()]);
    assert_eq!(output.stderr, "");
    (output.status, output.json())
}

/// The rows that do not hold: field, what is found, process.
pub fn different(verified: &Value) -> Vec<(String, String)> {
    let rows = verified["rows"].as_array().expect("rows");
    let text = |row: &Value, name: &str| row[name].as_str().unwrap_or_default().to_owned();
    let bad = rows.iter().filter(|row| row["verdict"] != "same");
    bad.map(|row| (text(row, "field"), format!("{}: {} {}", text(row, "wanted"), text(row, "found"), row["pid"])))
        .collect()
}

#[track_caller]
fn is_clean(container: &Container, what: &str) {
    let (status, verified) = verify(container);
    assert_eq!(different(&verified), [], "{what}");
    assert_eq!((status, &verified["verdict"]), (0, &json!("same")), "{what}");
    assert!(verified["rows"].as_array().is_some_and(|rows| rows.len() > 20), "{what}");
}

/// A container in which there is something of everything that is compared.
fn full() -> Bundle {
    let capabilities = json!(["CAP_KILL", "CAP_CHOWN"]);
    let sets = json!({ "bounding": capabilities, "effective": capabilities, "permitted": capabilities });
    let resources = json!({
        "devices": [{ "allow": false, "access": "rwm" }],
        "pids": { "limit": 100 },
        "memory": { "limit": 67_108_864 },
        "cpu": { "shares": 512, "quota": 50_000, "period": 100_000, "cpus": "0" },
    });
    let filter = json!({ "names": ["mount_setattr"], "action": "SCMP_ACT_ERRNO" });
    let bundle = Bundle::new();
    let volume = bundle.host_dir("volume");
    let bundle = bundle.mount("tmpfs", "tmpfs", "/tmp", &["ro", "nosuid", "nodev", "noexec"]).mount(
        "bind",
        volume.to_str().expect("a path"),
        "/data",
        &["rbind", "ro", "rprivate"],
    );
    bundle
        .set("process.capabilities", sets)
        .set("process.oomScoreAdj", json!(500))
        .set("process.rlimits", json!([{ "type": "RLIMIT_NOFILE", "soft": 64, "hard": 64 }]))
        .set("process.user.additionalGids", json!([7]))
        .set("root.readonly", json!(true))
        .set("linux.maskedPaths", json!(["/proc/interrupts", "/sys/kernel"]))
        .set("linux.readonlyPaths", json!(["/proc/sys", "/proc/tty"]))
        .set("linux.resources", resources)
        .set("linux.sysctl", json!({ "net.ipv4.ip_forward": "1", "kernel.shm_rmid_forced": "1" }))
        .set("linux.seccomp", json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [filter] }))
}

fn what_is_planted_is_found() {
    need_ocirt();
    need_root();
    let (mut missed, mut found) = (Vec::new(), 0);
    for plant in plants::PLANTS.iter().filter(|plant| (plant.fits)()) {
        let container = full().start(probe!(spawn 600; sleep 600));
        container.answers(1);
        let planted = (plant.plant)(&container);
        let (status, verified) = verify(&container);
        let rows = different(&verified);
        match rows.iter().any(|(field, _)| field == plant.field) && status == 3 {
            true => found += 1,
            false => missed.push(format!("{}: {status} {rows:?}", plant.what)),
        }
        drop(planted);
        call(["delete", "--force", container.id()]).ok();
    }
    println!("{found} planted differences found");
    assert!(missed.is_empty(), "{}", missed.join("\n"));
}

fn a_clean_container_has_no_difference() {
    // What a user cannot see is a row (verify_rootless).
    need_root();
    need_ocirt();
    let container = full().create(probe!(spawn 600; sleep 600));
    is_clean(&container, "created");
    container.start().ok();
    container.answers(1);
    is_clean(&container, "running");
    call(["pause", container.id()]).ok();
    is_clean(&container, "paused");
    call(["resume", container.id()]).ok();
    let users = Bundle::new().user_namespace(100_000).start(probe!(sleep 600));
    is_clean(&users, "user namespace");
    let plain = Bundle::new().start(probe!(sleep 600));
    is_clean(&plain, "plain");
    let path = |kind: &str| format!("/proc/{}/ns/{kind}", plain.pid());
    let joined = Bundle::new()
        .namespace("network", Some(&path("net")))
        .namespace("ipc", Some(&path("ipc")))
        .namespace("pid", Some(&path("pid")))
        .start(probe!(sleep 600));
    is_clean(&joined, "joined namespaces");
    is_clean(&plain, "the one that they belong to");
    // Before the init of its pid namespace, which would wait for it.
    call(["delete", "--force", joined.id()]).ok();
    host::reap_zombies();
    for kind in ["network", "uts", "cgroup"] {
        let container = Bundle::new().without_namespace(kind).set("hostname", Value::Null).start(probe!(sleep 600));
        is_clean(&container, kind);
    }
}

/// Linux 7 takes a soft limit of cgroup v1, and keeps none.
fn forgets_soft_limits(container: &Container) -> bool {
    let file = cgroup(container, "memory").join("memory.soft_limit_in_bytes");
    std::fs::write(&file, "67108864").is_ok()
        && std::fs::read_to_string(&file).is_ok_and(|text| text.trim() != "67108864")
}

fn containers_of_engines_have_no_difference() {
    need_ocirt();
    need_root();
    let mut wrong = Vec::new();
    for (name, engine) in fixtures::engines() {
        let pod = Bundle::new().start(probe!(sleep 600));
        let container = adjusted(&engine, pod.pid()).config(restrict).start(probe!(sleep 600));
        let (status, verified) = verify(&container);
        let rows = different(&verified);
        let is_forgotten =
            |field: &str| field == "linux.resources.memory.reservation" && forgets_soft_limits(&container);
        if status != 0 && !rows.iter().all(|(field, _)| is_forgotten(field)) {
            wrong.push(format!("{name}: {status} {rows:?}"));
        }
        call(["delete", "--force", container.id()]).ok();
        host::reap_zombies();
        call(["delete", "--force", pod.id()]).ok();
        host::reap_zombies();
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

fn processes_that_come_and_go_are_no_difference() {
    // What a user cannot see is a row (verify_rootless).
    need_root();
    need_ocirt();
    let container = full().start(probe!(
        forks 60; forks 60; forks 60; forks 60; forks 60; forks 60; forks 60; forks 60; forks 60; forks 60;
        forks 60; forks 60; forks 60; forks 60; forks 60; forks 60; forks 60; forks 60; forks 60; forks 60;
        sleep 600
    ));
    while container.stdout().lines().count() < 20 {
        is_clean(&container, "while it forks");
    }
    is_clean(&container, "afterwards");
}

/// Its server, a process of the container, is stopped: who looks something up in it waits.
fn a_file_system_that_never_answers_is_not_asked() {
    need_ocirt();
    need_root();
    need(Need::Fuse, Path::new("/dev/fuse").exists());
    let admin = json!(["CAP_SYS_ADMIN"]);
    let fuse = json!({ "path": "/dev/fuse", "type": "c", "major": 10, "minor": 229, "fileMode": 0o666 });
    let rule = json!({ "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rwm" });
    let container = Bundle::new()
        .directory("mnt/hung")
        .set("process.capabilities", json!({ "bounding": admin, "effective": admin, "permitted": admin }))
        .set("linux.maskedPaths", json!(["/proc/interrupts", "/mnt/hung/file"]))
        .push("linux.devices", fuse)
        .push("linux.resources.devices", rule)
        .start(probe!(fusehang "child", "/mnt/hung"));
    eventually("a file is open", || container.stdout().contains("open"));
    let init = container.pid();
    let server = host::descendants(init).into_iter().find(|pid| *pid != init).expect("the server");
    host::signal(server, libc::SIGSTOP);
    let (status, verified) = verify(&container);
    let fields: Vec<String> = different(&verified).into_iter().map(|(field, _)| field).collect();
    assert_eq!((status, fields), (1, vec!["linux.maskedPaths[1]".to_owned()]), "{verified}");
    host::signal(server, libc::SIGCONT);
}

fn what_was_updated_is_what_is_wanted() {
    // What a user cannot see is a row (verify_rootless).
    need_root();
    need_ocirt();
    let container = full().start(probe!(sleep 600));
    call(["update", "--pids-limit", "77", "--memory", "33554432", "--cpu-share", "256", container.id()]).ok();
    is_clean(&container, "updated");
    std::fs::write(cgroup(&container, "pids").join("pids.max"), "100").expect("pids.max");
    let (status, verified) = verify(&container);
    let fields: Vec<String> = different(&verified).into_iter().map(|(field, _)| field).collect();
    assert_eq!((status, fields), (3, vec!["linux.resources.pids.limit".to_owned()]));
}

fn what_was_mounted_later_belongs_to_it() {
    need_ocirt();
    need_root();
    let container = full().start(probe!(sleep 600));
    let list = container.bundle.dir.join("mounts.json");
    let mounts = json!([{ "type": "tmpfs", "source": "tmpfs", "destination": "/etc", "options": ["ro"] }]);
    std::fs::write(&list, mounts.to_string()).expect("file");
    call(["mounts", "add", container.id(), list.to_str().expect("a path")]).ok();
    is_clean(&container, "added");
    call(["mounts", "remove", container.id(), list.to_str().expect("a path")]).ok();
    is_clean(&container, "removed");
}

fn a_process_may_have_less_and_namespaces_of_its_own() {
    need_ocirt();
    need_root();
    let container = Bundle::new().start(probe!(sleep 600));
    // As a browser does for its sandbox.
    let nested = intruder::Intruder::new(&container).without_capabilities().nested();
    is_clean(&container, "a user namespace below the container's");
    drop(nested);
}

fn the_table_shows_what_differs_and_all_if_asked() {
    // What a user cannot see is a row (verify_rootless).
    need_root();
    need_ocirt();
    let container = full().start(probe!(sleep 600));
    let output = call(["verify", container.id()]).ok();
    let words = format!("{}: as it was told (", container.id());
    assert!(output.stdout.starts_with(&words) && output.stdout.lines().count() == 1, "{}", output.stdout);
    let output = call(["verify", "--all", container.id()]).ok();
    assert!(output.stdout.lines().count() > 30, "{}", output.stdout);
    assert!(output.stdout.contains("  same     root.readonly "), "{}", output.stdout);
    std::fs::write(cgroup(&container, "pids").join("pids.max"), "max").expect("pids.max");
    let output = call(["verify", container.id()]);
    assert_eq!(output.status, 3);
    let lines: Vec<&str> = output.stdout.lines().collect();
    assert!(lines[0].starts_with(&format!("{}: 1 differ (", container.id())), "{lines:?}");
    let row = "  differs  linux.resources.pids.limit  wanted pids.max: 100, found pids.max: max";
    assert_eq!(lines[1..], [row]);
}

/// The names of an object's fields, and the kinds of their values.
fn shape(value: &Value) -> Vec<(String, &'static str)> {
    let kind = |value: &Value| match value {
        Value::String(_) => "text",
        Value::Number(_) => "number",
        Value::Array(_) => "list",
        _ => "something else",
    };
    value.as_object().expect("an object").iter().map(|(name, value)| (name.clone(), kind(value))).collect()
}

fn the_json_is_as_documented() {
    need_ocirt();
    let text = DOCUMENT.split("```json").nth(1).and_then(|rest| rest.split("```").next()).expect("an example");
    let example: Value = serde_json::from_str(text).expect("JSON");
    let container = full().start(probe!(sleep 600));
    std::fs::write(format!("/proc/{}/oom_score_adj", container.pid()), "100").expect("oom_score_adj");
    let (_, verified) = verify(&container);
    assert_eq!(shape(&verified), shape(&example));
    let row = |value: &Value| value["rows"][0].clone();
    assert_eq!(shape(&row(&verified)), shape(&row(&example)));
    for name in ["field", "wanted", "found", "verdict"] {
        assert_eq!(row(&verified)[name], row(&example)[name]);
    }
    let fields = verified["rows"].as_array().expect("rows").iter().map(|row| row["field"].as_str().expect("text"));
    for field in fields {
        // `mounts[3]` is described as `mounts[N]`, and a group by its beginning.
        let name = field.replace(|c: char| c.is_ascii_digit(), "N");
        let group = name.rsplit_once('.').map_or(name.as_str(), |(group, _)| group);
        let is_described =
            |name: &str| DOCUMENT.contains(&format!("`{name}`")) || DOCUMENT.contains(&format!("`{name}.*`"));
        let groups = ["linux.sysctl", "linux.resources"];
        assert!(
            is_described(&name) || is_described(group) || groups.iter().any(|group| field.starts_with(group)),
            "{field} is not described"
        );
    }
}

fn what_cannot_be_verified_is_an_error() {
    need_ocirt();
    let container = Bundle::new().start(probe!(sleep 600));
    let file = host::root().join(container.id()).join("told.json");
    std::fs::remove_file(&file).expect("told.json");
    call(["verify", container.id()]).fails("it was created by a version of ocirt that did not keep");
    std::fs::write(&file, "{").expect("told.json");
    call(["verify", container.id()]).fails("told.json");
    for (words, message) in [
        (&["verify", "nowhere"][..], "container does not exist"),
        (&["verify", "--format", "xml", container.id()], "invalid format option"),
        (&["verify", "../x"], "verify: "),
    ] {
        Call::new(words.iter().copied()).run().fails(message);
    }
}
