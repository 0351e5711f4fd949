//! `ocirt resume`.

use anyhow::{Context, Result};
use clap::Args;

use super::select;
use crate::lifecycle::{self, Host};

/// Let the processes of a paused container go on
#[derive(Args, Debug)]
pub struct Resume {
    /// Name of the container
    #[arg(value_name = "CONTAINER_ID")]
    pub id: String,
}

impl Resume {
    pub fn execute(self, host: &Host) -> Result<()> {
        let id = select::id("resume", &self.id)?;
        lifecycle::resume(host, &id).with_context(|| format!("resume {id}"))
    }
}
