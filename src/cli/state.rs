//! `ocirt state`.

use anyhow::{Context, Result};
use clap::Args;

use super::json;
use super::output::print;
use super::select;
use crate::lifecycle::{self, Host};

/// Print the state of a container as JSON
///
/// The object has the members of runtime-spec's state (ociVersion, id, status, pid, bundle, annotations) and, as with
/// runc, rootfs, created and owner. The status is creating, created, running, stopped or paused; pid is 0 when stopped.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct State {
    /// Name of the container
    #[arg(value_name = "CONTAINER_ID")]
    pub id: String,
}

impl State {
    pub fn execute(self, host: &Host) -> Result<()> {
        let id = select::id("state", &self.id)?;
        let state = lifecycle::state(host, &id).with_context(|| format!("state {id}"))?;
        // Without a newline, as runc.
        print(&json::indented(&state, "  ")?)
    }
}
