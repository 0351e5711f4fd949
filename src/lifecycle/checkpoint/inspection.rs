//! What a restored container is looked at for before a process of it runs. CRIU sets credentials and filters at the very
//! end, and no error of ours stops it then: so it lets go of processes that are frozen, and they run when all is as
//! config.json says.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

use super::criu::Worker;
use crate::container::cgroup::Paths;
use crate::container::verify::copies::{self, Planned};
use crate::container::verify::files::Files;
use crate::container::verify::life::Life;
use crate::container::verify::mounts::Table;
use crate::container::verify::processes::{self, Processes, namespaces};
use crate::container::verify::row::Row;
use crate::container::verify::status::text;
use crate::container::verify::status::{Status, threads};
use crate::container::verify::table::View;
use crate::container::verify::{Instruction, Wanted};
use crate::error::{Field, field};
use crate::sys::ptrace::Traced;
use crate::sys::{Errno, signal};

/// How long a thread that was frozen may take to stop.
const STOPS_WITHIN: Duration = Duration::from_secs(10);

/// How often criu may be found idle, one time after the other, before it is taken for dead.
const IDLE_TIMES: u32 = 5;

/// What the container must be like, and where it is.
pub struct Inspection {
    wanted: Wanted,
    paths: Paths,
    /// The container's cgroups as /proc/PID/cgroup writes them.
    cgroups: BTreeMap<String, String>,
    frozen: bool,
}

/// Until all is found to be right, the end of this is the container's.
impl Drop for Inspection {
    fn drop(&mut self) {
        if self.frozen {
            // The first error is the one to tell. It also thaws: what is frozen does not die on v1.
            let _ = self.paths.kill_all(signal::KILL);
        }
    }
}

impl Inspection {
    /// `criu` is in the container's cgroups by now, so that it tells where they are.
    pub fn new(wanted: Wanted, paths: Paths, criu: i32) -> Result<Self> {
        let path = format!("/proc/{criu}/cgroup");
        let cgroups = processes::cgroups(&std::fs::read_to_string(&path).context(path)?);
        Ok(Self { wanted, paths, cgroups, frozen: false })
    }

    /// Before hooks configure the namespaces of init.
    pub fn namespaces(&self, init: i32) -> Result<()> {
        refuse(namespaces(&self.wanted, Life::Restored, init, init)?)
    }

    /// Before anything is opened or made in the mounts that CRIU has made: what they show. Init is where CRIU makes them.
    pub fn copies(&self, init: i32, planned: &[Planned]) -> Result<()> {
        refuse(copies::compare(&self.wanted, &View::of(init)?.lines, planned, &self.cgroups)?)
    }

    /// Where init is, and its mounts: an error here is one of CRIU's, too.
    pub fn places(&self, init: i32) -> Result<()> {
        self.namespaces(init)?;
        let view = View::of(init)?;
        refuse(self.processes(init, &view).place(init)?)?;
        refuse(self.mounts(&view).compare()?)
    }

    fn processes<'a>(&'a self, init: i32, view: &'a View) -> Processes<'a> {
        Processes { wanted: &self.wanted, life: Life::Restored, init, cgroups: &self.cgroups, view: Some(view) }
    }

    fn mounts<'a>(&'a self, view: &'a View) -> Table<'a> {
        Table { wanted: &self.wanted, life: Life::Restored, view, cgroups: &self.cgroups, added: &[] }
    }

    /// CRIU, which is about to let all processes go, goes out of their cgroup, and that freezes.
    pub fn hold(&mut self, criu: i32) -> Result<()> {
        self.frozen = true;
        self.paths.begin_freeze(criu).context(field!("linux.cgroupsPath"))
    }

    /// Looks at everything, and lets the processes go.
    pub fn release(mut self, init: i32) -> Result<()> {
        ensure!(self.frozen, "criu lets the processes go without a word");
        self.paths.end_freeze().context(field!("linux.cgroupsPath"))?;
        let pids = self.paths.pids()?;
        ensure!(
            pids.contains(&init),
            field!("linux.cgroupsPath"; "the restored init is not in the container's cgroup")
        );
        self.namespaces(init)?;
        let view = View::of(init)?;
        refuse(self.mounts(&view).compare()?)?;
        let processes = self.processes(init, &view);
        let files = Files::new(init, &view, &self.wanted)?;
        for pid in &pids {
            refuse(processes.place(*pid)?)?;
            refuse(files.of(*pid)?)?;
            refuse(processes.credentials(*pid)?)?;
        }
        match self.wanted.seccomp.take() {
            Some(program) => self.filters(&pids, &program)?,
            None => self.paths.thaw()?,
        }
        self.frozen = false;
        Ok(())
    }

    /// The filter that each thread got first is config.json's. A frozen thread tells nothing on cgroup v1: so they are
    /// thawed into a stop, in which they have run nothing yet.
    fn filters(&self, pids: &[i32], program: &[Instruction]) -> Result<()> {
        let mut traced = Vec::new();
        for pid in pids {
            for thread in threads(*pid)? {
                if !Status::of(*pid, thread)?.has_ended() {
                    traced.push((thread, Traced::seize(thread).with_context(|| format!("process {thread}"))?));
                }
            }
        }
        let same = self.paths.thaw().and_then(|()| compare(&traced, program));
        if same.is_err() {
            // As long as they are traced: they would run.
            let _ = self.paths.kill_all(signal::KILL);
        }
        same
    }
}

fn compare(traced: &[(i32, Traced)], program: &[Instruction]) -> Result<()> {
    for (thread, traced) in traced {
        traced.wait(STOPS_WITHIN).with_context(|| format!("process {thread}"))?;
        let found = match traced.filter(0) {
            // The runtime is under a filter itself: that there is one has been seen.
            Err(error) if error.errno == Errno::EACCES => continue,
            found => found.with_context(|| field!("linux.seccomp"; "filter of process {thread}"))?,
        };
        let is_same = found.iter().map(|one| (one.code, one.jt, one.jf, one.k)).eq(program.iter().copied());
        if !is_same {
            let wanted = format!("the filter of config.json ({} instructions)", program.len());
            let found = format!("another one first ({})", found.len());
            bail!(Field::from(Row::new("linux.seccomp", wanted, found, false).of(*thread)));
        }
    }
    Ok(())
}

fn refuse(rows: Vec<Row>) -> Result<()> {
    match rows.into_iter().find(|row| !row.holds()) {
        Some(row) => bail!(Field::from(row)),
        None => Ok(()),
    }
}

/// Whether CRIU and what it restores do anything: a restored process that dies too early, it waits for without an end.
#[derive(Default)]
pub struct Progress {
    before: Option<u64>,
    idle: u32,
}

impl Progress {
    /// To be called once in a while; an error when nothing has moved for long.
    pub fn look(&mut self, worker: &Worker, paths: &Paths) -> Result<()> {
        let mut pids = paths.pids()?;
        pids.push(worker.pid());
        let read = |pid: &i32, name: &str| text(&format!("/proc/{pid}/{name}")).ok();
        let times: Vec<_> = pids.iter().filter_map(|pid| ticks(&read(pid, "stat")?)).collect();
        let bytes: u64 = pids.iter().filter_map(|pid| Some(transferred(&read(pid, "io")?))).sum();
        let ticks: u64 = times.iter().map(|(_, ticks)| ticks).sum();
        self.note(times.iter().any(|(state, _)| *state == 'R'), ticks.wrapping_add(bytes))
    }

    /// `done` is some sum of what has been done. One that sleeps without interruption (D) waits for a disk, which shows in what
    /// has been transferred, or, as the parent in vfork(2), for one that may never be ready.
    fn note(&mut self, runs: bool, done: u64) -> Result<()> {
        if runs || self.before.replace(done) != Some(done) {
            self.idle = 0;
            return Ok(());
        }
        self.idle += 1;
        ensure!(self.idle < IDLE_TIMES, "criu and the processes that it restores stand still (has one of them died?)");
        Ok(())
    }
}

/// The sum of what is in proc_pid_io(5): bytes and calls.
fn transferred(io: &str) -> u64 {
    let numbers = io.lines().filter_map(|line| line.split_once(": ")?.1.parse::<u64>().ok());
    numbers.fold(0, u64::wrapping_add)
}

/// State, and time spent in user mode and in the kernel: fields 3, 14 and 15 of proc_pid_stat(5).
fn ticks(stat: &str) -> Option<(char, u64)> {
    let fields: Vec<&str> = stat.rsplit_once(") ")?.1.split(' ').collect();
    let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
    Some((fields.first()?.chars().next()?, number(11)? + number(12)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_neither_runs_nor_transfers_stands_still() {
        let mut progress = Progress::default();
        for done in 0..20 {
            progress.note(false, done).unwrap();
        }
        for _ in 0..20 {
            progress.note(true, 19).unwrap();
        }
        let waits = (0..20).take_while(|_| progress.note(false, 19).is_ok()).count();
        assert_eq!(waits, IDLE_TIMES as usize - 1);
        let io =
            "rchar: 10\nwchar: 2\nsyscr: 1\nsyscw: 1\nread_bytes: 0\nwrite_bytes: 4096\ncancelled_write_bytes: 0\n";
        assert_eq!((transferred(io), transferred("")), (4110, 0));
    }

    #[test]
    fn the_time_of_a_process_is_in_its_stat() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194304 1 0 0 0 5 6 0 0 20 0 1 0 100\n";
        assert_eq!(ticks(stat), Some(('S', 11)));
        assert_eq!(ticks("7 (a"), None);
    }
}
