//! `ocirt run`.

use anyhow::{Context, Result};
use clap::Args;

use super::create::CreateFlags;
use super::select;
use crate::lifecycle::{self, Host, RunOptions};

/// Create and run a container
///
/// Does what `create` and `start` do; then, unless detached, waits for the container's process, deletes the container
/// and exits with the status of its process, or with 128 and the number of the signal that ended it.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct Run {
    #[command(flatten)]
    options: CreateFlags,

    /// Do not wait for the container's process
    #[arg(short, long)]
    detach: bool,

    /// Do not delete the container after its process has ended
    #[arg(long)]
    keep: bool,

    /// Do not become the parent of processes that lost theirs
    #[arg(long)]
    no_subreaper: bool,

    /// Name of the new container, unique on this host
    #[arg(value_name = "CONTAINER_ID")]
    pub id: String,
}

impl Run {
    pub fn execute(self, host: &Host) -> Result<i32> {
        let id = select::id("run", &self.id)?;
        let options = self.options.supervised().with_context(|| format!("run {id}"))?;
        let run = RunOptions { detach: self.detach, keep: self.keep, no_subreaper: self.no_subreaper };
        lifecycle::run(host, &id, &options, &run).with_context(|| format!("run {id}"))
    }
}
