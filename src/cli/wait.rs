//! `ocirt wait`.

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use super::output::{TextOrJson, print};
use super::select;
use super::{duration, json};
use crate::lifecycle::{self, Ended, Host, Id};

/// Wait for the end of a container, print the exit status of its process, and exit with it
///
/// Anyone who may see the container may wait for it, as often as they like. A process that was killed has 128 and the
/// number of the signal. The exit status is 255 if there is nothing to tell: no such container, the timeout is over, or
/// the container's parent alone was told how it ended: `run --keep` and containerd-shim-ocirt-v2 note it, and Linux 6.15
/// and newer keep it for a while.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct Wait {
    /// How long to wait at most: 5s, 500ms, 1m30s [default: without end]
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    timeout: Option<String>,

    #[command(flatten)]
    output: TextOrJson,

    /// Name of the container
    #[arg(value_name = "CONTAINER_ID")]
    pub id: String,
}

/// The output as JSON.
#[derive(Serialize)]
struct Waited<'a> {
    id: &'a str,
    #[serde(flatten)]
    ended: Ended,
}

impl Wait {
    pub fn execute(self, host: &Host) -> Result<i32> {
        let id = select::id("wait", &self.id)?;
        self.wait(host, &id).with_context(|| format!("wait {id}"))
    }

    fn wait(&self, host: &Host, id: &Id) -> Result<i32> {
        let timeout = self.timeout.as_deref().map(duration::parse).transpose().context("--timeout")?;
        let is_json = self.output.is_json()?;
        let ended = lifecycle::wait(host, id, timeout)?;
        let text =
            if is_json { json::compact(&Waited { id: id.as_str(), ended })? } else { ended.exit_status.to_string() };
        print(&(text + "\n"))?;
        Ok(ended.exit_status)
    }
}
