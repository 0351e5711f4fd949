//! `restore` of images by which a process would run something of the container's before it has given up CRIU's rights, or
//! would have what only CRIU can get for it.

use crate::restore_forged::{Saved, confined, counter};
use crate::restore_names::one_more_file;
use ocirt_integration::criu::ocirt;
use ocirt_integration::forge::{Entry, Value, edit, edit_all};
use ocirt_integration::tests;
use serde_json::json;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

tests![
    a_sequence_in_memory_of_others_is_refused,
    a_thread_in_the_middle_of_a_sequence_is_refused,
    the_callers_session_is_refused,
    files_that_show_what_their_opener_may_see_are_refused,
    files_that_the_user_may_not_open_are_refused,
    limits_of_the_image_are_refused,
    memory_at_address_zero_is_refused,
    larger_buffers_and_secure_bits_are_refused,
    a_command_in_the_id_of_a_run_is_refused,
    a_path_as_the_name_of_a_device_is_refused,
];

/// Gives each thread a restartable sequence at `at`: field 15 of a thread, with its length and signature.
fn register(images: &Path, at: u64) {
    let mut sequence = Entry::default();
    [(1, at), (2, 32), (3, 0x5305_3053)].into_iter().for_each(|(field, number)| sequence.set_number(field, number));
    edit_all(images, "core-", |all| all[0].each(5, |thread| thread.set(15, Value::Bytes(sequence.encode()))));
}

/// The first mapping that the process alone has (MAP_PRIVATE, anonymous), and whose first page is in the images.
fn own_memory(images: &Path) -> u64 {
    let (mut start, mut pages) = (None, Vec::new());
    edit_all(images, "pagemap-", |all| pages.extend(all.iter().skip(1).filter_map(|range| range.number(1))));
    edit_all(images, "mm-", |all| {
        all[0].each(14, |mapping| {
            let at = mapping.number(1).filter(|at| pages.contains(at) && mapping.number(6) == Some(0x22));
            start = start.or(at);
        });
    });
    start.expect("a mapping with a page")
}

/// Nobody has to forge an image for this: a program can have its sequence in a file that other containers write to.
fn a_sequence_in_memory_of_others_is_refused() {
    ocirt();
    let saved = Saved::new(confined());
    let words = "a restartable sequence that cannot be restored: it is not in";
    saved.refuses_before_criu(&format!("{words} one mapping"), |images| register(images, 0x1000_0000_0000));
    saved.refuses_before_criu(&format!("{words} memory of its own"), |images| {
        register(images, own_memory(images));
        // MAP_SHARED | MAP_ANONYMOUS.
        edit_all(images, "mm-", |all| all[0].each(14, |mapping| mapping.set_number(6, 0x21)));
    });
    saved.is_sound();
}

fn a_thread_in_the_middle_of_a_sequence_is_refused() {
    ocirt();
    let saved = Saved::new(confined());
    saved.refuses_before_criu("cannot be restored: the thread is in the middle of one", |images| {
        register(images, own_memory(images));
        for entry in fs::read_dir(images).expect("images").flatten() {
            if entry.file_name().to_str().is_some_and(|name| name.starts_with("pages-")) {
                let size = entry.metadata().expect("pages").len();
                fs::write(entry.path(), vec![0x11; usize::try_from(size).expect("size")]).expect("pages");
            }
        }
    });
    saved.is_sound();
}

/// Fields 3 and 4 of a process: 0 is a group, and a session, outside of the pid namespace.
fn the_callers_session_is_refused() {
    ocirt();
    let saved = Saved::new(confined());
    saved.refuses("--image-path: wanted a session of its own (--shell-job has it in the caller's)", |images| {
        edit(&images.join("pstree.img"), |all| {
            for process in all {
                process.set_number(3, 0);
                process.set_number(4, 0);
            }
        });
    });
    saved.is_sound();
}

fn files_that_show_what_their_opener_may_see_are_refused() {
    ocirt();
    let saved = Saved::new(confined());
    for name in ["/proc/kmsg", "/proc/kallsyms"] {
        saved.refuses(&format!("{name}, which takes CAP_SYSLOG to open"), |images| {
            counter(images, |file| {
                // Size and mode, which CRIU would compare; opened for reading.
                file.0.retain(|(field, _)| ![8, 10].contains(field));
                file.set_number(2, 0);
                file.set_text(6, name);
            });
        });
    }
    saved.is_sound();
}

/// The user is root, without capabilities: a file of another user is not for it.
fn files_that_the_user_may_not_open_are_refused() {
    ocirt();
    let saved = Saved::new(confined());
    let secret = saved.container.bundle.dir.join("open/secret");
    fs::write(&secret, "42").expect("secret");
    chown(&secret, Some(12_345), Some(12_345)).expect("chown");
    for (mode, flags) in [(0o600, 0), (0o644, 2), (0o622, 0)] {
        fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).expect("chmod");
        saved.refuses("process.user: wanted a file that process.user may open, found /proc/", |images| {
            counter(images, |file| {
                file.0.retain(|(field, _)| ![8, 10].contains(field));
                file.set_number(2, flags);
                file.set_text(6, "/mnt/open/secret");
            });
        });
    }
    saved.is_sound();
}

fn limits_of_the_image_are_refused() {
    ocirt();
    // By this limit the kernel judges all descriptors of root that travel, those of other tests included: CRIU sends some.
    let limits = json!([{ "type": "RLIMIT_NOFILE", "soft": 600, "hard": 700 }]);
    let saved = Saved::new(confined().set("process.rlimits", limits));
    saved.refuses("process.rlimits: wanted max open files: at most 700, found 800", |images| {
        edit_all(images, "core-", |all| {
            all[0].each(3, |process| {
                process.each(8, |limits| {
                    let mut number = 0;
                    limits.each(1, |limit| {
                        if number == 7 {
                            limit.set_number(1, 800);
                            limit.set_number(2, 800);
                        }
                        number += 1;
                    });
                });
            });
        });
    });
    saved.is_sound();
}

fn memory_at_address_zero_is_refused() {
    ocirt();
    let saved = Saved::new(confined());
    saved.refuses("wanted no memory below 0x", |images| {
        edit_all(images, "mm-", |all| {
            let mut mapping = Entry::default();
            let fields = [(1, 0), (2, 4096), (3, 0), (4, 0), (5, 3), (6, 0x32), (7, 513), (8, u64::MAX)];
            fields.into_iter().for_each(|(field, number)| mapping.set_number(field, number));
            all[0].0.insert(0, (14, Value::Bytes(mapping.encode())));
        });
    });
    saved.is_sound();
}

fn larger_buffers_and_secure_bits_are_refused() {
    ocirt();
    let saved = Saved::new(confined());
    let mut options = Entry::default();
    options.set_number(2, 1 << 31);
    let mut socket = Entry::default();
    socket.set(10, Value::Bytes(options.encode()));
    saved.refuses_before_criu("files.img: a buffer of a socket of 2147483648 bytes is not", |images| {
        one_more_file(images, 16, &socket);
    });
    saved.refuses_before_criu("pipes-data.img: a pipe of 1073741824 bytes is not", |images| {
        let mut pipe = Entry::default();
        [(1, 7), (2, 0), (3, 1 << 30)].into_iter().for_each(|(field, number)| pipe.set_number(field, number));
        let text = pipe.encode();
        let length = u32::try_from(text.len()).expect("length").to_le_bytes();
        fs::write(images.join("pipes-data.img"), [&[0; 8][..], &length, &text].concat()).expect("image");
    });
    // SECBIT_NOROOT.
    saved.refuses_before_criu("secure bits 0x1 are not", |images| {
        edit_all(images, "core-", |all| all[0].each(5, |thread| thread.each(10, |own| own.set_number(13, 1))));
    });
    saved.is_sound();
}

/// CRIU makes `delete table inet CRIU-ID` of it, in the host's network where the container has it.
fn a_command_in_the_id_of_a_run_is_refused() {
    ocirt();
    let saved = Saved::new(confined());
    saved.refuses_before_criu("\"x;flush ruleset\" is no id of a run of criu", |images| {
        edit(&images.join("inventory.img"), |all| all[0].set_text(13, "x;flush ruleset"));
    });
    saved.is_sound();
}

fn a_path_as_the_name_of_a_device_is_refused() {
    ocirt();
    let saved = Saved::new(confined());
    for name in ["../../../kernel", "..", "0123456789abcdef", ""] {
        saved.refuses_before_criu(&format!("{name:?} is no name of a device"), |images| {
            edit_all(images, "netdev-", |all| all[0].set_text(5, name));
        });
    }
    saved.is_sound();
}
