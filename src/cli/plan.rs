//! `ocirt plan`.

use std::path::PathBuf;

use anyhow::{Context, Result};
use clap::Args;
use serde::Serialize;

use super::create::CreateFlags;
use super::output::print;
use super::{json, output, select};
use crate::container::lint::{Finding, Severity};
use crate::lifecycle::{self, CheckOptions, Deed, Host, Id};

/// Print what create would do, step by step
///
/// Nothing is created. First comes what the runtime would do, each line with `runtime:` before it: cgroups with the values
/// of their files, new namespaces, hooks. Then what the container's first process would carry out, in this order. If
/// something of it would fail, as far as `ocirt check` can tell, that is a warning, and the exit status is 3.
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

    /// Format of the output: text or json [default: text]
    #[arg(long, value_name = "FORMAT", default_value = "text", hide_default_value = true, allow_hyphen_values = true)]
    format: String,

    /// Path of the bundle directory, the same as --bundle
    #[arg(value_name = "BUNDLE")]
    directory: Option<PathBuf>,
}

/// The exit status of a plan that would fail.
const FAILS: i32 = 3;

/// What `--format json` prints.
#[derive(Serialize)]
struct Report<'a> {
    runtime: &'a [Deed],
    init: &'a [Deed],
    /// What would fail.
    findings: &'a [Finding],
}

impl Plan {
    pub fn execute(self, host: &Host) -> Result<i32> {
        let id = select::id("plan", &self.id)?;
        self.plan(host, &id).context("plan")
    }

    fn plan(self, host: &Host, id: &Id) -> Result<i32> {
        let is_json = output::is_json(&self.format)?;
        let mut options = self.options.supervised()?;
        options.bundle = self.directory.unwrap_or(options.bundle);
        let outline = lifecycle::plan(host, id, &options)?;
        let mut findings = lifecycle::check(host, &CheckOptions { author: None, create: options })?;
        findings.retain(|finding| finding.severity == Severity::Error);
        if is_json {
            let report = Report { runtime: &outline.runtime, init: &outline.init, findings: &findings };
            print(&(json::indented(&report, "  ")? + "\n"))?;
        } else {
            print(&outline.to_string())?;
            findings.iter().for_each(|Finding { field, why, .. }| host.log.warn(&format!("{field}: {why}")));
        }
        Ok(if findings.is_empty() { 0 } else { FAILS })
    }
}
