//! `linux.netDevices`: devices of the host's network namespace in the container's (config-linux.md, "Network Devices").
//!
//! The host's network namespace is one that the test has made; its devices are pairs of virtual Ethernet.

use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::{Need, need, need_ocirt, need_root};
use ocirt_integration::runtime::Output;
use ocirt_integration::{probe, tests};
use serde_json::{Value, json};
use std::process::Command;

tests![
    a_device_moves_with_its_addresses_and_is_up,
    a_name_may_be_left_to_the_kernel,
    a_device_moves_into_a_namespace_that_is_joined,
    a_device_is_there_when_its_sysctls_are_set,
    a_failed_create_gives_every_device_back,
    a_bad_device_is_refused,
    the_host_keeps_a_device_whose_name_is_taken_inside,
];

/// A network namespace for this test and the runtimes that it starts, with a pair of devices.
fn with_devices() {
    need_ocirt();
    // Devices of the host's network namespace are root's.
    need_root();
    // SAFETY: no memory is passed; the test is a process of its own.
    let own = unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0;
    let made = own && try_ip("link add ve0 type veth peer name ve1");
    need(Need::NetDevices, made);
}

fn try_ip(words: &str) -> bool {
    Command::new("ip").args(words.split(' ')).output().is_ok_and(|output| output.status.success())
}

#[track_caller]
fn ip(words: &str) {
    assert!(try_ip(words), "ip {words}");
}

/// What `ip` says of a device, as JSON; null: there is none.
fn device(name: &str) -> Value {
    let output = Command::new("ip").args(["-j", "addr", "show", "dev", name]).output().expect("ip");
    let all: Value = serde_json::from_slice(&output.stdout).unwrap_or(Value::Null);
    all[0].clone()
}

/// Addresses, without those that the kernel makes by itself.
fn addresses(device: &Value) -> Vec<String> {
    let all = device["addr_info"].as_array().cloned().unwrap_or_default();
    let global = all.iter().filter(|address| address["scope"] == "global");
    global
        .map(|address| format!("{}/{}", address["local"].as_str().unwrap_or_default(), address["prefixlen"]))
        .collect()
}

fn moving(devices: Value) -> Bundle {
    Bundle::new().set("linux.netDevices", devices)
}

/// What the container sees of its devices.
#[track_caller]
fn inside(output: &Output) -> Value {
    output.answer()
}

fn a_device_moves_with_its_addresses_and_is_up() {
    with_devices();
    ip("addr add 192.0.2.7/24 dev ve0");
    ip("addr add 2001:db8::7/64 dev ve0 nodad");
    ip("addr add 192.0.2.8/24 valid_lft 900 preferred_lft 900 dev ve0");
    ip("addr add 169.254.3.3/16 scope link dev ve0");
    ip("link set ve0 up");
    ip("link set ve1 up");
    let output = moving(json!({ "ve0": { "name": "inside0" } })).run(probe!(netdevs)).ok();
    let devices = inside(&output);
    assert_eq!(devices["inside0"]["up"], json!(true), "{devices}");
    let mut found: Vec<&str> =
        devices["inside0"]["addresses"].as_array().expect("a list").iter().filter_map(Value::as_str).collect();
    found.retain(|address| !address.starts_with("fe80"));
    assert_eq!(found, ["192.0.2.7/24", "2001:db8::7/64"]);
    assert!(devices["ve0"].is_null());
    // A virtual device ends with its namespace, and its peer with it.
    assert_eq!(device("ve0"), Value::Null);
    assert_eq!(device("inside0"), Value::Null);
}

fn a_name_may_be_left_to_the_kernel() {
    with_devices();
    let output = moving(json!({ "ve0": { "name": "lan%d" }, "ve1": { "name": "lan%d" } })).run(probe!(netdevs)).ok();
    let devices = inside(&output);
    assert!(devices["lan0"]["up"] == true && devices["lan1"]["up"] == true, "{devices}");
}

fn a_device_moves_into_a_namespace_that_is_joined() {
    with_devices();
    let holder = Bundle::new().create(probe!(sleep 60));
    let path = format!("/proc/{}/ns/net", holder.pid());
    let bundle = moving(json!({ "ve0": {} })).namespace("network", Some(&path));
    assert_eq!(inside(&bundle.run(probe!(netdevs)).ok())["ve0"]["up"], true);
    // The namespace lives on, and nobody takes the device out of it.
    assert_eq!(device("ve0"), Value::Null);
    let bundle = Bundle::new().namespace("network", Some(&path));
    assert_eq!(inside(&bundle.run(probe!(netdevs)).ok())["ve0"]["up"], true);
}

fn a_device_is_there_when_its_sysctls_are_set() {
    with_devices();
    // Again and again: it must not depend on who is faster.
    for n in 2..7 {
        ip(&format!("link add va{n} type veth peer name vb{n}"));
        let bundle = moving(json!({ format!("va{n}"): { "name": "ve0" } }))
            .set("linux.sysctl", json!({ "net.ipv4.conf.ve0.forwarding": "1" }));
        let output = bundle.run(probe!(read "/proc/sys/net/ipv4/conf/ve0/forwarding")).ok();
        assert_eq!(output.answer(), json!("1\n"));
    }
}

fn a_failed_create_gives_every_device_back() {
    with_devices();
    ip("addr add 192.0.2.7/24 dev ve0");
    ip("addr add 2001:db8::7/64 dev ve0 nodad");
    ip("link set ve0 up");
    let before = (device("ve0"), device("ve1"));
    // After the move: the program; at the second device: there is none of this name.
    moving(json!({ "ve0": { "name": "eth0" }, "ve1": {} }))
        .write(vec!["/nope".to_owned()])
        .call("create")
        .run()
        .fails("no such file");
    let moved = moving(json!({ "ve0": { "name": "eth0" }, "wlan9": {} }));
    moved.refused("linux.netDevices.wlan9: no such network device");
    let after = (device("ve0"), device("ve1"));
    for (before, after) in [(&before.0, &after.0), (&before.1, &after.1)] {
        assert_eq!(before["ifindex"], after["ifindex"]);
        assert_eq!(addresses(before), addresses(after));
        let is_up = |device: &Value| device["flags"].as_array().is_some_and(|flags| flags.contains(&json!("UP")));
        assert_eq!(is_up(before), is_up(after));
    }
}

fn a_bad_device_is_refused() {
    with_devices();
    let before = device("ve0");
    for (devices, words) in [
        (json!({ "nosuchdevice0": {} }), "linux.netDevices.nosuchdevice0: no such network device"),
        (json!({ "lo": {} }), "linux.netDevices.lo: the container has a network device"),
        (json!({ "lo": { "name": "lo9" } }), "linux.netDevices.lo: RTM_SETLINK: invalid argument"),
        (json!({ "ve0": { "name": "lo" } }), "linux.netDevices.ve0: the container has a network device"),
        (json!({ "ve0": { "name": "a/b" } }), "linux.netDevices.ve0.name"),
        (json!({ "ve0": { "name": "x" }, "ve1": { "name": "x" } }), "linux.netDevices.ve1.name"),
        (json!({ "ve0": { "name": 23 } }), "linux.netDevices.ve0.name"),
    ] {
        moving(devices).refused(words);
    }
    moving(json!({ "ve0": {} })).without_namespace("network").refused("linux.netDevices: needs a network namespace");
    let own = format!("/proc/{}/ns/net", std::process::id());
    moving(json!({ "ve0": {} }))
        .namespace("network", Some(&own))
        .refused("linux.netDevices: needs a network namespace");
    assert_eq!(device("ve0"), before);
}

fn the_host_keeps_a_device_whose_name_is_taken_inside() {
    with_devices();
    let holder = moving(json!({ "ve1": { "name": "taken" } })).create(probe!(sleep 60));
    let path = format!("/proc/{}/ns/net", holder.pid());
    let bundle = moving(json!({ "ve0": { "name": "taken" } })).namespace("network", Some(&path));
    bundle.write(probe!(print "it ran")).call("run").run().fails("has a network device \"taken\" already");
    assert_eq!(device("ve0")["ifname"], "ve0");
}
