//! `ocirt start`.

use anyhow::{Context, Result};
use clap::Args;

use super::select;
use crate::lifecycle::{self, Host};

/// Start the process of a created container
#[derive(Args, Debug)]
pub struct Start {
    /// Name of the container
    #[arg(value_name = "CONTAINER_ID")]
    pub id: String,
}

impl Start {
    pub fn execute(self, host: &Host) -> Result<()> {
        let id = select::id("start", &self.id)?;
        lifecycle::start(host, &id).with_context(|| format!("start {id}"))
    }
}
