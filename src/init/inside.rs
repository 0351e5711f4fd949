//! What init brings from the runtime, what one step leaves to later ones, and what steps do with it.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use super::link::{InitEnd, Opened};
use super::report::{Milestone, Report, StepIndex};
use crate::container::cgroup::CgroupJoin;
use crate::container::console::Console;
use crate::container::devices::Device;
use crate::container::hooks::{Confinement, Output};
use crate::container::keyring::SessionKeyring;
use crate::container::rootfs::idmap::UserNamespaces;
use crate::container::rootfs::mask::{MaskPath, Masks};
use crate::container::rootfs::mount::Mount;
use crate::container::seccomp::{Filter, Handover};
use crate::sys::path::RootFd;
use crate::sys::procfs::ProcFd;
use crate::sys::timeline::Timeline;
use crate::sys::{Errno, Fault, file, proc_self, socket};

/// The descriptors that init brings from the runtime.
#[derive(Default, Debug)]
pub struct Inherited {
    pub join: CgroupJoin,
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

/// Whether init tries to open something before it asks the runtime.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Opener {
    IfNeeded,
    Only,
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

    pub(super) fn mount(&mut self, mount: &Mount) -> Result<Option<OwnedFd>, Fault> {
        // A user namespace has no rights over the filesystems of the host.
        let opener = if mount.is_id_mapped() { Opener::Only } else { Opener::IfNeeded };
        let opened = self.open(opener, |inherited| {
            mount.open(UserNamespaces { listed: &inherited.mount_namespaces, container: None })
        })?;
        mount.apply(self.root()?, opened)
    }

    /// What `open` opens; where that takes the runtime's rights, and the runtime is there for it, what it opens.
    pub(super) fn open(
        &mut self,
        opener: Opener,
        open: impl FnOnce(&Inherited) -> Result<Option<OwnedFd>, Fault>,
    ) -> Result<Option<OwnedFd>, Fault> {
        if let Some(opened) = self.opened.take(self.step) {
            return Ok(Some(opened));
        }
        if opener == Opener::IfNeeded || !self.inherited.opener {
            match open(&self.inherited) {
                Err(fault) if fault.errno == Errno::EACCES && self.inherited.opener => {}
                done => return done,
            }
        }
        self.ask().map(Some)
    }

    /// What the runtime opens for this step.
    fn ask(&mut self) -> Result<OwnedFd, Fault> {
        self.link.report(&Report::Needs(self.step))?;
        self.opened = self.link.wait_for_opened()?;
        let missing = Fault::new("recvmsg", Errno::ENOENT, "the runtime opened nothing");
        self.opened.take(self.step).ok_or(missing)
    }

    /// Shows a node of the host's, or, where it has none, one that the runtime makes.
    pub(super) fn bind_device(&mut self, device: &Device) -> Result<(), Fault> {
        let node = match device.open() {
            Err(fault) if self.inherited.opener && matches!(fault.errno, Errno::ENOENT | Errno::EACCES) => {
                self.ask()?
            }
            node => node?,
        };
        device.bind(self.root()?, node)
    }

    /// The descriptors that the last steps use: all are close-on-exec.
    pub(super) fn still_needed(&self) -> [Option<BorrowedFd<'_>>; 7] {
        let [creating, created] = self.hook_states.each_ref().map(|state| state.as_ref().map(AsFd::as_fd));
        let Inherited { gate, hook_output, .. } = &self.inherited;
        let gate = gate.as_ref().map(AsFd::as_fd);
        let [stdout, stderr] = match hook_output {
            Some(output) => [&output.stdout, &output.stderr].map(|fd| Some(fd.as_fd())),
            None => [None, None],
        };
        let notify_socket = self.notify_socket.as_ref().map(AsFd::as_fd);
        [Some(self.link.as_fd()), gate, creating, created, stdout, stderr, notify_socket]
    }

    pub(super) fn enter_cgroup(&self) -> Result<(), Fault> {
        if self.inherited.join.waits() {
            self.link.wait_for_go()?;
        }
        self.inherited.join.apply()
    }

    pub(super) fn join_keyring(&self, keyring: &SessionKeyring) -> Result<(), Fault> {
        match &self.proc {
            Some(proc) => keyring.apply(Some(proc.as_fd())),
            None if keyring.needs_proc() => keyring.apply(Some(file::open_directory(c"/proc")?.as_fd())),
            None => keyring.apply(None),
        }
    }

    /// Makes the terminal, and closes the console socket: its other end waits for nothing more.
    pub(super) fn make_console(&mut self, console: &Console) -> Result<(), Fault> {
        let socket = self.inherited.console.take();
        let socket = socket.ok_or(Fault::new("sendmsg", Errno::ENOTCONN, "no console socket"))?;
        console.apply(self.root()?, socket.as_fd())
    }

    /// Loads the filter; a listener is the runtime's before the next call that the filter may notify.
    pub(super) fn load(&mut self, filter: &Filter) -> Result<(), Fault> {
        // Afterwards that might be forbidden.
        self.clear_hook_files()?;
        self.confinement = Confinement::Filter;
        let listener = match (filter.agent(), filter.handover()) {
            (None, _) => return filter.apply(),
            (Some(_), Handover::Sent) => {
                let listener = filter.apply_with_listener()?;
                self.link.report_listener(listener.as_fd())?;
                listener
            }
            (Some(_), Handover::Taken) => {
                let number = proc_self::next_descriptor(self.link.as_fd())?;
                self.link.report(&Report::ListenerAt(number))?;
                filter.apply_with_listener()?
            }
        };
        // Nothing runs under a filter that nobody serves. The agent answers this wait, if need be: it has the listener
        // before the runtime says Go.
        self.link.wait_for_go()?;
        drop(listener);
        Ok(())
    }

    pub(super) fn mask(&mut self, path: &MaskPath) -> Result<(), Fault> {
        let Some(root) = &self.root else { return self.root().map(drop) };
        path.apply(root, &mut self.masks)
    }

    pub(super) fn send_notify_socket(&mut self) -> Result<(), Fault> {
        let socket = self.notify_socket.take();
        let socket = socket.ok_or(Fault::new("sendmsg", Errno::ENOTCONN, "no NOTIFY_SOCKET"))?;
        Ok(self.link.report_notify_socket(socket.as_fd())?)
    }

    pub(super) fn wait_at_gate(&mut self) -> Result<(), Fault> {
        let gate = self.inherited.gate.take();
        let gate = gate.ok_or(Fault::new("accept4", Errno::ENOTCONN, "no start gate"))?;
        loop {
            let link = InitEnd::from_gate(socket::accept(gate.as_fd())?);
            match link.report(&Report::Reached(Milestone::Starting)) {
                // A start that has given up, since we were stopped for long; there may be another.
                Err(error) if error.errno == Errno::EPIPE => {}
                reported => {
                    self.link = link;
                    return Ok(reported?);
                }
            }
        }
    }
}
