//! `ocirt delete`.

use anyhow::Result;
use clap::Args;

use super::select;
use crate::lifecycle::{self, Host};

/// Delete a container that has stopped
#[derive(Args, Debug)]
pub struct Delete {
    /// Kill the container first if it runs; a container that does not exist is no error
    #[arg(short, long)]
    force: bool,

    /// CONTAINER_ID is a regular expression; all containers that match are deleted
    #[arg(short, long)]
    regex: bool,

    /// Name of the container
    #[arg(value_name = "CONTAINER_ID")]
    pub id: String,
}

impl Delete {
    pub fn execute(self, host: &Host) -> Result<()> {
        select::each("delete", host, &self.id, self.regex, |id| lifecycle::delete(host, id, self.force))
    }
}
