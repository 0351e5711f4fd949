//! `ocirt gc`.

use std::time::Duration;

use anyhow::{Context, Result};
use clap::Args;

use super::output::{TextOrJson, print};
use super::{duration, json};
use crate::lifecycle::{self, GcOptions, Host, Leftover, Outcome};

/// Remove what killed engines and runtimes have left below --root
///
/// Removes containers of which no process lives and that nobody creates, changes or deletes, with their cgroups, and runs
/// their poststop hooks, as `delete` does. What is found is looked at again after a pause, since an engine deletes at once
/// what has stopped. Nothing that lives is touched, nor what `run --keep` has kept. The exit status is 1 if something
/// cannot be removed.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct Gc {
    /// Only tell what would be removed
    #[arg(long)]
    dry_run: bool,

    /// The pause between the two looks: 5s, 500ms, 1m30s [default: 10s]
    #[arg(long, value_name = "DURATION", default_value = "10s", hide_default_value = true, allow_hyphen_values = true)]
    grace: String,

    #[command(flatten)]
    output: TextOrJson,
}

impl Gc {
    pub fn execute(&self, host: &Host) -> Result<i32> {
        self.gc(host).context("gc")
    }

    fn gc(&self, host: &Host) -> Result<i32> {
        let grace: Duration = duration::parse(&self.grace).context("--grace")?;
        let is_json = self.output.is_json()?;
        let leftovers = lifecycle::gc(host, &GcOptions { dry_run: self.dry_run, grace })?;
        print(&if is_json { json::compact(&leftovers)? + "\n" } else { leftovers.iter().map(line).collect() })?;
        Ok(i32::from(leftovers.iter().any(|leftover| leftover.outcome == Outcome::Kept)))
    }
}

fn line(leftover: &Leftover) -> String {
    let Leftover { id, reason, outcome, error, .. } = leftover;
    let error = error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
    format!("{id}: {outcome}: {reason}{error}\n")
}
