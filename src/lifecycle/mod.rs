//! The operations of runtime.md, each readable top to bottom as the host's side of it.

#![forbid(unsafe_code)]
#![deny(clippy::cast_possible_truncation)]

mod agent;
mod announce;
mod away;
mod checkpoint;
mod copier;
mod create;
mod criu;
mod delete;
mod directory;
mod events;
mod exec;
mod exec_process;
mod exec_start;
mod exec_wait;
mod foreground;
mod identity;
mod images;
mod inspect;
mod inspection;
mod interfaces;
mod kill;
mod launch;
mod members;
pub mod mounts;
mod opener;
mod pause;
mod protect;
mod reason;
mod restore;
pub mod root;
mod run;
mod start;
mod state;
mod trusted;
mod update;
mod user_namespace;

use std::fmt;
use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::container::cgroup::Manager;
use crate::log::Log;
use crate::log::facts::Code;
use crate::sys;

pub use checkpoint::{CheckpointOptions, checkpoint};
pub use create::{CreateOptions, create, plan};
pub use delete::delete;
pub use events::events;
pub use exec::{ExecOptions, exec};
pub use exec_process::Changes;
pub use inspect::{StateView, ids, list, ps, state};
pub use kill::kill;
pub use pause::{pause, resume};
pub use protect::enter as protect;
pub use restore::{RestoreOptions, restore};
pub use run::{RunOptions, run};
pub use start::start;
pub use state::Status;
pub use update::{Schemata, update};

/// What the global flags say: where containers are kept, and who manages their cgroups.
pub struct Host<'a> {
    /// The directory that holds a directory for each container.
    pub root: PathBuf,
    /// `--cgroup-manager` and `--systemd-cgroup`.
    pub cgroup_manager: Manager,
    pub rootless: Rootless,
    /// The file mode creation mask of the caller, which is the hooks'. The runtime's own is 0: what it makes has the mode
    /// that it is made with.
    pub umask: u32,
    /// Where warnings go; errors are returned.
    pub log: &'a Log,
}

/// Init runs our own program until it starts, which an ordinary user may execute but not look into.
const ONLY_ROOT_ENTERS: &str = "only root can enter a container that is not started";

/// The version of runtime-spec that `state` names.
const OCI_VERSION: &str = "1.3.0";

/// A signal's number.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Signal(pub i32);

/// `--rootless`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rootless {
    True,
    False,
    Auto,
}

impl Rootless {
    /// Whether errors for want of a right to cgroups are no errors, as runc has it: for every user but root, and for
    /// root of a user namespace.
    fn for_cgroups(self) -> fn() -> bool {
        match self {
            Rootless::True => || true,
            Rootless::False => || false,
            Rootless::Auto => || sys::ids::effective_uid() != 0 || sys::ids::in_a_user_namespace(),
        }
    }
}

/// A container id: letters, digits and `_ + - .`, and neither `.` nor `..`, so that it names one directory entry.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Id(String);

impl Id {
    pub fn parse(text: &str) -> Result<Self> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.');
        if text.is_empty() || !text.chars().all(allowed) || matches!(text, "." | "..") {
            bail!(InvalidId { text: text.to_owned(), why: "an id is made of letters, digits and _ + - ." });
        }
        // NAME_MAX: the id is the name of a directory.
        if text.len() > 255 {
            bail!(InvalidId { text: text.to_owned(), why: "longer than 255 bytes" });
        }
        Ok(Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no id, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
struct InvalidId {
    text: String,
    why: &'static str,
}

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid id format: '{}' ({})", self.text, self.why)
    }
}

impl std::error::Error for InvalidId {}

/// The class of an error that has one by its type, whatever its words.
pub fn code(error: &anyhow::Error) -> Option<Code> {
    let refusal = || error.downcast_ref().copied().map(Refusal::code);
    let is_missing = || error.is::<criu::Missing>().then_some(Code::ExecutableNotFound);
    error.is::<InvalidId>().then_some(Code::InvalidId).or_else(refusal).or_else(is_missing)
}

/// Why a command refuses a container. Engines match these texts: docs/runc-behavior.md.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    Exists,
    DoesNotExist,
    NotRunning,
    /// What is there no more while `exec` is at work.
    EndedMeanwhile,
    /// A pid namespace without its init takes no process, and the kernel calls that ENOMEM (clone(2)).
    GoneOrNoMemory,
    NotPaused,
    NoCgroup,
    AlreadyStarted,
    StartStopped,
    StartPaused,
    StartCreating,
    ExecStopped,
    ExecPaused,
    ExecCreating,
    DeleteNotStopped(Status),
    /// runc's words.
    CheckpointNotRunning(Status),
}

impl Refusal {
    fn code(self) -> Code {
        match self {
            Self::Exists => Code::Exists,
            Self::DoesNotExist => Code::DoesNotExist,
            Self::NotRunning | Self::EndedMeanwhile | Self::GoneOrNoMemory => Code::NotRunning,
            Self::ExecPaused => Code::Paused,
            Self::NoCgroup => Code::Error,
            Self::NotPaused
            | Self::AlreadyStarted
            | Self::StartStopped
            | Self::StartPaused
            | Self::StartCreating
            | Self::ExecStopped
            | Self::ExecCreating
            | Self::DeleteNotStopped(_)
            | Self::CheckpointNotRunning(_) => Code::WrongStatus,
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refusal::Exists => f.write_str("container with given ID already exists"),
            Refusal::DoesNotExist => f.write_str("container does not exist"),
            Refusal::NotRunning => f.write_str("container not running"),
            Refusal::EndedMeanwhile => f.write_str("container not running: it ended while the process was set up"),
            Refusal::GoneOrNoMemory => f.write_str("container not running, or no memory"),
            Refusal::NotPaused => f.write_str("container not paused"),
            Refusal::NoCgroup => f.write_str("the container has no cgroup (it was made without one)"),
            Refusal::AlreadyStarted => f.write_str("cannot start an already running container"),
            Refusal::StartStopped => f.write_str("cannot start a container that has stopped"),
            Refusal::StartPaused => f.write_str("cannot start a container in the paused state"),
            Refusal::StartCreating => f.write_str("cannot start a container in the creating state"),
            Refusal::ExecStopped => f.write_str("cannot exec in a stopped container"),
            Refusal::ExecPaused => f.write_str("cannot exec in a paused container (use --ignore-paused to override)"),
            Refusal::ExecCreating => f.write_str("cannot exec in a container in the creating state"),
            Refusal::CheckpointNotRunning(status) => {
                write!(f, "Container cannot be checkpointed in {status} state")
            }
            Refusal::DeleteNotStopped(status) => {
                write!(f, "cannot delete container that is not stopped: {status} (kill it first, or use --force)")
            }
        }
    }
}

impl std::error::Error for Refusal {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_one_directory_entry() {
        for good in ["a", "web-1", "a_b+c.d", "...", "0"] {
            assert_eq!(Id::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a/b", "../a", "a b", "é", "a\n", &"x".repeat(256)] {
            let error = Id::parse(bad).unwrap_err().to_string();
            assert!(error.starts_with("invalid id format: '"), "{error}");
        }
    }

    #[test]
    fn a_refusal_has_the_words_that_engines_match() {
        let texts = [
            (Refusal::Exists, "container with given ID already exists"),
            (Refusal::DoesNotExist, "container does not exist"),
            (Refusal::NotRunning, "container not running"),
            (Refusal::NotPaused, "container not paused"),
            (Refusal::AlreadyStarted, "cannot start an already running container"),
            (Refusal::StartStopped, "cannot start a container that has stopped"),
            (Refusal::StartPaused, "cannot start a container in the paused state"),
            (Refusal::StartCreating, "cannot start a container in the creating state"),
            (Refusal::ExecStopped, "cannot exec in a stopped container"),
            (Refusal::ExecPaused, "cannot exec in a paused container (use --ignore-paused to override)"),
            (Refusal::ExecCreating, "cannot exec in a container in the creating state"),
            (
                Refusal::DeleteNotStopped(Status::Running),
                "cannot delete container that is not stopped: running (kill it first, or use --force)",
            ),
            (
                Refusal::DeleteNotStopped(Status::Created),
                "cannot delete container that is not stopped: created (kill it first, or use --force)",
            ),
        ];
        let checkpoint = Refusal::CheckpointNotRunning(Status::Stopped).to_string();
        assert_eq!(checkpoint, "Container cannot be checkpointed in stopped state");
        for (refusal, text) in texts {
            assert_eq!(refusal.to_string(), text);
        }
    }

    #[test]
    fn the_class_of_a_refusal_is_its_own_wherever_it_is_in_the_chain() {
        let of = |refusal: Refusal| code(&anyhow::Error::from(refusal).context("web1"));
        assert_eq!(of(Refusal::Exists), Some(Code::Exists));
        assert_eq!(of(Refusal::ExecPaused), Some(Code::Paused));
        for refusal in [Refusal::ExecStopped, Refusal::NotPaused, Refusal::CheckpointNotRunning(Status::Stopped)] {
            assert_eq!(of(refusal), Some(Code::WrongStatus));
        }
        let gone = anyhow::anyhow!("ENOMEM").context(Refusal::GoneOrNoMemory).context("exec web1");
        assert_eq!(code(&gone), Some(Code::NotRunning));
        assert_eq!(code(&Id::parse("a/b").unwrap_err()), Some(Code::InvalidId));
        assert_eq!(code(&anyhow::anyhow!("container does not exist").context("invalid id format")), None);
    }
}
