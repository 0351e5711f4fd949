//! `ocirt mounts`, which is crun's.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use super::select;
use super::update;
use crate::lifecycle::{self, Host};

/// Add mounts to a container that was created or runs, or remove them
///
/// FILE holds an array as mounts in config.json, [{"destination": "/mnt", "source": "/srv", "options": ["rbind", "ro"]}].
/// All of them are added, or none. To remove them again, the destinations are enough.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct Mounts {
    /// What to do
    #[arg(value_enum, value_name = "add|remove")]
    action: Action,

    /// Name of the container
    #[arg(value_name = "CONTAINER_ID")]
    pub id: String,

    /// File with the mounts as JSON, or - for standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

#[derive(ValueEnum, Clone, Copy, Debug)]
enum Action {
    Add,
    Remove,
}

impl Mounts {
    pub fn execute(self, host: &Host) -> Result<()> {
        let id = select::id("mounts", &self.id)?;
        let name = match self.action {
            Action::Add => "mounts add",
            Action::Remove => "mounts remove",
        };
        // Before the file is read, which may be standard input: this replaces the process.
        lifecycle::protect()?;
        let text = update::read(&self.file).with_context(|| format!("{name} {id}: {}", self.file.display()))?;
        let done = match self.action {
            Action::Add => lifecycle::mounts::add(host, &id, &text),
            Action::Remove => lifecycle::mounts::remove(host, &id, &text),
        };
        done.with_context(|| format!("{name} {id}"))
    }
}
