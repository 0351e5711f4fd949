//! All that the loop knows and holds. What it does with it is in the files beside this one.

use std::collections::{BTreeMap, VecDeque};
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::time::Instant;

use containerd_shim_ocirt::task::queue::Queue;
use containerd_shim_ocirt::task::{ContainerKey, Input, JobKey, ProcessKey};
use nix::sys::epoll::Epoll;
use nix::sys::signalfd::SignalFd;

use super::cgroup::Cgroup;
use super::held::{Containerd, Logger, Peer, Process, Waiting, Watch};
use super::job::{Container, Job};
use super::panics;
use super::words::{Alarm, Source};
use crate::sys::limit::Descriptors;

pub(super) struct Loop {
    pub(super) epoll: Epoll,
    pub(super) sources: BTreeMap<u64, Source>,
    pub(super) last_token: u64,
    pub(super) listener: Option<UnixListener>,
    pub(super) socket: PathBuf,
    pub(super) signals: SignalFd,
    pub(super) namespace: String,
    /// What children are to have.
    pub(super) descriptors: Descriptors,
    pub(super) begun: Instant,
    pub(super) tasks: panics::Known,
    pub(super) queue: Queue,
    pub(super) containerd: Containerd,
    pub(super) peers: BTreeMap<u64, Peer>,
    pub(super) containers: BTreeMap<ContainerKey, Container>,
    pub(super) cgroups: BTreeMap<ContainerKey, Cgroup>,
    pub(super) memory: BTreeMap<ContainerKey, Watch>,
    pub(super) jobs: BTreeMap<JobKey, Job>,
    pub(super) waiting: BTreeMap<JobKey, Waiting>,
    pub(super) processes: BTreeMap<ProcessKey, Process>,
    pub(super) loggers: BTreeMap<u64, Logger>,
    pub(super) last_logger: u64,
    pub(super) alarms: BTreeMap<Alarm, Instant>,
    /// What has happened, and is not told yet.
    pub(super) inbox: VecDeque<Input>,
    pub(super) is_telling: bool,
    pub(super) is_over: bool,
}
