//! `process.terminal`: the console socket, the foreground terminal, and the pidfd socket.

use ocirt_integration::bundle::Bundle;
use ocirt_integration::host;
use ocirt_integration::runtime::Call;
use ocirt_integration::terminal::{Receiver, pty, read_until};
use ocirt_integration::wait::eventually;
use ocirt_integration::{probe, tests};
use serde_json::{Value, json};
use std::fs::File;
use std::io::Write;

tests![
    the_console_socket_receives_the_terminal,
    the_console_has_its_size,
    the_console_belongs_to_the_user,
    a_foreground_terminal_is_passed_through,
    a_foreground_terminal_has_the_callers_size,
    a_foreground_terminal_is_restored,
    a_paste_that_nobody_reads_does_not_hold_up_signals,
    output_that_cannot_be_written_is_a_hangup,
    an_input_that_ends_is_an_end_of_file_inside,
    a_relayed_terminal_shows_newlines_as_they_are,
    a_terminal_without_a_console_socket_is_refused_by_create,
    a_console_socket_without_a_terminal_is_refused,
    a_console_socket_that_is_not_there_is_named,
    a_long_console_socket_path_works,
    the_pidfd_socket_receives_the_pidfd,
];

fn receiver() -> Receiver {
    let path = host::socket();
    let _ = std::fs::remove_file(&path);
    Receiver::new(&path)
}

fn with_terminal() -> Bundle {
    Bundle::new().set("process.terminal", json!(true))
}

/// Creates and starts with a console socket, and reads the first line from the terminal.
pub fn on_console(bundle: Bundle, args: Vec<String>) -> (Value, String) {
    let receiver = receiver();
    let bundle = bundle.flags(&["--console-socket", receiver.path.to_str().expect("UTF-8")]);
    let container = bundle.create(args);
    let (fd, name) = receiver.receive();
    let mut master = File::from(fd);
    container.start().ok();
    let text = read_until(&mut master, |text| text.contains('\n'));
    let _ = std::fs::remove_file(&receiver.path);
    (serde_json::from_str(text.lines().next().unwrap_or("")).unwrap_or(json!(text)), name)
}

fn the_console_socket_receives_the_terminal() {
    let (answer, name) = on_console(with_terminal(), probe!(tty));
    assert_eq!((&answer["tty"], &answer["controlling"]), (&json!([true, true, true]), &json!(true)));
    assert_eq!((&answer["name"], &answer["console"]), (&json!("/dev/pts/0"), &json!("char")));
    // runc says /dev/ptmx, crun the name of the other end; engines only log it.
    assert!(name.starts_with("/dev/"), "the terminal came as {name:?}");
}

fn the_console_has_its_size() {
    let size = json!({ "height": 33, "width": 111 });
    let (answer, _) = on_console(with_terminal().set("process.consoleSize", size.clone()), probe!(tty));
    assert_eq!((&answer["rows"], &answer["columns"]), (&json!(33), &json!(111)));
    // Without a terminal the size is ignored.
    let output = Bundle::new().set("process.consoleSize", size).run(probe!(tty)).ok();
    assert_eq!(output.answer()["tty"], json!([false, false, false]));
}

fn the_console_belongs_to_the_user() {
    let bundle = with_terminal().set("process.user", json!({ "uid": 1000, "gid": 1000 }));
    let (answer, _) = on_console(bundle, probe!(stat "/dev/pts/0"));
    assert_eq!((&answer["uid"], &answer["kind"]), (&json!(1000), &json!("char")));
    let (answer, _) = on_console(with_terminal().user_namespace(100_000), probe!(tty));
    assert_eq!(answer["tty"], json!([true, true, true]));
}

fn a_foreground_terminal_is_passed_through() {
    let (mut master, slave) = pty(30, 90);
    let bundle = with_terminal().write(probe!(tty; stdin));
    let mut running = bundle.call("run").terminal(&slave).spawn();
    drop(slave);
    let first = read_until(&mut master, |text| text.contains('\n'));
    let answer: Value = serde_json::from_str(first.lines().next().unwrap_or("")).expect("an answer");
    assert_eq!(answer["tty"], json!([true, true, true]));
    // Ctrl-D ends the input of the container, not of the runtime.
    master.write_all(b"typed\n\x04").expect("terminal");
    let rest = read_until(&mut master, |text| text.contains("\"typed"));
    assert!(rest.contains("\"typed\\n\""), "{rest}");
    running.finish().ok();
    host::assert_nothing_left();
}

fn a_foreground_terminal_has_the_callers_size() {
    let (mut master, slave) = pty(30, 90);
    let bundle = with_terminal().write(probe!(sleep 0.5; tty));
    let mut running = bundle.call("run").terminal(&slave).spawn();
    drop(slave);
    let text = read_until(&mut master, |text| text.lines().count() == 2);
    let answer: Value = serde_json::from_str(text.lines().nth(1).unwrap_or("")).expect("an answer");
    assert_eq!((&answer["rows"], &answer["columns"]), (&json!(30), &json!(90)));
    running.finish().ok();
}

fn a_foreground_terminal_is_restored() {
    use std::os::fd::AsRawFd;
    let (mut master, slave) = pty(24, 80);
    // SAFETY: an all-zero termios is a valid value.
    let read = || unsafe {
        let mut state: libc::termios = std::mem::zeroed();
        libc::tcgetattr(slave.as_raw_fd(), &mut state);
        (state.c_iflag, state.c_oflag, state.c_lflag)
    };
    let before = read();
    let bundle = with_terminal().write(probe!(exit 5));
    let mut running = bundle.call("run").terminal(&slave).spawn();
    assert_eq!(running.finish().status, 5);
    assert_eq!(before, read());
    read_until(&mut master, |_| true);
}

fn a_paste_that_nobody_reads_does_not_hold_up_signals() {
    let paste = host::place().join("paste");
    std::fs::write(&paste, "x\n".repeat(500_000)).expect("file");
    let bundle = with_terminal().write(probe!(sigwait));
    let mut running = bundle.call("run").stdin(File::open(paste).expect("file")).spawn();
    eventually("the container runs", || running.stdout().contains("ready"));
    // SAFETY: no memory is passed; the process is our child.
    unsafe { libc::kill(running.child.id() as i32, libc::SIGTERM) };
    running.finish();
    host::assert_nothing_left();
}

fn output_that_cannot_be_written_is_a_hangup() {
    let bundle = with_terminal().write(probe!(print "x"; exit 5));
    let mut command = std::process::Command::new(ocirt_integration::runtime::path());
    command.arg("--root").arg(host::root()).args(["run", "--bundle"]).arg(&bundle.dir).arg(&bundle.id);
    command.stdin(std::process::Stdio::null()).stdout(File::options().write(true).open("/dev/full").expect("full"));
    let status = command.status().expect("runtime");
    assert_eq!(status.code(), Some(5));
    host::assert_nothing_left();
}

/// Each time that it is read; a line that has no newline comes before.
fn an_input_that_ends_is_an_end_of_file_inside() {
    let output = with_terminal().run(probe!(stdin; stdin)).ok();
    assert_eq!(output.stdout.replace('\r', "").lines().collect::<Vec<_>>(), ["\"\"", "\"\""]);
    let file = host::place().join("typed");
    std::fs::write(&file, "typed").expect("file");
    let bundle = with_terminal().write(probe!(stdin; stdin));
    let output = bundle.call("run").stdin(File::open(&file).expect("file")).run().ok();
    assert!(output.stdout.contains("\"typed\"") && output.stdout.contains("\"\""), "{:?}", output.stdout);
    // A program that does not read is none the wiser.
    assert_eq!(with_terminal().run(probe!(sleep 1.5; exit 5)).status, 5);
    let container = Bundle::new().start(probe!(sleep 60));
    let exec = Call::new(["exec", "--tty", container.id(), "/probe", "stdin"]).as_user(container.bundle.as_user());
    let output = exec.stdin(File::open(&file).expect("file")).run().ok();
    assert!(output.stdout.contains("\"typed\""), "{:?}", output.stdout);
}

/// Where standard output is a file. On a terminal of the caller's, carriage returns are its own.
fn a_relayed_terminal_shows_newlines_as_they_are() {
    let (mut master, slave) = pty(24, 80);
    let output = with_terminal().write(probe!(print "a"; print "b")).call("run").stdin(slave).run().ok();
    assert_eq!(output.stdout, "\"a\"\n\"b\"\n");
    let (_master, slave) = pty(24, 80);
    let container = Bundle::new().start(probe!(sleep 60));
    let exec = Call::new(["exec", "--tty", container.id(), "/probe", "print", "a"]).as_user(container.bundle.as_user());
    assert_eq!(exec.stdin(slave).run().ok().stdout, "\"a\"\n");
    drop(container);
    read_until(&mut master, |_| true);
    let (mut master, slave) = pty(24, 80);
    let bundle = with_terminal().write(probe!(print "a"));
    let mut running = bundle.call("run").terminal(&slave).spawn();
    running.finish().ok();
    let mut shown = [0; 64];
    let length = std::io::Read::read(&mut master, &mut shown).expect("terminal");
    assert_eq!(String::from_utf8_lossy(&shown[..length]), "\"a\"\r\n");
}

fn a_terminal_without_a_console_socket_is_refused_by_create() {
    with_terminal().write(probe!(print "x")).call("create").run().fails("console");
    with_terminal().flags(&["--detach"]).write(probe!(print "x")).call("run").run().fails("console");
    host::assert_nothing_left();
}

fn a_console_socket_without_a_terminal_is_refused() {
    let receiver = receiver();
    let bundle = Bundle::new().flags(&["--console-socket", receiver.path.to_str().expect("UTF-8")]);
    bundle.write(probe!(print "x")).call("create").run().fails("console");
    let _ = std::fs::remove_file(&receiver.path);
    host::assert_nothing_left();
}

fn a_console_socket_that_is_not_there_is_named() {
    let bundle = with_terminal().flags(&["--console-socket", "/tmp/no-such-socket"]);
    bundle.write(probe!(print "x")).call("create").run().fails("/tmp/no-such-socket");
    host::assert_nothing_left();
}

/// A socket bound through a short path whose real one is longer than sun_path.
fn a_long_console_socket_path_works() {
    let receiver = receiver();
    let directory = host::place().join("d".repeat(100));
    std::fs::create_dir_all(&directory).expect("directory");
    let path = directory.join("console.sock");
    std::fs::rename(&receiver.path, &path).expect("rename");
    let container = with_terminal().flags(&["--console-socket", path.to_str().expect("UTF-8")]).create(probe!(tty));
    receiver.receive();
    container.start().ok();
}

fn the_pidfd_socket_receives_the_pidfd() {
    use std::os::fd::AsRawFd;
    let receiver = receiver();
    let container =
        Bundle::new().flags(&["--pidfd-socket", receiver.path.to_str().expect("UTF-8")]).create(probe!(sleep 60));
    let (fd, _) = receiver.receive();
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).expect("fdinfo");
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")).map(|text| text.trim().to_owned());
    assert_eq!(pid, Some(container.pid().to_string()), "{info}");
    let _ = std::fs::remove_file(&receiver.path);
}
