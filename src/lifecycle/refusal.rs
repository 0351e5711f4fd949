//! Why a command refuses a container.

use std::fmt;

use super::status::Status;
use crate::log::facts::Code;

/// Init runs our own program until it starts, which an ordinary user may execute but not look into.
pub const ONLY_ROOT_ENTERS: &str = "only root can enter a container that is not started";

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
    pub fn code(self) -> Code {
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
}
