//! How processes end, and that the shim misses none.

use std::fs;
use std::time::Duration;

use nix::sys::ptrace;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::waitpid;
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::world::{World, until};

/// What starts a systemd anew, and stops it, are real-time signals. nix's waitid(2) has no word for them: it took such an exit
/// and returned an error, and the container ran for ever.
#[test]
fn a_real_time_signal_is_an_exit_status_like_others() {
    let mut world = World::new("kill -40 $$; sleep 1000.5");
    world.start().unwrap();
    world.create("").unwrap();
    assert_eq!(world.run(), 168);
}

/// One that such a signal ended was in the way of all others.
#[test]
fn an_orphan_that_a_real_time_signal_ended_is_reaped() {
    let mut world = World::new("(sh -c 'kill -40 $$' &); (sh -c 'exit 3' &); exec sleep 1000.5");
    world.start().unwrap();
    world.create("").unwrap();
    world.init("Start").unwrap();
    let init: u32 = world.read("bundle/init.pid").parse().unwrap();
    until("init is alone", || {
        let line = fs::read_to_string(format!("/proc/{init}/cmdline")).unwrap();
        line.starts_with("sleep") && world.children() == [init]
    });
    world.init_kill();
    world.wait();
    world.init("Delete").unwrap();
}

/// All of them are one SIGCHLD, and they are more than the shim waits for at once.
#[test]
fn orphans_that_end_together_are_all_reaped() {
    let script = "i=0; while [ $i -lt 400 ]; do ( (exit 0) & ); i=$((i + 1)); done; exec sleep 1000.5";
    let mut world = World::new(script);
    world.start().unwrap();
    world.create("").unwrap();
    world.init("Start").unwrap();
    let (init, shim) = (world.read("bundle/init.pid"), Pid::from_raw(world.shim_pid() as i32));
    kill(shim, Signal::SIGSTOP).unwrap();
    let children = || fs::read_to_string(format!("/proc/{shim}/task/{shim}/children")).unwrap();
    let count = || children().split_whitespace().count();
    // Some may have come before it stopped.
    let line = || fs::read_to_string(format!("/proc/{init}/cmdline")).unwrap();
    until("there are no more", || line().starts_with("sleep"));
    assert!(count() > 257, "{}", count());
    kill(shim, Signal::SIGCONT).unwrap();
    until("they are reaped", || children().trim() == init);
    world.init_kill();
    world.wait();
    world.init("Delete").unwrap();
}

/// Its pidfd would be readable for ever, and never be waited for.
#[test]
fn a_process_that_is_no_child_of_the_shim_is_an_error() {
    let mut world = World::new("exec sleep 1000.5");
    // Of the test's own children, one that ends.
    let mut other = std::process::Command::new("true").spawn().unwrap();
    world.write("foreign", &other.id().to_string());
    world.start().unwrap();
    let error = world.create("").unwrap_err().message;
    assert!(error.starts_with(&format!("OCI runtime create failed: process {}: ", other.id())), "{error}");
    other.wait().unwrap();
    assert!(world.read("bundle/calls").ends_with("delete --force -- c\n"), "it is undone");
}

/// `ocirt wait` reads it.
#[test]
fn how_init_has_ended_is_left_in_the_bundle() {
    for (script, end) in
        [("exit 3", json!({ "exitStatus": 3 })), ("kill -9 $$", json!({ "exitStatus": 137, "signal": 9 }))]
    {
        let mut world = World::new(&format!("cut -d ' ' -f 1,22 /proc/self/stat >\"$0.stat\"; {script}"));
        // The shell is the process that `self` is, if it reads the line itself.
        world.write("program", &format!("read -r line </proc/self/stat; echo \"$line\" >\"$0.stat\"; {script}"));
        std::os::unix::fs::symlink("victim", world.bundle().join("ocirt-exit.json")).unwrap();
        world.start().unwrap();
        world.create("").unwrap();
        world.init("Start").unwrap();
        world.wait();
        let stat = world.read("bundle/program.stat");
        let field = |number: usize| stat.split_whitespace().nth(number - 1).unwrap().parse::<u64>().unwrap();
        let record: Value = serde_json::from_str(&world.read("bundle/ocirt-exit.json")).unwrap();
        let mut expected = json!({ "pid": field(1), "startTime": field(22) });
        expected.as_object_mut().unwrap().extend(end.as_object().unwrap().clone());
        assert_eq!(record, expected);
        assert!(!world.bundle().join("victim").exists(), "a link is not followed");
        world.init("Delete").unwrap();
    }
}

/// What another process traces is told to that one first, which may take its time (ptrace(2)): a process of the container that
/// wants to keep the host busy. The descriptor is readable meanwhile, and there is nothing to be had of it.
#[test]
fn a_process_that_is_traced_keeps_no_processor_busy_at_its_end() {
    let mut world = World::new("exec sleep 1000.5");
    world.start().unwrap();
    world.create("").unwrap();
    world.init("Start").unwrap();
    let init = Pid::from_raw(world.read("bundle/init.pid").parse().unwrap());
    ptrace::seize(init, ptrace::Options::empty()).unwrap();
    world.init_kill();
    let shim = world.shim_pid();
    let stat = || fs::read_to_string(format!("/proc/{init}/stat")).unwrap();
    until("it has ended", || stat().contains(") Z "));
    let ran = || {
        let text = fs::read_to_string(format!("/proc/{shim}/schedstat")).unwrap();
        Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
    };
    let before = ran();
    std::thread::sleep(Duration::from_secs(1));
    let spent = ran() - before;
    waitpid(init, None).unwrap();
    assert_eq!(world.wait(), 137, "it is told when it can be");
    world.init("Delete").unwrap();
    assert!(spent < Duration::from_millis(100), "{spent:?}");
}
