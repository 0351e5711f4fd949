//! `restore` of images with names and flags that no checkpoint has: CRIU would open, make, bind or run something by them, as
//! root, before anybody could look at it.

use crate::restore_forged::{Saved, confined, copy, counter, one_more};
use ocirt_integration::criu::{assert_counts_on, count, counting, images, ocirt, restore_call, save};
use ocirt_integration::forge::{self, Entry, Value, edit, edit_all};
use ocirt_integration::{host, tests};
use serde_json::json;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

tests![
    flags_by_which_a_file_would_be_emptied_are_refused,
    names_that_lead_upwards_are_refused,
    a_firewall_that_would_run_a_program_is_refused,
    a_part_of_a_strange_file_system_is_refused,
    a_mount_by_another_call_is_refused,
    the_rootfs_of_criu_is_as_read_only_as_config_json_says,
    a_mount_through_a_link_is_found_before_files_are_opened,
    no_name_of_an_image_writes_to_the_images,
];

/// One more open file of this kind, which is the field that has it.
pub(super) fn one_more_file(images: &Path, kind: u64, file: &Entry) {
    edit(&images.join("files.img"), |all| {
        let mut entry = Entry::default();
        entry.set_number(1, 1);
        entry.set_number(2, 9_999);
        entry.set(kind, Value::Bytes(file.encode()));
        all.push(entry);
    });
}

fn flags_by_which_a_file_would_be_emptied_are_refused() {
    ocirt();
    let saved = Saved::new(confined());
    let words = "flags that no open file has";
    // O_CREAT, O_EXCL, O_NOCTTY, O_TRUNC: field 2 of a regular file has the flags.
    for flag in [0o100, 0o200, 0o400, 0o1000] {
        saved.refuses_before_criu(&format!("--image-path: files.img: \"/count\": {words}"), |images| {
            counter(images, |file| {
                let flags = file.number(2).unwrap_or_default();
                file.set_number(2, flags | flag);
            });
        });
    }
    // Field 19 is a terminal, with flags in its field 3.
    saved.refuses_before_criu(words, |images| {
        let mut terminal = Entry::default();
        terminal.set_number(3, 0o1000);
        one_more_file(images, 19, &terminal);
    });
    // Field 14 of mm has the mappings, whose field 10 are the flags.
    saved.refuses_before_criu(words, |images| {
        edit_all(images, "mm-", |all| all[0].each(14, |mapping| mapping.set_number(10, 0o1002)));
    });
    saved.is_sound();
}

/// A message with this value in a field of a field.
fn nested(fields: &[u64], path: &str) -> Entry {
    let (first, rest) = fields.split_first().expect("a field");
    let mut entry = Entry::default();
    match rest {
        [] => entry.set_text(*first, path),
        rest => entry.set(*first, Value::Bytes(nested(rest, path).encode())),
    }
    entry
}

fn names_that_lead_upwards_are_refused() {
    ocirt();
    let saved = Saved::new(confined());
    // A socket's name and the directory that it is relative to, and the files that inotify and fanotify watch.
    for (kind, fields) in [(16, &[11][..]), (16, &[14]), (13, &[5, 7, 4]), (14, &[6, 7, 2, 4])] {
        for path in ["/proc/self/fd/9/../images", "..", "a/../../b"] {
            saved.refuses_before_criu("a path with \"..\" or a NUL byte", |images| {
                one_more_file(images, kind, &nested(fields, path));
            });
        }
    }
    // What CRIU would take for a name ends at a NUL byte; an abstract one begins with it.
    saved.refuses_before_criu("a path with \"..\" or a NUL byte", |images| {
        one_more_file(images, 16, &nested(&[11], "/a\0/b\0"));
    });
    saved.is_sound();
}

/// The rules of all network namespaces of the images, of which there is one.
fn rules(images: &Path, kind: &str) -> PathBuf {
    let all = fs::read_dir(images).expect("images").flatten();
    let netns = all.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let number = netns.filter_map(|name| name.strip_prefix("netns-").map(str::to_owned)).next().expect("a netns");
    images.join(format!("{kind}-{number}"))
}

fn a_firewall_that_would_run_a_program_is_refused() {
    ocirt();
    let saved = Saved::new(confined());
    for kind in ["iptables", "ip6tables"] {
        for option in ["--modprobe /evil", "--modprobe=/evil", "--mod /evil", "-M /evil", "-4M/evil", "\"-M\" /evil"] {
            saved.refuses_before_criu("is not an option of iptables-save", |images| {
                let text = format!("*filter\n:INPUT ACCEPT [0:0]\n-A INPUT {option} -j ACCEPT\nCOMMIT\n");
                fs::write(rules(images, kind), text).expect("rules");
            });
        }
        saved.refuses_before_criu("not a line of iptables-save", |images| {
            fs::write(rules(images, kind), "*filter\n-I INPUT -j ACCEPT\nCOMMIT\n").expect("rules");
        });
    }
    saved.refuses_before_criu("\"include\" in the rules of nftables cannot be restored", |images| {
        fs::write(rules(images, "nftables"), "include \"/etc/passwd\"\n").expect("rules");
    });
    saved.is_sound();
}

/// Fields of a mount: 1 is its kind, 2 its number, 3 its device, 6 what it shows.
fn a_part_of_a_strange_file_system_is_refused() {
    ocirt();
    let saved = Saved::new(confined());
    saved.refuses_before_criu("mount \"/tmp\": \"/a\" is no part of a file system of the container", |images| {
        one_more(images, "/dev/shm", |new| {
            new.set_number(3, 77_777);
            new.set_text(6, "/a");
        });
    });
    for process in ["/1/root", "/self/root", "/thread-self/cwd"] {
        saved.refuses_before_criu("of a procfs may lead anywhere", |images| {
            one_more(images, "/proc", |new| new.set_text(6, process));
        });
    }
    // The options of a cgroup file system are the host's: its flags, and a program to run when a cgroup becomes empty.
    for kind in [12, 23] {
        saved.refuses_before_criu(&format!("a file system of kind {kind} cannot be restored"), |images| {
            one_more(images, "/dev/shm", |new| {
                new.set_number(1, kind);
                new.set_text(9, "none,name=evil,release_agent=/evil");
            });
        });
    }
    saved.refuses_before_criu("two mounts of one number", |images| {
        let mut number = 0;
        forge::edit_all(images, "mountpoints-", |all| {
            number = all
                .iter()
                .find(|mount| mount.text(7).as_deref() == Some("/dev/shm"))
                .expect("mount")
                .number(2)
                .expect("id");
        });
        one_more(images, "/dev/shm", |new| new.set_number(2, number));
    });
    saved.is_sound();
}

/// What of a mount CRIU passes to mount(2): 5 are its flags, 8 its source, 9 its options, 17 the superblock's flags. With MS_BIND
/// the source is a path, and tar(1) extracts an archive of the image there.
fn a_mount_by_another_call_is_refused() {
    ocirt();
    let saved = Saved::new(confined());
    // MS_REMOUNT, BIND, MOVE, REC, POSIXACL; and the propagation of a superblock.
    for (field, bits) in [(5, &[5, 12, 13, 14, 16][..]), (17, &[5, 12, 13, 14, 16, 17, 18, 19, 20])] {
        let words = if field == 5 { "which no mount has" } else { "which none has" };
        for bit in bits {
            saved.refuses_before_criu(words, |images| {
                changed_mount(images, "/dev/shm", |mount| {
                    let flags = mount.number(field).unwrap_or_default();
                    mount.set_number(field, flags | 1 << bit);
                    mount.set_text(8, "/proc");
                    mount.set_text(9, "");
                });
            });
        }
    }
    for (at, options) in [("/proc", "pidns=/proc/1/ns/pid"), ("/dev/shm", "size=1k,lowerdir=/"), ("/sys", "mode=7")] {
        let words = format!("mount {at:?}: option {:?} of a ", options.rsplit(',').next().unwrap_or_default());
        saved.refuses_before_criu(&words, |images| changed_mount(images, at, |mount| mount.set_text(9, options)));
    }
    saved.refuses_before_criu("mount \"/dev/shm\": a tmpfs on device 0x100001", |images| {
        changed_mount(images, "/dev/shm", |mount| mount.set_number(3, 0x0010_0001));
    });
    saved.refuses_before_criu("mount \"/dev/shm\": an external mount without a name", |images| {
        changed_mount(images, "/dev/shm", |mount| mount.set_number(13, 1));
    });
    saved.is_sound();
}

fn changed_mount(images: &Path, at: &str, change: impl Fn(&mut Entry)) {
    let mut count = 0;
    edit_all(images, "mountpoints-", |all| {
        for mount in all.iter_mut().filter(|mount| mount.text(7).as_deref() == Some(at)) {
            change(mount);
            count += 1;
        }
    });
    assert_eq!(count, 1, "mounts on {at}");
}

/// A hook of the restore sees the mounts that CRIU has begun with. The source of the tmpfs is a text like any other.
fn the_rootfs_of_criu_is_as_read_only_as_config_json_says() {
    ocirt();
    let bundle = confined();
    let (file, seen) = (bundle.inside("/count"), host::place().join("seen"));
    fs::write(&file, "").expect("file");
    let words =
        format!("pid=$(sed 's/.*\"pid\": *\\([0-9]*\\).*/\\1/'); cat /proc/$pid/mountinfo > {}", seen.display());
    let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", words] });
    let bundle = bundle
        .set("root.readonly", json!(true))
        .mount("bind", file.to_str().expect("UTF-8"), "/count", &["bind", "rw"])
        .mount("tmpfs", "/proc", "/tmp", &[])
        .hook("createRuntime", hook);
    Saved::new(bundle).is_sound();
    let mounts = fs::read_to_string(&seen).expect("mounts");
    let rootfs = mounts.lines().find(|line| line.contains(" /.ocirt/rootfs ")).expect("CRIU's rootfs");
    assert!(rootfs.contains(" /.ocirt/rootfs ro,"), "{rootfs}");
}

/// A link that the container left in a tmpfs is there only when CRIU has made that. It leads to what CRIU has and the
/// container has not: its images, where a file would be opened, and a socket bound, before its mounts are compared.
fn a_mount_through_a_link_is_found_before_files_are_opened() {
    ocirt();
    let container = counting(confined());
    symlink(images(), format!("/proc/{}/root/dev/shm/link", container.pid())).expect("link");
    save(&container, &[]);
    let good = host::place().join("good");
    copy(&images(), &good);
    let saved = Saved { container, good };
    let victim = images().join("sub/victim");
    let forge = |images: &Path, flags: u64| {
        fs::create_dir(images.join("sub")).expect("directory");
        fs::write(&victim, "precious").expect("victim");
        one_more(images, "/dev/shm", |new| new.set_text(6, "/link/sub"));
        counter(images, |file| {
            file.set_text(6, "/tmp/victim");
            // The number of that mount, signed: zigzag.
            file.set_number(7, 99_999 * 2);
            let own = file.number(2).unwrap_or_default();
            file.set_number(2, own | flags);
            file.0.retain(|(field, _)| ![8, 10, 11].contains(field));
        });
    };
    saved.refuses("flags that no open file has", |images| forge(images, 0o1000));
    assert_eq!(fs::read_to_string(&victim).expect("victim"), "precious");
    saved.refuses("mounts: wanted on /tmp what its image says, found", |images| forge(images, 0));
    let log = fs::read_to_string(images().join("restore.log")).expect("log");
    assert!(log.contains("mnt-0000099999") && !log.contains("Opening"), "{log}");
    saved.is_sound();
}

/// The processes that CRIU makes have its descriptors when they open files and bind sockets: that of its images, too, by which a
/// container could bind its socket there. Nothing of the host's is written by them.
fn no_name_of_an_image_writes_to_the_images() {
    ocirt();
    let saved = Saved::new(confined());
    let work = host::place().join("work");
    for flags in [&["--detach"][..], &["--detach", "--work-path", work.to_str().expect("UTF-8")]] {
        // That of CRIU 4.1 is 126, where nothing else is open.
        let found = (120..140).chain(3..120).chain(140..400).find_map(|descriptor| {
            saved.renew();
            counter(&images(), |file| {
                file.set_text(6, &format!("/proc/self/fd/{descriptor}/pstree.img"));
                // O_WRONLY; size, checksum and mode are what they are.
                file.set_number(2, 1);
                file.0.retain(|(field, _)| ![8, 10, 11].contains(field));
            });
            let output = restore_call(&saved.container.bundle, flags).run();
            assert_ne!(output.status, 0, "{descriptor}");
            let words = output.stderr;
            let is_there = !words.contains("No such file") && !words.contains("Not a directory");
            (is_there && words.contains("pstree.img")).then_some(words)
        });
        let words = found.expect("a descriptor that leads to the images");
        assert!(words.contains("Read-only file system"), "{words}");
        let log = if flags.len() > 1 { work.join("restore.log") } else { images().join("restore.log") };
        assert!(log.exists(), "{}", log.display());
    }
    saved.renew();
    let before = count(&saved.container.bundle);
    restore_call(&saved.container.bundle, &["--detach"]).run().ok();
    assert_counts_on(&saved.container.bundle, before);
    // What CRIU writes is where it was asked for.
    assert!(images().join("restore.log").exists() && images().join("stats-restore").exists());
}
