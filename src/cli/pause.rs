//! `ocirt pause`.

use anyhow::{Context, Result};
use clap::Args;

use super::select;
use crate::lifecycle::{self, Host};

/// Stop all processes of a container where they are
#[derive(Args, Debug)]
pub struct Pause {
    /// Name of the container
    #[arg(value_name = "CONTAINER_ID")]
    id: String,
}

impl Pause {
    pub fn execute(self, host: &Host) -> Result<()> {
        let id = select::id("pause", &self.id)?;
        lifecycle::pause(host, &id).with_context(|| format!("pause {id}"))
    }
}
