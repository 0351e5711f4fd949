//! The hooks that init runs: createContainer and startContainer, and the files that they share.

use std::os::fd::AsFd;

use super::inside::Inside;
use super::report::{Milestone, Report};
use super::step::HookState;
use crate::container::hooks::{Hook, Output};
use crate::sys::{self, Errno, Fault, file, socket};

impl Inside {
    /// Reports that all is mounted, and waits until the runtime has run its hooks; what comes with its word is for ours.
    pub(super) fn wait_for_hooks(&mut self) -> Result<(), Fault> {
        self.link.report(&Report::Reached(Milestone::Mounted))?;
        let [creating, created, ..] = self.link.wait_for_go()?;
        self.hook_states = [creating, created];
        Ok(())
    }

    /// Runs a hook, and tells `start` of a startContainer hook that ended well.
    pub(super) fn run_hook(&mut self, hook: &Hook, state: HookState) -> Result<(), Fault> {
        self.clear_hook_files().map_err(|error| self.confinement.explain(error))?;
        self.is_hook_behind = true;
        let [creating, created] = &self.hook_states;
        let file = match state {
            HookState::Creating => creating,
            HookState::Created => created,
        };
        let file = file.as_ref().ok_or(Fault::new("recvmsg", Errno::ENOENT, "no state came for the hook"))?;
        let output = self.inherited.hook_output.as_ref();
        let output = output.ok_or(Fault::new("open", Errno::ENOENT, "nothing is there for the hook to write to"))?;
        if state == HookState::Creating {
            // createContainer hooks start in the rootfs, as in runc, to which the engines' hooks were written.
            file::enter(self.root()?.as_fd())?;
        }
        hook.apply(file.as_fd(), output, self.confinement)?;
        if state == HookState::Created {
            // Where the filter forbids even that, the runtime sees that we live.
            let _ = self.link.report_under_a_filter(&Report::Reached(Milestone::Hooked));
        }
        Ok(())
    }

    /// Makes the files of hooks ready for the next one, if there was one before.
    pub(super) fn clear_hook_files(&mut self) -> sys::Result<()> {
        if core::mem::take(&mut self.is_hook_behind) {
            self.hook_states.iter().flatten().try_for_each(|state| socket::rewind(state.as_fd()))?;
            let output = self.inherited.hook_output.as_ref();
            output.and_then(Output::kept).map_or(Ok(()), socket::empty)?;
        }
        Ok(())
    }
}
