//! Every flag with a value, given a wrong one: one line that says so, the exit status of an error, and nothing changed.

use std::path::{Path, PathBuf};

use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::needs::need_ocirt;
use ocirt_integration::runtime::{Call, Output};
use ocirt_integration::wait::eventually;
use ocirt_integration::{host, probe, tests};

tests![
    a_wrong_value_before_the_command_is_one_error,
    a_wrong_value_of_create_or_run_is_one_error,
    a_wrong_value_of_exec_is_one_error,
    a_wrong_value_of_any_other_command_is_one_error,
];

/// A path that is not there.
const NOPE: &str = "/nope/nope";

fn running() -> Container {
    Bundle::new().start(probe!(sleep 600))
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
    need_ocirt();
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
    need_ocirt();
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
    need_ocirt();
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
    need_ocirt();
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
