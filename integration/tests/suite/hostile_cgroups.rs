//! A container that may make cgroups below its own (delegated, privileged, or with a writable mount): whatever it calls
//! them, however deep and however many they are, and whatever it does with them meanwhile, all of it is found, stopped and
//! removed. The tests do with the cgroups what a container would do.

use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::host;
use ocirt_integration::needs::{Need, need, need_ocirt, need_root};
use ocirt_integration::runtime::{Call, call, reachable};
use ocirt_integration::wait::eventually;
use ocirt_integration::{corner, probe, tests, user};
use serde_json::json;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::exec::exec;
use super::inject::traced;

tests![
    no_name_hides_a_process,
    no_depth_hides_a_process,
    a_few_descriptors_are_enough_for_any_depth,
    two_thousand_siblings_are_found_and_removed,
    cgroups_that_change_all_the_time_hold_nobody_up,
    exec_enters_where_init_has_gone,
    cgroups_that_are_frozen_below_die,
    a_pause_after_the_look_keeps_nobody_alive,
    a_pause_that_meets_a_killed_init_lets_it_die,
    kill_all_that_leaves_somebody_alive_is_an_error,
    no_signal_goes_to_a_pid_that_is_not_looked_at_again,
];

/// Processes that share the test's pid namespace, so that they do not end with init.
fn sleepers(count: usize) -> (Container, Vec<u32>) {
    need_ocirt();
    let mut words = probe!(print "init");
    for _ in 0..count {
        words.extend(["+", "spawn", "60"].map(str::to_owned));
    }
    words.extend(["+", "sleep", "60"].map(str::to_owned));
    let container = Bundle::new().namespace("cgroup", None).without_namespace("pid").start(words);
    let pids = container.answers(count + 1);
    let pids: Vec<u32> = pids.iter().filter_map(|pid| pid.as_u64()?.try_into().ok()).collect();
    assert_eq!(pids.len(), count);
    (container, pids)
}

/// The container's directory in each hierarchy.
fn directories(container: &Container) -> Vec<PathBuf> {
    let all = host::cgroups(container.id());
    all.iter().filter(|path| !all.iter().any(|other| path.starts_with(other) && *path != other)).cloned().collect()
}

/// Moves a process into `name` below the container's own, in each hierarchy that takes it.
fn move_below(container: &Container, name: &OsStr, pid: u32) {
    let mut moved = 0;
    for directory in directories(container) {
        let below = directory.join(name);
        if !below.exists() {
            std::fs::create_dir(&below).unwrap_or_else(|error| panic!("{below:?}: {error}"));
            give(&below);
        }
        // A new cpuset of v1 has no CPUs, and takes nobody.
        moved += usize::from(std::fs::write(below.join("cgroup.procs"), pid.to_string()).is_ok());
    }
    assert!(moved > 0, "{name:?}");
}

/// `depth` cgroups called `name`, one below the other, in each hierarchy; `pids` go to the bottom.
fn nest(container: &Container, name: &str, depth: usize, pids: &[u32]) {
    for directory in directories(container) {
        let mut command = Command::new(host::probe());
        command.args(["nest", &directory.display().to_string(), name, &depth.to_string()]);
        command.args(pids.iter().map(u32::to_string));
        let output = command.output().expect("probe");
        let answer = String::from_utf8_lossy(&output.stdout).into_owned();
        let takes_nobody = directory.starts_with("/sys/fs/cgroup/cpuset");
        assert!(answer.trim() == "\"ok\"" || takes_nobody, "{directory:?}: {answer} {output:?}");
        give(&directory.join(name));
    }
}

/// In the user's suite what the container makes is the user's: makes it so, with all that is below.
fn give(directory: &Path) {
    if user::has_suite() {
        let owner = format!("{0}:{0}", user::USER);
        let output = Command::new("chown").args(["-R", &owner, "--"]).arg(directory).output().expect("chown");
        assert!(output.status.success(), "{output:?}");
    }
}

fn pids(container: &Container) -> Vec<u32> {
    let list = call(["ps", "--format", "json", container.id()]).ok().json();
    list.as_array().into_iter().flatten().filter_map(|pid| pid.as_u64()?.try_into().ok()).collect()
}

fn lives(pid: u32) -> bool {
    host::process_state(pid).is_some_and(|letter| letter != 'Z')
}

/// Every command that has to do with all processes finds these, and the container goes.
fn found_stopped_and_removed(container: &Container, all: &[u32]) {
    let found = pids(container);
    assert!(all.iter().all(|pid| found.contains(pid)), "{all:?} in {found:?}");
    assert_eq!(found.len(), all.len() + 1, "with init");
    call(["pause", container.id()]).ok();
    assert_eq!(container.status(), "paused");
    call(["resume", container.id()]).ok();
    call(["kill", "--all", container.id(), "KILL"]).ok();
    // A process leaves its cgroup a moment before it is a zombie.
    eventually("all have ended after kill --all", || !all.iter().any(|pid| lives(*pid)));
    call(["delete", "--force", container.id()]).ok();
    host::assert_nothing_left();
}

/// Names of all bytes that the kernel takes: neither NUL nor slash, nor the newline, which would spoil /proc/PID/cgroup.
fn no_name_hides_a_process() {
    let every: Vec<u8> = (1..=255).filter(|byte| !matches!(byte, b'/' | b'\n')).collect();
    let mut names: Vec<Vec<u8>> = vec![b"\xff".to_vec(), b" (deleted)".to_vec(), b"a:b,c=d ".to_vec(), b"-".to_vec()];
    names.extend(every.chunks(101).map(<[u8]>::to_vec));
    // Reproducible noise (a linear congruential generator).
    let mut seed = 1u32;
    for length in [1, 2, 7, 60, 200, 255] {
        let mut byte = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            every[(seed >> 16) as usize % every.len()]
        };
        names.push((0..length).map(|_| byte()).collect());
    }
    let (container, all) = sleepers(names.len());
    for (name, pid) in names.iter().zip(&all) {
        move_below(&container, OsStr::from_bytes(name), *pid);
    }
    found_stopped_and_removed(&container, &all);
}

/// Deeper than PATH_MAX; the kernel itself cannot write the path into /proc/PID/cgroup.
fn no_depth_hides_a_process() {
    let (container, all) = sleepers(2);
    nest(&container, &"d".repeat(200), 30, &all[..1]);
    move_below(&container, OsStr::new("shallow"), all[1]);
    found_stopped_and_removed(&container, &all);
}

fn a_few_descriptors_are_enough_for_any_depth() {
    let (container, all) = sleepers(1);
    nest(&container, "d", 150, &all);
    let few = host::place().join("few");
    let text = format!("#!/bin/sh\nulimit -n 16\nexec {} \"$@\"\n", reachable().display());
    std::fs::write(&few, text).expect("script");
    std::fs::set_permissions(&few, std::fs::Permissions::from_mode(0o755)).expect("script");
    let list = Call::new(["ps", "--format", "json", container.id()]).program(&few).run().ok().json();
    assert!(list.as_array().is_some_and(|list| list.contains(&json!(all[0]))), "{list}");
    Call::new(["kill", "--all", container.id(), "KILL"]).program(&few).run().ok();
    eventually("it has ended", || !lives(all[0]));
    Call::new(["delete", "--force", container.id()]).program(&few).run().ok();
    host::assert_nothing_left();
}

fn two_thousand_siblings_are_found_and_removed() {
    let (container, all) = sleepers(1);
    let hierarchies = directories(&container);
    for directory in hierarchies.iter().filter(|path| is_main(path)) {
        for number in 0..2000 {
            std::fs::create_dir(directory.join(format!("sibling{number}"))).expect("cgroup");
        }
        // Some that are neither the first nor the last in any order, and have others below them.
        for number in [0, 999, 1000, 1999] {
            std::fs::create_dir(directory.join(format!("sibling{number}/below"))).expect("cgroup");
        }
        give(directory);
        std::fs::write(directory.join("sibling1000/below/cgroup.procs"), all[0].to_string()).expect("move");
    }
    let start = Instant::now();
    found_stopped_and_removed(&container, &all);
    assert!(start.elapsed() < Duration::from_secs(15), "{:?}", start.elapsed());
}

/// The hierarchies that tests with many cgroups use: v2, or of v1 those of signals and of the freezer.
fn is_main(directory: &Path) -> bool {
    host::is_cgroup2()
        || ["devices", "freezer"].iter().any(|name| directory.starts_with(format!("/sys/fs/cgroup/{name}")))
}

fn cgroups_that_change_all_the_time_hold_nobody_up() {
    need_ocirt();
    need_root();
    let places: &[&str] = if host::is_cgroup2() { &[""] } else { &["/devices", "/freezer"] };
    let mut words = probe!(print "init");
    for place in places {
        words.extend(["+", "churn", &format!("/sys/fs/cgroup{place}"), "2"].map(str::to_owned));
    }
    words.extend(["+", "sleep", "60"].map(str::to_owned));
    let bundle = Bundle::new().namespace("cgroup", None).without_namespace("pid");
    let container = bundle.mount("cgroup", "cgroup", "/sys/fs/cgroup", &["rw"]).start(words);
    assert_eq!(container.answers(places.len() + 1)[1], json!(2));
    let init = container.pid();
    let own = directories(&container).into_iter().find(|path| is_main(path)).expect("its cgroup");
    let has_others = || own.read_dir().is_ok_and(|mut all| all.any(|entry| entry.is_ok_and(|it| it.path().is_dir())));
    eventually("cgroups are made", has_others);
    for _ in 0..20 {
        assert!(pids(&container).contains(&init));
        call(["pause", container.id()]).ok();
        // Nobody moves now.
        assert_eq!(pids(&container).len(), 1 + 2 * places.len());
        call(["resume", container.id()]).ok();
    }
    call(["kill", "--all", container.id(), "KILL"]).ok();
    assert!(pids(&container).is_empty());
    call(["delete", "--force", container.id()]).ok();
    host::assert_nothing_left();
}

/// On v2 nobody can enter a cgroup that gives controllers to those below it: exec goes where init is.
fn exec_enters_where_init_has_gone() {
    need(Need::CgroupV2, host::is_cgroup2());
    for (name, depth) in [("sub", 1), ("\u{1}\u{7f} x", 1), ("", 0), (&*"d".repeat(200), 30)] {
        let (container, _) = sleepers(0);
        let init = container.pid();
        match name {
            "" => move_below(&container, OsStr::from_bytes(b"\xff"), init),
            name => nest(&container, name, depth, &[init]),
        }
        let own = &directories(&container)[0];
        std::fs::write(own.join("cgroup.subtree_control"), "+pids").expect("controller");
        let output = exec(&container, &[], probe!(print "entered")).run().ok();
        assert_eq!(output.answer(), "entered", "{name:?}");
        call(["delete", "--force", container.id()]).ok();
        host::assert_nothing_left();
    }
}

/// Moves a process into a cgroup of v1's freezer below the container's own, and freezes that.
fn freeze_below(container: &Container, pid: u32) {
    need(Need::CgroupV1, !host::is_cgroup2());
    let below = container.cgroup("freezer").join(OsStr::from_bytes(b"cold\xff"));
    std::fs::create_dir(&below).expect("cgroup");
    std::fs::create_dir(below.join("colder")).expect("cgroup");
    std::fs::write(below.join("colder/cgroup.procs"), pid.to_string()).expect("move");
    for frozen in [below.join("colder/freezer.state"), below.join("freezer.state")] {
        std::fs::write(&frozen, "FROZEN").expect("freezer.state");
        eventually("it is frozen", || std::fs::read_to_string(&frozen).is_ok_and(|state| state == "FROZEN\n"));
    }
}

fn cgroups_that_are_frozen_below_die() {
    for words in [&["kill", "--all"][..], &["delete", "--force"], &["kill"]] {
        let (container, all) = sleepers(1);
        freeze_below(&container, all[0]);
        let signal = (words[0] == "kill").then_some("KILL");
        let start = Instant::now();
        Call::new(words.iter().copied().chain([container.id()]).chain(signal)).run().ok();
        assert!(start.elapsed() < Duration::from_secs(9), "{words:?} took {:?}", start.elapsed());
        eventually(&format!("{words:?} ends what is frozen"), || !lives(all[0]));
        call(["delete", "--force", container.id()]).ok();
        host::assert_nothing_left();
    }
    // Init itself, which has a pid namespace: one signal, to it alone.
    for words in [["kill", "KILL"], ["delete", "--force"]] {
        let container = Bundle::new().namespace("cgroup", None).start(probe!(sleep 60));
        let init = container.pid();
        freeze_below(&container, init);
        match words {
            ["kill", signal] => container.kill(signal).ok(),
            _ => call(["delete", "--force", container.id()]).ok(),
        };
        eventually(&format!("{words:?} ends init"), || !lives(init));
        call(["delete", "--force", container.id()]).ok();
    }
    host::assert_nothing_left();
}

/// strace(1) delays the signal of `kill` and `delete`, by when somebody else has paused the container.
fn a_pause_after_the_look_keeps_nobody_alive() {
    need(Need::CgroupV1, !host::is_cgroup2());
    need_ocirt();
    need_strace();
    for words in [["delete", "--force"].as_slice(), &["kill"]] {
        let container = Bundle::new().start(probe!(sleep 60));
        let init = container.pid();
        let signal = (words[0] == "kill").then_some("KILL");
        let options = "-e trace=pidfd_send_signal -e inject=pidfd_send_signal:delay_enter=1s:when=1";
        let (program, trace) = traced(options);
        let mut slow = Call::new(words.iter().copied().chain([container.id()]).chain(signal)).traced(&program).spawn();
        eventually("the signal is delayed", || {
            std::fs::read_to_string(&trace).is_ok_and(|text| text.contains("pidfd_send_signal"))
        });
        // By hand, as another runtime would: one of ours waits for a `delete` at work.
        let state = container.cgroup("freezer").join("freezer.state");
        std::fs::write(state, "FROZEN").expect("freezer.state");
        slow.finish().ok();
        eventually("the end of init", || !lives(init));
        call(["delete", "--force", container.id()]).ok();
    }
    host::assert_nothing_left();
}

fn need_strace() {
    need(Need::Strace, Command::new("strace").arg("-V").output().is_ok());
}

/// The other way round: strace(1) holds `pause` up where the container is frozen, and then somebody kills it.
fn a_pause_that_meets_a_killed_init_lets_it_die() {
    need(Need::CgroupV1, !host::is_cgroup2());
    need_ocirt();
    need_strace();
    let container = Bundle::new().start(probe!(sleep 60));
    let init = container.pid();
    let (program, _) = traced("-e trace=write -e inject=write:delay_exit=1s:when=1");
    let mut slow = Call::new(["pause", container.id()]).traced(&program).spawn();
    eventually("it is frozen", || container.cgroup_file("freezer", "freezer.state") == "FROZEN");
    host::signal(init, libc::SIGKILL);
    assert!(lives(init));
    slow.finish().fails("container not running");
    eventually("the end of init", || !lives(init));
    call(["delete", "--force", container.id()]).ok();
    host::assert_nothing_left();
}

/// The cgroup above is frozen, which is not the runtime's to change: the signal comes, but nobody dies.
fn kill_all_that_leaves_somebody_alive_is_an_error() {
    need(Need::CgroupV1, !host::is_cgroup2());
    need_ocirt();
    need_root();
    let above = Path::new(host::CGROUPS).join("freezer").join(host::tag());
    let own = format!("/{}/one", host::tag());
    let container = Bundle::new().set("linux.cgroupsPath", json!(own)).start(probe!(sleep 60));
    let init = container.pid();
    std::fs::write(above.join("freezer.state"), "FROZEN").expect("freezer.state");
    let output =
        call(["kill", "--all", container.id(), "KILL"]).fails(&format!("process {init} still runs after 10 s"));
    assert!(output.stderr.contains(&own), "{output:?}");
    assert!(lives(init));
    std::fs::write(above.join("freezer.state"), "THAWED").expect("freezer.state");
    eventually("the end of init", || !lives(init));
    call(["kill", "--all", container.id(), "KILL"]).ok();
    call(["delete", "--force", container.id()]).ok();
    corner::sweep();
    host::assert_nothing_left();
}

/// A pid may be another process's by the time of the signal: each process is held first, then the cgroup is asked again.
fn no_signal_goes_to_a_pid_that_is_not_looked_at_again() {
    need_strace();
    let (container, all) = sleepers(3);
    let (program, trace) = traced("-e trace=kill,tgkill,tkill,pidfd_open,pidfd_send_signal,openat");
    Call::new(["kill", "--all", container.id(), "USR1"]).traced(&program).run().ok();
    let text = std::fs::read_to_string(trace).expect("trace");
    let at = |words: &str| text.lines().map(|line| line.contains(words)).collect::<Vec<bool>>();
    let (held, asked, sent) = (at("pidfd_open("), at("\"cgroup.procs\""), at("pidfd_send_signal("));
    assert_eq!(sent.iter().filter(|sent| **sent).count(), all.len() + 1, "{text}");
    for line in 0..sent.len() {
        let last_held = held[..line].iter().rposition(|held| *held);
        let last_asked = asked[..line].iter().rposition(|asked| *asked);
        assert!(!sent[line] || last_held.is_some() && last_held < last_asked, "line {line} of {text}");
    }
    assert!(!["\nkill(", "\ntgkill(", "\ntkill("].iter().any(|call| text.contains(call)), "{text}");
    call(["delete", "--force", container.id()]).ok();
}
