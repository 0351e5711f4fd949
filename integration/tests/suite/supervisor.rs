//! What systemd, or another supervisor, has for a container, and hears of it: NOTIFY_SOCKET (sd_notify(3)) and
//! LISTEN_FDS (sd_listen_fds(3)). Real units are at the end.

use std::fs;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::path::PathBuf;

use super::systemd::{show, systemctl, systemd};
use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::{Need, need};
use ocirt_integration::runtime::{Call, Output, path};
use ocirt_integration::wait::eventually;
use ocirt_integration::{host, probe, tests, user};
use serde_json::{Value, json};

tests![
    a_container_tells_that_it_is_ready,
    a_detached_container_is_the_service_once_it_is_ready,
    start_waits_until_a_container_is_ready,
    a_container_that_is_never_ready_ends_as_any_other,
    what_is_not_about_the_service_stays_inside,
    the_rest_that_is_about_the_service_is_passed_on,
    a_notify_socket_of_config_json_is_left_alone,
    nobody_has_to_wait_for_a_container,
    a_container_in_a_user_namespace_tells_that_it_is_ready,
    the_sockets_of_a_unit_arrive,
    the_names_of_sockets_arrive,
    preserved_descriptors_come_behind_the_sockets,
    sockets_are_for_the_process_that_they_are_meant_for,
    the_sockets_of_another_process_stay_outside,
    sockets_that_are_not_open_are_an_error,
    exec_passes_nothing_of_a_supervisor_on,
    the_units_of_the_readme_work,
];

/// A supervisor that waits.
struct Supervisor {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Supervisor {
    fn new() -> Self {
        let path = host::socket();
        let _ = fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).expect("socket");
        socket.set_nonblocking(true).expect("socket");
        user::give_in_suite(&path);
        Supervisor { socket, path }
    }

    fn name(&self) -> &str {
        self.path.to_str().expect("UTF-8")
    }

    fn next(&self) -> Option<Vec<String>> {
        let mut buffer = [0; 4096];
        let length = self.socket.recv(&mut buffer).ok()?;
        let text = String::from_utf8_lossy(buffer.get(..length)?);
        Some(text.lines().map(str::to_owned).collect())
    }

    /// What is there by now. Descriptors that come along are closed.
    fn heard(&self) -> Vec<String> {
        std::iter::from_fn(|| self.next()).flatten().collect()
    }

    /// The end of a call under it, and what it hears meanwhile.
    #[track_caller]
    fn follows(&self, call: Call) -> (Output, Vec<String>, u32) {
        let mut running = self.over(call).spawn();
        let mut lines = Vec::new();
        eventually("the call under a supervisor ends", || {
            lines.extend(self.heard());
            running.child.try_wait().expect("wait").is_some()
        });
        lines.extend(self.heard());
        (running.finish(), lines, running.child.id())
    }

    /// `run` in the foreground, and what it hears meanwhile.
    #[track_caller]
    fn runs(&self, bundle: &Bundle) -> (Output, Vec<String>) {
        let (output, heard, _) = self.follows(bundle.call("run"));
        (output, heard)
    }

    /// A call under it.
    fn over(&self, call: Call) -> Call {
        call.global(["--root", short_root()]).env("NOTIFY_SOCKET", self.name())
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Another name of the root directory: runc and crun make a socket in it by its path, of 108 bytes at the most.
fn short_root() -> &'static str {
    let path = host::suite().join(format!("{}.root", host::tag()));
    fs::create_dir_all(host::root()).expect("root directory");
    user::give_in_suite(&host::root());
    // The second time it is there.
    let _ = std::os::unix::fs::symlink(host::root(), &path);
    String::leak(path.display().to_string())
}

fn main_pid(heard: &[String]) -> Option<u32> {
    assert!(heard.iter().any(|line| line == "READY=1"), "{heard:?}");
    heard.iter().find_map(|line| line.strip_prefix("MAINPID=")?.parse().ok())
}

fn a_container_tells_that_it_is_ready() {
    let bundle = Bundle::new().write(probe!(notify "READY=1"; sleep 0.5; print "done"));
    let (output, heard, pid) = Supervisor::new().follows(bundle.call("run"));
    assert_eq!(output.ok().answers(), ["ok", "slept", "done"]);
    // The unit ends with the runtime, whichever process its ExecStart= has begun with.
    assert_eq!(main_pid(&heard), Some(pid));
    host::assert_nothing_left();
}

fn a_detached_container_is_the_service_once_it_is_ready() {
    let bundle = Bundle::new().flags(&["--detach"]).write(probe!(sleep 0.5; notify "READY=1"; sleep 60));
    let (output, heard) = Supervisor::new().runs(&bundle);
    output.ok();
    let state = Call::new(["state", &bundle.id]).as_user(bundle.as_user()).run().ok().json();
    assert_eq!(main_pid(&heard).map(u64::from), state["pid"].as_u64());
    Call::new(["delete", "--force", &bundle.id]).as_user(bundle.as_user()).run().ok();
}

fn start_waits_until_a_container_is_ready() {
    let supervisor = Supervisor::new();
    let bundle = Bundle::new().env("NOTIFY_SOCKET", supervisor.name());
    let container = bundle.create(probe!(sleep 0.5; notify "READY=1"; sleep 60));
    assert_eq!(supervisor.heard(), [""; 0]);
    let start = Call::new(["start", container.id()]).as_user(container.bundle.as_user());
    let (output, heard, _) = supervisor.follows(start);
    output.ok();
    assert_eq!(main_pid(&heard), Some(container.pid()));
    assert_eq!(container.status(), "running");
}

fn a_container_that_is_never_ready_ends_as_any_other() {
    let supervisor = Supervisor::new();
    let (output, heard) = supervisor.runs(&Bundle::new().write(probe!(exit 7)));
    assert_eq!((output.status, heard), (7, Vec::new()));
    host::assert_nothing_left();
}

fn what_is_not_about_the_service_stays_inside() {
    let supervisor = Supervisor::new();
    // systemd ends a line at a carriage return, too.
    let hidden = "STATUS=x\rMAINPID=1\rFDSTORE=1\rNOTIFYACCESS=all";
    let messages = probe!(notify "MAINPID=1\\nFDSTORE=1\\nNOTIFYACCESS=all"; notify hidden; notify "WATCHDOG=trigger";
        notify "READY=1\\nMAINPID=1"; sleep 0.3);
    let (output, heard) = supervisor.runs(&Bundle::new().write(messages));
    output.ok();
    let is_ready = heard.iter().any(|line| line == "READY=1");
    let foreign = ["MAINPID=1", "FDSTORE=1", "NOTIFYACCESS=all", "WATCHDOG=trigger"];
    let is_foreign = |line: &String| foreign.contains(&line.as_str()) || line.contains('\r');
    assert!(is_ready && !heard.iter().any(is_foreign), "{heard:?}");
}

fn the_rest_that_is_about_the_service_is_passed_on() {
    let messages = probe!(notify "STATUS=a b"; notify "READY=1"; notify "WATCHDOG=1"; notify "STOPPING=1"; sleep 0.3);
    let (output, mut heard) = Supervisor::new().runs(&Bundle::new().write(messages));
    output.ok();
    heard.retain(|line| !line.starts_with("MAINPID") && line != "BARRIER=1");
    assert_eq!(heard, ["STATUS=a b", "READY=1", "WATCHDOG=1", "STOPPING=1"]);
}

/// Podman mounts a socket of its own, and says so there.
fn a_notify_socket_of_config_json_is_left_alone() {
    let bundle = Bundle::new().push("process.env", json!("NOTIFY_SOCKET=/mine")).write(probe!(env; ls "/run"));
    let output = Supervisor::new().runs(&bundle).0.ok();
    assert_eq!(output.answers()[0]["NOTIFY_SOCKET"], "/mine");
    assert_eq!(output.answers()[1], json!({ "error": "ENOENT" }));
}

/// A container that was made where somebody waits is started elsewhere, and the reverse.
fn nobody_has_to_wait_for_a_container() {
    let supervisor = Supervisor::new();
    let container = Bundle::new().env("NOTIFY_SOCKET", supervisor.name()).create(probe!(notify "READY=1"; sleep 60));
    container.start().ok();
    container.answers(1);
    let container = Bundle::new().create(probe!(sleep 60));
    let start = Call::new(["start", container.id()]).as_user(container.bundle.as_user());
    supervisor.over(start).run().ok();
    assert_eq!(supervisor.heard(), [""; 0]);
}

fn a_container_in_a_user_namespace_tells_that_it_is_ready() {
    let supervisor = Supervisor::new();
    let bundle = if user::has_suite() { Bundle::new() } else { Bundle::new().user_namespace(100_000) };
    let bundle = bundle.set("process.user", json!({ "uid": 1000, "gid": 1000 }));
    let (output, heard) = supervisor.runs(&bundle.write(probe!(notify "READY=1"; sleep 0.5)));
    assert_eq!(output.ok().answers(), ["ok", "slept"]);
    assert!(heard.iter().any(|line| line == "READY=1"), "{heard:?}");
}

/// Listening sockets, as systemd passes them.
fn sockets(count: usize) -> Vec<OwnedFd> {
    let bind = |index| {
        let path = host::place().join(format!("listen{index}"));
        let _ = fs::remove_file(&path);
        UnixListener::bind(path).expect("socket").into()
    };
    (0..count).map(bind).collect()
}

/// `run` as systemd begins it: LISTEN_PID is the runtime's own pid.
fn run_with_sockets(bundle: &Bundle, count: usize, descriptors: Vec<OwnedFd>) -> Call {
    let shell = bundle.dir.join("activate");
    let text = format!("#!/bin/sh\nexport LISTEN_PID=$$\nexec '{}' \"$@\"\n", path().display());
    fs::write(&shell, text).expect("script");
    fs::set_permissions(&shell, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("script");
    bundle.call("run").program(&shell).env("LISTEN_FDS", &count.to_string()).descriptors(descriptors)
}

fn kinds(descriptors: &Value) -> Vec<String> {
    let name = |(number, target): (&String, &Value)| {
        let kind = target.as_str().unwrap_or_default().split([':', '[']).next().unwrap_or_default();
        format!("{number} {kind}")
    };
    let mut names: Vec<String> = descriptors.as_object().expect("descriptors").iter().map(name).collect();
    names.retain(|name| !["0", "1", "2"].iter().any(|number| name.starts_with(number)));
    names.sort();
    names
}

fn the_sockets_of_a_unit_arrive() {
    let bundle = Bundle::new().write(probe!(fds; env));
    let answers = run_with_sockets(&bundle, 2, sockets(3)).run().ok().answers();
    assert_eq!(kinds(&answers[0]), ["3 socket", "4 socket"]);
    assert_eq!((&answers[1]["LISTEN_FDS"], &answers[1]["LISTEN_PID"]), (&json!("2"), &json!("1")));
}

fn the_names_of_sockets_arrive() {
    let bundle = Bundle::new().write(probe!(env));
    let answer = run_with_sockets(&bundle, 2, sockets(2)).env("LISTEN_FDNAMES", "http:admin").run().ok().answer();
    assert_eq!(answer["LISTEN_FDNAMES"], "http:admin");
    // What the unit has counts, not what an image or an engine of old left there.
    let bundle = Bundle::new().push("process.env", json!("LISTEN_FDS=9")).write(probe!(env));
    let answer = run_with_sockets(&bundle, 1, sockets(1)).run().ok().answer();
    assert_eq!((&answer["LISTEN_FDS"], &answer["LISTEN_FDNAMES"]), (&json!("1"), &Value::Null));
}

fn preserved_descriptors_come_behind_the_sockets() {
    let bundle = Bundle::new().flags(&["--preserve-fds", "1"]).write(probe!(fds));
    let mut descriptors = sockets(1);
    descriptors.push(fs::File::open("/dev/null").expect("null").into());
    descriptors.extend(sockets(1));
    let answer = run_with_sockets(&bundle, 1, descriptors).run().ok().answer();
    assert_eq!(kinds(&answer), ["3 socket", "4 /dev/null"]);
}

/// In a pid namespace that others are in, the program is not process 1.
fn sockets_are_for_the_process_that_they_are_meant_for() {
    let bundle = Bundle::new().without_namespace("pid").push("process.env", json!("LISTEN_PID=1"));
    let bundle = bundle.write(probe!(env; status "Pid"));
    let answers = run_with_sockets(&bundle, 1, sockets(1)).run().ok().answers();
    assert_eq!(answers[0]["LISTEN_PID"], answers[1]);
}

fn the_sockets_of_another_process_stay_outside() {
    let bundle = Bundle::new().write(probe!(fds; env));
    let call = bundle.call("run").env("LISTEN_FDS", "1").env("LISTEN_PID", "1").descriptors(sockets(1));
    let answers = call.run().ok().answers();
    assert_eq!(kinds(&answers[0]), [""; 0]);
    assert_eq!(answers[1]["LISTEN_FDS"], Value::Null);
}

/// Else descriptors of the runtime, which have those numbers by then, would reach the container.
fn sockets_that_are_not_open_are_an_error() {
    let bundle = Bundle::new().write(probe!(fds));
    let output = run_with_sockets(&bundle, 9, sockets(1)).run();
    assert!(output.status == 1 && output.stdout.is_empty(), "leaked: {}", output.stdout);
    let output = run_with_sockets(&bundle, 0, Vec::new()).env("LISTEN_FDS", "many").run();
    output.fails_as_ocirt("LISTEN_FDS=many: not a number of descriptors");
    host::assert_nothing_left();
}

fn exec_passes_nothing_of_a_supervisor_on() {
    let supervisor = Supervisor::new();
    let bundle = Bundle::new().env("NOTIFY_SOCKET", supervisor.name()).write(probe!(sleep 60));
    bundle.call("create").run().ok();
    Call::new(["start", &bundle.id]).as_user(bundle.as_user()).run().ok();
    let exec = Call::new(["exec", &bundle.id, "/probe", "env"]).as_user(bundle.as_user());
    let answer = exec.env("NOTIFY_SOCKET", supervisor.name()).env("LISTEN_FDS", "1").run().ok().answer();
    assert_eq!((&answer["NOTIFY_SOCKET"], &answer["LISTEN_FDS"]), (&Value::Null, &Value::Null));
    Call::new(["delete", "--force", &bundle.id]).as_user(bundle.as_user()).run().ok();
}

/// The text of a block of the README: what is behind its opening line.
fn block(name: &str) -> &'static str {
    let readme = include_str!("../../../README.md");
    let (_, rest) = readme.split_once(&format!("```ini {name}\n")).unwrap_or_else(|| panic!("no block {name}"));
    rest.split_once("```").expect("the end of the block").0
}

/// Unit files at the manager's place, gone at the end of the test.
struct Units {
    name: String,
}

impl Units {
    fn write(bundle: &Bundle) -> (Self, PathBuf) {
        let units = Units { name: format!("{}-{}", host::tag(), bundle.id) };
        let listen = PathBuf::from(format!("/run/{}.sock", units.name));
        let program = format!("{} --root {}", path().display(), host::root().display());
        let service = block("systemd/web.service").replace("/usr/local/sbin/ocirt", &program);
        let service = service.replace("/srv/web", bundle.dir.to_str().expect("UTF-8"));
        let service = service.replace(" web\n", &format!(" {}\n", bundle.id));
        let socket = block("systemd/web.socket").replace("127.0.0.1:8080", listen.to_str().expect("UTF-8"));
        for (kind, text) in [("service", service), ("socket", socket)] {
            fs::write(format!("/run/systemd/system/{}.{kind}", units.name), text).expect("unit");
        }
        systemctl(&["daemon-reload"]);
        (units, listen)
    }

    fn unit(&self, kind: &str) -> String {
        format!("{}.{kind}", self.name)
    }
}

impl Drop for Units {
    fn drop(&mut self) {
        for kind in ["socket", "service"] {
            let unit = self.unit(kind);
            let _ = std::process::Command::new("systemctl").args(["stop", &unit]).status();
            let _ = std::process::Command::new("systemctl").args(["reset-failed", &unit]).status();
            let _ = fs::remove_file(format!("/run/systemd/system/{unit}"));
        }
        let _ = std::process::Command::new("systemctl").arg("daemon-reload").status();
    }
}

fn the_units_of_the_readme_work() {
    need(Need::Systemd, host::is_systemd());
    let bundle = systemd(Bundle::new()).write(probe!(sleep 0.3; notify "STATUS=made\\nREADY=1"; serve; sleep 60));
    let (units, listen) = Units::write(&bundle);
    let service = units.unit("service");
    systemctl(&["start", &units.unit("socket")]);
    assert_eq!(show(&service, "ActiveState"), "inactive");
    // The connection starts the service, whose program takes it.
    let mut text = String::new();
    UnixStream::connect(&listen).expect("socket").read_to_string(&mut text).expect("answer");
    assert_eq!(text, "served");
    eventually("the service is active", || show(&service, "ActiveState") == "active");
    assert_eq!(show(&service, "StatusText"), "made");
    let main = show(&service, "MainPID");
    let name = fs::read(format!("/proc/{main}/cmdline")).expect("the main process");
    assert!(String::from_utf8_lossy(&name).contains(&bundle.id), "{main}");
    systemctl(&["stop", &service]);
    eventually("the container is gone", || Call::new(["state", &bundle.id]).run().status == 1);
    drop(units);
    host::assert_nothing_left();
}
