//! What the process that serves has around it: a cgroup, a score for the OOM killer, a log, and signals.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::world::{World, until};

/// A cgroup in each hierarchy that can have one, or the one of v2.
struct Cgroup(Vec<PathBuf>);

impl Cgroup {
    fn make(name: &str) -> Self {
        let root = Path::new("/sys/fs/cgroup");
        let hierarchies = if root.join("cgroup.procs").exists() {
            vec![root.to_owned()]
        } else {
            ["memory", "pids"].map(|hierarchy| root.join(hierarchy)).to_vec()
        };
        let cgroups: Vec<PathBuf> = hierarchies.into_iter().map(|hierarchy| hierarchy.join(name)).collect();
        cgroups.iter().for_each(|cgroup| fs::create_dir(cgroup).unwrap());
        Self(cgroups)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        for cgroup in &self.0 {
            until("the cgroup is empty", || fs::remove_dir(cgroup).is_ok());
        }
    }
}

#[test]
fn the_shim_is_in_the_cgroup_that_its_options_name() {
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("skipped: only root makes cgroups");
    }
    let name = format!("shim-test-{}", std::process::id());
    let cgroup = Cgroup::make(&name);
    let mut world = World::new("true").with(|options| options.shim_cgroup = format!("/../{name}"));
    world.start().unwrap();
    let text = fs::read_to_string(format!("/proc/{}/cgroup", world.shim_pid())).unwrap();
    assert_eq!(text.lines().filter(|line| line.ends_with(&name)).count(), cgroup.0.len(), "{text}");
    drop(world);
    drop(cgroup);
}

#[test]
fn a_cgroup_that_does_not_exist_is_an_error_that_leaves_no_socket() {
    let mut world = World::new("true").with(|options| options.shim_cgroup = "/no/such/cgroup".to_owned());
    assert_eq!(world.start().unwrap_err(), "ShimCgroup /no/such/cgroup: no such cgroup\n");
    assert_eq!(fs::read_dir(world.directory.join("s")).map_or(0, Iterator::count), 0);
}

/// containerd's TestShimOOMScore.
#[test]
fn the_kernel_ends_a_shim_before_containerd() {
    let mut world = World::new("true");
    world.start().unwrap();
    let score = |process: &str| -> i32 {
        fs::read_to_string(format!("/proc/{process}/oom_score_adj")).unwrap().trim().parse().unwrap()
    };
    assert_eq!(score(&world.shim_pid().to_string()), (score("self") + 1).min(1000));
}

/// Where the kernel has core scheduling, the shim has it; elsewhere it is an error, as with Go's shim.
#[test]
fn core_scheduling_is_had_or_is_an_error() {
    let mut world = World::new("true").variable("SCHED_CORE", "1");
    if let Err(error) = world.start() {
        assert!(error.starts_with("core scheduling: "), "{error}");
        assert_eq!(fs::read_dir(world.directory.join("s")).map_or(0, Iterator::count), 0);
    }
    let mut world = World::new("true").variable("SCHED_CORE", "");
    world.start().unwrap();
}

#[test]
fn sigusr1_writes_the_state_to_the_log() {
    let mut world = World::new("exec sleep 1000.5");
    world.start().unwrap();
    world.create("").unwrap();
    world.init("Start").unwrap();
    assert_eq!(world.log(), "");
    kill(Pid::from_raw(world.shim_pid() as i32), Signal::SIGUSR1).unwrap();
    let mut log = String::new();
    let started = std::time::Instant::now();
    while !log.contains("loop: ") && started.elapsed().as_secs() < 10 {
        log += &world.log();
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    assert!(log.contains("level=info msg=\"1 containers, "), "{log}");
    assert!(log.contains("msg=\"container c: Running, Thawed, init "), "{log}");
    assert!(log.contains(" events to deliver; alarms: "), "{log}");
    world.init_kill();
    assert_eq!(world.wait(), 137, "it goes on");
}

/// A log that nobody reads (containerd #4906).
#[test]
fn a_full_log_holds_nobody_up() {
    let mut world = World::new("exit 3");
    world.start().unwrap();
    let pid = Pid::from_raw(world.shim_pid() as i32);
    for _ in 0..400 {
        kill(pid, Signal::SIGUSR1).unwrap();
        world.shim_pid();
    }
    world.create("").unwrap();
    assert_eq!(world.run(), 3);
    let log = world.log();
    assert!(log.len() > 60_000 && log.lines().all(|line| line.ends_with("runtime=io.containerd.ocirt.v2")), "{log}");
}

/// As Go's shim: the containers are containerd's `delete`'s to end.
#[test]
fn sigterm_ends_the_shim_and_not_its_containers() {
    let mut world = World::new("exec sleep 1000.25");
    world.start().unwrap();
    world.create("").unwrap();
    world.init("Start").unwrap();
    let pid = world.shim_pid();
    let init: i32 = world.read("bundle/init.pid").parse().unwrap();
    kill(Pid::from_raw(pid as i32), Signal::SIGTERM).unwrap();
    until("the socket is gone", || !Path::new(world.socket()).exists());
    until("the shim is gone", || {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.is_empty())
            || !Path::new(&format!("/proc/{pid}")).exists()
    });
    kill(Pid::from_raw(init), None).unwrap();
    kill(Pid::from_raw(init), Signal::SIGKILL).unwrap();
}

/// containerd is a service of `Type=notify`. The runtime hands on to a container what it has of that, and waits for it.
#[test]
fn no_runtime_has_what_the_service_manager_has_told_containerd() {
    let ours =
        ["LISTEN_FDNAMES", "LISTEN_FDS", "LISTEN_PID", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC", "OTHERS"];
    let mut world = World::new("true");
    for name in ours {
        world = world.variable(name, "1");
    }
    world.start().unwrap();
    world.create("binary:///bin/true").unwrap();
    world.run();
    // As if the shim had been killed.
    let bundle = world.bundle().display().to_string();
    fs::create_dir_all(world.directory.join("state/n/c")).unwrap();
    let mut delete = Command::new(env!("CARGO_BIN_EXE_containerd-shim-ocirt-v2"));
    delete.envs(ours.map(|name| (name, "1"))).stdin(Stdio::null()).current_dir(&bundle);
    delete.args(["-namespace", "n", "-id", "c", "-address", "/none", "-bundle", &bundle, "delete"]);
    assert!(delete.output().unwrap().status.success());
    let calls: Vec<String> = world.read("bundle/calls").lines().map(ToOwned::to_owned).collect();
    assert!(calls.iter().any(|call| call.starts_with("create ")) && calls.contains(&"delete --force -- c".to_owned()));
    let variables = world.read("bundle/variables");
    let had = |name: &str| variables.lines().filter(|line| line.contains(&format!(" {name}="))).count();
    assert_eq!(ours.map(had), [0, 0, 0, 0, 0, 0, calls.len()]);
}

/// Its own limit is the highest that it may have; what it starts has what containerd had.
#[test]
fn no_container_inherits_how_many_descriptors_the_shim_may_have() {
    let mut world = World::new("").descriptors(200);
    world.write("program", &format!("ulimit -Sn >{}/init; exec sleep 1000.125", world.directory.display()));
    // The runtime's shell must not be the one who waits for it.
    world.write("exec", &format!("ulimit -Sn >{}/exec; exec sleep 0.5", world.directory.display()));
    let logger = world.program("logger", "ulimit -Sn >logger");
    world.start().unwrap();
    let text = fs::read_to_string(format!("/proc/{}/limits", world.shim_pid())).unwrap();
    let line = text.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let limits: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
    assert!(limits[0] == limits[1] && limits[0] != "200", "{line}");
    world.create(&format!("binary://{logger}")).unwrap();
    world.init("Start").unwrap();
    world.exec("e", "{}").unwrap();
    for name in ["init", "exec", "logger"] {
        until(name, || world.read(name) == "200\n");
    }
    world.init_kill();
    world.wait();
    world.init("Delete").unwrap();
}

/// A descriptor that is not closed at execve(2), of whoever called `start`, would reach the runtime, and a container by it.
#[test]
fn nothing_inherits_what_the_caller_of_start_has_left_open() {
    let mut world = World::new("ls -l /proc/self/fd >\"$0.fds\"").before("exec 9<config.json; ");
    world.start().unwrap();
    world.create("").unwrap();
    assert_eq!(world.run(), 0);
    let fds = world.read("bundle/program.fds");
    assert!(fds.contains("/dev/null") && !fds.contains("config.json"), "{fds}");
}
