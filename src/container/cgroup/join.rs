//! How a process enters the container's cgroup by itself. A move from outside waits 10 to 14 ms for an RCU grace period;
//! a single-threaded process that writes `0` to `tasks`, or one that is cloned into the cgroup, does not wait.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::sys::{self, cgroup};

/// Descriptors with which init enters; opened by the runtime, since the path may not be visible to init.
#[derive(Default, Debug)]
pub enum CgroupJoin {
    /// v1: one `tasks` file for each hierarchy.
    Tasks(Vec<TasksFile>),
    /// v2: the directory, for CLONE_INTO_CGROUP (Linux 5.7).
    Directory(OwnedFd),
    /// Both.
    Hybrid { tasks: Vec<TasksFile>, directory: OwnedFd },
    /// systemd moves the process, which waits for the runtime's Go.
    Moved,
    /// The container has no cgroup of its own.
    #[default]
    None,
}

/// The open `tasks` file of one v1 cgroup, and its path for messages.
#[derive(Debug)]
pub struct TasksFile {
    file: OwnedFd,
    path: CString,
}

impl TasksFile {
    pub(super) fn open(path: CString) -> sys::Result<Self> {
        let file = cgroup::open_write(cgroup::here(), &path)?;
        Ok(Self { file, path })
    }
}

impl CgroupJoin {
    /// Enters the v1 hierarchies. For a process with one thread, before it unshares its cgroup namespace; no heap.
    pub fn apply(&self) -> Result<(), sys::Fault> {
        let tasks = match self {
            Self::Tasks(tasks) | Self::Hybrid { tasks, .. } => tasks.as_slice(),
            Self::Directory(_) | Self::Moved | Self::None => &[],
        };
        for tasks in tasks {
            cgroup::write(tasks.file.as_fd(), b"0").map_err(|error| error.about(&tasks.path))?;
        }
        Ok(())
    }

    /// Whether the process waits until it was moved.
    pub fn waits(&self) -> bool {
        matches!(self, Self::Moved)
    }

    /// The v2 directory that clone3 is to start the process in.
    pub fn clone_into(&self) -> Option<BorrowedFd<'_>> {
        match self {
            Self::Directory(directory) | Self::Hybrid { directory, .. } => Some(directory.as_fd()),
            Self::Tasks(_) | Self::Moved | Self::None => None,
        }
    }
}
