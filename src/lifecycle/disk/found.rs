//! A container as a command finds it: what is on disk, and what follows from it and from the processes.

use anyhow::{Context, Result, ensure};

use super::directory::{Directory, Locked};
use super::state::{Phase, State};
use crate::container::verify::status::text;
use crate::lifecycle::host::Host;
use crate::lifecycle::id::Id;
use crate::lifecycle::process::trace::Trace;
use crate::lifecycle::refusal::Refusal;
use crate::lifecycle::status::Status;
use crate::sys::signal;
use crate::trace::Category;

/// A container as it is found: its directory, what is saved, and what the processes say.
pub struct Found<D = Directory> {
    pub directory: D,
    pub state: State,
    pub status: Status,
}

impl Found {
    /// Finds container `id`. One that was killed before it saved anything is as good as absent, but for `delete --force`.
    pub fn open(host: &Host, id: &Id) -> Result<Self> {
        Trace::of(host, id).timed(Category::State, "find the container", || {
            let directory = Directory::open(&host.root, id)?;
            let (state, status) = look(&directory)?;
            Ok(Self { directory, state, status })
        })
    }
}

impl Found<Locked> {
    /// Finds container `id` to change it: nobody else does meanwhile. What `check` refuses by the status is refused
    /// without waiting for whoever changes the container now.
    pub fn open_to_change(host: &Host, id: &Id, check: impl Fn(Status) -> Result<()>) -> Result<Self> {
        Trace::of(host, id).timed(Category::State, "find and lock the container", || {
            let directory = Directory::open(&host.root, id)?;
            let directory = directory.lock_after(|directory| check(look(directory)?.1))?;
            let (state, status) = look(&directory)?;
            check(status)?;
            Ok(Self { directory, state, status })
        })
    }
}

impl<D> Found<D> {
    /// Whether init has ended since the container was found.
    pub fn init_has_ended(&self) -> Result<bool> {
        self.state.init.map_or(Ok(true), |init| init.is_alive().map(|is_alive| !is_alive))
    }

    /// Whether init was sent SIGKILL, and did not die yet.
    pub fn init_is_killed(&self) -> bool {
        let status = self.state.init.and_then(|init| text(&format!("/proc/{}/status", init.pid)).ok());
        status.is_some_and(|text| has_pending(&text, signal::KILL))
    }

    /// An error for a container without a cgroup of its own: made with `--cgroup-manager disabled`, or by a runtime
    /// that may make none.
    pub fn needs_cgroup(&self) -> Result<()> {
        ensure!(!self.state.cgroup.directories.is_empty(), Refusal::NoCgroup);
        Ok(())
    }
}

/// Whether a signal is pending, for the first thread or the whole process, by the text of its /proc/PID/status
/// (proc_pid_status(5)).
fn has_pending(status: &str, signal: i32) -> bool {
    let masks = status.lines().filter_map(|line| line.strip_prefix("SigPnd:").or(line.strip_prefix("ShdPnd:")));
    masks.filter_map(|mask| u64::from_str_radix(mask.trim(), 16).ok()).any(|mask| mask >> (signal - 1) & 1 == 1)
}

/// What is saved in the directory, and the status that follows from it, from the gate, and from whether the processes live.
pub fn look(directory: &Directory) -> Result<(State, Status)> {
    let load = || directory.load()?.context(Refusal::DoesNotExist);
    let mut state = load()?;
    if state.phase == Phase::Creating {
        if state.creator.is_alive()? {
            return Ok((state, Status::Creating));
        }
        // The last that it did was to save the state, perhaps after we have read it.
        state = load()?;
    }
    let status = status(directory, &state)?;
    Ok((state, status))
}

/// The status of a container that nobody creates any more.
fn status(directory: &Directory, state: &State) -> Result<Status> {
    let alive = match &state.init {
        Some(init) => init.is_alive()?,
        None => false,
    };
    match state.phase {
        _ if !alive => Ok(Status::Stopped),
        _ if state.cgroup.is_frozen()? => Ok(Status::Paused),
        // A create that died half-way leaves a container that can only be deleted.
        Phase::Creating => Ok(Status::Stopped),
        Phase::Created if directory.has_gate()? => Ok(Status::Created),
        Phase::Created => Ok(Status::Running),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_is_pending_for_a_thread_or_for_the_process() {
        let status =
            |thread: &str, process: &str| format!("Name:\tx\nSigPnd:\t{thread}\nShdPnd:\t{process}\nSigBlk:\t100\n");
        assert!(has_pending(&status("0000000000000100", "0000000000000000"), signal::KILL));
        assert!(has_pending(&status("0000000000000000", "0000000000000100"), signal::KILL));
        assert!(!has_pending(&status("0000000000004000", "0000000000000000"), signal::KILL));
    }
}
