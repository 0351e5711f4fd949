//! Malformed values of the fields that came with exec, mounts, systemd, seccomp's agents and the rest of the
//! specification: each is one line that names the field, exit status 1, and nothing left behind.

use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::{Need, need, need_ocirt, need_root};
use ocirt_integration::{host, probe, tests};
use serde_json::{Value, json};

/// A section for each test: `[name]`, then rows `field = value as JSON -> the message behind the container's id`.
const ROWS: &str = include_str!("malformed.txt");

tests![
    intel_rdt,
    network_devices,
    mappings_of_mounts,
    idmap_options,
    seccomp_agents,
    seccomp_metadata_without_an_agent,
    cpu_affinity_of_exec,
    time_offsets,
    time_offsets_without_a_namespace,
    resources,
    cgroups_path,
    resources_of_v1,
    resources_of_v2,
    annotations_of_crun,
];

/// Sets, in what `bundle` makes, each field of a section to its value; all that is wrong is one failure.
#[track_caller]
fn refuse_each(section: &str, bundle: impl Fn() -> Bundle) {
    need_ocirt();
    let (_, rest) = ROWS.split_once(&format!("[{section}]\n")).expect("a section");
    let rows: Vec<_> = rest.lines().take_while(|line| !line.is_empty()).collect();
    assert!(!rows.is_empty(), "no rows of {section}");
    let mut wrong = Vec::new();
    for row in rows {
        let (field, rest) = row.split_once(" = ").expect("field = value");
        let (value, message) = rest.split_once(" -> ").expect("value -> message");
        let bundle = bundle().set(field, serde_json::from_str(value).expect("JSON"));
        let said = format!("ocirt: run {}: {message}\n", bundle.id);
        let output = bundle.run(probe!(print "it ran"));
        if (output.status, output.stdout.as_str(), output.stderr.as_str()) != (1, "", &said) {
            wrong.push(format!("{field} = {value}: status {} {:?} {}", output.status, output.stdout, output.stderr));
        }
        host::assert_nothing_left();
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join(""));
}

fn intel_rdt() {
    refuse_each("intelRdt", Bundle::new);
}

/// Of devices that are nowhere: a good name would move one of the host's.
fn network_devices() {
    need_root();
    refuse_each("netDevices", Bundle::new);
}

fn bind() -> Bundle {
    Bundle::new().mount("bind", "/", "/mnt", &["bind"])
}

fn mappings_of_mounts() {
    let good = json!([{ "containerID": 0, "hostID": 1, "size": 1 }]);
    refuse_each("mappings", || bind().set("mounts.6.gidMappings", good.clone()));
}

fn idmap_options() {
    need_root();
    refuse_each("idmap", bind);
}

fn notified() -> Bundle {
    let rule = json!({ "names": ["getsid"], "action": "SCMP_ACT_NOTIFY" });
    let seccomp = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule], "listenerPath": "/nope/agent" });
    Bundle::new().set("linux.seccomp", seccomp)
}

fn seccomp_agents() {
    need_root();
    refuse_each("seccomp", notified);
}

fn seccomp_metadata_without_an_agent() {
    refuse_each("seccomp without an agent", || {
        notified().set("linux.seccomp.syscalls", json!([])).set("linux.seccomp.listenerPath", Value::Null)
    });
}

fn cpu_affinity_of_exec() {
    refuse_each("execCPUAffinity", Bundle::new);
}

fn time_offsets() {
    refuse_each("timeOffsets", || Bundle::new().namespace("time", None));
}

fn time_offsets_without_a_namespace() {
    refuse_each("timeOffsets without a namespace", Bundle::new);
}

fn resources() {
    refuse_each("resources", Bundle::new);
}

/// With the cgroupfs driver; what systemd's has no use for is another test's.
fn cgroups_path() {
    refuse_each("cgroupsPath", Bundle::new);
}

fn resources_of_v1() {
    need(Need::CgroupV1, !host::is_cgroup2());
    refuse_each("v1", Bundle::new);
}

fn resources_of_v2() {
    need(Need::CgroupV2, host::is_cgroup2());
    refuse_each("v2", Bundle::new);
}

fn annotations_of_crun() {
    refuse_each("annotations", Bundle::new);
}
