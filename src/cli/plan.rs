//! `ocirt plan`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;

use super::create::CreateFlags;
use super::output::print;
use super::select;
use crate::lifecycle::{self, Host};

/// Print what create would do, step by step
///
/// Nothing is created. First comes what the runtime would do, each line with `runtime:` before it: cgroups with the values
/// of their files, new namespaces, hooks. Then what the container's first process would carry out, in this order.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct Plan {
    #[command(flatten)]
    options: CreateFlags,

    /// Name of the container
    #[arg(
        long,
        value_name = "CONTAINER_ID",
        default_value = "plan",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    pub id: String,

    /// Path of the bundle directory, the same as --bundle
    #[arg(value_name = "BUNDLE")]
    directory: Option<PathBuf>,
}

impl Plan {
    pub fn execute(self, host: &Host) -> Result<()> {
        let id = select::id("plan", &self.id)?;
        let mut options = self.options.supervised().context("plan")?;
        options.bundle = self.directory.unwrap_or(options.bundle);
        print(&lifecycle::plan(host, &id, &options).context("plan")?)
    }
}
