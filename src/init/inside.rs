//! What init brings from the runtime, and what one step leaves to later ones.

use std::os::fd::OwnedFd;
use std::rc::Rc;

use super::link::{InitEnd, Opened, StepIndex};
use crate::container::cgroup::Join;
use crate::container::hooks::{Confinement, Output};
use crate::container::rootfs::mask::Masks;
use crate::sys::path::RootFd;
use crate::sys::procfs::ProcFd;
use crate::sys::timeline::Timeline;
use crate::sys::{Errno, Fault};

/// The descriptors that init brings from the runtime.
#[derive(Default, Debug)]
pub struct Inherited {
    pub join: Join,
    /// User namespaces by which mounts are mapped, where init does that itself.
    pub mount_namespaces: Vec<OwnedFd>,
    /// Whether the runtime opens what init may not.
    pub opener: bool,
    /// Where `start` connects; none when the runtime itself says Go.
    pub gate: Option<OwnedFd>,
    /// Where the master of the container's terminal is sent.
    pub console: Option<OwnedFd>,
    /// Where it is noted when each step is done, if somebody wants to know.
    pub timeline: Option<Rc<Timeline>>,
    /// Where createContainer and startContainer hooks write, if there are any.
    pub hook_output: Option<Output>,
}

/// What one step leaves to later ones.
pub struct Inside {
    pub link: InitEnd,
    pub inherited: Inherited,
    pub root: Option<RootFd>,
    pub proc: Option<ProcFd>,
    /// The socket on which the container tells that it is ready, until somebody listens to it.
    pub notify_socket: Option<OwnedFd>,
    /// The container's state for createContainer and startContainer hooks.
    pub hook_states: [Option<OwnedFd>; 2],
    /// Whether a hook has used the files of hooks.
    pub is_hook_behind: bool,
    pub masks: Masks,
    /// Whether the container's seccomp filter is loaded.
    pub confinement: Confinement,
    /// What the runtime opened for steps to come.
    pub opened: Opened,
    /// The number of the step that is taken.
    pub step: StepIndex,
}

impl Inside {
    /// Before the first step.
    pub fn new(link: InitEnd, inherited: Inherited) -> Self {
        Self {
            link,
            inherited,
            root: None,
            proc: None,
            notify_socket: None,
            hook_states: [None, None],
            is_hook_behind: false,
            masks: Masks::default(),
            confinement: Confinement::None,
            opened: Opened::default(),
            step: StepIndex::FIRST,
        }
    }

    /// The container's root; there is one from EnterRootfs on.
    pub fn root(&self) -> Result<&RootFd, Fault> {
        self.root.as_ref().ok_or(Fault::new("openat2", Errno::ENOENT, "no rootfs entered yet"))
    }

    /// The private procfs; there is one from OpenProc on.
    pub fn proc(&self) -> Result<&ProcFd, Fault> {
        self.proc.as_ref().ok_or(Fault::new("fsopen", Errno::ENOENT, "no private procfs yet"))
    }
}
