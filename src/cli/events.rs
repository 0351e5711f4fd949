//! `ocirt events`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::output::print;
use super::select;
use super::{duration, json};
use crate::lifecycle::{self, Host};

/// Show what a container uses, and when it runs out of memory
///
/// Prints a JSON object a line, of type stats every INTERVAL and of type oom each time, until the container ends.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct Events {
    /// How long between two lines of statistics: 5s, 500ms, 1m30s [default: 5s]
    #[arg(long, value_name = "INTERVAL", default_value = "5s", hide_default_value = true, allow_hyphen_values = true)]
    interval: String,

    /// Print the statistics once, and exit
    #[arg(long)]
    stats: bool,

    /// Name of the container
    #[arg(value_name = "CONTAINER_ID")]
    pub id: String,
}

impl Events {
    pub fn execute(self, host: &Host) -> Result<()> {
        let id = select::id("events", &self.id)?;
        self.events(host, &id).with_context(|| format!("events {id}"))
    }

    fn events(&self, host: &Host, id: &lifecycle::Id) -> Result<()> {
        let interval = duration::parse(&self.interval).context("--interval")?;
        ensure!(interval > Duration::ZERO, "--interval: duration interval must be greater than 0");
        let interval = (!self.stats).then_some(interval);
        lifecycle::events(host, id, interval, |event| print(&(json::compact(event)? + "\n")))
    }
}
