//! What flags do that no other module is about: those of crun and youki that runc lacks, where log lines go, and flags
//! that are accepted for the sake of old engines. The table in docs/coverage.md has the test of each flag.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::needs::need_ocirt;
use ocirt_integration::runtime::{Call, Output, call};
use ocirt_integration::wait::eventually;
use ocirt_integration::{host, probe, tests, user};
use serde_json::json;

tests![
    flags_of_old_engines_are_accepted_and_said_to_have_no_effect,
    flags_have_the_short_names_of_youki,
    a_signal_can_go_to_all_that_match_an_expression,
    the_configuration_of_spec_can_have_another_name,
    a_log_can_be_at_journald_or_syslog,
    a_line_for_journald_is_as_the_other_flags_say,
    a_log_of_a_daemon_that_is_not_there_is_one_error,
    the_level_decides_what_is_logged,
    info_says_what_the_host_has,
    a_foreground_run_is_a_subreaper_unless_told,
];

/// A path that is not there.
const NOPE: &str = "/nope/nope";

fn running() -> Container {
    Bundle::new().start(probe!(sleep 600))
}

fn flags_of_old_engines_are_accepted_and_said_to_have_no_effect() {
    need_ocirt();
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
    need_ocirt();
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
    assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
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

/// Covers `target` with an empty file system, in the mount namespace of this test, while `body` runs.
fn covering<T>(target: &str, body: impl FnOnce(&Path) -> T) -> T {
    let succeeds = |program: &str, words: &[&str]| {
        let done = std::process::Command::new(program).args(words).status().expect(program);
        assert!(done.success(), "{program} {words:?}");
    };
    succeeds("mount", &["-t", "tmpfs", "-o", "mode=755", "tmpfs", target]);
    if target == "/dev" {
        // All that a call needs of it.
        succeeds("mknod", &["-m", "666", "/dev/null", "c", "1", "3"]);
    }
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| body(Path::new(target))));
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

fn absent(flags: &[&str]) -> Output {
    // A runtime that takes the place for a file's name makes it here.
    let output = Call::new(["state", "absent"]).global(flags.iter().copied()).cwd(host::place()).run();
    assert_eq!(output.status, 1, "{flags:?}");
    output
}

fn a_log_can_be_at_journald_or_syslog() {
    let journal = covering("/run", |run| {
        let journal = daemon(&run.join("systemd/journal/socket"));
        absent(&["--log", "journald:web1"]);
        journal
    });
    let line = datagram(&journal);
    assert!(line.contains("PRIORITY=3\n") && line.contains("ID=web1\n"), "{line}");
    let message = line.lines().find_map(|line| line.strip_prefix("MESSAGE=")).unwrap_or_default();
    assert!(message.contains("absent"), "{line}");
    let syslog = covering("/dev", |dev| {
        let syslog = daemon(&dev.join("log"));
        absent(&["--log", "syslog:web1"]);
        syslog
    });
    let line = datagram(&syslog);
    assert!(line.starts_with("<11>") && line.contains("web1") && line.contains("absent"), "{line}");
}

fn a_line_for_journald_is_as_the_other_flags_say() {
    need_ocirt();
    covering("/run", |run| {
        let journal = daemon(&run.join("systemd/journal/socket"));
        for (flags, identifier, object) in [
            (&["--systemd-log"][..], "\nSYSLOG_IDENTIFIER=ocirt\n", false),
            (&["--log", "journald:web1", "--log-format", "json"], "\nSYSLOG_IDENTIFIER=web1\n", true),
        ] {
            let output = absent(flags);
            let line = datagram(&journal);
            assert!(line.contains(identifier) && line.contains("does not exist"), "{line}");
            assert_eq!(line.contains("MESSAGE={\""), object, "{line}");
            // People read it too.
            assert!(output.stderr.starts_with("ocirt: ") && output.stderr.lines().count() == 1, "{}", output.stderr);
        }
    });
}

fn a_log_of_a_daemon_that_is_not_there_is_one_error() {
    need_ocirt();
    let container = running();
    let kill = |flags: &[&str], words: &str| {
        let call = Call::new(["kill", container.id(), "KILL"]).global(flags.iter().copied());
        let output = call.as_user(container.bundle.as_user()).run().fails(words);
        assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
    };
    covering("/run", |_| {
        kill(&["--log", "journald:web1"], "/run/systemd/journal/socket");
        kill(&["--systemd-log"], "/run/systemd/journal/socket");
    });
    covering("/dev", |_| kill(&["--log", "syslog:web1"], "/dev/log"));
    assert_eq!(container.status(), "running");
}

fn the_level_decides_what_is_logged() {
    need_ocirt();
    let with = |flags: &[&str]| {
        Call::new(["--criu", "x", "list"]).global(flags.iter().copied()).run().ok().stderr.contains("warning")
    };
    assert!(with(&[]) && with(&["--log-level", "warning"]) && with(&["--log-level", "error", "--debug"]));
    assert!(with(&["--log-level", "debug"]) && with(&["--log-level", "trace"]));
    assert!(!with(&["--log-level", "error"]));
}

fn info_says_what_the_host_has() {
    need_ocirt();
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
    // Of root's capabilities at least this one, since the suite mounts.
    assert!(user::has_suite() || fact("Capabilities").split(' ').any(|name| name == "CAP_SYS_ADMIN"));
    let modules = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    assert!(modules.is_empty() || fact("Security modules") == modules.trim().replace(',', " "));
    let object = call(["info", "--format", "json"]).ok().json();
    assert_eq!(object["kernelRelease"], release.trim());
    let list = |key: &str| {
        let values = object[key].as_array().unwrap_or_else(|| panic!("no {key} in {object}"));
        values.iter().filter_map(|value| value.as_str()).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(list("capabilities"), fact("Capabilities"));
    assert_eq!(list("namespaces"), fact("Namespaces"));
    assert!(object["securityModules"].is_array());
    call(["info", "--format", "xml"]).fails("invalid format option");
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
