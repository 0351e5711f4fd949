//! verify: whether a container is what `create` was told. It only looks, and takes no lock: what differs is looked at again
//! after a moment, so that a change that somebody is at is not taken for a difference.

use std::collections::BTreeMap;
use std::fs;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::disk::found::Found;
use super::disk::identity::Identity;
use super::disk::state::State;
use super::disk::told::Told;
use super::floor;
use super::host::Host;
use super::id::Id;
use super::process::members;
use super::refusal::Refusal;
use super::status::Status;
use crate::container::cgroup::Compared;
use crate::container::floor::Floor;
use crate::container::verify::life::Life;
use crate::container::verify::mounts::Table;
use crate::container::verify::processes::Processes;
use crate::container::verify::row::{Row, Verdict};
use crate::container::verify::sysctls;
use crate::container::verify::table::View;
use crate::error::one_line;
use crate::sys::process;
use crate::sys::{self, Errno};

/// How often what differs is looked at again, and the pause before, in milliseconds.
const LOOKS: u32 = 4;
const PAUSE: u32 = 25;

/// As many processes as are looked at; a container may have more, and make more than anybody can look at.
const MOST_PROCESSES: usize = 4096;

/// What the reader says of a container.
#[derive(Serialize, Clone, Debug)]
pub struct Verified {
    pub id: String,
    pub status: Status,
    /// Of all rows: the first of `differs`, `changed`, `unknown` that one of them has, or `same`.
    pub verdict: Verdict,
    /// How many were looked at.
    pub processes: usize,
    pub rows: Vec<Row>,
}

/// Compares container `id` with what its creator was told, and `update` since.
pub fn verify(host: &Host, id: &Id) -> Result<Verified> {
    let found = Found::open(host, id)?;
    ensure!(!matches!(found.status, Status::Stopped | Status::Creating), Refusal::NotRunning);
    let init = found.state.init.ok_or(Refusal::NotRunning)?;
    let held = init.open()?.ok_or(Refusal::NotRunning)?;
    let told = Told::load(&found.directory)?;
    let told = told.context("it was created by a version of ocirt that did not keep what verify compares it with")?;
    let floor = floor::load(host)?.map(|loaded| loaded.floor);
    let cgroups = found.state.cgroup.as_seen()?;
    let subject = Subject { state: &found.state, told: &told, init, cgroups, floor };
    let mut processes = 0;
    let rows = settled(|| {
        let (rows, count) = subject.look()?;
        processes = count;
        Ok(rows)
    });
    // What was read by its pid is the container's only if it has not ended, and is still there.
    ensure!(!process::ends_within(held.as_fd(), 0)? && found.directory.is_there()?, Refusal::NotRunning);
    let rows = rows?;
    Ok(Verified { id: id.to_string(), status: found.status, verdict: verdict(&rows), processes, rows })
}

fn verdict(rows: &[Row]) -> Verdict {
    rows.iter().map(|row| row.verdict).min().unwrap_or(Verdict::Same)
}

/// The rows, once those that do not hold are the same twice in a row; what never is, has changed.
fn settled(mut look: impl FnMut() -> Result<Vec<Row>>) -> Result<Vec<Row>> {
    let mut rows = look()?;
    for _ in 1..LOOKS {
        if rows.iter().all(Row::holds) {
            return Ok(rows);
        }
        process::poll([], Some(PAUSE)).context("poll")?;
        let before = std::mem::replace(&mut rows, look()?);
        if different(&before).eq(different(&rows)) {
            return Ok(rows);
        }
    }
    rows.iter_mut().filter(|row| row.verdict == Verdict::Differs).for_each(|row| row.verdict = Verdict::Changed);
    Ok(rows)
}

fn different(rows: &[Row]) -> impl Iterator<Item = &Row> {
    rows.iter().filter(|row| !row.holds())
}

/// What is looked at.
struct Subject<'a> {
    state: &'a State,
    told: &'a Told,
    init: Identity,
    /// The container's cgroups as /proc/PID/cgroup writes them.
    cgroups: BTreeMap<String, String>,
    /// The node's floor as it is now.
    floor: Option<Floor>,
}

impl Subject<'_> {
    /// All rows, and how many processes there are.
    fn look(&self) -> Result<(Vec<Row>, usize)> {
        let (wanted, init) = (&self.told.wanted, self.init.pid);
        let view = if wanted.has_new("mnt") { Some(View::of(init)?) } else { None };
        let mut rows = wanted.id_maps.compare(init)?;
        rows.extend(self.floor());
        if let Some(view) = &view {
            let added: Vec<u64> = self.state.added_mounts.iter().map(|added| added.number()).collect();
            let (life, cgroups) = (Life::Running, &self.cgroups);
            rows.extend(Table { wanted, life, view, cgroups, added: &added }.compare()?);
        }
        rows.extend(sysctls::compare(wanted, init)?);
        rows.extend(self.told.limits.compare(&self.state.cgroup).into_iter().map(row));
        let pids = self.pids()?;
        let count = pids.len().min(MOST_PROCESSES);
        if pids.len() > MOST_PROCESSES {
            let wanted = format!("at most {MOST_PROCESSES}, as many as are looked at");
            rows.push(Row::unknown("processes", wanted, pids.len().to_string()));
        }
        for pid in pids.into_iter().take(MOST_PROCESSES) {
            let found = self.process(pid, view.as_ref())?;
            // What holds for init is said once.
            rows.extend(found.into_iter().filter(|row| pid == init || !row.holds()));
        }
        Ok((tidy(rows), count))
    }

    /// A container that is older than the floor, or than its last change, lacks it.
    fn floor(&self) -> Option<Row> {
        let now = self.floor.as_ref()?;
        let found = match &self.told.floor {
            Some(rules) if *rules == now.rules => "the same",
            Some(_) => "what it was when the container was created",
            None => "none, when the container was created",
        };
        Some(Row::new("floor", now.file.display().to_string(), found, found == "the same"))
    }

    /// Init first, then all others that can be found: who came into the container's mounts without its cgroup, too.
    fn pids(&self) -> Result<Vec<i32>> {
        let mut pids = members::pids(self.state)?;
        if self.told.wanted.has_new("mnt") {
            pids.extend(members::in_mounts_of(self.init.pid)?);
        }
        pids.sort_unstable();
        pids.dedup();
        pids.retain(|pid| *pid != self.init.pid);
        pids.insert(0, self.init.pid);
        Ok(pids)
    }

    /// What is true of one process. One that ends meanwhile has nothing that could be wrong any more.
    fn process(&self, pid: i32, view: Option<&View>) -> Result<Vec<Row>> {
        let held = match process::pidfd_open(pid) {
            // A thread of a threaded cgroup has the pid of no process.
            Err(error) if matches!(error.errno, Errno::ESRCH | Errno::EINVAL | Errno::ENOENT) => return Ok(Vec::new()),
            held => held.with_context(|| format!("process {pid}"))?,
        };
        let rows = self.rows_of(pid, view);
        let has_ended = process::ends_within(held.as_fd(), 0)?;
        match rows {
            _ if has_ended => Ok(Vec::new()),
            Err(error) => Ok(vec![Row::unknown("process", "to be looked at", one_line(&error)).of(pid)]),
            rows => rows,
        }
    }

    fn rows_of(&self, pid: i32, view: Option<&View>) -> Result<Vec<Row>> {
        let Told { wanted, .. } = self.told;
        let processes = Processes { wanted, life: Life::Running, init: self.init.pid, cgroups: &self.cgroups, view };
        let mut rows = processes.place(pid)?;
        // The program has them, and this is not the program yet.
        if !is_runtimes(pid, view)? {
            rows.extend(processes.credentials(pid)?);
        }
        Ok(rows)
    }
}

/// Whether the process is still the runtime's: it has this program, and not from a mount of the container's.
fn is_runtimes(pid: i32, view: Option<&View>) -> Result<bool> {
    let identity = |path: &str| fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
    let path = format!("/proc/{pid}/exe");
    let Ok(found) = identity(&path) else { return Ok(false) };
    if found != identity("/proc/self/exe").context("/proc/self/exe")? {
        return Ok(false);
    }
    let Some(view) = view else { return Ok(true) };
    let fd = sys::file::open_path(&std::ffi::CString::new(path)?)?;
    let mount = sys::file::mount_of(fd.as_fd())?;
    Ok(!view.lines.iter().any(|line| line.id == mount))
}

fn row(compared: Compared) -> Row {
    let Compared { field, wanted, found, holds } = compared;
    match found {
        Ok(found) => Row::new(field, wanted, found, holds),
        Err(why) => Row::unknown(field, wanted, why),
    }
}

/// What does not hold first; and each row once, of all threads that have it.
fn tidy(mut rows: Vec<Row>) -> Vec<Row> {
    let mut seen = std::collections::BTreeSet::new();
    let key = |row: &Row| (row.field.clone(), row.wanted.clone(), row.found.clone(), row.pid.filter(|_| !row.holds()));
    rows.retain(|row| seen.insert(key(row)));
    rows.sort_by_key(|row| row.verdict);
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(found: &[(&str, bool)]) -> Vec<Row> {
        found.iter().map(|(found, holds)| Row::new("x", "w", *found, *holds)).collect()
    }

    fn settle(looks: &[&[(&str, bool)]]) -> (Verdict, usize) {
        let mut count = 0;
        let settled = settled(|| {
            count += 1;
            Ok(rows(looks[(count - 1).min(looks.len() - 1)]))
        });
        (verdict(&settled.unwrap()), count)
    }

    #[test]
    fn what_differs_is_looked_at_until_it_is_the_same_twice() {
        assert_eq!(settle(&[&[("a", true)]]), (Verdict::Same, 1));
        assert_eq!(settle(&[&[("a", false)], &[("b", true)]]), (Verdict::Same, 2));
        assert_eq!(settle(&[&[("a", false)], &[("a", false)]]), (Verdict::Differs, 2));
        assert_eq!(settle(&[&[("a", false)], &[("b", false)], &[("b", false)]]), (Verdict::Differs, 3));
        let changing: [&[(&str, bool)]; 4] = [&[("a", false)], &[("b", false)], &[("c", false)], &[("d", false)]];
        assert_eq!(settle(&changing), (Verdict::Changed, 4));
    }

    #[test]
    fn a_row_is_told_once_and_what_differs_first() {
        let mut all = rows(&[("a", true), ("a", true), ("b", false)]);
        all[0].pid = Some(7);
        let found: Vec<String> = tidy(all).into_iter().map(|row| row.found).collect();
        assert_eq!(found, ["b", "a"]);
    }
}
