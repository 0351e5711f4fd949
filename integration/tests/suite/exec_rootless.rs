//! `exec` of an ordinary user into a container of his.

use super::exec::refused;
use ocirt_integration::bundle::{Bundle, Container};
use ocirt_integration::host::{self, reap};
use ocirt_integration::runtime::{Call, call};
use ocirt_integration::terminal::{Receiver, read_until};
use ocirt_integration::user::{self, RANGE, USER};
use ocirt_integration::wait::eventually;
use ocirt_integration::{has, probe, tests};
use serde_json::{Value, json};
use std::fs::File;

tests![
    a_container_of_the_user_is_entered,
    one_with_several_ids_is_entered_as_each_of_them,
    a_created_container_is_entered_by_root_alone,
    a_detached_process_is_the_users,
    a_terminal_of_the_user_is_passed_on,
    a_process_is_born_with_its_oom_score,
    what_the_user_may_not_is_refused,
    an_exec_shows_nothing_of_the_host,
    the_floor_of_the_host_holds_for_a_user,
];

/// A running container of the user.
fn running(bundle: Bundle) -> Container {
    let container = bundle.create(probe!(print "up"; sleep 60));
    container.start().ok();
    container.answers(1);
    container
}

fn one() -> Bundle {
    Bundle::new().rootless(user::one_id())
}

fn exec(container: &Container, flags: &[&str], args: Vec<String>) -> Call {
    super::exec::exec(container, flags, args).as_user(true)
}

fn a_container_of_the_user_is_entered() {
    let container = running(one());
    let args = probe!(id; ns; caps; read "/proc/self/uid_map"; cwd; session);
    let answers = exec(&container, &[], args).run().ok().answers();
    assert_eq!((&answers[0]["uid"], &answers[0]["gid"]), (&json!([0, 0, 0]), &json!([0, 0, 0])));
    for name in ["user", "pid", "net", "ipc", "uts", "mnt"] {
        let path = format!("/proc/{}/ns/{name}", container.pid());
        let init = std::fs::read_link(path).expect("namespace").display().to_string();
        assert_eq!(answers[1][name], init.as_str(), "{name}");
    }
    assert!(has(&answers[2]["effective"], "CAP_CHOWN") && !has(&answers[2]["bounding"], "CAP_SYS_ADMIN"));
    assert!(answers[3].to_string().contains(&USER.to_string()), "{}", answers[3]);
    assert_eq!((&answers[4], &answers[5]["parent"]), (&json!("/"), &json!(0)));
    assert_eq!(exec(&container, &[], probe!(exit 42)).run().status, 42);
    assert_eq!(exec(&container, &[], probe!(raise 15)).run().status, 128 + 15);
}

fn one_with_several_ids_is_entered_as_each_of_them() {
    let container = running(Bundle::new().rootless(user::range()));
    let flags = ["--user", "1000:1001", "--additional-gids", "7"];
    let mut process = exec(&container, &flags, probe!(id; sigwait)).spawn();
    eventually("the process runs", || process.stdout().contains("ready"));
    let status = host_status(&container, &format!("Uid:\t{}", RANGE + 999));
    assert!(status.contains(&format!("Gid:\t{}", RANGE + 1000)), "{status}");
    // The user's signal reaches a process of another id, since it is of his user namespace.
    // SAFETY: no memory is passed; the runtime is our child.
    unsafe { libc::kill(process.child.id() as i32, libc::SIGUSR1) };
    let answers = process.finish().ok().answers();
    assert_eq!((&answers[0]["uid"][0], &answers[0]["groups"], &answers[2]), (&json!(1000), &json!([7]), &json!(10)));
}

/// /proc/PID/status of the process below this one that has such a line.
fn host_status(container: &Container, line: &str) -> String {
    let pids = host::descendants(std::process::id());
    let texts = pids.iter().map(|pid| std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default());
    texts.into_iter().find(|text| text.contains(line)).unwrap_or_else(|| panic!("{}: nobody is {line}", container.id()))
}

/// Init still runs the runtime's program, which a user may not look into, and so not join (ptrace(2), access modes).
fn a_created_container_is_entered_by_root_alone() {
    let container = one().create(probe!(print "it ran"));
    refused(exec(&container, &[], probe!(print "it ran")).run(), "operation not permitted");
    assert_eq!((container.status().as_str(), container.stdout().as_str()), ("created", ""));
    container.start().ok();
    container.answers(1);
}

fn a_detached_process_is_the_users() {
    let container = running(one());
    let file = user::runtime_directory(host::place()).join("exec-pid");
    let flags = ["--detach", "--pid-file", file.to_str().expect("UTF-8")];
    exec(&container, &flags, probe!(sleep 60)).run().ok();
    let pid: u32 = std::fs::read_to_string(&file).expect("pid file").parse().expect("pid");
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("process");
    assert!(status.contains(&format!("Uid:\t{USER}\t{USER}\t{USER}\t{USER}")), "{status}");
    host::kill(pid);
    assert_eq!(reap(pid), 128 + 9);
}

fn a_terminal_of_the_user_is_passed_on() {
    let container = running(one());
    let path = host::socket();
    let _ = std::fs::remove_file(&path);
    let receiver = Receiver::new(&path);
    user::give(&path);
    let file = user::runtime_directory(host::place()).join("exec-pid");
    let file_name = file.to_str().expect("UTF-8");
    let flags = ["--tty", "--detach", "--pid-file", file_name, "--console-socket", path.to_str().expect("UTF-8")];
    exec(&container, &flags, probe!(tty)).run().ok();
    let mut master = File::from(receiver.receive().0);
    let text = read_until(&mut master, |text| text.contains('\n'));
    let answer: Value = serde_json::from_str(text.lines().next().unwrap_or("")).expect("an answer");
    assert_eq!(answer["tty"], json!([true, true, true]));
    let _ = std::fs::remove_file(&path);
    reap(std::fs::read_to_string(&file).expect("pid file").parse().expect("pid"));
}

/// It cannot open its own file any more when it is undumpable. The runtime that waits for it has its own score back.
fn a_process_is_born_with_its_oom_score() {
    let own: i32 = std::fs::read_to_string("/proc/self/oom_score_adj").expect("score").trim().parse().expect("number");
    let score = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/oom_score_adj")).expect("score");
    let container = running(one().set("process.oomScoreAdj", json!(own.max(0) + 77)));
    let args = probe!(read "/proc/self/oom_score_adj"; sigwait);
    let mut process = exec(&container, &[], args).spawn();
    eventually("the process runs", || process.stdout().contains("ready"));
    let back = || score(process.child.id()).trim() == own.to_string();
    eventually("the runtime has its own score", back);
    // SAFETY: no memory is passed; the runtime is our child.
    unsafe { libc::kill(process.child.id() as i32, libc::SIGUSR1) };
    assert_eq!(process.finish().ok().answers()[0], format!("{}\n", own.max(0) + 77));
}

fn what_the_user_may_not_is_refused() {
    let container = running(one());
    refused(exec(&container, &["--user", "5"], probe!(print "it ran")).run(), "");
    refused(exec(&container, &["--additional-gids", "5"], probe!(print "it ran")).run(), "");
    // Another user's container is none of his.
    if user::has_suite() {
        return;
    }
    let other = running(Bundle::new());
    assert_ne!(exec(&other, &[], probe!(print "it ran")).run().status, 0);
    call(["state", other.id()]).ok();
}

fn an_exec_shows_nothing_of_the_host() {
    ocirt_integration::needs::need_root();
    super::birth::watch_execs(one());
}

/// The file is root's, and he can read it.
fn the_floor_of_the_host_holds_for_a_user() {
    ocirt_integration::needs::need_ocirt();
    ocirt_integration::needs::need_root();
    let file = super::floor::floor(&json!({ "seccomp": [{ "names": ["getsid"], "errnoRet": 13 }] }));
    super::floor::is_denied(&file, || Bundle::new().rootless(user::range()));
}
