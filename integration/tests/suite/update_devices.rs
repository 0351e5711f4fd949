//! `update` of the devices that a container may use, as its processes find them.

use super::update::{update, update_by};
use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::needs::{Need, need, need_ocirt, need_root};
use ocirt_integration::{host, tests};
use serde_json::{Value, json};

tests![devices_change_for_a_container_that_runs, devices_that_others_added_stay,];

/// A device that is in no default list, and rules that deny all but it.
fn fuse(access: &str) -> (Value, Value) {
    let node = json!([{ "path": "/dev/odd", "type": "c", "major": 10, "minor": 229 }]);
    let mut rules = vec![json!({ "allow": false, "access": "rwm" })];
    if !access.is_empty() {
        rules.push(json!({ "allow": true, "type": "c", "major": 10, "minor": 229, "access": access }));
    }
    (node, json!(rules))
}

/// A container that opens the device for reading and for writing whenever it is told to.
fn opener(rules: Value) -> Container {
    need(Need::Fuse, std::path::Path::new("/dev/fuse").exists());
    let bundle = Bundle::new().set("linux.devices", fuse("").0).set("linux.resources.devices", rules);
    let mut words = vec!["/probe".to_owned()];
    for round in 0..6 {
        let words_of = ["waitfor", &format!("/data/go{round}"), "+", "open", "/dev/odd", "+", "openw", "/dev/odd"];
        words.extend(words_of.iter().map(|word| (*word).to_owned()));
        words.push("+".to_owned());
    }
    words.extend(["sleep", "60"].map(String::from));
    let container = bundle.create(words);
    container.start().ok();
    container
}

/// What the next two attempts say: read, write.
fn attempt(container: &Container, round: usize) -> (String, String) {
    std::fs::write(container.bundle.inside(&format!("/data/go{round}")), "").expect("file");
    let answers = container.answers(3 * (round + 1));
    let error = |answer: &Value| answer["error"].as_str().unwrap_or("").to_owned();
    (error(&answers[3 * round + 1]), error(&answers[3 * round + 2]))
}

fn devices_change_for_a_container_that_runs() {
    // Only root may load the filter.
    need_root();
    need_ocirt();
    let container = opener(fuse("").1);
    let pair = |read: &str, write: &str| (read.to_owned(), write.to_owned());
    assert_eq!(attempt(&container, 0), pair("EPERM", "EPERM"));
    update_by(&container, &json!({ "devices": fuse("rw").1 })).ok();
    // systemd puts its rules into force again with each change.
    update(&container, &["--pids-limit", "88"]).ok();
    assert_eq!(attempt(&container, 1), pair("", ""));
    update_by(&container, &json!({ "devices": fuse("r").1 })).ok();
    assert_eq!(attempt(&container, 2), pair("", "EPERM"));
    update_by(&container, &json!({ "devices": [{ "allow": true, "access": "rwm" }] })).ok();
    assert_eq!(attempt(&container, 3), pair("", ""));
    // A refused update brings the rules back that were there, whatever they were.
    update_by(&container, &json!({ "devices": fuse("").1, "pids": { "limit": 99_999_999_999_i64 } })).fails("pids");
    assert_eq!(attempt(&container, 4), pair("", ""));
    update_by(&container, &json!({ "devices": fuse("").1 })).ok();
    assert_eq!(attempt(&container, 5), pair("EPERM", "EPERM"));
    assert_eq!(container.status(), "running");
}

/// The NVIDIA container runtime adds its devices behind the runtime's back; engines repeat all rules in each update.
fn devices_that_others_added_stay() {
    need(Need::CgroupV1, !host::is_cgroup2());
    let container = opener(fuse("").1);
    let allow = container.cgroup("devices").join("devices.allow");
    std::fs::write(allow, "c 10:229 rwm").expect("devices.allow");
    let pair = (String::new(), String::new());
    assert_eq!(attempt(&container, 0), pair);
    update(&container, &["--pids-limit", "50"]).ok();
    assert_eq!(attempt(&container, 1), pair);
    update_by(&container, &json!({ "pids": { "limit": 51 }, "devices": fuse("").1 })).ok();
    assert_eq!(attempt(&container, 2), pair);
}
