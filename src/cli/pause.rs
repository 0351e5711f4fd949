//! `ocirt pause`.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Args;
use serde::Serialize;

use super::output::{TextOrJson, print};
use super::{bytes, duration, json, select};
use crate::lifecycle::{self, End, Host, Id, Reclaim, Reclaimed};

/// Stop all processes of a container where they are
#[derive(Args, Debug)]
#[command(mut_arg("format", |format| format.requires("reclaim")))]
pub struct Pause {
    /// Give memory of the paused container back to the host, as much as possible or BYTES (512k, 1.5g), and say how much
    /// it was: page cache is dropped, all else goes to swap, if there is any. Needs cgroup v2 and Linux 5.19
    #[arg(long, value_name = "BYTES", num_args = 0..=1, require_equals = true)]
    reclaim: Option<Option<String>>,

    /// How long to reclaim at most: 5s, 500ms, 1m30s [default: 30s]
    #[arg(
        long,
        value_name = "DURATION",
        default_value = "30s",
        hide_default_value = true,
        allow_hyphen_values = true,
        requires = "reclaim"
    )]
    reclaim_timeout: String,

    #[command(flatten)]
    output: TextOrJson,

    /// Name of the container
    #[arg(value_name = "CONTAINER_ID")]
    pub id: String,
}

/// The output as JSON.
#[derive(Serialize)]
struct Paused<'a> {
    id: &'a str,
    #[serde(flatten)]
    reclaimed: Reclaimed,
}

impl Pause {
    pub fn execute(self, host: &Host) -> Result<()> {
        let id = select::id("pause", &self.id)?;
        self.pause(host, &id).with_context(|| format!("pause {id}"))
    }

    fn pause(&self, host: &Host, id: &Id) -> Result<()> {
        let is_json = self.output.is_json()?;
        let reclaim = self.reclaim.as_ref().map(|bytes| self.wanted(bytes.as_deref())).transpose()?;
        let Some(reclaimed) = lifecycle::pause(host, id, reclaim)? else { return Ok(()) };
        print(&if is_json { json::compact(&Paused { id: id.as_str(), reclaimed })? + "\n" } else { line(&reclaimed) })
    }

    fn wanted(&self, bytes: Option<&str>) -> Result<Reclaim> {
        let within: Duration = duration::parse(&self.reclaim_timeout).context("--reclaim-timeout")?;
        let bytes = bytes.map(bytes::parse).transpose().context("--reclaim")?;
        ensure!(bytes != Some(0), "--reclaim: 0 bytes is nothing to reclaim");
        Ok(Reclaim { bytes: bytes.map(i64::unsigned_abs), within })
    }
}

fn line(reclaimed: &Reclaimed) -> String {
    let Reclaimed { before, after, swapped, end } = reclaimed;
    let swapped = swapped.filter(|bytes| *bytes > 0).map(|bytes| format!(", {bytes} of them to swap"));
    let end = match end {
        End::Done => "",
        End::Exhausted => "; the kernel found no more",
        End::Timeout => "; the time is over",
    };
    let taken = before.saturating_sub(*after);
    format!("reclaimed {taken} of {before} bytes{}{end}\n", swapped.unwrap_or_default())
}
