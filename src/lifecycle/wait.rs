//! wait: stays until a container's init has ended, and tells how, to callers who are not its parent.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use super::disk::found::Found;
use super::disk::identity::{Identity, Remains};
use super::disk::left;
use super::disk::state::Ended;
use super::host::Host;
use super::id::Id;
use super::refusal::Refusal;
use crate::sys::exit::Exit;
use crate::sys::{pidfd_info, process};

/// How long the parent of an init that has ended may take to reap it, where only that makes known how it ended.
const REAP_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is looked, in milliseconds: nothing tells that a process is reaped.
const LOOK_EVERY: u32 = 20;

const UNKNOWN: &str = "its exit status is unknown: it was told to its parent alone (Linux 6.15 and newer keep it)";

/// Waits until the container's init has ended, for at most `timeout`, and returns how.
pub fn wait(host: &Host, id: &Id, timeout: Option<Duration>) -> Result<Ended> {
    let found = Found::open(host, id)?;
    // A `create` is at work, and has no init yet; or it was killed before it had one.
    let init = found.state.init.ok_or(Refusal::NotRunning)?;
    if let Some(exit) = follow(&init, timeout)? {
        return Ok(exit.into());
    }
    // Its parent may be a `run --keep`, which records it after it has reaped, or the shim, which has before.
    let kept = found.directory.load()?.and_then(|state| state.exit);
    kept.map_or_else(|| left::read(&found.state.bundle, &init), |exit| Ok(Some(exit)))?.context(UNKNOWN)
}

/// How the process ends. `None`: nobody but its parent knows.
fn follow(init: &Identity, timeout: Option<Duration>) -> Result<Option<Exit>> {
    let Some(pidfd) = init.open()? else {
        let left = init.remains()?;
        return Ok(if let Remains::Exit(exit) = left { Some(exit) } else { None });
    };
    let milliseconds = timeout.map(|timeout| u32::try_from(timeout.as_millis()).unwrap_or(u32::MAX));
    let [has_ended] = process::poll([pidfd.as_fd()], milliseconds).context("poll")?;
    if !has_ended {
        bail!("--timeout: the container has not ended within {:?}", timeout.unwrap_or_default());
    }
    exit_of(init, pidfd.as_fd())
}

/// How a process that has ended has ended: as a zombie shows it, or the kernel keeps it of one that was reaped.
fn exit_of(init: &Identity, pidfd: BorrowedFd) -> Result<Option<Exit>> {
    let begun = Instant::now();
    loop {
        let left = init.remains()?;
        if let Remains::Exit(exit) = left {
            return Ok(Some(exit));
        }
        // Asked last: by then it is reaped, if nothing was left of it.
        let exit = pidfd_info::exit(pidfd)?;
        if exit.is_some() || left == Remains::Nothing {
            return Ok(exit);
        }
        ensure!(begun.elapsed() < REAP_TIMEOUT, "{UNKNOWN}");
        process::poll([], Some(LOOK_EVERY)).context("poll")?;
    }
}
