//! What a container uses: its statistics, read by [`v1`] or [`v2`] into what `events` shows ([`usage`]), and being told when
//! it runs out of memory ([`oom`]).

mod files;
mod oom;
mod usage;
mod v1;
mod v2;

use anyhow::Result;

use super::host::layout::Layout;
use super::paths::Paths;
pub use usage::Stats;

impl Stats {
    /// What the kernel says now. What it does not have is zero.
    pub fn read(paths: &Paths) -> Result<Self> {
        if paths.layout == Layout::V2 { v2::read(paths) } else { v1::read(paths) }
    }
}
