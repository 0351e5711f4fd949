//! What clients and the machine do wrong: the shim answers with an error, serves the others, and goes on.

use ocirt_integration::bundle::Bundle;
use ocirt_integration::shim::{Events, Link, Shim};
use ocirt_integration::wait::eventually;
use ocirt_integration::{host, probe, tests};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use containerd_shim_ocirt::api::known::Empty;
use containerd_shim_ocirt::api::task::{
    CreateTaskRequest, CreateTaskResponse, DeleteResponse, PidsResponse, ProcessRequest, StartResponse, StateResponse,
};

tests![
    bytes_that_are_no_frames_end_a_connection_or_are_answered,
    requests_that_are_wrong_are_refused,
    stdio_that_is_no_fifo_is_refused_and_leaves_nothing,
    others_are_served_while_a_create_hangs,
    a_fifo_that_nobody_reads_holds_up_nobody_else,
    a_slow_reader_gets_everything,
    a_reader_that_goes_breaks_nothing_and_the_next_one_goes_on,
    a_runtime_that_prints_much_is_an_error_and_no_hang,
    orphans_by_the_thousand_are_reaped,
    without_descriptors_it_refuses_and_goes_on,
    a_full_disk_is_an_error_and_leaves_nothing,
    events_are_told_in_order_and_wait_for_containerd,
    a_container_that_has_ended_has_a_pid_until_it_is_deleted,
];

fn shim(words: Vec<String>) -> Shim {
    Shim::new(Bundle::new().namespace("cgroup", None), words)
}

fn fifo(name: &str) -> PathBuf {
    let path = host::place().join(name);
    let text = std::ffi::CString::new(path.as_os_str().as_encoded_bytes()).expect("no NUL");
    // SAFETY: the path is NUL-terminated and outlives the call.
    assert_eq!(unsafe { libc::mkfifo(text.as_ptr(), 0o600) }, 0);
    path
}

/// A client that has come for a FIFO, and reads nothing yet.
fn reader(path: &PathBuf) -> std::fs::File {
    std::fs::OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path).expect("FIFO")
}

fn bytes_that_are_no_frames_end_a_connection_or_are_answered() {
    let _containerd = Events::listen();
    let shim = shim(probe!(sleep 60));
    let socket = shim.try_start(&[]).expect("start");
    let mut link = Link::to(&socket);
    link.run(&shim);
    let header =
        |length: u32, stream: u32, kind: u8| [&length.to_be_bytes()[..], &stream.to_be_bytes(), &[kind, 0]].concat();
    let too_long = [header(5 << 20, 1, 1), vec![0; 5 << 20]].concat();
    let unknown = header(0, 1, 9);
    let response = header(0, 1, 2);
    let even = [header(3, 2, 1), b"\x0a\x01x".to_vec()].concat();
    let broken = [header(3, 1, 1), b"\xff\xff\xff".to_vec()].concat();
    let nothing = header(0, 1, 1);
    let half = header(100, 1, 1);
    for bytes in [too_long, unknown, response, even, broken, nothing, half, b"GET / HTTP/1.1\r\n\r\n".repeat(1000)] {
        let mut stream = UnixStream::connect(&socket).expect("shim");
        stream.set_read_timeout(Some(Duration::from_millis(200))).expect("limit");
        // It may be over before all is written.
        let _ = stream.write_all(&bytes);
        let _ = stream.read(&mut [0; 1024]);
        assert_eq!(link.status(&shim), 2, "it runs");
    }
    // Many that say nothing, and go.
    let idle: Vec<_> = (0..500).map(|_| UnixStream::connect(&socket).expect("shim")).collect();
    assert_eq!(link.status(&shim), 2);
    drop(idle);
    link.finish(&shim);
    shim.assert_nothing_left();
}

fn requests_that_are_wrong_are_refused() {
    let _containerd = Events::listen();
    let shim = shim(probe!(sleep 60));
    let mut link = shim.start();
    for id in ["", "..", "a/b", "../../../etc", "x\0y", &"i".repeat(500)] {
        let request = CreateTaskRequest { id: id.to_owned(), ..shim.create_request() };
        assert_eq!(link.refused("Create", &request).code, 3, "{id:?}");
        let process = ProcessRequest { id: id.to_owned(), exec_id: String::new() };
        assert_eq!(link.refused("State", &process).code, 5, "{id:?}");
    }
    link.run(&shim);
    for exec_id in ["", "..", "a/b", "../init"] {
        assert_eq!(link.refused("Exec", &shim.exec_request(exec_id, probe!(exit 0))).code, 3, "{exec_id:?}");
    }
    let mut request = shim.exec_request("broken", probe!(exit 0));
    request.spec.as_mut().expect("spec").value = b"{\"args\":".to_vec();
    link.call::<Empty>("Exec", &request);
    link.refused("Start", &shim.of_process("broken"));
    link.call::<DeleteResponse>("Delete", &shim.of_process("broken"));
    assert_eq!(link.refused("NoSuch", &shim.of_container()).code, 12);
    link.finish(&shim);
    shim.assert_nothing_left();
}

fn stdio_that_is_no_fifo_is_refused_and_leaves_nothing() {
    let _containerd = Events::listen();
    let shim = shim(probe!(sleep 60));
    let mut link = shim.start();
    let file = host::place().join("file");
    std::fs::write(&file, "kept").expect("file");
    for path in [file.display().to_string(), host::place().display().to_string(), "/no/such/fifo".to_owned()] {
        let request = CreateTaskRequest { stdout: path.clone(), ..shim.create_request() };
        assert!(link.refused("Create", &request).message.starts_with("OCI runtime create failed: "), "{path}");
    }
    assert_eq!(std::fs::read_to_string(&file).expect("file"), "kept");
    // It is none the worse for that.
    link.run(&shim);
    link.finish(&shim);
    shim.assert_nothing_left();
}

/// containerd #13483, runc#2314: with Go's shim, State of the others takes as long as the create that hangs.
fn others_are_served_while_a_create_hangs() {
    let _containerd = Events::listen();
    let group = |shim: Bundle| shim.set("annotations", serde_json::json!({ "io.containerd.runc.v2.group": "pod" }));
    let first = Shim::new(group(Bundle::new().namespace("cgroup", None)), probe!(sleep 60));
    let hangs = Shim::new(group(Bundle::new().namespace("cgroup", None)), probe!(sleep 60))
        .with_runtime("case \" $* \" in *' create '*) exec sleep 60;; esac");
    let socket = first.try_start(&[]).expect("start");
    assert_eq!(hangs.try_start(&[]).expect("start"), socket, "one shim for both");
    let (mut link, mut other) = (Link::to(&socket), Link::to(&socket));
    link.run(&first);
    let pid = link.pid(&first);
    assert!(other.send("Create", &hangs.create_request()));
    eventually("a runtime that hangs", || host::descendants(pid).len() >= 2);
    // `OCIRT_HANG_SECONDS` has another time, below the minute for which it hangs.
    let seconds = std::env::var("OCIRT_HANG_SECONDS").map_or(0, |text| text.parse().expect("seconds"));
    let (end, mut slowest, mut calls) = (Instant::now() + Duration::from_secs(seconds), Duration::ZERO, 0);
    while calls < 20 || Instant::now() < end {
        let begun = Instant::now();
        assert_eq!(link.status(&first), 2);
        link.call::<PidsResponse>("Pids", &first.of_container());
        slowest = slowest.max(begun.elapsed());
        calls += 1;
        std::thread::sleep(Duration::from_millis(seconds.min(1) * 10));
    }
    assert!(
        slowest < Duration::from_secs(2),
        "of {calls} calls one took {slowest:?}, and containerd waits for two seconds"
    );
    let begun = Instant::now();
    link.exec(&first.exec_request("e", probe!(exit 3)));
    assert_eq!(link.wait(&first, "e"), 3);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    // Whoever gives it up deletes it, and what it asked for is answered.
    assert_eq!(link.refused("Delete", &hangs.of_process("")).code, 5);
    assert!(other.answer::<CreateTaskResponse>().expect("an answer").is_err());
    drop(other);
    link.call::<DeleteResponse>("Delete", &first.of_process("e"));
    link.finish(&first);
    hangs.delete();
    first.assert_nothing_left();
}

fn a_fifo_that_nobody_reads_holds_up_nobody_else() {
    let _containerd = Events::listen();
    let shim = shim(probe!(sleep 60));
    let mut link = shim.start();
    link.run(&shim);
    let path = fifo("stuck");
    let mut request = shim.exec_request("stuck", probe!(flood 1000000));
    request.stdout = path.display().to_string();
    link.exec(&request);
    // Others run, with their output.
    let other = fifo("other");
    let mut file = reader(&other);
    let mut request = shim.exec_request("other", probe!(print "heard"));
    request.stdout = other.display().to_string();
    link.exec(&request);
    assert_eq!(link.wait(&shim, "other"), 0);
    link.call::<DeleteResponse>("Delete", &shim.of_process("other"));
    let mut text = String::new();
    let _ = file.read_to_string(&mut text);
    assert!(text.contains("heard"), "{text}");
    let state: StateResponse = link.call("State", &shim.of_process("stuck"));
    assert_eq!(state.status, 2, "it waits for its reader");
    // Killed, it is deleted within the client's ten seconds.
    link.kill(&shim);
    assert_eq!(link.wait(&shim, ""), 137);
    let begun = Instant::now();
    link.call::<DeleteResponse>("Delete", &shim.of_process("stuck"));
    assert!(begun.elapsed() < Duration::from_secs(9), "{:?}", begun.elapsed());
    link.call::<DeleteResponse>("Delete", &shim.of_process(""));
    link.call::<Empty>("Shutdown", &shim.of_container());
    shim.delete();
    shim.assert_nothing_left();
}

fn a_slow_reader_gets_everything() {
    let _containerd = Events::listen();
    let shim = shim(probe!(sleep 60));
    let mut link = shim.start();
    link.run(&shim);
    let path = fifo("slow");
    let file = reader(&path);
    let mut request = shim.exec_request("slow", probe!(flood 4000000));
    request.stdout = path.display().to_string();
    link.exec(&request);
    let pid = link.pid(&shim);
    let memory = || {
        let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("status");
        let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("RssAnon").to_owned();
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number")
    };
    let before = memory();
    let (mut seen, mut bytes) = (0, vec![0; 32 << 10]);
    let end = Instant::now() + Duration::from_secs(15);
    while seen < 4_000_000 && Instant::now() < end {
        seen += (&file).read(&mut bytes).unwrap_or(0);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(seen, 4_000_000);
    assert!(memory() < before + 512, "what is not read stays in the kernel");
    assert_eq!(link.wait(&shim, "slow"), 0);
    link.call::<DeleteResponse>("Delete", &shim.of_process("slow"));
    link.finish(&shim);
    shim.assert_nothing_left();
}

/// rust-extensions #276: there the container has the FIFO itself, and its output is a broken pipe when containerd ends.
fn a_reader_that_goes_breaks_nothing_and_the_next_one_goes_on() {
    let _containerd = Events::listen();
    let shim = shim(probe!(sleep 60));
    let mut link = shim.start();
    link.run(&shim);
    let path = fifo("changes");
    let mut request = shim.exec_request("changes", probe!(flood 1000000));
    request.stdout = path.display().to_string();
    let mut seen = 0;
    let mut read = |file: std::fs::File, enough: usize| {
        let (mut bytes, end) = (vec![0; 16 << 10], Instant::now() + Duration::from_secs(10));
        while seen < enough && Instant::now() < end {
            seen += (&file).read(&mut bytes).unwrap_or(0);
        }
        seen
    };
    let first = reader(&path);
    link.exec(&request);
    assert!(read(first, 300_000) >= 300_000);
    std::thread::sleep(Duration::from_millis(100));
    assert_eq!(read(reader(&path), 1_000_000), 1_000_000, "nothing is lost");
    assert_eq!(link.wait(&shim, "changes"), 0, "and nothing broke");
    link.call::<DeleteResponse>("Delete", &shim.of_process("changes"));
    link.finish(&shim);
    shim.assert_nothing_left();
}

/// containerd #4434: with Go's shim, a runtime that prints more than a pipe holds waited for ever.
fn a_runtime_that_prints_much_is_an_error_and_no_hang() {
    let _containerd = Events::listen();
    let shim = shim(probe!(sleep 60))
        .with_runtime("case \" $* \" in *' start '*) head -c 300000 /dev/zero | tr '\\0' x >&2; exit 1;; esac");
    let mut link = shim.start();
    link.create(&shim);
    let status = link.refused("Start", &shim.of_process(""));
    assert!(status.message.len() < 10_000 && status.message.contains("xxx"), "{} bytes", status.message.len());
    link.finish(&shim);
    shim.assert_nothing_left();
}

/// In a shared pid namespace, what a container leaves behind becomes the shim's.
fn orphans_by_the_thousand_are_reaped() {
    let _containerd = Events::listen();
    let bundle = Bundle::new().without_namespace("pid").namespace("cgroup", None);
    let shim = Shim::new(bundle, probe!(sleep 60));
    let mut link = shim.start();
    link.run(&shim);
    let pid = link.pid(&shim);
    for number in 0..4 {
        link.exec(&shim.exec_request(&format!("bomb{number}"), probe!(orphans 500)));
    }
    let begun = Instant::now();
    assert_eq!(link.status(&shim), 2);
    assert!(begun.elapsed() < Duration::from_secs(2), "{:?}", begun.elapsed());
    for number in 0..4 {
        assert_eq!(link.wait(&shim, &format!("bomb{number}")), 0);
        link.call::<DeleteResponse>("Delete", &shim.of_process(&format!("bomb{number}")));
    }
    eventually("orphans that are reaped", || {
        let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"));
        children.expect("children").split_whitespace().count() == 1
    });
    link.finish(&shim);
    shim.assert_nothing_left();
}

/// For how long a process has run.
fn ran(pid: i32) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{pid}/schedstat")).expect("schedstat");
    Duration::from_nanos(text.split(' ').next().expect("a number").parse().expect("a number"))
}

fn without_descriptors_it_refuses_and_goes_on() {
    let _containerd = Events::listen();
    let shim = shim(probe!(sleep 60));
    let socket = shim.try_start(&[]).expect("start");
    let mut link = Link::to(&socket);
    link.run(&shim);
    let pid = link.pid(&shim) as i32;
    let limit = |soft| {
        let limit = libc::rlimit { rlim_cur: soft, rlim_max: 1024 };
        // SAFETY: the pointer is ours; nothing is returned.
        let ret = unsafe { libc::prlimit(pid, libc::RLIMIT_NOFILE, &limit, std::ptr::null_mut()) };
        assert_eq!(ret, 0, "{}", std::io::Error::last_os_error());
    };
    let is_free = |number: &u64| !std::path::Path::new(&format!("/proc/{pid}/fd/{number}")).exists();
    let free = (0..).filter(is_free);
    for more in 0..12 {
        limit(free.clone().nth(more).expect("a number"));
        let name = format!("e{more}");
        link.call::<Empty>("Exec", &shim.exec_request(&name, probe!(exit 3)));
        match link.try_call::<StartResponse>("Start", &shim.of_process(&name)).expect("the shim") {
            Ok(_) => assert_eq!(link.wait(&shim, &name), 3),
            Err(status) => assert!(status.message.to_lowercase().contains("too many open files"), "{status:?}"),
        }
        assert_eq!(link.status(&shim), 2);
        link.call::<DeleteResponse>("Delete", &shim.of_process(&name));
    }
    // A connection waits for its descriptor, and the shim does not spin meanwhile.
    limit(free.clone().next().expect("a number"));
    let mut waiting = Link::to(&socket);
    assert!(waiting.send("State", &shim.of_process("")));
    let before = ran(pid);
    std::thread::sleep(Duration::from_secs(1));
    assert!(ran(pid) - before < Duration::from_millis(100), "{:?}", ran(pid) - before);
    limit(1024);
    assert_eq!(waiting.answer::<StateResponse>().expect("the shim").expect("an answer").status, 2);
    drop(waiting);
    link.exec(&shim.exec_request("enough", probe!(exit 3)));
    assert_eq!(link.wait(&shim, "enough"), 3);
    link.call::<DeleteResponse>("Delete", &shim.of_process("enough"));
    link.finish(&shim);
    shim.assert_nothing_left();
}

fn a_full_disk_is_an_error_and_leaves_nothing() {
    let _containerd = Events::listen();
    let shim = shim(probe!(sleep 60));
    let mut link = shim.start();
    // The runtime's state is there, and the bundle is not.
    std::fs::create_dir_all(host::root()).expect("root");
    let mut mount = std::process::Command::new("mount");
    mount.args(["-t", "tmpfs", "-o", "size=4k", "tmpfs"]).arg(host::root());
    assert!(mount.status().expect("mount").success());
    std::fs::write(host::root().join("filler"), [0; 4096]).expect("filler");
    let status = link.refused("Create", &shim.create_request());
    assert!(
        status.message.contains("no space left on device") || status.message.contains("No space left"),
        "{status:?}"
    );
    std::fs::remove_file(host::root().join("filler")).expect("filler");
    assert!(std::process::Command::new("umount").arg(host::root()).status().expect("umount").success());
    link.run(&shim);
    link.finish(&shim);
    shim.assert_nothing_left();
}

/// From version 1.7 on containerd ends, at its own start, a shim that has no pid to tell.
fn a_container_that_has_ended_has_a_pid_until_it_is_deleted() {
    let _containerd = Events::listen();
    let shim = shim(probe!(exit 9));
    let mut link = shim.start();
    let pid = link.run(&shim);
    assert_eq!(link.wait(&shim, ""), 9);
    let pids: PidsResponse = link.call("Pids", &shim.of_container());
    assert_eq!(pids.processes.iter().map(|process| process.pid).collect::<Vec<_>>(), [pid]);
    link.call::<DeleteResponse>("Delete", &shim.of_process(""));
    assert_eq!(link.refused("Pids", &shim.of_container()).code, 5);
    link.call::<Empty>("Shutdown", &shim.of_container());
    shim.delete();
    shim.assert_nothing_left();
}

fn events_are_told_in_order_and_wait_for_containerd() {
    let shim = shim(probe!(sleep 60));
    let mut link = shim.start();
    link.run(&shim);
    link.exec(&shim.exec_request("e", probe!(exit 3)));
    assert_eq!(link.wait(&shim, "e"), 3);
    // It comes only now.
    let containerd = Events::listen();
    link.call::<DeleteResponse>("Delete", &shim.of_process("e"));
    link.finish(&shim);
    let words = ["create", "start", "exec-added", "exec-started", "exit", "exit", "delete"];
    assert_eq!(containerd.told(), words.map(|word| format!("/tasks/{word}")));
    shim.assert_nothing_left();
}
