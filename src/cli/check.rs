//! `ocirt check`.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::Args;
use serde::Serialize;

use super::json;
use super::output::{TextOrJson, print};
use crate::container::lint::{Author, Finding, Severity};
use crate::lifecycle::{self, CheckOptions, CreateOptions, Host};

/// The exit status of a check that has found something.
const FOUND: i32 = 3;

/// Say what create would refuse, and what will surprise
///
/// Reads a bundle, or the process.json of an exec, and tells everything that is wrong with it, not only the first: what
/// `create` would refuse, files and programs that are not there, misspelt keys, and what a configuration allows or leaves
/// out that its author may not have meant. Nothing is changed. The exit status is 0 if nothing is found, 3 if something is,
/// and 1 if it could not be looked at.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct Check {
    /// Path of the bundle directory
    #[arg(short, long, value_name = "DIR", allow_hyphen_values = true)]
    bundle: Option<PathBuf>,

    /// Configuration to use in place of the bundle's config.json
    #[arg(long, value_name = "FILE", requires = "bundle", allow_hyphen_values = true)]
    config: Option<PathBuf>,

    /// A process.json, as exec takes it, in place of a bundle
    #[arg(long, value_name = "FILE", conflicts_with = "bundle", allow_hyphen_values = true)]
    process: Option<PathBuf>,

    /// Who wrote it, docker, cri or podman: what that engine always does is not told
    #[arg(long = "as", value_name = "ENGINE", allow_hyphen_values = true)]
    author: Option<String>,

    #[command(flatten)]
    output: TextOrJson,
}

/// What `--format json` prints.
#[derive(Serialize)]
struct Report<'a> {
    findings: &'a [Finding],
}

impl Check {
    pub fn execute(self, host: &Host) -> Result<i32> {
        self.check(host).context("check")
    }

    fn check(self, host: &Host) -> Result<i32> {
        let is_json = self.output.is_json()?;
        let author = self.author.as_deref().map(author).transpose()?;
        let findings = match (self.bundle, self.process) {
            (_, Some(process)) => lifecycle::check_process(&process, author)?,
            (Some(bundle), None) => {
                let create = CreateOptions { bundle, config: self.config, ..CreateOptions::default() };
                lifecycle::check(host, &CheckOptions { author, create })?
            }
            (None, None) => bail!("--bundle or --process is missing"),
        };
        print(&match is_json {
            true => json::indented(&Report { findings: &findings }, "  ")? + "\n",
            false => findings.iter().map(lines).collect(),
        })?;
        Ok(if findings.is_empty() { 0 } else { FOUND })
    }
}

fn author(name: &str) -> Result<Author> {
    Author::parse(name).with_context(|| format!("--as: {name:?} is none of docker, cri, podman"))
}

/// One finding: how bad, where and what; and below it, what mends it.
fn lines(finding: &Finding) -> String {
    let Finding { code, severity, field, why, remedy } = finding;
    let severity = match severity {
        Severity::Error => "error",
        Severity::Warning => "warning",
    };
    let place = if field.is_empty() { String::new() } else { format!("{field}: ") };
    format!("{severity:<7} {place}{why} [{}]\n        {remedy}\n", code.text())
}
