//! What is held of a child that runs the runtime, or mounts: before it is born, and while it runs.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Command;

use containerd_shim_ocirt::call::stdio::Stdio;
use containerd_shim_ocirt::task::{ContainerKey, ProcessKey};

use super::words::Watched;
use crate::child;
use crate::outcome::Outcome;
use crate::runtime::Runtime;
use crate::sys::Born;
use crate::sys::limit::Descriptors;

/// What the loop holds for a container.
#[derive(Clone, Debug)]
pub(super) struct Container {
    pub(super) id: String,
    pub(super) runtime: Runtime,
    pub(super) alone: bool,
}

#[derive(Debug)]
pub(super) struct Job {
    pub(super) pid: u32,
    pub(super) watched: Watched,
    pub(super) container: ContainerKey,
    /// What it makes, and the file where its pid will be.
    pub(super) makes: Option<(ProcessKey, PathBuf)>,
    pub(super) errors: File,
    pub(super) log_length: u64,
    /// The runtime says so of what has gone already.
    pub(super) may_be_gone: bool,
    /// What the child reads by their paths in /proc.
    pub(super) _inputs: Vec<OwnedFd>,
    pub(super) scratch: Option<Scratch>,
}

impl Job {
    pub(super) fn makes_a_process(&self) -> bool {
        self.makes.is_some()
    }
}

/// What a child does.
pub(super) enum Body {
    Program(Command),
    /// In a copy of the shim.
    Function(Box<dyn FnOnce() -> Outcome<()>>),
}

/// A child that is about to be born.
pub(super) struct Child {
    pub(super) body: Body,
    pub(super) streams: child::Streams,
    pub(super) container: ContainerKey,
    pub(super) makes: Option<(ProcessKey, PathBuf)>,
    pub(super) may_be_gone: bool,
    pub(super) inputs: Vec<OwnedFd>,
    /// A checkpoint's.
    pub(super) scratch: Option<Scratch>,
}

/// What a process's streams are to be.
pub(super) struct Streams<'a> {
    pub(super) process: ProcessKey,
    /// What a logger knows it by: the container's id, or that of the exec.
    pub(super) id: &'a str,
    pub(super) stdio: Stdio,
    pub(super) terminal: bool,
    pub(super) stdin_closed: bool,
    pub(super) owner: (u32, u32),
}

/// A runtime's command line that makes a process, and what that needs.
pub(super) struct Making {
    pub(super) command: Command,
    pub(super) inputs: Vec<OwnedFd>,
    pub(super) log: PathBuf,
}

impl Child {
    pub(super) fn new(body: Body, container: ContainerKey) -> Self {
        Self {
            body,
            streams: [None, None, None],
            container,
            makes: None,
            may_be_gone: false,
            inputs: Vec::new(),
            scratch: None,
        }
    }

    pub(super) fn program(command: Command, container: ContainerKey) -> Self {
        Self::new(Body::Program(command), container)
    }

    pub(super) fn function(function: impl FnOnce() -> Outcome<()> + 'static, container: ContainerKey) -> Self {
        Self::new(Body::Function(Box::new(function)), container)
    }

    pub(super) fn born(self, errors: &OwnedFd, descriptors: Descriptors) -> Outcome<Born> {
        match self.body {
            Body::Program(command) => Ok(child::execute(&command, &self.streams, descriptors)
                .map_err(|error| format!("{}: {error}", command.get_program().display()))?),
            Body::Function(function) => Ok(child::run(function, errors, descriptors)?),
        }
    }
}

/// In the bundle: CRIU's log of a checkpoint that failed.
const LOG: &str = "criu-dump.log";

/// The directory of CRIU's working files.
#[derive(Debug)]
pub(super) struct Scratch {
    pub(super) work: PathBuf,
    pub(super) bundle: PathBuf,
    pub(super) is_own: bool,
}

impl Scratch {
    /// Keeps the log of a failure, and says where; removes the rest.
    pub(super) fn end(self, failed: bool) -> Option<String> {
        let log = self.work.join("dump.log");
        let kept = self.bundle.join(LOG);
        // Of a directory that is not the shim's, nothing is taken away.
        let told = match (failed, self.is_own) {
            (false, _) => None,
            (true, true) => fs::rename(&log, &kept).ok().map(|()| kept),
            (true, false) => log.exists().then_some(log),
        };
        if self.is_own {
            // There may be none yet.
            let _ = fs::remove_dir_all(&self.work);
        }
        told.map(|path| format!("; CRIU's log is {}", path.display()))
    }
}
