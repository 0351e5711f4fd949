//! What is saved of a container: one small file, written atomically, from which every later command works.
//!
//! ```text
//! <root>/<id>/state.json   who the container is; written before the first side effect, and once init is ready
//! <root>/<id>/exec.json    what an exec has to know besides; written once, while the phase is still `creating`
//! <root>/<id>/gate         the socket on which a created container's init waits for `start`
//! ```

use std::collections::HashMap;
use std::ffi::CStr;
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use oci_spec::runtime;
use procfs::FromRead;
use procfs::process::Stat;
use serde::{Deserialize, Serialize};

use super::agent::Dependence;
use super::{Id, Refusal};
use crate::container::cgroup::Paths;
use crate::container::cgroup::update::Applied;
use crate::container::checkpoint::outside::Outside;
use crate::container::hooks::Output;
use crate::container::{annotations, intel_rdt};
use crate::init::link::Failure;
use crate::log;
use crate::plan::{Label, Saved, StepError};
use crate::sys::{Errno, process, socket};

const STATE_FILE: &str = "state.json";
const STATE_FILE_NEW: &str = "state.json.new";
const GATE: &CStr = c"gate";
const EXEC_FILE: &str = "exec.json";
const NAMES: [&str; 4] = ["gate", EXEC_FILE, STATE_FILE, STATE_FILE_NEW];

/// A process that is told from a later one with the same pid by when it started.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    pub pid: i32,
    /// Clock ticks between boot and the process's start: field 22 of proc_pid_stat(5).
    pub start_time: u64,
    /// The inode of its pidfd, unique where the kernel has pidfs (Linux 6.9).
    #[serde(default)]
    pub pidfd_inode: u64,
}

/// How far the container has come, as far as the file alone can tell.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// A `create` is at work, or was killed at it.
    Creating,
    /// Init is ready: whether it runs is told by the gate and by the process.
    Created,
}

/// The state file.
#[derive(Serialize, Deserialize, Clone, Debug)]
#[serde(rename_all = "camelCase")]
pub struct State {
    pub oci_version: String,
    pub id: String,
    pub phase: Phase,
    /// The runtime process that creates the container.
    pub creator: Identity,
    /// The container's first process, once there is one.
    pub init: Option<Identity>,
    pub bundle: PathBuf,
    pub rootfs: PathBuf,
    /// RFC 3339, UTC, nanoseconds.
    pub created: String,
    #[serde(default)]
    pub annotations: HashMap<String, String>,
    /// The user who created the container.
    pub owner: u32,
    /// Whether the container has a pid namespace of its own, in which everything ends with init.
    pub own_pid_namespace: bool,
    pub cgroup: Paths,
    /// Its groups of resctrl, if it asked for some.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub intel_rdt: Option<intel_rdt::Groups>,
    /// What `update` has to know of the limits.
    #[serde(default)]
    pub limits: Applied,
    /// The steps that init takes after `start`, so that `start` can word their failures.
    pub start_steps: Vec<Label>,
    /// The seccomp agent on whose answers init depends, for `start`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub depends_on: Option<Dependence>,
    /// What a checkpoint has to know of the configuration.
    #[serde(default, skip_serializing_if = "Outside::is_empty")]
    pub outside: Outside,
    #[serde(default)]
    pub poststart: Vec<runtime::Hook>,
    #[serde(default)]
    pub poststop: Vec<runtime::Hook>,
}

impl State {
    /// What hooks read on their standard input (runtime-spec, runtime.md "State").
    ///
    /// `pid` is init's as the hook sees it.
    pub fn for_hooks(&self, status: Status, pid: Option<i32>) -> Result<Vec<u8>> {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct HookState<'a> {
            oci_version: &'a str,
            id: &'a str,
            status: Status,
            #[serde(skip_serializing_if = "Option::is_none")]
            pid: Option<i32>,
            bundle: &'a Path,
            #[serde(skip_serializing_if = "HashMap::is_empty")]
            annotations: &'a HashMap<String, String>,
        }
        let (bundle, annotations) = (self.bundle.as_path(), &self.annotations);
        let state = HookState { oci_version: &self.oci_version, id: &self.id, status, pid, bundle, annotations };
        serde_json::to_vec(&state).context("state for hooks")
    }

    /// Where the container's hooks write.
    pub fn hook_output(&self) -> Result<Output> {
        let annotations = annotations::compile(&self.annotations)?;
        Output::open(annotations.hooks_stdout, annotations.hooks_stderr)
    }

    /// The failure of a step that init took after `start`.
    pub fn word(&self, failure: &Failure) -> StepError {
        StepError::new(self.start_steps.iter().find(|label| label.index == failure.step), failure)
    }
}

/// A container's status: the spec's, and `paused`, which every engine knows.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl std::fmt::Display for Status {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        })
    }
}

/// A container's directory below the runtime's root.
#[derive(Debug)]
pub struct Directory {
    path: PathBuf,
    fd: OwnedFd,
}

impl Directory {
    /// Makes the directory of a new container. An id that is taken is [`Refusal::Exists`].
    pub fn reserve(root: &Path, id: &Id) -> Result<Reserved> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(root)
            .with_context(|| format!("root directory {}", root.display()))?;
        let path = root.join(id.as_str());
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => bail!(Refusal::Exists),
            result => result.with_context(|| format!("state directory {}", path.display()))?,
        }
        match Self::open_path(path.clone()) {
            Ok(directory) => Ok(Reserved { directory, kept: false }),
            Err(error) => {
                // The first error is the one to tell.
                let _ = fs::remove_dir(path);
                Err(error)
            }
        }
    }

    /// Opens the directory of an existing container; a missing one is [`Refusal::DoesNotExist`].
    pub fn open(root: &Path, id: &Id) -> Result<Self> {
        Self::open_path(root.join(id.as_str()))
    }

    fn open_path(path: PathBuf) -> Result<Self> {
        match fs::File::open(&path) {
            Ok(file) => Ok(Self { path, fd: file.into() }),
            Err(error) if error.kind() == ErrorKind::NotFound => bail!(Refusal::DoesNotExist),
            Err(error) => Err(error).with_context(|| format!("state directory {}", path.display())),
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the state file. A directory without one belongs to a `create` that was killed before it wrote anything.
    pub fn load(&self) -> Result<Option<State>> {
        let path = self.path.join(STATE_FILE);
        match fs::read(&path) {
            Ok(text) => {
                let state = serde_json::from_slice(&text);
                state.map(Some).with_context(|| format!("state file {}", path.display()))
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("state file {}", path.display())),
        }
    }

    /// Replaces the state file: a reader sees the old one or the new one, never a part.
    pub fn save(&self, state: &State) -> Result<()> {
        let path = self.path.join(STATE_FILE_NEW);
        let write = || -> std::io::Result<()> {
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            file.write_all(&serde_json::to_vec(state)?)?;
            fs::rename(&path, self.path.join(STATE_FILE))
        };
        write().map_err(|error| log::words("write", &error)).with_context(|| format!("state file {}", path.display()))
    }

    /// Writes the file for exec. Nobody reads it before the container is created, so it need not be atomic.
    pub fn save_for_exec(&self, saved: &Saved) -> Result<()> {
        let path = self.path.join(EXEC_FILE);
        let write = || -> std::io::Result<()> {
            let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&path)?;
            file.write_all(&serde_json::to_vec(saved)?)
        };
        write().map_err(|error| log::words("write", &error)).with_context(|| format!("state file {}", path.display()))
    }

    /// Reads the file for exec.
    pub fn load_for_exec(&self) -> Result<Saved<'static>> {
        let path = self.path.join(EXEC_FILE);
        let text = fs::read(&path).with_context(|| format!("state file {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("state file {}", path.display()))
    }

    /// Makes the socket at which init waits for `start`.
    pub fn make_gate(&self) -> Result<OwnedFd> {
        socket::listen_in(self.fd(), GATE).with_context(|| format!("start gate in {}", self.path.display()))
    }

    fn gate(&self) -> PathBuf {
        self.path.join(GATE.to_str().unwrap_or_default())
    }

    /// Connects to init, which waits at the gate. `None`: there is no gate, or nobody waits any more.
    pub fn connect_gate(&self) -> Result<Option<OwnedFd>> {
        match socket::connect_in(self.fd(), GATE) {
            Ok(connection) => Ok(Some(connection)),
            Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ECONNREFUSED) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("start gate in {}", self.path.display())),
        }
    }

    pub fn has_gate(&self) -> bool {
        fs::symlink_metadata(self.gate()).is_ok()
    }

    /// Removes the gate: whoever has not connected yet comes too late.
    pub fn remove_gate(&self) -> Result<()> {
        match fs::remove_file(self.gate()) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("start gate in {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }

    /// Removes the directory and what is in it.
    pub fn remove(&self) -> Result<()> {
        // Only these names are ever made, so nothing is followed and nothing is listed.
        for name in NAMES {
            if let Err(error) = fs::remove_file(self.path.join(name))
                && error.kind() != ErrorKind::NotFound
            {
                return Err(error).with_context(|| format!("state directory {}", self.path.display()));
            }
        }
        match fs::remove_dir(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(error).with_context(|| format!("state directory {}", self.path.display()))
            }
            _ => Ok(()),
        }
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The directory of a container that is being created: it goes away unless it is kept.
#[derive(Debug)]
pub struct Reserved {
    directory: Directory,
    kept: bool,
}

impl Reserved {
    /// The container is made: its directory stays.
    pub fn keep(&mut self) {
        self.kept = true;
    }
}

impl std::ops::Deref for Reserved {
    type Target = Directory;

    fn deref(&self) -> &Directory {
        &self.directory
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if !self.kept {
            // The error that made us undo is the one to tell.
            let _ = self.directory.remove();
        }
    }
}

/// The ids below `root`, sorted.
pub fn ids(root: &Path) -> Result<Vec<Id>> {
    let entries = match fs::read_dir(root) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.with_context(|| format!("root directory {}", root.display()))?,
    };
    let mut ids = Vec::new();
    for entry in entries {
        let entry = entry.with_context(|| format!("root directory {}", root.display()))?;
        // What is no directory, or not named like a container, is not ours.
        if entry.file_type().is_ok_and(|kind| kind.is_dir())
            && let Some(id) = entry.file_name().to_str().and_then(|name| Id::parse(name).ok())
        {
            ids.push(id);
        }
    }
    ids.sort();
    Ok(ids)
}

impl Identity {
    /// The identity of the process `pid` that `pidfd` holds.
    pub fn of(pid: i32, pidfd: BorrowedFd) -> Result<Self> {
        let (_, start_time) = read_stat(pid)?.with_context(|| format!("process {pid} is gone"))?;
        Ok(Self { pid, start_time, pidfd_inode: process::pidfd_inode(pidfd)? })
    }

    /// The identity of this process.
    pub fn own() -> Result<Self> {
        let pid = std::process::id() as i32;
        let (_, start_time) = read_stat(pid)?.with_context(|| format!("process {pid} is gone"))?;
        Ok(Self { pid, start_time, pidfd_inode: 0 })
    }

    /// Whether it still runs: a zombie does not.
    pub fn is_alive(&self) -> Result<bool> {
        let stat = read_stat(self.pid)?;
        Ok(stat.is_some_and(|(state, start_time)| start_time == self.start_time && !matches!(state, 'Z' | 'X')))
    }

    /// A descriptor of the process; `None` when it is gone, even if its pid has a new owner.
    pub fn open(&self) -> Result<Option<OwnedFd>> {
        let Ok(pidfd) = process::pidfd_open(self.pid) else { return Ok(None) };
        // Checked after the descriptor is held: from here on it cannot become another process.
        let same =
            self.is_alive()? && (self.pidfd_inode == 0 || process::pidfd_inode(pidfd.as_fd())? == self.pidfd_inode);
        Ok(same.then_some(pidfd))
    }
}

/// State letter and start time of `pid`; `None`: no such process.
fn read_stat(pid: i32) -> Result<Option<(char, u64)>> {
    let path = format!("/proc/{pid}/stat");
    // More than the 52 numbers and the name ever take, so that it is read at once.
    let mut buffer = [0; 2048];
    match fs::File::open(&path).and_then(|mut file| file.read(&mut buffer)) {
        Ok(len) => parse_stat(buffer.get(..len).unwrap_or_default()).map(Some).context(path),
        // ESRCH: it ended between open and read.
        Err(error) if error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(3) => Ok(None),
        Err(error) => Err(error).context(path),
    }
}

/// Fields 3 and 22 of proc_pid_stat(5).
fn parse_stat(text: &[u8]) -> Result<(char, u64)> {
    let stat = Stat::from_read(text)?;
    Ok((stat.state, stat.starttime))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stat_line_is_read_past_a_hostile_name() {
        let text = b"7 (a) Z 1 (b) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 4096 1 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
        assert_eq!(parse_stat(text).unwrap(), ('S', 4242));
        assert!(parse_stat(b"7 (x").is_err());
        assert!(parse_stat(b"").is_err());
    }

    #[test]
    fn this_process_is_alive_and_an_older_one_with_its_pid_is_not() {
        let own = Identity::own().unwrap();
        assert!(own.is_alive().unwrap() && own.open().unwrap().is_some());
        let reused = Identity { start_time: own.start_time - 1, ..own };
        assert!(!reused.is_alive().unwrap() && reused.open().unwrap().is_none());
    }
}
