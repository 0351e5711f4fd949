//! The end of a container's processes, and of its cgroup.

use std::time::Duration;

use anyhow::{Result, bail};

use super::deadline::Deadline;
use super::freezer::{read, write};
use super::host::file;
use super::host::layout::Layout;
use super::host::tree::{self, Removed};
use super::paths::Paths;
use crate::sys::signal::KILL;

/// How long to wait for processes that were killed: one in uninterruptible sleep dies late or never.
const DIE_WITHIN: Duration = Duration::from_secs(10);
/// How long systemd may take to see that a cgroup is empty.
const SEEN_WITHIN: Duration = Duration::from_secs(2);
/// How long to wait for a freezer before processes are signalled all the same.
const FREEZE_WITHIN: Duration = Duration::from_secs(2);
/// How long to wait before those that are left are killed again.
const KILL_EVERY: Duration = Duration::from_millis(100);
/// How many processes an error names.
const NAMED: usize = 8;

impl Paths {
    /// Sends a signal to every process in the cgroup and those below it. They are frozen meanwhile, so that none can
    /// fork away. SIGKILL also thaws, since the frozen do not die on v1, and is repeated until all are gone; that some live on
    /// is an error.
    pub fn kill_all(&self, signal: i32) -> Result<()> {
        let Some(directory) = self.main() else { return Ok(()) };
        if signal != KILL {
            return self.signal_frozen(directory, signal);
        }
        let deadline = Deadline::after(DIE_WITHIN);
        let mut failures = 0;
        loop {
            let killed = self.kill_in(directory);
            let left = self.left_after(KILL_EVERY)?;
            if left.is_empty() {
                return Ok(());
            }
            failures += usize::from(killed.is_err());
            // What cannot be signalled cannot be waited for.
            if failures > 2 || deadline.left().is_zero() {
                killed?;
                bail!("{directory}: {} after {deadline}", still_running(&left));
            }
        }
    }

    /// Sends SIGKILL to every process in the cgroup and those below it, without a look at what becomes of them.
    pub fn kill_once(&self) -> Result<()> {
        self.main().map_or(Ok(()), |directory| tree::signal(directory, KILL))
    }

    /// Who is left after this time; none as soon as all are gone.
    fn left_after(&self, time: Duration) -> Result<Vec<i32>> {
        let deadline = Deadline::after(time);
        loop {
            // v2 tells it without a look into every cgroup.
            let is_empty = self.layout == Layout::V2
                && self.main().is_some_and(|main| match read(main, "cgroup.events") {
                    Ok(events) => events.lines().any(|line| line == "populated 0"),
                    Err(error) => file::is_gone(&error),
                });
            let left = if is_empty { Vec::new() } else { self.members()? };
            if left.is_empty() || deadline.pause().is_none() {
                return Ok(left);
            }
        }
    }

    /// Sends SIGKILL to every process in `directory`, one of the cgroup's, and those below it.
    fn kill_in(&self, directory: &str) -> Result<()> {
        if self.kill_at_once(directory) { Ok(()) } else { self.signal_frozen(directory, KILL) }
    }

    /// Kills all with one write to cgroup.kill (Linux 5.14); false where that is not to be had.
    fn kill_at_once(&self, directory: &str) -> bool {
        self.layout == Layout::V2
            && match write(directory, "cgroup.kill", "1") {
                Ok(()) => true,
                Err(error) => file::is_gone(&error),
            }
    }

    fn signal_frozen(&self, directory: &str, signal: i32) -> Result<()> {
        let was_frozen = self.is_frozen().unwrap_or(false);
        // Without a freezer, or in the time of one that is stuck, the signal is still worth sending.
        let frozen = was_frozen || self.freeze_within(FREEZE_WITHIN).is_ok();
        let sent = tree::signal(directory, signal);
        let thawed = match signal {
            KILL if self.layout == Layout::V2 => self.thaw(),
            KILL => self.thaw_killed(),
            _ if frozen && !was_frozen => self.thaw(),
            _ => Ok(()),
        };
        sent.and(thawed)
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
        let deadline = Self::dies_within();
        let mut first = Ok(());
        for directory in self.directories.values() {
            let removed = self.remove_within(directory, &deadline);
            first = first.and(removed);
        }
        first
    }

    /// How long processes that were killed may take to end.
    pub(super) fn dies_within() -> Deadline {
        Deadline::after(DIE_WITHIN)
    }

    /// Removes one of the cgroup's directories, as [`Paths::remove`] does.
    pub(super) fn remove_within(&self, directory: &str, deadline: &Deadline) -> Result<()> {
        while let Removed::Busy = tree::remove(directory)? {
            // Those that only this hierarchy knows are not reached by way of the others. A freezer that has had all the time
            // for another hierarchy is not waited for once more.
            let killed = match deadline.left().is_zero() {
                true => tree::signal(directory, KILL),
                false => self.kill_in(directory),
            };
            if deadline.pause().is_none() {
                killed?;
                let left = tree::members(directory)?;
                bail!("remove cgroup {directory}: still in use after {deadline}: {}", still_running(&left));
            }
        }
        Ok(())
    }
}

/// The processes that did not end, in words.
fn still_running(pids: &[i32]) -> String {
    let named: Vec<String> = pids.iter().filter(|pid| **pid > 0).take(NAMED).map(i32::to_string).collect();
    match (named.is_empty(), pids.len()) {
        (true, 0) => "by no process that is seen".to_owned(),
        (true, _) => "a process of another pid namespace still runs".to_owned(),
        (false, 1) => format!("process {} still runs", named.join("")),
        (false, count) if count > named.len() => {
            format!("processes {} and {} more still run", named.join(", "), count - named.len())
        }
        (false, _) => format!("processes {} still run", named.join(", ")),
    }
}
