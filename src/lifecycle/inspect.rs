//! The commands that only look: state, list, ps.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use serde::Serialize;

use super::directory::{Directory, Locked};
use super::root::Root;
use super::state::{Phase, State, Status};
use super::{Host, Id, Refusal, members};
use crate::sys::signal;

/// What `state` and `list` show of a container: runc's fields in runc's order.
#[derive(Serialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
pub struct StateView {
    pub oci_version: String,
    pub id: String,
    /// Zero when the container is stopped.
    pub pid: i32,
    pub status: Status,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    pub created: String,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The name of the user who created it; `state` leaves it empty as runc does.
    pub owner: String,
}

/// A container as it is found: its directory, what is saved, and what the processes say.
pub struct Found<D = Directory> {
    pub directory: D,
    pub state: State,
    pub status: Status,
}

impl Found {
    /// Finds container `id`. One that was killed before it saved anything is as good as absent, but for `delete --force`.
    pub fn open(host: &Host, id: &Id) -> Result<Self> {
        let directory = Directory::open(&host.root, id)?;
        let (state, status) = look(&directory)?;
        Ok(Self { directory, state, status })
    }
}

impl Found<Locked> {
    /// Finds container `id` to change it: nobody else does meanwhile. What `check` refuses by the status is refused
    /// without waiting for whoever changes the container now.
    pub fn open_to_change(host: &Host, id: &Id, check: impl Fn(Status) -> Result<()>) -> Result<Self> {
        let directory = Directory::open(&host.root, id)?;
        let directory = directory.lock_after(|directory| check(look(directory)?.1))?;
        let (state, status) = look(&directory)?;
        check(status)?;
        Ok(Self { directory, state, status })
    }
}

impl<D> Found<D> {
    /// Whether init has ended since the container was found.
    pub fn init_has_ended(&self) -> Result<bool> {
        self.state.init.map_or(Ok(true), |init| init.is_alive().map(|is_alive| !is_alive))
    }

    /// Whether init was sent SIGKILL, and did not die yet.
    pub fn init_is_killed(&self) -> bool {
        let status =
            self.state.init.and_then(|init| std::fs::read_to_string(format!("/proc/{}/status", init.pid)).ok());
        status.is_some_and(|text| has_pending(&text, signal::KILL))
    }

    /// An error for a container without a cgroup of its own: made with `--cgroup-manager disabled`, or by a runtime
    /// that may make none.
    pub fn needs_cgroup(&self) -> Result<()> {
        ensure!(!self.state.cgroup.directories.is_empty(), Refusal::NoCgroup);
        Ok(())
    }

    fn view(self) -> StateView {
        let pid = match (self.status, self.state.init) {
            (Status::Stopped, _) | (_, None) => 0,
            (_, Some(init)) => init.pid,
        };
        StateView {
            oci_version: self.state.oci_version,
            id: self.state.id,
            pid,
            status: self.status,
            bundle: self.state.bundle,
            rootfs: self.state.rootfs,
            created: self.state.created,
            annotations: self.state.annotations.into_iter().collect(),
            owner: String::new(),
        }
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

/// The state of one container.
pub fn state(host: &Host, id: &Id) -> Result<StateView> {
    Found::open(host, id).map(Found::view)
}

/// The state of every container, sorted by id. One that goes away meanwhile is left out, and one whose state is broken
/// with a warning: it may not hide the others.
pub fn list(host: &Host) -> Result<Vec<StateView>> {
    let mut views = Vec::new();
    for id in ids(host)? {
        match Found::open(host, &id) {
            Ok(found) => {
                let owner = user_name(found.state.owner);
                views.push(StateView { owner, ..found.view() });
            }
            Err(error) if error.downcast_ref() == Some(&Refusal::DoesNotExist) => {}
            Err(error) => host.log.warn(&format!("list: {id}: {error:#}")),
        }
    }
    Ok(views)
}

/// The ids of all containers, sorted.
pub fn ids(host: &Host) -> Result<Vec<Id>> {
    Root::open(&host.root)?.map_or(Ok(Vec::new()), |root| root.ids())
}

/// The processes of a container, as the host numbers them: also those that outlive init. None, if all have ended.
pub fn ps(host: &Host, id: &Id) -> Result<Vec<i32>> {
    let found = Found::open(host, id)?;
    let pids = members::pids(&found.state)?;
    // A cgroup of its path may be a later container's.
    ensure!(found.directory.is_there()?, Refusal::DoesNotExist);
    Ok(pids)
}

/// The name of user `uid` in the host's /etc/passwd, or its number as text.
fn user_name(uid: u32) -> String {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    name_of(&passwd, uid).map_or_else(|| uid.to_string(), str::to_owned)
}

fn name_of(passwd: &str, uid: u32) -> Option<&str> {
    passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then_some(name)
    })
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

    #[test]
    fn an_owner_is_named_by_passwd() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:1000:1000::/:/bin/sh\n";
        assert_eq!(name_of(passwd, 1000), Some("web"));
        assert_eq!(name_of(passwd, 7), None);
    }
}
