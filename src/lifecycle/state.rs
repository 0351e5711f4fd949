//! What is saved of a container: one small file, written atomically, from which every later command works.
//!
//! ```text
//! <root>/<id>/state.json   who the container is; written before the first side effect, and once init is ready
//! <root>/<id>/exec.json    what an exec has to know besides; written once, while the phase is still `creating`
//! <root>/<id>/gate         the socket on which a created container's init waits for `start`
//! ```

use std::collections::HashMap;
use std::ffi::{CStr, CString, OsStr};
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail, ensure};
use oci_spec::runtime;
use serde::{Deserialize, Serialize};

use super::agent::Dependence;
use super::identity::Identity;
use super::trusted;
use super::{Id, Refusal};
use crate::container::cgroup::Paths;
use crate::container::cgroup::update::Applied;
use crate::container::checkpoint::outside::Outside;
use crate::container::hooks::Output;
use crate::container::rootfs::hot::Added;
use crate::container::{annotations, intel_rdt};
use crate::init::link::Failure;
use crate::log;
use crate::plan::{Label, Saved, StepError};
use crate::sys::regular::Unfit;
use crate::sys::{Errno, file, socket};

const STATE_FILE: &CStr = c"state.json";
const STATE_FILE_NEW: &CStr = c"state.json.new";
const GATE: &CStr = c"gate";
const EXEC_FILE: &CStr = c"exec.json";
const NAMES: [&CStr; 4] = [GATE, EXEC_FILE, STATE_FILE, STATE_FILE_NEW];

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
    /// What `mounts add` has mounted, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added_mounts: Vec<Added>,
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
        let opened = CString::new(path.as_os_str().as_bytes())?;
        let fd = match file::open_directory(&opened) {
            Err(error) if error.errno == Errno::ENOENT => bail!(Refusal::DoesNotExist),
            result => result.with_context(|| format!("state directory {}", path.display()))?,
        };
        let owner = file::stat(fd.as_fd())?.uid;
        trusted::check_owner(owner).with_context(|| format!("state directory {}", path.display()))?;
        Ok(Self { path, fd })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of one of [`NAMES`].
    fn at(&self, name: &CStr) -> PathBuf {
        self.path.join(OsStr::from_bytes(name.to_bytes()))
    }

    fn words(&self, name: &CStr) -> String {
        format!("state file {}", self.at(name).display())
    }

    /// Reads the state file. A directory without one belongs to a `create` that was killed before it wrote anything.
    pub fn load(&self) -> Result<Option<State>> {
        let text = trusted::read(self.fd(), STATE_FILE).with_context(|| self.words(STATE_FILE))?;
        let state = text.map(|text| serde_json::from_slice(&text)).transpose();
        state.with_context(|| self.words(STATE_FILE))
    }

    /// Replaces the state file: a reader sees the old one or the new one, never a part.
    pub fn save(&self, state: &State) -> Result<()> {
        self.write(STATE_FILE_NEW, state)?;
        let renamed = fs::rename(self.at(STATE_FILE_NEW), self.at(STATE_FILE));
        renamed.map_err(|error| log::words("rename", &error)).with_context(|| self.words(STATE_FILE_NEW))
    }

    /// Writes the file for exec. Nobody reads it before the container is created, so it need not be atomic.
    pub fn save_for_exec(&self, saved: &Saved) -> Result<()> {
        self.write(EXEC_FILE, saved)
    }

    fn write(&self, name: &CStr, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_vec(value).with_context(|| self.words(name))?;
        // Nobody would read it.
        ensure!(text.len() as u64 <= trusted::LIMIT, anyhow!(Unfit::Size(trusted::LIMIT)).context(self.words(name)));
        let write = || -> std::io::Result<()> {
            let path = self.at(name);
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(&text)
        };
        write().map_err(|error| log::words("write", &error)).with_context(|| self.words(name))
    }

    /// Reads the file for exec.
    pub fn load_for_exec(&self) -> Result<Saved<'static>> {
        let text = trusted::read(self.fd(), EXEC_FILE).with_context(|| self.words(EXEC_FILE))?;
        let text = text.with_context(|| format!("{}: missing", self.words(EXEC_FILE)))?;
        serde_json::from_slice(&text).with_context(|| self.words(EXEC_FILE))
    }

    /// Makes the socket at which init waits for `start`.
    pub fn make_gate(&self) -> Result<OwnedFd> {
        socket::listen_in(self.fd(), GATE).with_context(|| format!("start gate in {}", self.path.display()))
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
        fs::symlink_metadata(self.at(GATE)).is_ok()
    }

    /// Removes the gate: whoever has not connected yet comes too late.
    pub fn remove_gate(&self) -> Result<()> {
        match fs::remove_file(self.at(GATE)) {
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
            match file::unlink_at(self.fd(), name) {
                Err(error) if error.errno == Errno::EISDIR => {
                    fs::remove_dir(self.at(name))
                        .map_err(|error| log::words("rmdir", &error))
                        .with_context(|| self.words(name))?;
                }
                Err(error) if error.errno != Errno::ENOENT => return Err(error).with_context(|| self.words(name)),
                _ => {}
            }
        }
        match fs::remove_dir(&self.path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                Err(log::words("rmdir", &error)).with_context(|| format!("state directory {}", self.path.display()))
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
