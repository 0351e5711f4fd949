//! The links of /proc, through which names of an image lead CRIU to the host; and what else a restored process has of whoever
//! restores it.

use crate::restore_forged::{Saved, confined, counter};
use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::criu::{self, assert_counts_on, checkpoint, counting, images, ocirt, restore, save};
use ocirt_integration::forge::{Entry, Value};
use ocirt_integration::runtime::call;
use ocirt_integration::wait::eventually;
use ocirt_integration::{host, probe, tests};
use std::fs;
use std::path::{Path, PathBuf};

tests![
    no_file_is_opened_through_a_link_of_proc,
    no_socket_is_bound_through_a_link_of_proc,
    a_file_of_crius_is_found_before_it_runs,
    the_session_keyring_is_the_containers,
    every_cpu_is_for_a_restored_container,
    a_pid_namespace_of_others_is_refused,
    descriptors_in_the_queue_of_a_socket_are_refused,
];

/// A directory of the host as the container's first process sees it from `/proc/self/fd/DESCRIPTOR`, which is CRIU's /proc.
fn through(descriptor: u32, directory: &str) -> String {
    format!("/proc/self/fd/{descriptor}/{}/root{directory}", std::process::id())
}

/// Restores a file by its name on the host, through each descriptor that may lead to CRIU's /proc, until one does: which
/// one. No restore succeeds.
fn descriptor(saved: &Saved, secret: &Path) -> u32 {
    let secret = secret.to_str().expect("UTF-8");
    // That of CRIU 4.1 is 121, where nothing else is open.
    for descriptor in (110..140).chain(3..110).chain(140..400) {
        saved.renew();
        counter(&images(), |file| file.set_text(6, &through(descriptor, secret)));
        let output = restore(&saved.container.bundle).fails("criu failed");
        if output.stderr.contains("oo many levels of symbolic links") {
            return descriptor;
        }
    }
    panic!("no descriptor leads to CRIU's /proc");
}

fn secret() -> PathBuf {
    let secret = host::place().join("secret");
    fs::write(&secret, "precious").expect("secret");
    secret
}

fn no_file_is_opened_through_a_link_of_proc() {
    ocirt();
    let (saved, secret) = (Saved::new(confined()), secret());
    descriptor(&saved, &secret);
    assert_eq!(fs::read_to_string(&secret).expect("secret"), "precious");
    saved.is_sound();
}

/// Nothing is forged here: the container gives its socket a name that leads elsewhere when it is restored.
fn no_socket_is_bound_through_a_link_of_proc() {
    ocirt();
    let descriptor = descriptor(&Saved::new(Bundle::new()), &secret());
    // The name of a socket is short.
    let directory = PathBuf::from(format!("/tmp/l{}", std::process::id()));
    fs::create_dir(&directory).expect("directory");
    let name = through(descriptor, directory.to_str().expect("UTF-8")) + "/s";
    let inside = name.trim_start_matches("/proc/self/fd/").split_once('/').expect("a name").1;
    let inside = format!("x/{}", inside.trim_end_matches("/s"));
    let bundle = Bundle::new().directory(&inside);
    let container = bundle.create(probe!(bindcount "/x", descriptor, name, "/count"));
    container.start().ok();
    eventually("the container counts", || criu::count(&container.bundle) > 3);
    fs::remove_dir_all(images()).expect("images");
    save(&container, &[]);
    restore(&container.bundle).fails("criu failed");
    let made = fs::read_dir(&directory).expect("directory").count();
    fs::remove_dir_all(&directory).expect("directory");
    assert_eq!(made, 0, "the container has made something on the host");
}

/// CRIU's own program, whose mount is none of the container's.
fn a_file_of_crius_is_found_before_it_runs() {
    ocirt();
    let saved = Saved::new(confined());
    saved.refuses("mounts: wanted a file of the container's mounts", |images| {
        counter(images, |file| {
            file.set_text(6, "/proc/self/exe");
            // Read-only, as its mount is; size, checksum and mode are what they are.
            file.set_number(2, 0);
            file.0.retain(|(field, _)| ![8, 10, 11].contains(field));
        });
    });
    saved.is_sound();
}

fn the_session_keyring_is_the_containers() {
    ocirt();
    let container = Bundle::new().create(probe!(keyringcount "/count"));
    container.start().ok();
    eventually("the container counts", || criu::count(&container.bundle) > 3);
    save(&container, &[]);
    restore(&container.bundle).ok();
    let before = criu::count(&container.bundle);
    assert_counts_on(&container.bundle, before);
    let text = fs::read_to_string(container.bundle.inside("/count")).expect("count");
    assert!(text.contains(&format!("_ses.{}", container.id())), "{text}");
}

fn every_cpu_is_for_a_restored_container() {
    ocirt();
    let container = counting(Bundle::new());
    let allowed = |container: &Container| {
        let status = container.proc_file("status");
        let line = status.lines().find(|line| line.starts_with("Cpus_allowed_list:"));
        line.expect("affinity").to_owned()
    };
    let before = allowed(&container);
    save(&container, &[]);
    // SAFETY: plain numbers, for which all zeroes is a valid value.
    let mut one: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: the set is ours, and 0 is this process.
    let ret = unsafe {
        libc::CPU_SET(0, &mut one);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const one)
    };
    assert_eq!(ret, 0, "no affinity");
    restore(&container.bundle).ok();
    assert_eq!(allowed(&container), before);
}

/// They would see CRIU's programs there, whose root is not the container's.
fn a_pid_namespace_of_others_is_refused() {
    ocirt();
    let other = Bundle::new().start(probe!(sleep 60));
    let path = format!("/proc/{}/ns/pid", other.pid());
    let container = counting(Bundle::new().namespace("pid", Some(&path)));
    checkpoint(container.id(), &[])
        .fails("linux.namespaces: a pid namespace that is joined by path cannot be restored");
    assert_eq!(container.status(), "running");
    for (id, pid) in [(container.id(), container.pid()), (other.id(), other.pid())] {
        call(["delete", "--force", id]).ok();
        host::reap(pid);
    }
}

/// Nobody could look at them before the container receives them: field 4 of a packet, whose data follows it.
fn descriptors_in_the_queue_of_a_socket_are_refused() {
    ocirt();
    let saved = Saved::new(confined());
    let queues = |rights: &[u8]| {
        let mut packet = Entry::default();
        packet.set_number(1, 1);
        packet.set_number(2, 3);
        if !rights.is_empty() {
            packet.set(4, Value::Bytes(rights.to_vec()));
        }
        let packet = packet.encode();
        let length = u32::try_from(packet.len()).expect("length").to_le_bytes();
        [&[0; 8], length.as_slice(), &packet, b"abc"].concat()
    };
    saved.refuses("sk-queues.img: descriptors in the queue of a socket cannot be restored", |images| {
        fs::write(images.join("sk-queues.img"), queues(b"\x08\x01\x10\x05")).expect("image");
    });
    // The data of a packet is no entry.
    saved.refuses("criu failed", |images| {
        fs::write(images.join("sk-queues.img"), queues(b"")).expect("image");
    });
}
