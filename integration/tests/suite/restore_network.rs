//! `restore` of images that configure a network other than the container's: what CRIU and its programs send as root is refused
//! before they start.

use crate::restore_forged::{Saved, confined};
use ocirt_integration::bundle::Bundle;
use ocirt_integration::criu::{assert_counts_on, checkpoint, count, counting, images, ocirt, restore};
use ocirt_integration::forge::{Entry, edit_all};
use ocirt_integration::needs::{Need, need};
use ocirt_integration::runtime::call;
use ocirt_integration::tests;
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

tests![
    a_message_of_another_type_is_refused,
    an_address_for_another_network_namespace_is_refused,
    only_connections_are_sent_to_netfilter,
    no_connection_is_made_in_a_joined_network_namespace,
    a_device_with_a_part_elsewhere_is_refused,
    a_firewall_that_names_a_program_is_refused,
    a_device_with_its_other_end_outside_is_made_anew_by_its_hook,
];

/// The image of this kind of the network namespace of the images, of which there is one.
fn image(images: &Path, kind: &str) -> PathBuf {
    let all = fs::read_dir(images).expect("images").flatten();
    let names = all.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut numbers = names.filter_map(|name| name.strip_prefix("netns-")?.strip_suffix(".img")?.parse::<u32>().ok());
    images.join(format!("{kind}-{}.img", numbers.next().expect("a network namespace")))
}

/// A netlink message: a structure of zeros, and attributes.
fn message(kind: u16, sequence: u32, structure: usize, attributes: &[(u16, u32)]) -> Vec<u8> {
    let length = (16 + structure + attributes.len() * 8) as u32;
    let mut bytes =
        [&length.to_ne_bytes()[..], &kind.to_ne_bytes(), &[2, 0], &sequence.to_ne_bytes(), &[0; 4]].concat();
    bytes.resize(16 + structure, 0);
    for (kind, value) in attributes {
        bytes.extend([&8u16.to_ne_bytes()[..], &kind.to_ne_bytes(), &value.to_ne_bytes()].concat());
    }
    bytes
}

/// Appends to what ip(8) has saved.
fn append(image: &Path, bytes: &[u8]) {
    let mut all = fs::read(image).expect("image");
    assert!(all.len() >= 4, "{}", image.display());
    all.extend(bytes);
    fs::write(image, all).expect("image");
}

fn a_message_of_another_type_is_refused() {
    ocirt();
    let saved = Saved::new(confined());
    for kind in ["route", "route6", "ifaddr", "rule"] {
        // RTM_NEWLINK, DELLINK, NEWNSID: of these, IFLA_TARGET_NETNSID and NETNSA_PID name another network namespace.
        for (of, attribute) in [(16, 46), (17, 46), (88, 2)] {
            saved.refuses_before_criu(&format!("a message of type {of}, not "), |images| {
                append(&image(images, kind), &message(of, 1, 16, &[(attribute, 7)]));
            });
        }
        saved.refuses_before_criu("4 bytes behind the last message", |images| append(&image(images, kind), b"1234"));
        saved.refuses_before_criu("is none of ip(8)", |images| {
            fs::write(image(images, kind), "12345678").expect("image");
        });
    }
    saved.is_sound();
}

/// IFA_TARGET_NETNSID of linux/if_addr.h.
fn an_address_for_another_network_namespace_is_refused() {
    ocirt();
    let saved = Saved::new(confined());
    saved.refuses_before_criu("a message for another network namespace", |images| {
        append(&image(images, "ifaddr"), &message(20, 1, 8, &[(1, 0x0100_007f), (10, 7)]));
    });
    saved.is_sound();
}

/// CRIU's own number; for an answer to another it would wait without an end.
const SEQUENCE: u32 = 24_680;

fn only_connections_are_sent_to_netfilter() {
    ocirt();
    let saved = Saved::new(confined());
    for kind in ["netns-ct", "netns-exp"] {
        // Accounting, nftables, and the end of a connection.
        for of in [7 << 8, 10 << 8, 1 << 8 | 2] {
            saved.refuses_before_criu("which is no connection", |images| {
                fs::write(image(images, kind), message(of, SEQUENCE, 4, &[])).expect("image");
            });
        }
        saved.refuses_before_criu("a message that CRIU would wait for without an end", |images| {
            fs::write(image(images, kind), message(1 << 8, 1, 4, &[])).expect("image");
        });
    }
    saved.is_sound();
}

/// No kernel takes such a connection, so that CRIU fails where it sends it.
fn no_connection_is_made_in_a_joined_network_namespace() {
    ocirt();
    let other = counting(Bundle::new());
    let path = format!("/proc/{}/ns/net", other.pid());
    let container = counting(Bundle::new().without_namespace("network").namespace("network", Some(&path)));
    checkpoint(container.id(), &[]).ok();
    for kind in ["netns-ct", "netns-exp"] {
        fs::write(image(&images(), kind), message(1 << 8, SEQUENCE, 4, &[])).expect("image");
    }
    let before = count(&container.bundle);
    restore(&container.bundle).ok();
    assert_counts_on(&container.bundle, before);
}

/// Of a device, 1 is its kind, 2 its number, 3 its MTU, 5 its name, 13 the namespace of its other end.
fn a_device_with_a_part_elsewhere_is_refused() {
    ocirt();
    let saved = Saved::new(confined());
    let forge = |images: &Path, kind: u64, peer: Option<u64>| {
        edit_all(images, "netdev-", |all| {
            let mut device = Entry::default();
            for (field, number) in [(1, kind), (2, 20), (3, 1500), (4, 0x1002)] {
                device.set_number(field, number);
            }
            device.set_text(5, "forged0");
            peer.into_iter().for_each(|peer| device.set_number(13, peer));
            all.push(device);
        });
    };
    for peer in [None, Some(0), Some(9_999)] {
        let words = "\"forged0\": the other end of the veth pair is not in the container";
        saved.refuses_before_criu(words, |images| forge(images, 2, peer));
    }
    // VENET and MACVLAN.
    for kind in [5, 7] {
        let words = format!("\"forged0\": a device of kind {kind} cannot be restored");
        saved.refuses_before_criu(&words, |images| forge(images, kind, None));
    }
    saved.is_sound();
}

/// A program of BPF that somebody has left in a file.
fn a_firewall_that_names_a_program_is_refused() {
    ocirt();
    let saved = Saved::new(confined());
    for option in ["--object-pinned /sys/fs/bpf/x", "--object-pinned=/sys/fs/bpf/x", "--object /sys/fs/bpf/x"] {
        saved.refuses_before_criu("names a file, and cannot be restored", |images| {
            let text = format!("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m bpf {option} -j ACCEPT\nCOMMIT\n");
            fs::write(image(images, "iptables"), text).expect("rules");
        });
    }
    saved.is_sound();
}

/// Puts one end of a pair of devices into the network namespace of the container, whose state it reads, as engines do for
/// one on a bridge.
const JOIN: &str = r#"pid=$(sed 's/.*"pid":\([0-9]*\).*/\1/')
ip link add out-$pid type veth peer name eth0 netns $pid
exec ip link set out-$pid up"#;

/// Docker passes no flag about it, neither to `checkpoint` nor to `restore`.
fn a_device_with_its_other_end_outside_is_made_anew_by_its_hook() {
    ocirt();
    // SAFETY: no memory is passed; the test is a process of its own.
    let own = unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0;
    let up = || Command::new("ip").args(["link", "set", "lo", "up"]).status().is_ok_and(|status| status.success());
    need(Need::NetDevices, own && up());
    let path = std::env::var("PATH").unwrap_or_default();
    let env = [format!("PATH={path}:/usr/sbin:/sbin")];
    let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", JOIN], "env": env });
    let container = counting(Bundle::new().hook("createRuntime", hook));
    for _ in 0..2 {
        let output = checkpoint(container.id(), &[]).ok();
        assert!(output.stderr.contains("\"eth0\": the other end"), "{output:?}");
        let before = count(&container.bundle);
        restore(&container.bundle).ok();
        assert_counts_on(&container.bundle, before);
        let devices = call(["exec", container.id(), "/probe", "netdevs"]).ok().answer();
        assert!(devices["eth0"].is_object() && devices["lo"]["up"] == true, "{devices}");
    }
}
