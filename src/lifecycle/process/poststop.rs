//! poststop hooks: run whenever a container is destroyed that has come as far as its hooks, by `delete`, or because its
//! `create`, `run`, `restore` or `start` fails (runtime-spec, runtime.md "Lifecycle", steps 3 to 13). Engines' hooks give
//! back there what theirs took before: addresses, ports.

use anyhow::Result;

use crate::container::hooks::{self, Hook, Output};
use crate::error::one_line;
use crate::lifecycle::disk::state::State;
use crate::lifecycle::host::Host;
use crate::lifecycle::process::trace::Trace;
use crate::lifecycle::status::Status;

/// Runs the hooks. One that fails is a warning, and the rest goes on; an error says that none could be run.
pub fn run(host: &Host, state: &State) -> Result<()> {
    if state.poststop.is_empty() {
        return Ok(());
    }
    let text = state.for_hooks(Status::Stopped, None)?;
    let inherited = host.hook_defaults();
    let hooks: Vec<Hook> = hooks::compile("poststop", &state.poststop, &inherited).collect::<Result<_>>()?;
    // A file that cannot be opened any more keeps no hook from running.
    let output = state.hook_output().or_else(|error| {
        host.log.warn(&one_line(&error));
        Output::open(None, None)
    })?;
    let trace = Trace::of(host, &state.id);
    for hook in hooks {
        if let Err(error) = trace.hook(&hook, &text, &state.bundle, &output) {
            host.log.warn(&one_line(&error));
        }
    }
    Ok(())
}

/// The hooks that a container's end is owed while it is being made. Dropped, they run; it belongs behind what is undone
/// before them: init, the cgroup.
pub struct Owed<'a> {
    host: &'a Host<'a>,
    state: Option<State>,
}

impl<'a> Owed<'a> {
    /// None yet.
    pub fn nothing(host: &'a Host<'a>) -> Self {
        Self { host, state: None }
    }

    /// Whose they are.
    pub fn host(&self) -> &'a Host<'a> {
        self.host
    }

    /// The container has come as far as its hooks.
    pub fn incur(&mut self, state: &State) {
        self.state = (!state.poststop.is_empty()).then(|| state.clone());
    }

    /// They are for `delete` to run.
    pub fn hand_over(&mut self) {
        self.state = None;
    }
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        if let Some(state) = &self.state {
            // The error that ended the container is the one to tell.
            run(self.host, state)
                .unwrap_or_else(|error| self.host.log.warn(&format!("poststop: {}", one_line(&error))));
        }
    }
}
