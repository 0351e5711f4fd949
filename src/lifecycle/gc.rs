//! gc: finds and removes what killed engines, runtimes and machines left below the root directory.
//!
//! What lives is never touched. A container is left over if the runtime that creates it has ended before it was done, or none of
//! its processes lives, and nobody changes it, at two looks with a pause between them: an engine that lives deletes at once what has stopped, and a
//! `create` that has just begun goes on. What a container's directory does not say to be its own is not looked for.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use super::delete::{destroy, is_absent};
use super::disk::directory::{Directory, Locked};
use super::disk::found::look;
use super::disk::state::{Phase, State};
use super::disk::trusted::is_broken;
use super::host::Host;
use super::id::Id;
use super::process::ending::end_init;
use super::process::members;
use super::status::Status;
use super::view::ids;
use crate::error::one_line;
use crate::sys::file;

/// What gc's own flags say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GcOptions {
    /// Only tell.
    pub dry_run: bool,
    /// The pause between the two looks.
    pub grace: Duration,
}

/// Something that is left over.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Leftover {
    pub id: String,
    pub path: PathBuf,
    /// Why nobody needs it.
    pub reason: &'static str,
    pub outcome: Outcome,
    /// What kept it from being removed, or from being understood.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[derive(Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Removed,
    WouldBeRemoved,
    Kept,
}

impl std::fmt::Display for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Removed => "removed",
            Self::WouldBeRemoved => "would be removed",
            Self::Kept => "kept",
        })
    }
}

const NO_STATE: &str = "the create or delete at work on it was killed";
const HALF_MADE: &str = "the create that made it was killed";
const STOPPED: &str = "its processes have ended, and nobody deletes it";
const UNREADABLE: &str = "its state cannot be read: delete --force removes what has its name";

/// Finds what is left over, sorted by id, and removes it unless told not to.
pub fn gc(host: &Host, options: &GcOptions) -> Result<Vec<Leftover>> {
    // Nobody waits for our locks meanwhile.
    let seen: Vec<Sign> = all(host)?.iter().map(Dead::sign).collect();
    if seen.is_empty() {
        return Ok(Vec::new());
    }
    std::thread::sleep(options.grace);
    let dead = all(host)?.into_iter().filter(|dead| seen.contains(&dead.sign()));
    Ok(dead.map(|dead| dead.remove(host, options.dry_run)).collect())
}

/// All that is left over at this look. One that cannot be looked at is a warning: it may not hide the others.
fn all(host: &Host) -> Result<Vec<Dead>> {
    let mut all = Vec::new();
    for id in ids(host)? {
        match Dead::find(host, &id) {
            Ok(dead) => all.extend(dead),
            Err(error) => host.log.warn(&format!("gc: {id}: {}", one_line(&error))),
        }
    }
    Ok(all)
}

/// A container of which nothing lives, while nobody else changes it.
struct Dead {
    id: Id,
    directory: Locked,
    inode: u64,
    reason: &'static str,
    state: Result<Option<Box<State>>>,
}

/// What tells a container from a later one of its id.
#[derive(PartialEq, Eq)]
struct Sign {
    id: Id,
    inode: u64,
    created: Option<String>,
}

impl Dead {
    /// `None`: it is in use, or gone.
    fn find(host: &Host, id: &Id) -> Result<Option<Self>> {
        let directory = match Directory::open(&host.root, id) {
            Err(error) if is_absent(&error) => return Ok(None),
            directory => directory?,
        };
        let Some(directory) = directory.try_lock()? else { return Ok(None) };
        let (reason, state) = match look(&directory) {
            Err(error) if is_absent(&error) => (NO_STATE, Ok(None)),
            Err(error) if is_broken(&error) => (UNREADABLE, Err(error)),
            Err(error) => return Err(error),
            Ok((state, status)) if is_in_use(&state, status)? => return Ok(None),
            Ok((state, _)) => {
                let reason = if state.phase == Phase::Creating { HALF_MADE } else { STOPPED };
                (reason, Ok(Some(Box::new(state))))
            }
        };
        let inode = file::stat(directory.fd())?.inode;
        Ok(Some(Self { id: id.clone(), directory, inode, reason, state }))
    }

    fn sign(&self) -> Sign {
        let created = self.state.as_ref().ok().and_then(|state| Some(state.as_ref()?.created.clone()));
        Sign { id: self.id.clone(), inode: self.inode, created }
    }

    fn remove(self, host: &Host, dry_run: bool) -> Leftover {
        let Self { id, directory, reason, state, .. } = self;
        let removed = match state {
            Err(error) => Err(error),
            Ok(_) if dry_run => Ok(Outcome::WouldBeRemoved),
            Ok(Some(state)) => {
                end_init(&state).and_then(|()| destroy(host, &directory, &state)).map(|()| Outcome::Removed)
            }
            Ok(None) => directory.remove().map(|()| Outcome::Removed),
        };
        let (outcome, error) = match removed {
            Ok(outcome) => (outcome, None),
            Err(error) => (Outcome::Kept, Some(one_line(&error))),
        };
        Leftover { id: id.to_string(), path: directory.path(), reason, outcome, error }
    }
}

/// Whether somebody needs it: a process of it lives, a runtime creates it, or `run --keep` was asked to leave it. The init of
/// a `create` that was killed may live: it waits for a `start` that is refused.
fn is_in_use(state: &State, status: Status) -> Result<bool> {
    let is_dead = state.phase == Phase::Creating || members::pids(state)?.is_empty();
    Ok(status != Status::Stopped || state.exit.is_some() || !is_dead)
}
