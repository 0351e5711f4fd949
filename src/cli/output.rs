//! What a command says at its end: text, or an error, and the exit status.

use std::io::Write;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;

use super::json;
use crate::error::io_error;
use crate::lifecycle;
use crate::log::Log;

pub fn finish(log: &Log, phase: &str, result: Result<()>) -> u8 {
    result.map_or_else(|error| fail(log, phase, &error), |()| 0)
}

/// The one place that prints an error.
pub fn fail(log: &Log, phase: &str, error: &anyhow::Error) -> u8 {
    log.error(phase, lifecycle::code(error), error);
    1
}

/// The exit status of a command that failed: that of `exec` is told from its process's, as runc has it, and that of `wait`.
pub fn status_of_failure(command: &str) -> u8 {
    if matches!(command, "exec" | "wait") { 255 } else { 1 }
}

/// What `--format` asks for: the table, or `items` as JSON.
pub fn formatted<T: Serialize>(format: &str, items: &[T], table: impl FnOnce() -> Result<String>) -> Result<String> {
    match format {
        "table" => table(),
        // Go writes a list that never was made as null, and engines have learned it.
        "json" if items.is_empty() => Ok("null\n".to_owned()),
        "json" => Ok(json::compact(items)? + "\n"),
        _ => bail!("invalid format option"),
    }
}

/// `--format` of a command that only ocirt has.
#[derive(Args, Debug)]
pub struct TextOrJson {
    /// Format of the output: text or json [default: text]
    #[arg(
        short,
        long,
        value_name = "FORMAT",
        default_value = "text",
        hide_default_value = true,
        allow_hyphen_values = true
    )]
    format: String,
}

impl TextOrJson {
    /// Asked before the command does anything.
    pub fn is_json(&self) -> Result<bool> {
        is_json(&self.format)
    }
}

/// The same of a command to which `-f` is something else.
pub fn is_json(format: &str) -> Result<bool> {
    match format {
        "text" => Ok(false),
        "json" => Ok(true),
        _ => bail!("invalid format option"),
    }
}

/// Writes to stdout; a reader that went away is an error, not a panic.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| io_error("write", &error)).context("stdout")
}
