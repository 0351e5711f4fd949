//! Being told when a container runs out of memory.

use std::ffi::CString;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};

use super::files::{ControllerFiles, value_of};
use crate::container::cgroup::host::file;
use crate::container::cgroup::host::layout::Layout;
use crate::container::cgroup::paths::Paths;
use crate::sys::{cgroup, notify};

/// A descriptor that becomes readable when there may be news, and how to tell whether there are.
#[derive(Debug)]
pub struct OomWatch {
    notice: OwnedFd,
    directory: String,
    source: OomSource,
}

#[derive(Debug)]
enum OomSource {
    /// The kernel adds to an eventfd that was handed to cgroup.event_control (cgroup-v1/memory.rst, "OOM Control"), also
    /// when the cgroup goes away.
    V1,
    /// memory.events counts, and can be watched. The count that was told last.
    V2(u64),
}

impl Paths {
    /// Starts to watch; nothing without a memory controller.
    pub fn watch_oom(&self) -> Result<Option<OomWatch>> {
        let Some(directory) = self.directory_of("memory").map(str::to_owned) else { return Ok(None) };
        let path = |name: &str| CString::new(format!("{directory}/{name}"));
        if self.layout == Layout::V2 {
            if !cgroup::exists(cgroup::here(), &path("memory.events")?) {
                return Ok(None);
            }
            let notice = notify::on_change(&path("memory.events")?).context("memory.events")?;
            let source = OomSource::V2(kills(&directory)?);
            return Ok(Some(OomWatch { notice, directory, source }));
        }
        let notice = notify::eventfd()?;
        let control = cgroup::open_read(cgroup::here(), &path("memory.oom_control")?).context("memory.oom_control")?;
        let line = format!("{} {}", notice.as_raw_fd(), control.as_raw_fd());
        file::write(cgroup::here(), &path("cgroup.event_control")?, &line).context("cgroup.event_control")?;
        Ok(Some(OomWatch { notice, directory, source: OomSource::V1 }))
    }
}

impl OomWatch {
    /// Whether memory ran out since the last time.
    pub fn take(&mut self) -> Result<bool> {
        let noticed = notify::drain(self.notice.as_fd())?;
        match &mut self.source {
            OomSource::V1 => {
                let path = CString::new(format!("{}/memory.oom_control", self.directory))?;
                Ok(noticed && cgroup::exists(cgroup::here(), &path))
            }
            // Counted even without a notice: the kernel delays those that follow closely.
            OomSource::V2(told) => {
                let before = std::mem::replace(told, (*told).max(kills(&self.directory)?));
                Ok(*told > before)
            }
        }
    }
}

impl AsFd for OomWatch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.notice.as_fd()
    }
}

/// How many processes were killed for want of memory; zero once the cgroup is gone.
fn kills(directory: &str) -> Result<u64> {
    Ok(value_of(&ControllerFiles(Some(directory)).text("memory.events")?, "oom_kill"))
}
