//! `restore` of images with numbers that CRIU gives to system calls as root: what a process of the container could not have
//! made is refused.

use crate::restore_forged::{Saved, confined};
use crate::restore_names::one_more_file;
use ocirt_integration::criu::ocirt;
use ocirt_integration::forge::{Entry, Value, edit, edit_all};
use ocirt_integration::tests;
use serde_json::json;
use std::fs;

tests![
    open_files_that_take_a_capability_are_refused,
    a_watch_beyond_the_containers_files_is_refused,
    marks_of_fanotify_with_other_flags_are_refused,
    images_of_old_versions_are_refused,
    a_filter_with_a_listener_is_refused,
    an_owner_who_is_not_of_the_container_is_refused,
    more_of_the_cpu_is_refused,
    another_login_and_another_hostname_are_refused,
];

/// A message with these numbers in its fields, and these messages.
fn message(numbers: &[(u64, u64)], messages: &[(u64, &Entry)]) -> Entry {
    let mut entry = Entry::default();
    numbers.iter().for_each(|(field, number)| entry.0.push((*field, Value::Number(*number))));
    messages.iter().for_each(|(field, message)| entry.0.push((*field, Value::Bytes(message.encode()))));
    entry
}

fn open_files_that_take_a_capability_are_refused() {
    ocirt();
    let saved = Saved::new(confined());
    let empty = Entry::default();
    for (kind, file, words) in [
        (14, empty.clone(), "fanotify is not"),
        (6, empty.clone(), "a packet socket is not"),
        (11, empty.clone(), "a tun device is not"),
        (21, empty.clone(), "a BPF map is not"),
        (23, empty, "an open file of an unknown kind (23)"),
        // SOCK_RAW.
        (4, message(&[(3, 2), (4, 3), (5, 1)], &[]), "a raw socket is not"),
        // NETLINK_AUDIT, and NETLINK_NETFILTER.
        (7, message(&[(3, 9), (8, 1)], &[]), "a group of netlink 9 is not"),
        (7, message(&[(3, 12), (8, 0), (8, 4)], &[]), "a group of netlink 12 is not"),
        (4, message(&[(4, 1)], &[(14, &message(&[(10, 7)], &[]))]), "a socket with a mark is not"),
        (16, message(&[], &[(10, &message(&[(8, 7)], &[]))]), "a socket of priority 7 is not"),
    ] {
        saved.refuses_before_criu(&format!("--image-path: files.img: {words}"), |images| {
            one_more_file(images, kind, &file);
        });
    }
    saved.is_sound();
}

fn a_watch_beyond_the_containers_files_is_refused() {
    ocirt();
    let saved = Saved::new(confined());
    // A handle without a path; one with a path, and of no mount.
    let mut path = Entry::default();
    path.set_text(4, "/count");
    for handle in [Entry::default(), path] {
        let watch = message(&[(6, 1)], &[(7, &handle)]);
        saved.refuses_before_criu("inotify: a watch that is told by a handle", |images| {
            one_more_file(images, 13, &message(&[], &[(5, &watch)]));
        });
    }
    saved.is_sound();
}

/// FAN_MARK_FILESYSTEM, FAN_MARK_MOUNT: the capabilities are not enough for what a checkpoint never has.
fn marks_of_fanotify_with_other_flags_are_refused() {
    ocirt();
    let both = json!(["CAP_SYS_ADMIN", "CAP_DAC_READ_SEARCH"]);
    let both = json!({ "bounding": both, "permitted": both, "effective": both });
    let saved = Saved::new(confined().set("process.capabilities", both));
    for flags in [0x100, 0x10, 0x1000] {
        let mark = message(&[(2, 1), (3, flags)], &[]);
        saved.refuses_before_criu("fanotify: a mark with flags that CRIU never saves", |images| {
            one_more_file(images, 14, &message(&[], &[(6, &mark)]));
        });
    }
    saved.is_sound();
}

fn images_of_old_versions_are_refused() {
    ocirt();
    let saved = Saved::new(confined());
    for name in ["fanotify.img", "fanotify-mark.img", "packetsk.img", "creds-1.img"] {
        saved.refuses_before_criu(&format!("--image-path: {name}: an image of an old version of CRIU"), |images| {
            fs::write(images.join(name), [0; 8]).expect("image");
        });
    }
    saved.is_sound();
}

fn a_filter_with_a_listener_is_refused() {
    ocirt();
    let saved = Saved::new(confined());
    // SECCOMP_FILTER_FLAG_NEW_LISTENER, TSYNC_ESRCH, WAIT_KILLABLE_RECV, and what is not known.
    for flags in [8, 25, 32, 0x8000_0000] {
        saved.refuses_before_criu("seccomp.img: a filter with flags that config.json does not have", |images| {
            edit(&images.join("seccomp.img"), |all| all[0].each(1, |filter| filter.set_number(3, flags)));
        });
    }
    saved.is_sound();
}

fn an_owner_who_is_not_of_the_container_is_refused() {
    ocirt();
    let saved = Saved::new(confined());
    let me = u64::from(std::process::id());
    for (kind, field) in [(18, 4), (16, 9), (3, 5), (22, 5)] {
        for (uid, euid, pid, words) in [
            (0, 0, me, "which is none of the images"),
            (0, 1000, 1, "signals are sent as user 1000"),
            (1000, 0, 1, "signals are sent as user 1000"),
        ] {
            let owner = message(&[(1, uid), (2, euid), (3, 9), (4, 1), (5, pid)], &[]);
            saved.refuses_before_criu(words, |images| one_more_file(images, kind, &message(&[], &[(field, &owner)])));
        }
    }
    saved.is_sound();
}

/// Of a thread, fields 3 to 5 are its nice value (zigzag), policy and priority.
fn more_of_the_cpu_is_refused() {
    ocirt();
    let saved = Saved::new(confined().set("process.scheduler", json!({ "policy": "SCHED_OTHER", "nice": 5 })));
    for (nice, policy, priority) in [(39, 0, 0), (8, 3, 0), (0, 1, 99)] {
        saved.refuses("process.scheduler: wanted at most policy 0, nice 5, priority 0, found", |images| {
            edit_all(images, "core-", |all| {
                all[0].each(5, |thread| {
                    thread.set_number(3, nice);
                    thread.set_number(4, policy);
                    thread.set_number(5, priority);
                });
            });
        });
    }
    saved.is_sound();
}

fn another_login_and_another_hostname_are_refused() {
    ocirt();
    let saved = Saved::new(confined());
    if fs::metadata("/proc/self/loginuid").is_ok() {
        saved.refuses("--image-path: wanted login id", |images| {
            edit_all(images, "core-", |all| all[0].each(3, |process| process.set_number(13, 4242)));
        });
    }
    saved.refuses_before_criu("hostname: \"guest\", and \"bank\" in the image", |images| {
        edit_all(images, "utsns-", |all| all[0].set_text(1, "bank"));
    });
    saved.is_sound();
}
