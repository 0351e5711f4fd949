//! Attacks by a `/dev` that is not what it should be, of an image or of processes that run already: no terminal is a
//! planted file, and no masked path is one.

use super::exec::exec;
use super::hostile_files::{Loot, facts, node};
use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::needs::need_root;
use ocirt_integration::runtime::{call, kind};
use ocirt_integration::terminal::{Receiver, pty, read_until};
use ocirt_integration::wait::eventually;
use ocirt_integration::{host, probe, tests};
use serde_json::{Value, json};
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

tests![
    cve_2025_52565_a_terminal_of_exec_is_never_a_planted_file,
    cve_2025_52565_a_terminal_of_create_is_never_a_planted_file,
    cve_2025_31133_what_is_no_null_device_masks_nothing_away,
];

/// What is made of the path, or of things below it, and the file outside that it is to lead to.
type Plant = (&'static str, fn(&Path, &str));

/// What root of a container that may mount can make of its `/dev`, seen through its root directory.
const PLANTS: [Plant; 6] = [
    ("/dev/console is a symlink", |dev, loot| symlink(loot, dev.join("console")).expect("symlink")),
    ("/dev/ptmx is a symlink", |dev, loot| {
        fs::remove_file(dev.join("ptmx")).expect("ptmx");
        symlink(loot, dev.join("ptmx")).expect("symlink");
    }),
    ("/dev/ptmx is a file", |dev, _| {
        fs::remove_file(dev.join("ptmx")).expect("ptmx");
        fs::write(dev.join("ptmx"), "fake").expect("file");
    }),
    ("/dev/pts is a symlink", |dev, _| {
        fs::remove_dir(dev.join("pts")).expect("pts");
        symlink("/data/pts", dev.join("pts")).expect("symlink");
    }),
    ("/dev/pts is a plain directory", |dev, loot| {
        symlink(loot, dev.join("pts/ptmx")).expect("symlink");
        symlink(loot, dev.join("pts/0")).expect("symlink");
    }),
    ("/dev/pts/ptmx is another device", |dev, _| node(&dev.join("pts/ptmx"), libc::S_IFCHR, 1, 3)),
];

/// A running container in which one of [`PLANTS`] has been made; some need `/dev/pts` out of the way.
fn planted(what: &str, plant: fn(&Path, &str), loot: &str) -> Container {
    let admin = json!(["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
    let sets = json!({ "bounding": admin, "effective": admin, "permitted": admin });
    let bundle = Bundle::new().set("process.capabilities", sets).directory("data/pts").file("data/pts/ptmx", "fake");
    let program = match what.starts_with("/dev/pts") {
        true => probe!(umount "/dev/pts"; print "up"; sleep 60),
        false => probe!(print "first"; print "up"; sleep 60),
    };
    let container = bundle.create(program);
    container.start().ok();
    assert_ne!(container.answers(2)[0]["error"], "EBUSY");
    plant(&Path::new("/proc").join(container.pid().to_string()).join("root/dev"), loot);
    container
}

/// Each terminal that a process got is a true one; says whether there was one.
#[track_caller]
fn has_true_terminal(text: &str, what: &str) -> bool {
    let answers = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let terminals: Vec<_> = answers.filter(|answer| answer["tty"].is_array()).collect();
    for answer in &terminals {
        assert_eq!(answer["tty"], json!([true, true, true]), "{what}");
    }
    !terminals.is_empty()
}

fn cve_2025_52565_a_terminal_of_exec_is_never_a_planted_file() {
    need_root();
    let loot = Loot::new();
    for (what, plant) in PLANTS {
        let container = planted(what, plant, loot.text());
        let fake = container.bundle.inside("data/pts/ptmx");
        let before = facts(&fake);
        for flags in [&["-t"][..], &["-t", "-u", "1000:1000"]] {
            let (mut master, slave) = pty(24, 80);
            let mut process = exec(&container, flags, probe!(tty)).terminal(&slave).spawn();
            drop(slave);
            let text = read_until(&mut master, |text| text.contains('\n'));
            let output = process.finish();
            let has_one = has_true_terminal(&text, what);
            if kind() == "ocirt" {
                let is_refused = what.starts_with("/dev/pts");
                assert_eq!(has_one, !is_refused, "{what}: {text}");
                assert_eq!(output.status, if is_refused { 255 } else { 0 }, "{what}: {output:?} {text}");
                assert!(!is_refused || text.contains("/dev/pts"), "{what}: {text}");
            }
        }
        let receiver = Receiver::new(&host::socket());
        let socket = receiver.path.to_str().expect("UTF-8");
        let output = exec(&container, &["-t", "-d", "--console-socket", socket], probe!(sleep 60)).run();
        if output.status == 0 {
            let (master, _) = receiver.receive();
            let meta = fs::File::from(master).metadata().expect("master");
            assert_eq!((libc::major(meta.rdev()), libc::minor(meta.rdev())), (5, 2), "{what}: no master of a terminal");
        }
        fs::remove_file(socket).expect("socket");
        loot.assert_untouched(what);
        assert_eq!(facts(&fake), before, "{what}");
        end(&container);
    }
}

/// Ends a container and what an exec has left in it, whose parent this process is.
fn end(container: &Container) {
    container.call(["kill", "--all", container.id(), "KILL"]);
    eventually("the container ends", || {
        host::reap_zombies();
        container.status() == "stopped"
    });
    container.delete().ok();
}

fn without_dev(bundle: Bundle) -> Bundle {
    bundle.config(|spec| {
        let mounts = spec["mounts"].as_array_mut().expect("mounts");
        mounts.retain(|mount| !mount["destination"].as_str().unwrap_or("").starts_with("/dev"));
    })
}

/// The same of an image, which has a `/dev` of its own.
fn cve_2025_52565_a_terminal_of_create_is_never_a_planted_file() {
    need_root();
    let loot = Loot::new();
    for (what, plant) in PLANTS {
        for with_devpts in [false, true] {
            let bundle = without_dev(Bundle::new()).directory("data/pts").file("data/pts/ptmx", "fake");
            let bundle = bundle.directory("dev/pts").file("dev/ptmx", "");
            plant(&bundle.inside("dev"), loot.text());
            let bundle = match with_devpts {
                true => bundle.mount("devpts", "devpts", "/dev/pts", &["newinstance", "ptmxmode=0666", "mode=0620"]),
                false => bundle,
            };
            let bundle = bundle.set("process.terminal", json!(true)).set("process.user.uid", json!(1000));
            let bundle = bundle.write(probe!(tty));
            let (mut master, slave) = pty(24, 80);
            let mut run = bundle.call("run").terminal(&slave).spawn();
            drop(slave);
            let text = read_until(&mut master, |text| text.contains('\n'));
            let output = run.finish();
            let has_one = has_true_terminal(&text, what);
            loot.assert_untouched(what);
            assert_eq!(facts(&bundle.inside("data/pts/ptmx")).0, 0, "{what}: it was given away");
            if kind() == "ocirt" {
                // A devpts that is mounted over them covers all but the console.
                let is_harmless =
                    with_devpts && !["/dev/console is a symlink", "/dev/pts is a symlink"].contains(&what);
                assert_eq!(output.status == 0, is_harmless, "{what} {with_devpts}: {output:?} {text}");
                assert_eq!(has_one, is_harmless, "{what} {with_devpts}: {text}");
            }
        }
    }
    host::assert_nothing_left();
}

fn cve_2025_31133_what_is_no_null_device_masks_nothing_away() {
    need_root();
    let loot = Loot::new();
    let plants: [Plant; 6] = [
        ("a file", |null, _| fs::write(null, "loot").expect("file")),
        ("another device", |null, _| node(null, libc::S_IFCHR, 1, 5)),
        ("a directory", |null, _| fs::create_dir(null).expect("directory")),
        ("a dangling symlink", |null, loot| symlink(loot, null).expect("symlink")),
        ("a symlink to procfs", |null, _| symlink("/proc/sys/kernel/domainname", null).expect("symlink")),
        ("a fifo", |null, _| node(null, libc::S_IFIFO, 0, 0)),
    ];
    for (what, plant) in plants {
        let bundle = without_dev(Bundle::new()).file("secret", "42");
        plant(&bundle.inside("dev/null"), loot.text());
        let bundle = bundle.set("linux.maskedPaths", json!(["/secret"])).set("linux.readonlyPaths", json!([]));
        let bundle = bundle.write(probe!(read "/secret"; write "/secret", "taken"; print "words"; sleep 60));
        let mut create = bundle.call("create").spawn();
        let output = create.finish();
        if kind() == "ocirt" {
            assert_eq!((output.status, output.stdout.as_str()), (1, ""), "{what}: {output:?}");
            assert!(output.stderr.contains("/dev/null"), "{what}: {}", output.stderr);
        }
        if output.status == 0 {
            let pid = call(["state", &bundle.id]).json()["pid"].as_u64().expect("a pid");
            let before = domain(pid);
            call(["start", &bundle.id]).ok();
            std::thread::sleep(std::time::Duration::from_millis(300));
            assert_eq!(domain(pid), before, "{what}: a file of procfs was written");
            let first = create.stdout().lines().next().unwrap_or_default().to_owned();
            assert!(!first.contains("42") && !first.contains("loot"), "{what}: {first}");
            call(["delete", "--force", &bundle.id]).ok();
        }
        loot.assert_untouched(what);
        host::assert_nothing_left();
    }
}

/// The domain name in the UTS namespace of process `pid`: of the files of `/proc/sys`, one that is the container's own, in
/// place of core_pattern, which would be the host's.
fn domain(pid: u64) -> String {
    let inside = move || {
        let namespace = fs::File::open(format!("/proc/{pid}/ns/uts")).expect("namespace");
        // SAFETY: no memory is passed; this thread alone changes its namespace, and ends.
        assert_eq!(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWUTS) }, 0);
        fs::read_to_string("/proc/sys/kernel/domainname").expect("domainname")
    };
    std::thread::spawn(inside).join().expect("thread")
}
