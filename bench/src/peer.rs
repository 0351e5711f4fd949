//! The runtimes under measurement, and one measured command of theirs.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use nix::errno::Errno;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::host::Host;

/// A command that takes longer is a failure.
const PATIENCE: Duration = Duration::from_secs(20);

pub struct Peer {
    pub name: String,
    pub path: PathBuf,
    /// Its --root.
    root: PathBuf,
    meter: PathBuf,
    scratch: PathBuf,
}

/// What one command cost. Times in microseconds.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    pub wall: f64,
    pub cpu: f64,
    pub rss_kib: f64,
    pub faults: f64,
}

pub struct Outcome {
    pub cost: Cost,
    /// The exit status; 128 and more for a signal.
    pub status: i32,
    /// Standard output and error together.
    pub output: String,
}

impl Outcome {
    /// An error that quotes the output, unless the command succeeded.
    pub fn expect_success(self) -> Result<Self> {
        let last = self.output.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("no output");
        ensure!(self.status == 0, "exit status {}: {}", self.status, last.trim());
        Ok(self)
    }
}

impl Peer {
    pub fn new(host: &Host, name: &str, path: &Path, meter: &Path) -> Result<Self> {
        ensure!(path.is_file(), "{name}: no such file: {}", path.display());
        let root = host.work.join("state").join(name);
        fs::create_dir_all(&root)?;
        Ok(Peer {
            name: name.to_owned(),
            path: path.to_owned(),
            root,
            meter: meter.to_owned(),
            scratch: host.work.join(format!("scratch-{name}")),
        })
    }

    /// The command line: `--root DIR` and `words`.
    pub fn command_line(&self, words: &[&str]) -> Vec<String> {
        let globals = [self.path.display().to_string(), "--root".to_owned(), self.root.display().to_string()];
        globals.into_iter().chain(words.iter().map(|word| (*word).to_owned())).collect()
    }

    /// Runs and measures one command. `slot` tells apart what runs at the same time.
    pub fn measure(&self, words: &[&str], slot: usize) -> Result<Outcome> {
        self.measure_line(&self.command_line(words), slot)
    }

    pub fn measure_line(&self, line: &[String], slot: usize) -> Result<Outcome> {
        let result = self.scratch.with_extension(format!("{slot}.result"));
        let output = self.scratch.with_extension(format!("{slot}.output"));
        let file = File::create(&output)?;
        let metered = Command::new(&self.meter)
            .arg(&result)
            .arg(PATIENCE.as_secs().to_string())
            .args(line)
            .env_clear()
            .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .status()
            .context("meter")?;
        let output = String::from_utf8_lossy(&fs::read(&output)?).into_owned();
        if !metered.success() {
            bail!("no answer within {} s: {}", PATIENCE.as_secs(), output.trim());
        }
        parse_result(&fs::read_to_string(&result)?, output).context("result of meter")
    }

    /// Ends and removes whatever a failed measurement left of container `id`.
    pub fn clean_up(&self, host: &Host, id: &str, cgroup: &str) {
        end_descendants();
        // The container may not exist, or the runtime may be the thing that is broken.
        let _ = self.measure(&["delete", "--force", id], 0);
        end_descendants();
        for directory in host.directories(cgroup) {
            let _ = fs::remove_dir(directory);
        }
        let _ = fs::remove_dir_all(self.root.join(id));
    }

    /// The names below --root: containers that the runtime still knows.
    pub fn remembered(&self) -> Vec<String> {
        let entries = fs::read_dir(&self.root).into_iter().flatten().flatten();
        let directories =
            entries.filter(|entry| entry.path().is_dir() && !entry.file_name().as_encoded_bytes().starts_with(b"."));
        directories.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
    }
}

fn parse_result(line: &str, output: String) -> Result<Outcome> {
    let fields: Vec<f64> = line.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let &[wall, user, system, rss_kib, faults, status] = fields.as_slice() else {
        bail!("{line:?}");
    };
    let status = status as i32;
    let status = if status & 0x7f == 0 { status >> 8 } else { 128 + (status & 0x7f) };
    Ok(Outcome { cost: Cost { wall: wall / 1000.0, cpu: user + system, rss_kib, faults }, status, output })
}

/// The processes that became ours when their runtime exited: first processes of containers.
pub fn adopted() -> Vec<i32> {
    let children = fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    children.split_whitespace().filter_map(|pid| pid.parse().ok()).collect()
}

/// Processor time of a living process, in microseconds, all its threads together.
pub fn cpu_of(pid: i32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let nanoseconds = tasks.filter_map(|task| {
        let schedstat = fs::read_to_string(task.path().join("schedstat")).ok()?;
        schedstat.split(' ').next()?.parse::<f64>().ok()
    });
    nanoseconds.sum::<f64>() / 1000.0
}

/// Waits until `pid`, a child of ours, has ended, and returns the signal that ended it.
pub fn wait_for_end(pid: i32) -> Result<Option<Signal>> {
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(5) {
        match waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG)).context("waitpid")? {
            WaitStatus::StillAlive => std::thread::sleep(Duration::from_micros(500)),
            WaitStatus::Signaled(_, signal, _) => return Ok(Some(signal)),
            _ => return Ok(None),
        }
    }
    bail!("process {pid} lives on")
}

/// Collects ended children; returns how many live on, and the microseconds that the ended ones had used.
pub fn reap() -> (usize, f64) {
    let before = children_cpu();
    loop {
        match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) => return (adopted().len(), children_cpu() - before),
            Ok(_) | Err(Errno::EINTR) => {}
            Err(_) => return (0, children_cpu() - before),
        }
    }
}

fn children_cpu() -> f64 {
    let Ok(usage) = getrusage(UsageWho::RUSAGE_CHILDREN) else { return f64::NAN };
    let microseconds = |time: nix::sys::time::TimeVal| time.tv_sec() as f64 * 1e6 + time.tv_usec() as f64;
    microseconds(usage.user_time()) + microseconds(usage.system_time())
}

/// Kills and collects every process that this one has adopted. All of them descend from measured commands.
pub fn end_descendants() {
    let begin = Instant::now();
    while reap().0 > 0 && begin.elapsed() < Duration::from_secs(5) {
        for pid in adopted() {
            // It may have ended by itself; it is still ours to wait for, so its pid is not another's.
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}
