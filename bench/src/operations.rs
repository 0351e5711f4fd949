//! The measured operations: each is run, checked to have worked, and costed.

use std::fs;
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::sys::signal::Signal;

use crate::bundle::GREETING;
use crate::host::Host;
use crate::peer::{Cost, Peer, adopted, cpu_of, reap, wait_for_end};

/// In cgroup v1, a process that moved into a cgroup makes the next move of the next 20 ms cheap.
const SETTLE: Duration = Duration::from_millis(50);
/// Between commands that move nothing.
const BREATH: Duration = Duration::from_millis(4);

pub const LIFECYCLE: [&str; 10] =
    ["create", "state", "list", "start", "exec", "update", "pause", "resume", "kill", "delete"];

/// The cost of `--version`.
pub fn version(peer: &Peer) -> Result<Cost> {
    sleep(BREATH);
    let outcome = peer.measure_line(&[peer.path.display().to_string(), "--version".to_owned()], 0)?.expect_success()?;
    ensure!(!outcome.output.is_empty(), "no output");
    Ok(outcome.cost)
}

/// The cost of `run` of a container that prints the greeting.
pub fn run(peer: &Peer, bundle: &Path, id: &str) -> Result<Cost> {
    sleep(SETTLE);
    run_at_once(peer, bundle, id, 0)
}

/// `run` without an idle time before it, for what runs concurrently.
pub fn run_at_once(peer: &Peer, bundle: &Path, id: &str, slot: usize) -> Result<Cost> {
    let bundle = bundle.to_string_lossy();
    let outcome = peer.measure(&["run", "--bundle", &bundle, id], slot)?.expect_success()?;
    ensure!(outcome.output.trim() == GREETING, "the container printed {:?}", outcome.output.trim());
    Ok(outcome.cost)
}

/// The microseconds that `create` and `start` took of a container that lives, and is killed then, for what runs
/// concurrently.
pub fn start_at_once(peer: &Peer, bundle: &Path, id: &str, slot: usize) -> Result<f64> {
    let bundle = bundle.to_string_lossy();
    let create = peer.measure(&["create", "--bundle", &bundle, id], slot)?.expect_success().context("create")?.cost;
    let start = peer.measure(&["start", id], slot)?.expect_success().context("start")?.cost;
    let state = peer.measure(&["state", id], slot)?.expect_success().context("state")?.output;
    let state: serde_json::Value = serde_json::from_str(&state).context("state")?;
    let init = state["pid"].as_i64().context("state: no pid")? as i32;
    peer.measure(&["kill", id, "KILL"], slot)?.expect_success().context("kill")?;
    ensure!(wait_for_end(init).context("kill")? == Some(Signal::SIGKILL), "the program ended by itself");
    peer.measure(&["delete", id], slot)?.expect_success().context("delete")?;
    Ok(create.wall + start.wall)
}

/// One container's life, each command's cost as named in `LIFECYCLE`.
pub fn lifecycle(peer: &Peer, host: &Host, bundle: &Path, id: &str) -> Result<Vec<(&'static str, Cost)>> {
    let path = bundle.to_string_lossy();
    sleep(SETTLE);
    let mut create = peer.measure(&["create", "--bundle", &path, id], 0)?.expect_success().context("create")?.cost;
    create.cpu += reap().1;
    let &[init] = adopted().as_slice() else {
        bail!("create: {} processes live on, expected one", adopted().len());
    };
    create.cpu += cpu_of(init);

    let state = state(peer, id, "created", init)?;
    sleep(BREATH);
    let list = peer.measure(&["list"], 0)?.expect_success().context("list")?;
    ensure!(list.output.contains(id), "list: no {id} in it");

    sleep(BREATH);
    let before = cpu_of(init);
    let mut start = peer.measure(&["start", id], 0)?.expect_success().context("start")?.cost;
    await_program(init, "sleep").context("start")?;
    start.cpu += reap().1 + cpu_of(init) - before;
    self::state(peer, id, "running", init)?;

    sleep(SETTLE);
    let exec = peer.measure(&["exec", id, "/bin/echo", GREETING], 0)?.expect_success().context("exec")?;
    ensure!(exec.output.trim() == GREETING, "exec: the process printed {:?}", exec.output.trim());

    sleep(BREATH);
    let update = peer.measure(&["update", "--pids-limit", "4000", id], 0)?.expect_success().context("update")?.cost;
    let cgroup = format!("{}/{}", host.parent, bundle.file_name().unwrap_or_default().to_string_lossy());
    let limits = host.directories(&cgroup).into_iter().filter_map(|at| fs::read_to_string(at.join("pids.max")).ok());
    ensure!(limits.into_iter().all(|limit| limit.trim() == "4000"), "update: pids.max is not what was asked for");

    sleep(BREATH);
    let pause = peer.measure(&["pause", id], 0)?.expect_success().context("pause")?.cost;
    self::state(peer, id, "paused", init)?;
    sleep(BREATH);
    let resume = peer.measure(&["resume", id], 0)?.expect_success().context("resume")?.cost;
    self::state(peer, id, "running", init)?;

    sleep(BREATH);
    let kill = peer.measure(&["kill", id, "KILL"], 0)?.expect_success().context("kill")?.cost;
    let signal = wait_for_end(init).context("kill")?;
    ensure!(signal == Some(Signal::SIGKILL), "kill: ended by {signal:?}");

    sleep(BREATH);
    let delete = peer.measure(&["delete", id], 0)?.expect_success().context("delete")?.cost;
    ensure!(!host.directories(&cgroup).iter().any(|directory| directory.exists()), "delete: its cgroup is left");
    ensure!(!peer.remembered().iter().any(|name| name == id), "delete: its state is left");
    let costs = [create, state, list.cost, start, exec.cost, update, pause, resume, kill, delete];
    Ok(LIFECYCLE.into_iter().zip(costs).collect())
}

fn state(peer: &Peer, id: &str, status: &str, pid: i32) -> Result<Cost> {
    sleep(BREATH);
    let outcome = peer.measure(&["state", id], 0)?.expect_success().context("state")?;
    let state: serde_json::Value = serde_json::from_str(&outcome.output).context("state")?;
    ensure!(
        state["status"] == status && state["pid"] == pid,
        "state: {} {}, expected {status} {pid}",
        state["status"],
        state["pid"]
    );
    Ok(outcome.cost)
}

/// Returns once the process runs the program and sleeps.
fn await_program(pid: i32, program: &str) -> Result<()> {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(2) {
        let runs = fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains(program));
        let sleeps = fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|line| line.contains(") S "));
        if runs && sleeps {
            return Ok(());
        }
        sleep(Duration::from_micros(200));
    }
    bail!("process {pid} does not run {program}")
}
