//! Every flag with a value, given a wrong one: one line that says so, the exit status of an error, and nothing changed.
//! And what flags do that no other module is about. The table in docs/coverage.md has the test of each flag.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::runner::{Need, need};
use ocirt_integration::runtime::{Call, Output, call, eventually, kind};
use ocirt_integration::{host, probe, tests};
use serde_json::json;

tests![
    a_wrong_value_before_the_command_is_one_error,
    a_wrong_value_of_create_or_run_is_one_error,
    a_wrong_value_of_exec_is_one_error,
    a_wrong_value_of_any_other_command_is_one_error,
    flags_of_old_engines_are_accepted_and_said_to_have_no_effect,
    flags_have_the_short_names_of_youki,
    a_signal_can_go_to_all_that_match_an_expression,
    the_configuration_of_spec_can_have_another_name,
    a_log_can_be_at_journald_or_syslog,
    a_log_of_a_daemon_that_is_not_there_is_one_error,
    the_level_decides_what_is_logged,
    info_says_what_the_host_has,
    a_foreground_run_is_a_subreaper_unless_told,
    plan_takes_the_command_line_of_create,
];

/// Values that no flag with that kind of value takes.
const NOPE: &str = "/nope/nope";

fn ocirt() {
    need(Need::Ocirt, kind() == "ocirt");
}

fn running() -> Container {
    let container = Bundle::new().create(probe!(sleep 600));
    container.start().ok();
    container
}

/// What a refused call must leave as it was.
#[derive(Debug, PartialEq)]
struct Facts {
    state: String,
    pids: String,
    limit: String,
    processes: Vec<u32>,
    cgroups: Vec<PathBuf>,
    states: Vec<PathBuf>,
    files: Vec<PathBuf>,
}

impl Facts {
    fn of(container: &Container) -> Self {
        let (controller, file) = ("pids", "pids.max");
        let pids = container.call(["ps", "--format", "json", container.id()]).stdout;
        let limit = if host::is_cgroup2() || !Path::new("/sys/fs/cgroup/pids").exists() {
            String::new()
        } else {
            container.cgroup_file(controller, file)
        };
        Facts {
            state: container.state().to_string(),
            pids,
            limit,
            processes: host::descendants(std::process::id()),
            cgroups: host::cgroups(&host::tag()),
            states: names(&host::root()),
            files: names(&container.bundle.dir),
        }
    }
}

fn names(directory: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> =
        std::fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path()).collect();
    all.sort();
    all
}

/// Makes each call and checks that it is refused in one line; `ID` is `container`, `DIR` a bundle.
fn refuse_each(container: &Container, status: i32, rows: &[&[&str]]) {
    let before = Facts::of(container);
    let directory = container.bundle.dir.to_str().expect("UTF-8");
    for row in rows {
        let words = row.iter().map(|word| match *word {
            "ID" => container.id().to_owned(),
            "NEW" => format!("{}-new", container.id()),
            "DIR" => directory.to_owned(),
            word => word.to_owned(),
        });
        let output = Call::new(words).as_user(container.bundle.as_user()).run();
        assert_one_error(&output, status, row);
        eventually(&format!("{row:?} changed nothing"), || Facts::of(container) == before);
    }
}

#[track_caller]
fn assert_one_error(output: &Output, status: i32, row: &[&str]) {
    assert_eq!((output.status, output.stdout.as_str()), (status, ""), "{row:?}: {}", output.stderr);
    let one = output.stderr.lines().count() == 1 && output.stderr.starts_with("ocirt: ");
    assert!(one && !output.stderr.contains("panicked"), "{row:?}: {:?}", output.stderr);
}

fn a_wrong_value_before_the_command_is_one_error() {
    ocirt();
    let container = running();
    let rows: [&[&str]; 17] = [
        &["--root", "/", "state", "ID"],
        &["--root", "", "state", "ID"],
        &["--log", NOPE, "state", "ID"],
        &["-l", NOPE, "state", "ID"],
        &["--log", "file:", "state", "ID"],
        &["--log", "journald:", "state", "ID"],
        &["--log", "syslog:", "state", "ID"],
        &["--systemd-log", "--log", NOPE, "state", "ID"],
        &["--log-format", "yaml", "state", "ID"],
        &["--log-level", "loud", "state", "ID"],
        &["--debug=maybe", "state", "ID"],
        &["--cgroup-manager", "none", "state", "ID"],
        &["--systemd-cgroup=maybe", "state", "ID"],
        &["--rootless", "maybe", "state", "ID"],
        &["--root"],
        &["--criu"],
        &["--nope", "state", "ID"],
    ];
    refuse_each(&container, 1, &rows);
}

fn a_wrong_value_of_create_or_run_is_one_error() {
    ocirt();
    let container = running();
    let flags: [&[&str]; 17] = [
        &["--bundle", NOPE],
        &["--bundle", ""],
        &["--config", NOPE],
        &["-f", "nope.json"],
        &["--console-socket", NOPE],
        &["-c", NOPE],
        &["--pidfd-socket", NOPE],
        &["--pid-file", NOPE],
        &["-p", NOPE],
        &["--preserve-fds", "-1"],
        &["--preserve-fds", "many"],
        &["--preserve-fds", "7"],
        &["--preserve-fds", "4294967296"],
        &["--no-pivot=maybe"],
        &["--no-new-keyring=maybe"],
        &["--no-subreaper=maybe"],
        &["--nope"],
    ];
    for command in ["create", "run"] {
        for flag in flags {
            let mut words = vec![command];
            // The last one counts, but for the one that is wrong.
            if !flag[0].starts_with("--bundle") {
                words.extend(["--bundle", "DIR"]);
            }
            words.extend(flag.iter().chain(&["NEW"]));
            refuse_each(&container, 1, &[&words]);
        }
    }
    let rows: [&[&str]; 6] = [
        &["run", "--bundle", "DIR", "--detach=maybe", "NEW"],
        &["run", "--bundle", "DIR", "--keep=maybe", "NEW"],
        &["create", "--bundle", "DIR", "../new"],
        &["create", "--bundle", "DIR", "ID"],
        &["plan", "--bundle", "DIR", "--id", "../new"],
        &["plan", NOPE],
    ];
    refuse_each(&container, 1, &rows);
}

fn a_wrong_value_of_exec_is_one_error() {
    ocirt();
    let container = running();
    let flags: [&[&str]; 22] = [
        &["--process", NOPE],
        &["--process", ""],
        &["--cwd", "data"],
        &["--cwd", NOPE],
        &["--env", "A"],
        &["--env", "=b"],
        &["--user", "root"],
        &["--user", "-1"],
        &["--additional-gids", "wheel"],
        &["--apparmor", "no-such-profile"],
        &["--process-label", "system_u:system_r:container_t:s0"],
        &["--pid-file", NOPE],
        &["--console-socket", NOPE],
        &["--tty", "--detach"],
        &["--tty", "--console-socket", NOPE],
        &["--pidfd-socket", NOPE],
        &["--preserve-fds", "-1"],
        &["--preserve-fds", "7"],
        &["--cgroup", "../.."],
        &["--cgroup", NOPE],
        &["--no-new-privs=maybe"],
        &["--nope"],
    ];
    for flag in flags {
        let mut words = vec!["exec"];
        words.extend(flag.iter().chain(&["ID", "/probe", "print", "it ran"]));
        refuse_each(&container, 255, &[&words]);
    }
}

fn a_wrong_value_of_any_other_command_is_one_error() {
    ocirt();
    let container = running();
    let rows: [&[&str]; 23] = [
        &["start", "ID"],
        &["state", "--nope", "ID"],
        &["kill", "ID", "FOO"],
        &["kill", "ID", "9", "9"],
        &["kill", "--all=maybe", "ID"],
        &["kill", "--regex", "(", "9"],
        &["delete", "--regex", "("],
        &["delete", "--force=maybe", "ID"],
        &["list", "--format", "xml"],
        &["list", "--quiet=maybe"],
        &["ps", "--format", "xml", "ID"],
        &["ps", "ID", "--no-such-option"],
        &["events", "--interval", "soon", "ID"],
        &["events", "--interval", "0s", "ID"],
        &["events", "--interval", "5", "ID"],
        &["events", "--stats=maybe", "ID"],
        &["spec", "--bundle", NOPE],
        &["spec", "--bundle", "DIR", "--file", "config.json"],
        &["spec", "--bundle", "DIR", "--file", ""],
        &["mounts", "add", "ID", NOPE],
        &["mounts", "change", "ID", NOPE],
        &["pause", "--nope", "ID"],
        &["resume", "ID"],
    ];
    refuse_each(&container, 1, &rows);
    let updates = [
        ("--resources", NOPE),
        ("--blkio-weight", "heavy"),
        ("--cpu-period", "soon"),
        ("--cpu-quota", "1.5"),
        ("--cpu-burst", "x"),
        ("--cpu-share", "many"),
        ("--cpu-rt-period", "x"),
        ("--cpu-rt-runtime", "x"),
        ("--cpu-idle", "perhaps"),
        ("--cpuset-cpus", "x"),
        ("--cpuset-mems", "x"),
        ("--memory", "lots"),
        ("--memory-reservation", "12x"),
        ("--memory-swap", "-2"),
        ("--pids-limit", "few"),
        ("--l3-cache-schema", "L3:0=f"),
        ("--mem-bw-schema", "MB:0=20"),
    ];
    for (flag, value) in updates {
        refuse_each(&container, 1, &[&["update", "--pids-limit", "44", flag, value, "ID"]]);
    }
    let checkpoints = [
        ("--image-path", NOPE),
        ("--work-path", NOPE),
        ("--parent-path", "/absolute"),
        ("--status-fd", "99"),
        ("--status-fd", "x"),
        ("--page-server", "host"),
        ("--manage-cgroups-mode", "none"),
        ("--empty-ns", "pid"),
        ("--network-lock", "none"),
    ];
    for (flag, value) in checkpoints {
        refuse_each(&container, 1, &[&["checkpoint", flag, value, "ID"]]);
    }
    let restores = [
        ("--image-path", NOPE),
        ("--work-path", NOPE),
        ("--bundle", NOPE),
        ("--manage-cgroups-mode", "none"),
        ("--empty-ns", "pid"),
        ("--network-lock", "none"),
        ("--lsm-profile", "x"),
        ("--pid-file", NOPE),
        ("--console-socket", NOPE),
    ];
    for (flag, value) in restores {
        refuse_each(&container, 1, &[&["restore", "--bundle", "DIR", flag, value, "NEW"]]);
    }
}

fn flags_of_old_engines_are_accepted_and_said_to_have_no_effect() {
    ocirt();
    let container = running();
    let warned = |words: &[&str], flag: &str| {
        let output = Call::new(words.iter().copied()).as_user(container.bundle.as_user()).run().ok();
        assert!(output.stderr.contains(&format!("warning: {flag} is ignored")), "{words:?}: {}", output.stderr);
    };
    warned(&["--criu", "/usr/sbin/criu", "state", container.id()], "--criu");
    warned(&["update", "--kernel-memory", "64m", container.id()], "--kernel-memory");
    warned(&["update", "--kernel-memory-tcp", "64m", container.id()], "--kernel-memory-tcp");
    // These two have nothing to do in ocirt, whichever way they are given.
    let answer = container.call(["exec", "--no-subreaper", container.id(), "/probe", "print", "ran"]).ok();
    assert_eq!(answer.answer(), "ran");
    let other = Bundle::new().flags(&["--no-subreaper"]).create(probe!(sleep 600));
    assert_eq!(other.status(), "created");
}

fn flags_have_the_short_names_of_youki() {
    ocirt();
    let bundle = Bundle::new().write(probe!(sleep 600));
    let (directory, root) = (bundle.dir.display().to_string(), host::root().display().to_string());
    let (log, pid_file) = (bundle.dir.join("log"), bundle.dir.join("pid"));
    let (log_path, pid_path) = (log.display().to_string(), pid_file.display().to_string());
    let words = ["-r", &root, "-l", &log_path, "run", "-d", "-b", &directory, "-p", &pid_path, &bundle.id];
    Call::new(words).root(None).as_user(bundle.as_user()).run().ok();
    let pid = std::fs::read_to_string(&pid_file).expect("pid file");
    assert!(Path::new("/proc").join(pid).exists());
    Call::new(["-r", &root, "-l", &log_path, "state", "absent"]).root(None).run().fails("does not exist");
    assert!(std::fs::read_to_string(&log).expect("log").contains("does not exist"));
    let output = Call::new(["create", "-b", &directory, "-c", NOPE, "other"]).run().fails("console");
    assert_one_error(&output, 1, &["-c"]);
}

fn a_signal_can_go_to_all_that_match_an_expression() {
    let all: Vec<_> = (0..3).map(|_| running()).collect();
    let expression = format!("^({}|{})$", all[0].id(), all[1].id());
    all[0].call(["kill", "--regex", &expression, "KILL"]).ok();
    all[0].wait_for("stopped");
    all[1].wait_for("stopped");
    assert_eq!(all[2].status(), "running");
}

fn the_configuration_of_spec_can_have_another_name() {
    let directory = host::place().join("spec");
    std::fs::create_dir_all(&directory).expect("directory");
    std::fs::set_permissions(&directory, PermissionsExt::from_mode(0o777)).expect("chmod");
    Call::new(["spec", "-f", "other.json"]).cwd(&directory).run().ok();
    let text = std::fs::read_to_string(directory.join("other.json")).expect("other.json");
    assert!(text.contains("ociVersion") && !directory.join("config.json").exists());
}

/// Mounts `directory` over `target` in the mount namespace of this test, while `body` runs.
fn covering<T>(directory: &Path, target: &str, body: impl FnOnce() -> T) -> T {
    let succeeds = |program: &str, words: &[&str]| {
        let done = std::process::Command::new(program).args(words).status().expect(program);
        assert!(done.success(), "{program} {words:?}");
    };
    succeeds("mount", &["--bind", directory.to_str().expect("UTF-8"), target]);
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(body));
    succeeds("umount", &["--lazy", target]);
    result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// A daemon that takes datagrams at `path`.
fn daemon(path: &Path) -> UnixDatagram {
    std::fs::create_dir_all(path.parent().expect("a directory")).expect("directory");
    let socket = UnixDatagram::bind(path).expect("bind");
    std::fs::set_permissions(path, PermissionsExt::from_mode(0o666)).expect("chmod");
    socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout");
    socket
}

fn datagram(socket: &UnixDatagram) -> String {
    let mut buffer = [0; 4096];
    let length = socket.recv(&mut buffer).expect("a line");
    String::from_utf8_lossy(&buffer[..length]).into_owned()
}

/// /dev as far as a call needs it, on its own directory.
fn devices() -> PathBuf {
    let directory = host::suite().join(format!("{}.dev", host::tag()));
    std::fs::create_dir_all(&directory).expect("directory");
    let null = directory.join("null");
    let done = std::process::Command::new("mknod").arg(&null).args(["-m", "666", "c", "1", "3"]).status();
    assert!(done.expect("mknod").success());
    directory
}

fn a_log_can_be_at_journald_or_syslog() {
    let run = host::suite().join(format!("{}.run", host::tag()));
    let journal = daemon(&run.join("systemd/journal/socket"));
    let failing = |flags: &[&str]| {
        // A runtime that takes the place for a file's name makes it here.
        let output = Call::new(["state", "absent"]).global(flags.iter().copied()).cwd(host::place()).run();
        assert_eq!(output.status, 1, "{flags:?}");
        output
    };
    let errors = covering(&run, "/run", || {
        let mut errors = vec![failing(&["--log", "journald:web1"])];
        if kind() == "ocirt" {
            errors.push(failing(&["--systemd-log"]));
            errors.push(failing(&["--log", "journald:web1", "--log-format", "json"]));
        }
        errors
    });
    let line = datagram(&journal);
    assert!(line.contains("PRIORITY=3\n") && line.contains("ID=web1\n"), "{line}");
    let message = line.lines().find_map(|line| line.strip_prefix("MESSAGE=")).unwrap_or_default();
    assert!(!message.is_empty() && message.contains("absent"), "{line}");
    for (index, error) in errors.iter().enumerate().skip(1) {
        let line = datagram(&journal);
        let identifier = if index == 1 { "SYSLOG_IDENTIFIER=ocirt\n" } else { "SYSLOG_IDENTIFIER=web1\n" };
        assert!(line.contains(identifier) && line.contains("does not exist"), "{line}");
        assert_eq!(line.contains("MESSAGE={\""), index == 2, "{line}");
        assert_one_error(error, 1, &["journald"]);
    }
    let dev = devices();
    let syslog = daemon(&dev.join("log"));
    covering(&dev, "/dev", || failing(&["--log", "syslog:web1"]));
    let line = datagram(&syslog);
    assert!(line.starts_with("<11>") && line.contains("web1") && line.contains("absent"), "{line}");
    for directory in [run, dev] {
        std::fs::remove_dir_all(directory).expect("removed");
    }
}

fn a_log_of_a_daemon_that_is_not_there_is_one_error() {
    ocirt();
    let container = running();
    let (run, dev) = (host::suite().join(format!("{}.run", host::tag())), devices());
    std::fs::create_dir_all(&run).expect("directory");
    covering(&run, "/run", || {
        for flags in [&["--log", "journald:web1"][..], &["--systemd-log"]] {
            let output = Call::new(["kill", container.id(), "KILL"]).global(flags.iter().copied()).run();
            assert_one_error(&output.fails("/run/systemd/journal/socket"), 1, flags);
        }
    });
    covering(&dev, "/dev", || {
        let output = Call::new(["kill", container.id(), "KILL"]).global(["--log", "syslog:web1"]).run();
        assert_one_error(&output.fails("/dev/log"), 1, &["syslog"]);
    });
    assert_eq!(container.status(), "running");
    for directory in [run, dev] {
        std::fs::remove_dir_all(directory).expect("removed");
    }
}

fn the_level_decides_what_is_logged() {
    ocirt();
    let with = |flags: &[&str]| {
        Call::new(["--criu", "x", "list"]).global(flags.iter().copied()).run().ok().stderr.contains("warning")
    };
    assert!(with(&[]) && with(&["--log-level", "warning"]) && with(&["--log-level", "error", "--debug"]));
    assert!(with(&["--log-level", "debug"]) && with(&["--log-level", "trace"]));
    assert!(!with(&["--log-level", "error"]));
}

fn info_says_what_the_host_has() {
    ocirt();
    let output = call(["info"]).ok();
    let fact = |name: &str| {
        let line = output.stdout.lines().find(|line| line.starts_with(name));
        line.unwrap_or_else(|| panic!("no {name} in {}", output.stdout))[18..].to_owned()
    };
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").expect("osrelease");
    assert_eq!(fact("Kernel-Release"), release.trim());
    assert!(call(["--version"]).stdout.contains(&fact("Version")));
    assert_eq!(fact("Cgroup setup") == "unified", host::is_cgroup2());
    assert!(fact("Namespaces").split(' ').any(|name| name == "mnt"));
}

fn a_foreground_run_is_a_subreaper_unless_told() {
    for (flag, is_subreaper) in [(None, true), (Some("--no-subreaper"), false)] {
        let bundle = Bundle::new();
        let file = bundle.dir.join("orphan");
        let script = format!("sleep 600 </dev/null >/dev/null 2>&1 & echo $! >{}", file.display());
        let hook = json!({ "path": "/bin/sh", "args": ["sh", "-c", script] });
        let bundle = bundle.hook("poststart", hook).flags(flag.as_slice()).write(probe!(sleep 600));
        let mut run = bundle.call("run").spawn();
        let pid = || std::fs::read_to_string(&file).unwrap_or_default().trim().parse::<u32>().ok();
        eventually("the hook has run", || pid().is_some());
        let parent = || {
            let text = std::fs::read_to_string(format!("/proc/{}/stat", pid().unwrap_or(0))).unwrap_or_default();
            let fields = text.rsplit_once(") ").map_or("", |(_, rest)| rest).to_owned();
            fields.split(' ').nth(1).and_then(|parent| parent.parse::<u32>().ok())
        };
        let expected = if is_subreaper { run.child.id() } else { std::process::id() };
        eventually(&format!("{expected} is the parent with {flag:?}"), || parent() == Some(expected));
        host::kill(pid().expect("a pid"));
        Call::new(["kill", &bundle.id, "KILL"]).as_user(bundle.as_user()).run().ok();
        assert_eq!(run.finish().status, 137);
    }
}

fn plan_takes_the_command_line_of_create() {
    ocirt();
    let bundle = Bundle::new().write(probe!(print "x"));
    let directory = bundle.dir.to_str().expect("UTF-8");
    let config = bundle.dir.join("config.json");
    let config = config.to_str().expect("UTF-8");
    let plain = call(["plan", "-b", directory]).ok().stdout;
    let flags = ["--pidfd-socket", NOPE, "-p", NOPE, "--no-new-keyring", "--no-pivot", "-f", config];
    let words = ["plan"].into_iter().chain(flags).chain(["-b", directory, "--id", &bundle.id]);
    let other = Call::new(words).run().ok().stdout;
    assert!(plain.contains("pivot") && !other.contains("pivot_root"), "{other}");
    host::assert_nothing_left();
}
