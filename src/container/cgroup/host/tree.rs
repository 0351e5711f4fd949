//! A cgroup with all cgroups below it. Those below are the container's to make and to name: they are walked by descriptors
//! ([`Walk`]), and no name of theirs becomes text.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow};

use super::file::{self, path};
use crate::sys::cgroup_tree::{Walk, WalkStep};
use crate::sys::{self, Errno, SysError, cgroup, process};

/// How long to follow cgroups that are made and renamed meanwhile; no walk over ones that stay takes as long.
const WALK_WITHIN: Duration = Duration::from_secs(10);
/// How long one pass that removes cgroups may take. Each that is removed makes the next pass shorter.
const REMOVE_WITHIN: Duration = Duration::from_secs(60);
/// How many processes are held at a time.
const HELD: usize = 64;

/// Calls `each` with every cgroup from `directory` down; with none if it is gone.
pub fn for_each(directory: &str, mut each: impl FnMut(BorrowedFd<'_>) -> sys::Result<()>) -> Result<()> {
    let walked = steps(directory, WALK_WITHIN, |step| match step {
        WalkStep::Enter(cgroup) => each(cgroup),
        WalkStep::Leave { .. } => Ok(()),
    });
    walked.map_err(|error| worded(directory, &error, WALK_WITHIN))
}

fn steps(directory: &str, within: Duration, mut each: impl FnMut(WalkStep<'_>) -> sys::Result<()>) -> sys::Result<()> {
    let mut walk = match Walk::start(&path(directory)?, Instant::now() + within) {
        Err(error) if file::is_gone(&error) => return Ok(()),
        walk => walk?,
    };
    while let Some(step) = walk.step()? {
        match each(step) {
            // One that is removed while we look at it.
            Err(error) if file::is_gone(&error) => {}
            result => result?,
        }
    }
    Ok(())
}

fn worded(directory: &str, error: &SysError, within: Duration) -> anyhow::Error {
    if error.errno == Errno::ETIMEDOUT {
        return anyhow!("the cgroups below {directory} have no end after {} s", within.as_secs());
    }
    anyhow!("{directory}: {}: {}", error.call, file::reason(error.errno))
}

/// The processes in the cgroup and those below it, sorted, each once; 0 for those that this pid namespace cannot name.
pub fn members(directory: &str) -> Result<Vec<i32>> {
    let mut members = Vec::new();
    let walked = for_each(directory, |cgroup| {
        members.extend(members_of(cgroup)?);
        Ok(())
    });
    walked.with_context(|| format!("processes of {directory}"))?;
    members.sort_unstable();
    members.dedup();
    Ok(members)
}

/// The processes in this cgroup, sorted.
fn members_of(cgroup: BorrowedFd<'_>) -> sys::Result<Vec<i32>> {
    let text = match file::read(cgroup, c"cgroup.procs") {
        // A threaded v2 cgroup only tells threads (cgroups(7), "Thread mode").
        Err(error) if error.errno == Errno::EOPNOTSUPP => file::read(cgroup, c"cgroup.threads"),
        text => text,
    }?;
    let mut members: Vec<i32> = text.lines().filter_map(|line| line.parse().ok()).collect();
    members.sort_unstable();
    Ok(members)
}

/// The cgroup of the tree in which process `pid` is.
pub fn of_process(directory: &str, pid: i32) -> Result<Option<OwnedFd>> {
    let mut found = None;
    for_each(directory, |cgroup| {
        if found.is_none() && members_of(cgroup)?.binary_search(&pid).is_ok() {
            found = cgroup.try_clone_to_owned().ok();
        }
        Ok(())
    })?;
    Ok(found)
}

/// Sends a signal to every process in the cgroup and those below it. One that cannot be signalled keeps none of the
/// others from it; the first such error is returned.
pub fn signal(directory: &str, signal: i32) -> Result<()> {
    let mut failed = None;
    for_each(directory, |cgroup| {
        let result = signal_members(cgroup, signal)?;
        failed = failed.take().or(result);
        Ok(())
    })?;
    match failed {
        Some((pid, error)) => Err(anyhow!("signal process {pid}: {}", file::reason(error.errno))),
        None => Ok(()),
    }
}

/// The first process that could not be signalled, and why.
type Unsignalled = Option<(i32, SysError)>;

/// A pid that the cgroup told may be another process's by now. So the process is held first, and gets the signal only if
/// the cgroup has its pid still: as long as it can be signalled, nobody else had that pid.
fn signal_members(cgroup: BorrowedFd<'_>, signal: i32) -> sys::Result<Unsignalled> {
    let mut failed = None;
    let mut members = members_of(cgroup)?;
    members.retain(|pid| *pid > 0);
    while !members.is_empty() {
        let held = hold(&mut members, &mut failed);
        let still = members_of(cgroup)?;
        for (pid, pidfd) in held.iter().filter(|(pid, _)| still.binary_search(pid).is_ok()) {
            match process::pidfd_send_signal(pidfd.as_fd(), signal) {
                // It ended by itself.
                Err(error) if error.errno == Errno::ESRCH => {}
                Err(error) => failed = failed.or(Some((*pid, error))),
                Ok(()) => {}
            }
        }
    }
    Ok(failed)
}

/// Takes the next processes from `members`, each with a descriptor of it.
fn hold(members: &mut Vec<i32>, failed: &mut Unsignalled) -> Vec<(i32, OwnedFd)> {
    let mut held = Vec::new();
    while held.len() < HELD
        && let Some(pid) = members.pop()
    {
        match process::pidfd_open(pid) {
            Ok(pidfd) => held.push((pid, pidfd)),
            // Ended; or a thread of a threaded cgroup, whose process is listed by the pid of its first one.
            Err(error) if matches!(error.errno, Errno::ESRCH | Errno::EINVAL | Errno::ENOENT) => {}
            Err(error) if matches!(error.errno, Errno::EMFILE | Errno::ENFILE) && !held.is_empty() => {
                members.push(pid);
                break;
            }
            Err(error) => *failed = failed.take().or(Some((pid, error))),
        }
    }
    held
}

/// What is left of a cgroup after an attempt to remove it.
pub enum Removed {
    Whole,
    /// Something is in it.
    Busy,
}

/// Removes a cgroup, those below it first.
pub fn remove(directory: &str) -> Result<Removed> {
    match remove_top(directory) {
        Err(error) if error.errno == Errno::EBUSY => {}
        result => return done(directory, result),
    }
    let mut first = Ok(());
    let walked = steps(directory, REMOVE_WITHIN, |step| {
        if let WalkStep::Leave { parent, name } = step {
            match cgroup::remove_directory(parent, name) {
                // What is in use keeps those above it in use.
                Err(error) if error.errno == Errno::EBUSY || file::is_gone(&error) => {}
                result => first = first.and(result),
            }
        }
        Ok(())
    });
    walked.map_err(|error| worded(directory, &error, REMOVE_WITHIN))?;
    // The error of one below says more than that this one has it.
    done(directory, first.and_then(|()| remove_top(directory)))
}

fn done(directory: &str, result: sys::Result<()>) -> Result<Removed> {
    match result {
        Ok(()) => Ok(Removed::Whole),
        Err(error) if error.errno == Errno::EBUSY => Ok(Removed::Busy),
        Err(error) => Err(anyhow!("remove cgroup {directory}: {}", file::reason(error.errno))),
    }
}

fn remove_top(directory: &str) -> sys::Result<()> {
    let path = path(directory)?;
    match cgroup::remove_directory(cgroup::here(), &path) {
        Err(error) if file::is_gone(&error) => Ok(()),
        // A read-only cgroupfs says so even of what does not exist (runc#4518).
        Err(error) if error.errno == Errno::EROFS && !cgroup::exists(cgroup::here(), &path) => Ok(()),
        result => result,
    }
}
