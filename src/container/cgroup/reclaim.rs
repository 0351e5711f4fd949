//! Taking back the memory of a cgroup: `memory.reclaim` (cgroup v2, Linux 5.19).

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use serde::Serialize;

use super::deadline::Deadline;
use super::freezer::read;
use super::host::file::path;
use super::host::layout::Layout;
use super::paths::Paths;
use crate::sys::{Errno, cgroup};

/// Bytes asked for at once: a write returns when they are there, and the time is looked at between two.
const PIECE: u64 = 4 << 20;

/// A cgroup whose memory can be taken back.
pub struct Reclaimer {
    directory: String,
    reclaim: OwnedFd,
}

/// What was taken back, in bytes.
#[derive(Serialize, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Reclaimed {
    /// What the container used before, swap not counted (memory.current).
    pub before: u64,
    pub after: u64,
    /// How much of it went to swap (memory.swap.current); absent where the kernel counts no swap.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swapped: Option<u64>,
    pub end: End,
}

/// Why no more was taken.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// As much as was asked for.
    Done,
    /// The kernel found nothing more.
    Exhausted,
    Timeout,
}

impl Paths {
    /// An error where the kernel does not have it, before anything is changed.
    pub fn reclaimer(&self) -> Result<Reclaimer> {
        if self.layout != Layout::V2 {
            bail!("memory.reclaim: only cgroup v2 has it");
        }
        let directory =
            self.directory_of("memory").ok_or_else(|| anyhow!("cgroup controller memory is not available"))?;
        let name = path(&format!("{directory}/memory.reclaim"))?;
        match cgroup::open_write(cgroup::here(), &name) {
            Ok(reclaim) => Ok(Reclaimer { directory: directory.to_owned(), reclaim }),
            Err(error) if error.errno == Errno::ENOENT => {
                bail!("{directory}/memory.reclaim does not exist: it needs Linux 5.19 and the memory controller")
            }
            Err(error) => Err(error).with_context(|| format!("{directory}/memory.reclaim")),
        }
    }
}

impl Reclaimer {
    /// Takes back `wanted` bytes, or as much as the kernel finds within the time.
    pub fn reclaim(&self, wanted: Option<u64>, within: Duration) -> Result<Reclaimed> {
        let (before, swap) = (self.number("memory.current")?, self.number("memory.swap.current").ok());
        let end = self.reclaim_until(wanted, &Deadline::after(within))?;
        let swapped = swap.and_then(|swap| self.number("memory.swap.current").ok()?.checked_sub(swap));
        Ok(Reclaimed { before, after: self.number("memory.current")?, swapped, end })
    }

    fn reclaim_until(&self, wanted: Option<u64>, deadline: &Deadline) -> Result<End> {
        let mut left = wanted.unwrap_or(u64::MAX);
        while left > 0 {
            if deadline.left().is_zero() {
                return Ok(End::Timeout);
            }
            let piece = left.min(PIECE);
            match cgroup::write(self.reclaim.as_fd(), piece.to_string().as_bytes()) {
                Ok(()) => left -= piece,
                Err(error) if error.errno == Errno::EAGAIN => return Ok(End::Exhausted),
                Err(error) => return Err(error).with_context(|| format!("{}/memory.reclaim", self.directory)),
            }
        }
        Ok(End::Done)
    }

    fn number(&self, name: &str) -> Result<u64> {
        let text = read(&self.directory, name).with_context(|| format!("{}/{name}", self.directory))?;
        text.trim().parse().map_err(|_| anyhow!("{}/{name}: {text:?}", self.directory))
    }
}
