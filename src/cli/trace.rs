//! `ocirt trace`.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::Args;

use super::json;
use super::output::{TextOrJson, print};
use crate::error::{About, io_error};
use crate::trace::{read, svg, text};

/// Show where the time went, from a file that --trace has written
///
/// Every command is shown with what it did, the longest first, what that was about, and when: the command's begin is at
/// the left end of the bar. Waits, in which another process works, come last. If there are more than 8 commands, the slowest
/// of each name is shown. Then the median, the 90th percentile and the longest of each follow.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct Trace {
    /// Draw a picture instead (SVG)
    #[arg(long)]
    svg: bool,

    /// Only commands that were about this container
    #[arg(long, value_name = "CONTAINER_ID", allow_hyphen_values = true)]
    container: Option<String>,

    #[command(flatten)]
    output: TextOrJson,

    /// The file; - is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

impl Trace {
    pub fn execute(&self) -> Result<()> {
        self.show().context("trace")
    }

    fn show(&self) -> Result<()> {
        let is_json = self.output.is_json()?;
        ensure!(!(is_json && self.svg), "--svg: a picture is not JSON");
        let mut recording = read::read(open(&self.file)?)?;
        if let Some(container) = &self.container {
            recording.runs.retain(|run| run.container.as_ref() == Some(container));
        }
        ensure!(!recording.runs.is_empty(), "{}: no command of ocirt is recorded there", self.file.display());
        print(&match (is_json, self.svg) {
            (true, _) => json::compact(&recording.runs)? + "\n",
            (false, true) => svg::draw(&recording),
            (false, false) => text::draw(&recording),
        })
    }
}

fn open(path: &Path) -> Result<Box<dyn BufRead>> {
    if path == Path::new("-") {
        return Ok(Box::new(std::io::stdin().lock()));
    }
    let file = File::open(path).map_err(|error| io_error("open", &error)).context(About::file(path))?;
    Ok(Box::new(BufReader::new(file)))
}
