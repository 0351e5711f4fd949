//! A container's cgroup by its directories alone: what state.json keeps, so that kill, delete, pause and ps need no
//! config.json and no look at the host.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fmt;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use serde::{Deserialize, Serialize};

use super::systemd::Unit;
use super::{Join, Layout, TasksFile, absolute, file};
use crate::sys::signal::KILL;
use crate::sys::{self, Errno, SysError, cgroup};

/// How long to wait for processes that were killed: one in uninterruptible sleep dies late or never.
pub(super) const REMOVE_WITHIN: Duration = Duration::from_secs(10);
/// How long systemd may take to see that a cgroup is empty.
const SEEN_WITHIN: Duration = Duration::from_secs(2);
/// How long to follow processes that keep forking while they are killed. The signal is sent by then in any case.
const KILL_WITHIN: Duration = Duration::from_secs(2);
/// How long to wait for a freezer; runc's figure for v2.
const FREEZE_WITHIN: Duration = Duration::from_secs(10);

/// The directories of a container's cgroup, by the controllers of their hierarchy as /proc/PID/cgroup writes them
/// (`cpu,cpuacct`, `name=systemd`, and nothing for v2). None of them, if the container has no cgroup of its own.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Paths {
    pub layout: Layout,
    pub directories: BTreeMap<String, String>,
    /// The unit of systemd that they belong to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
}

impl Default for Paths {
    fn default() -> Self {
        Self { layout: Layout::V2, directories: BTreeMap::new(), unit: None }
    }
}

impl Paths {
    pub(super) fn new(layout: Layout, directories: impl Iterator<Item = (String, String)>) -> Self {
        let directories = directories.map(|(controllers, directory)| (controllers, absolute(&directory))).collect();
        Self { layout, directories, unit: None }
    }

    pub(super) fn forget(&mut self, controllers: &str) {
        self.directories.remove(controllers);
    }

    /// The directory in the hierarchy that has this controller; on v2, there is one for all.
    pub fn directory_of(&self, controller: &str) -> Option<&str> {
        let has = |names: &str| self.layout == Layout::V2 || names.split(',').any(|name| name == controller);
        self.directories.iter().find(|(names, _)| has(names)).map(|(_, directory)| directory.as_str())
    }

    /// Whether the cgroup is there.
    pub fn exists(&self) -> bool {
        self.main().is_some_and(|directory| path(directory).is_ok_and(|path| cgroup::exists(cgroup::here(), &path)))
    }

    /// Every process in the cgroup and those below it, each once; none if the cgroup is gone.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let Some(directory) = self.main() else { return Ok(Vec::new()) };
        let mut pids = pids_below(directory).with_context(|| format!("processes of {directory}"))?;
        pids.sort_unstable();
        pids.dedup();
        Ok(pids)
    }

    pub(super) fn count_in(&self, directory: &str) -> sys::Result<usize> {
        pids_below(directory).map(|pids| pids.len())
    }

    /// Sends a signal to every process in the cgroup and those below it. They are frozen meanwhile, so that none can
    /// fork away. SIGKILL also thaws, since the frozen do not die on v1, and is repeated until all are gone.
    pub fn kill_all(&self, signal: i32) -> Result<()> {
        if signal != KILL {
            return self.signal_frozen(signal);
        }
        let deadline = Deadline::after(KILL_WITHIN);
        loop {
            if !self.kill_at_once() {
                self.signal_frozen(KILL)?;
            }
            if self.pids()?.is_empty() || deadline.pause().is_none() {
                return Ok(());
            }
        }
    }

    /// Kills all with one write to cgroup.kill (Linux 5.14); false where that is not to be had.
    fn kill_at_once(&self) -> bool {
        self.layout == Layout::V2
            && self.main().is_some_and(|directory| match write(directory, "cgroup.kill", "1") {
                Ok(()) => true,
                Err(error) => file::is_gone(&error),
            })
    }

    fn signal_frozen(&self, signal: i32) -> Result<()> {
        let was_frozen = self.is_frozen().unwrap_or(false);
        // Without a freezer, or in the time of one that is stuck, the signal is still worth sending.
        let frozen = was_frozen || self.freeze().is_ok();
        let sent = self.pids().and_then(|pids| pids.into_iter().try_for_each(|pid| signal_one(pid, signal)));
        if frozen && (!was_frozen || signal == KILL) {
            self.thaw()?;
        }
        sent
    }

    /// Stops every process, and waits until all have. A cgroup that does not freeze in time is thawed again.
    pub fn freeze(&self) -> Result<()> {
        // A runtime that is called inside the container would wait for itself.
        if self.pids()?.contains(&(std::process::id() as i32)) {
            bail!("the runtime itself is in the cgroup, and cannot freeze it");
        }
        let frozen = if self.layout == Layout::V2 { self.freeze_v2() } else { self.freeze_v1() };
        if frozen.is_err() {
            // The first error is the one to tell.
            let _ = self.thaw();
        }
        frozen
    }

    /// Lets every process go on.
    pub fn thaw(&self) -> Result<()> {
        let (name, value) = self.freezer_file("THAWED", "0");
        let Some(directory) = self.freezer() else { return Ok(()) };
        match write(directory, name, value) {
            Err(error) if !file::is_gone(&error) => Err(refused(directory, name, value, &error)),
            _ => Ok(()),
        }
    }

    /// Whether the cgroup itself was told to freeze; that of an ancestor does not count.
    pub fn is_frozen(&self) -> Result<bool> {
        let name = if self.layout == Layout::V2 { "cgroup.freeze" } else { "freezer.self_freezing" };
        let Some(directory) = self.freezer() else { return Ok(false) };
        match read(directory, name) {
            Ok(text) => Ok(text.trim() == "1"),
            Err(error) if file::is_gone(&error) => Ok(false),
            Err(error) => Err(anyhow!("{directory}/{name}: {}", file::reason(error.errno))),
        }
    }

    fn freezer(&self) -> Option<&str> {
        self.directory_of("freezer")
    }

    fn freezer_file(&self, v1: &'static str, v2: &'static str) -> (&'static str, &'static str) {
        if self.layout == Layout::V2 { ("cgroup.freeze", v2) } else { ("freezer.state", v1) }
    }

    /// v1 stays in FREEZING while processes fork, and gets on only when it is told again.
    fn freeze_v1(&self) -> Result<()> {
        let directory = self.freezer().ok_or_else(|| anyhow!("cgroup controller freezer is not available"))?;
        let deadline = Deadline::after(FREEZE_WITHIN);
        loop {
            write(directory, "freezer.state", "FROZEN")
                .map_err(|error| refused(directory, "freezer.state", "FROZEN", &error))?;
            let state = read(directory, "freezer.state").with_context(|| directory.to_owned())?;
            if state.trim() == "FROZEN" {
                return Ok(());
            }
            if deadline.pause().is_none() {
                bail!("{directory} does not freeze: {} processes still run after {deadline}", self.pids()?.len());
            }
        }
    }

    fn freeze_v2(&self) -> Result<()> {
        let directory = self.freezer().ok_or_else(|| anyhow!("the container has no cgroup"))?;
        write(directory, "cgroup.freeze", "1").map_err(|error| refused(directory, "cgroup.freeze", "1", &error))?;
        if wait_for(directory, "frozen 1", &Deadline::after(FREEZE_WITHIN))? {
            return Ok(());
        }
        bail!("{directory} does not freeze within {} s", FREEZE_WITHIN.as_secs())
    }

    /// The hierarchies in which a process of the unit is put by systemd, and does not enter by itself, left out.
    pub(super) fn without_those_of_systemd(&self) -> Self {
        let ours = |names: &str| self.layout != Layout::V2 && !names.is_empty() && names != "name=systemd";
        let directories = self.directories.iter().filter(|(names, _)| ours(names));
        let directories = directories.map(|(names, directory)| (names.clone(), directory.clone())).collect();
        Self { layout: self.layout, directories, unit: self.unit.clone() }
    }

    /// Removes the cgroup with every cgroup below it; what still runs there is killed. Success if it is gone already.
    pub fn remove(&self) -> Result<()> {
        let Some(unit) = &self.unit else { return self.remove_directories() };
        // systemd would first ask politely, and wait.
        self.kill_all(KILL)?;
        let stopped = unit.stop();
        if stopped.is_err() {
            // A systemd that cannot be reached sees by itself that all have ended, and removes the cgroup. It must not
            // be faster removed than seen: then the unit would stay for ever.
            let deadline = Deadline::after(SEEN_WITHIN);
            while self.exists() && deadline.pause().is_some() {}
        }
        self.remove_directories().map_err(|error| stopped.err().unwrap_or(error))
    }

    fn remove_directories(&self) -> Result<()> {
        let deadline = Deadline::after(REMOVE_WITHIN);
        let mut first = Ok(());
        for directory in self.directories.values() {
            let removed = self.remove_directory(directory, &deadline);
            first = first.and(removed);
        }
        first
    }

    pub(super) fn remove_directory(&self, directory: &str, deadline: &Deadline) -> Result<()> {
        loop {
            match remove_tree(directory) {
                Ok(()) => return Ok(()),
                Err(error) if error.errno != Errno::EBUSY => {
                    bail!("remove cgroup {directory}: {}", file::reason(error.errno));
                }
                Err(_) => {}
            }
            let left = pids_below(directory).unwrap_or_default();
            // One that only this hierarchy knows is not reached by way of the others.
            left.iter().try_for_each(|pid| signal_one(*pid, KILL))?;
            self.thaw()?;
            if deadline.pause().is_none() {
                bail!("remove cgroup {directory}: still in use after {deadline} by processes {left:?}");
            }
        }
    }

    /// How a process enters: `tasks` files and the v2 directory, opened. Memory comes last, so that the least of the
    /// runtime's own work is accounted to the container.
    pub fn join(&self) -> Result<Join> {
        let mut tasks = Vec::with_capacity(self.directories.len());
        let mut directory = None;
        for (controllers, at) in &self.directories {
            if controllers.is_empty() {
                let opened = cgroup::open_location(cgroup::here(), &path(at)?);
                directory = Some(opened.map_err(|error| anyhow!("{at}: {}", file::reason(error.errno)))?);
            } else {
                let name = CString::new(format!("{at}/tasks"))?;
                let opened = TasksFile::open(name);
                let opened = opened.map_err(|error| anyhow!("{at}/tasks: {}", file::reason(error.errno)))?;
                tasks.push((controllers.split(',').any(|name| name == "memory"), opened));
            }
        }
        tasks.sort_by_key(|(is_memory, _)| *is_memory);
        let tasks: Vec<TasksFile> = tasks.into_iter().map(|(_, file)| file).collect();
        Ok(match (tasks.is_empty(), directory) {
            (true, None) => Join::None,
            (true, Some(directory)) => Join::Directory(directory),
            (false, None) => Join::Tasks(tasks),
            (false, Some(directory)) => Join::Hybrid { tasks, directory },
        })
    }

    /// The hierarchy that stands for all: every process of the container is in each of them. runc asks `devices`.
    fn main(&self) -> Option<&str> {
        ["devices", "pids", "freezer", "memory"]
            .iter()
            .find_map(|controller| self.directory_of(controller))
            .or_else(|| self.directories.values().next().map(String::as_str))
    }
}

/// ESRCH is success: the process ended by itself.
fn signal_one(pid: i32, signal: i32) -> Result<()> {
    match cgroup::kill(pid, signal) {
        Err(error) if error.errno != Errno::ESRCH => bail!("signal process {pid}: {}", file::reason(error.errno)),
        _ => Ok(()),
    }
}

fn pids_below(directory: &str) -> sys::Result<Vec<i32>> {
    let mut pids = match pids_of(directory) {
        Err(error) if file::is_gone(&error) => return Ok(Vec::new()),
        pids => pids?,
    };
    for name in children(directory)? {
        pids.extend(pids_below(&format!("{directory}/{name}"))?);
    }
    Ok(pids)
}

fn pids_of(directory: &str) -> sys::Result<Vec<i32>> {
    let text = match read(directory, "cgroup.procs") {
        // A threaded v2 cgroup only tells threads (cgroups(7), "Thread mode").
        Err(error) if error.errno == Errno::EOPNOTSUPP => read(directory, "cgroup.threads"),
        text => text,
    }?;
    // 0: a process of another pid namespace, which nobody here can name.
    Ok(text.lines().filter_map(|line| line.parse().ok()).filter(|pid| *pid > 0).collect())
}

/// The names of the cgroups right below; most have none, which the number of links tells without a look inside.
fn children(directory: &str) -> sys::Result<Vec<String>> {
    let path = path(directory)?;
    let mut names = Vec::new();
    match cgroup::links(cgroup::here(), &path) {
        Ok(links) if links > 2 => {}
        Err(error) if !file::is_gone(&error) => return Err(error),
        _ => return Ok(names),
    }
    match cgroup::list(cgroup::here(), &path, |name| names.push(name.to_string_lossy().into_owned())) {
        Err(error) if !file::is_gone(&error) => Err(error),
        _ => Ok(names),
    }
}

/// Removes a cgroup, those below it first.
fn remove_tree(directory: &str) -> sys::Result<()> {
    match remove_one(directory) {
        Err(error) if error.errno == Errno::EBUSY => {}
        result => return result,
    }
    for name in children(directory)? {
        remove_tree(&format!("{directory}/{name}"))?;
    }
    remove_one(directory)
}

fn remove_one(directory: &str) -> sys::Result<()> {
    let path = path(directory)?;
    match cgroup::remove_directory(cgroup::here(), &path) {
        Err(error) if file::is_gone(&error) => Ok(()),
        // A read-only cgroupfs says so even of what does not exist (runc#4518).
        Err(error) if error.errno == Errno::EROFS && !cgroup::exists(cgroup::here(), &path) => Ok(()),
        result => result,
    }
}

/// Waits until cgroup.events has this line; false when the deadline comes first.
fn wait_for(directory: &str, line: &str, deadline: &Deadline) -> Result<bool> {
    let name = CString::new(format!("{directory}/cgroup.events"))?;
    loop {
        // Opened anew each time: the kernel tells a change since the last read of the open file.
        let events = cgroup::open_read(cgroup::here(), &name).with_context(|| directory.to_owned())?;
        let mut text = [0; 256];
        let length = cgroup::read(events.as_fd(), &mut text).with_context(|| directory.to_owned())?;
        let text = String::from_utf8_lossy(text.get(..length).unwrap_or_default()).into_owned();
        if text.lines().any(|found| found == line) {
            return Ok(true);
        }
        let left = deadline.left();
        if left.is_zero() || !cgroup::wait_for_change(events.as_fd(), left)? {
            return Ok(false);
        }
    }
}

fn path(directory: &str) -> sys::Result<CString> {
    CString::new(directory).map_err(|_| SysError::new("openat", Errno::EINVAL))
}

fn read(directory: &str, name: &str) -> sys::Result<String> {
    file::read(cgroup::here(), &path(&format!("{directory}/{name}"))?)
}

fn write(directory: &str, name: &str, value: &str) -> sys::Result<()> {
    file::write(cgroup::here(), &path(&format!("{directory}/{name}"))?, value)
}

fn refused(directory: &str, name: &str, value: &str, error: &SysError) -> anyhow::Error {
    anyhow!("write {value:?} to {directory}/{name}: {}", file::reason(error.errno))
}

/// An end to waiting. Pauses grow from 50 µs to 20 ms: what was just killed is gone at once, what is not takes long.
pub(super) struct Deadline {
    start: Instant,
    within: Duration,
}

impl Deadline {
    pub(super) fn after(within: Duration) -> Self {
        Self { start: Instant::now(), within }
    }

    fn left(&self) -> Duration {
        self.within.saturating_sub(self.start.elapsed())
    }

    /// Sleeps a little; nothing when the time is over.
    fn pause(&self) -> Option<()> {
        if self.left().is_zero() {
            return None;
        }
        let next = (self.start.elapsed() / 2).clamp(Duration::from_micros(50), Duration::from_millis(20));
        std::thread::sleep(next);
        Some(())
    }
}

impl fmt::Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.within.as_secs())
    }
}
