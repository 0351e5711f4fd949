//! The shim killed at any system call: containerd's `delete` then leaves nothing of the container.

use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::{Need, need};
use ocirt_integration::shim::{Events, Link, Shim};
use ocirt_integration::wait::eventually;
use ocirt_integration::{host, probe, tests};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use containerd_shim_ocirt::api::known::Empty;
use containerd_shim_ocirt::api::task::{
    CreateTaskResponse, DeleteResponse, KillRequest, ShutdownRequest, StartResponse, WaitResponse,
};

tests![
    a_shim_killed_at_a_system_call_leaves_nothing_after_delete,
    a_start_killed_at_a_system_call_can_be_repeated,
    a_delete_killed_at_a_system_call_can_be_repeated,
    a_runtime_ends_with_its_shim,
];

/// How long a test looks for places, unless OCIRT_INJECT_SECONDS says otherwise; they are taken from all over a life.
const ENOUGH: Duration = Duration::from_secs(8);

fn enough() -> Duration {
    let given = std::env::var("OCIRT_INJECT_SECONDS").ok().and_then(|text| text.parse().ok());
    given.map_or(ENOUGH, Duration::from_secs)
}

fn shim() -> Shim {
    let has_strace = Command::new("strace").arg("-V").output().is_ok();
    need(Need::Strace, has_strace);
    Shim::new(Bundle::new().namespace("cgroup", None), probe!(sleep 60))
}

/// strace(1) on a shim that runs.
fn attach(pid: u32, options: &[&str]) -> Child {
    let mut command = Command::new("strace");
    command.args(["-qq", "-p", &pid.to_string()]).args(options).stdin(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().expect("strace");
    let status = format!("/proc/{pid}/status");
    eventually("a shim that is traced", || {
        let text = std::fs::read_to_string(&status).unwrap_or_default();
        // It may have been killed already.
        text.contains("State:\tZ") || !text.contains("TracerPid:\t0\n")
    });
    child
}

/// A container's life, as far as there is a shim; true if to its end.
fn live(link: &mut Link, shim: &Shim) -> bool {
    fn called<R: prost::Message + Default>(link: &mut Link, method: &str, request: &impl prost::Message) -> bool {
        match link.try_call::<R>(method, request) {
            Some(Ok(_)) => true,
            Some(Err(status)) => panic!("{method}: {status:?}"),
            None => false,
        }
    }
    let (init, exec) = (shim.of_process(""), shim.of_process("e"));
    let kill = KillRequest { id: init.id.clone(), signal: 9, ..KillRequest::default() };
    called::<CreateTaskResponse>(link, "Create", &shim.create_request())
        && called::<StartResponse>(link, "Start", &init)
        && called::<Empty>(link, "Exec", &shim.exec_request("e", probe!(exit 3)))
        && called::<StartResponse>(link, "Start", &exec)
        && called::<WaitResponse>(link, "Wait", &exec)
        && called::<DeleteResponse>(link, "Delete", &exec)
        && called::<Empty>(link, "Kill", &kill)
        && called::<WaitResponse>(link, "Wait", &init)
        && called::<DeleteResponse>(link, "Delete", &init)
        && called::<Empty>(link, "Shutdown", &ShutdownRequest { id: init.id.clone(), now: false })
}

/// `visit` for as many of the first `count` numbers as there is time for, spread evenly and each at most once.
fn each(count: usize, mut visit: impl FnMut(usize)) {
    let (begun, stride) = (Instant::now(), 11);
    for number in (0..stride).flat_map(|offset| (1 + offset..=count).step_by(stride)) {
        if begun.elapsed() > enough() {
            break;
        }
        visit(number);
    }
}

fn lines(trace: &Path) -> usize {
    std::fs::read_to_string(trace).expect("trace").lines().filter(|line| line.contains('(')).count()
}

fn a_shim_killed_at_a_system_call_leaves_nothing_after_delete() {
    let _containerd = Events::listen();
    let whole = shim();
    let mut link = whole.start();
    let trace = host::place().join("trace");
    let mut strace = attach(link.pid(&whole), &["-o", &trace.display().to_string()]);
    assert!(live(&mut link, &whole), "nobody kills it");
    let _ = strace.wait();
    whole.delete();
    whole.assert_nothing_left();
    let count = lines(&trace);
    assert!(count > 150, "{count} system calls");
    let mut killed = 0;
    each(count, |number| {
        let shim = shim();
        let mut link = shim.start();
        let inject = format!("inject=all:signal=KILL:when={number}");
        let mut strace = attach(link.pid(&shim), &["-o", "/dev/null", "-e", &inject]);
        killed += usize::from(!live(&mut link, &shim));
        drop(link);
        shim.delete();
        // Whoever waits for orphans may have waited for it.
        let _ = strace.wait();
        shim.assert_nothing_left();
    });
    assert!(killed > 0, "{killed} of {count}");
}

fn a_start_killed_at_a_system_call_can_be_repeated() {
    let _containerd = Events::listen();
    let (whole, trace) = (shim(), host::place().join("trace"));
    let socket = whole.try_start(&["-o", &trace.display().to_string()]).expect("nobody kills it");
    assert!(live(&mut Link::to(&socket), &whole));
    whole.delete();
    whole.assert_nothing_left();
    let mut killed = 0;
    each(lines(&trace), |number| {
        let shim = shim();
        killed += usize::from(shim.try_start(&["-e", &format!("inject=all:signal=KILL:when={number}")]).is_none());
        assert!(live(&mut shim.start(), &shim));
        shim.delete();
        shim.assert_nothing_left();
    });
    assert!(killed > 0, "no call was in time");
}

fn a_delete_killed_at_a_system_call_can_be_repeated() {
    let killed_shim = || {
        let shim = shim();
        let mut link = shim.start();
        link.run(&shim);
        host::kill(link.pid(&shim));
        // As containerd, which calls `delete` when its connection has broken.
        assert!(link.answer::<Empty>().is_none());
        shim
    };
    let (whole, trace) = (killed_shim(), host::place().join("trace"));
    assert_eq!(whole.try_delete(&["-o", &trace.display().to_string()]), Some(137), "nobody kills it");
    whole.assert_nothing_left();
    let mut killed = 0;
    each(lines(&trace), |number| {
        let shim = killed_shim();
        killed += usize::from(shim.try_delete(&["-e", &format!("inject=all:signal=KILL:when={number}")]).is_none());
        assert_eq!(shim.delete(), 137);
        shim.assert_nothing_left();
    });
    assert!(killed > 0, "no call was in time");
}

/// Whatever a runtime that goes on would make, nobody would remove.
fn a_runtime_ends_with_its_shim() {
    let shim = shim().with_runtime("case \" $* \" in *' create '*) exec sleep 60;; esac");
    let mut link = shim.start();
    let pid = link.pid(&shim);
    assert!(link.send("Create", &shim.create_request()));
    eventually("a runtime that hangs", || host::descendants(pid).len() == 1);
    host::kill(pid);
    assert!(link.answer::<CreateTaskResponse>().is_none());
    shim.delete();
    shim.assert_nothing_left();
}
