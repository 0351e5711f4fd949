//! Holding a cgroup's processes still from outside, while some of the runtime's own are in it.

use std::ffi::CString;
use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use super::deadline::Deadline;
use super::host::file;
use super::host::layout::{Layout, ROOT};
use super::paths::Paths;
use crate::sys::cgroup;

/// How long to wait for processes that a tracer has just let go.
const FREEZE_WITHIN: Duration = Duration::from_secs(10);

impl Paths {
    /// Whether the processes can be frozen.
    pub fn has_freezer(&self) -> bool {
        self.directory_of("freezer").is_some()
    }

    /// Asks all to freeze, without waiting for those that a tracer holds, but for `keeper`, a process of the runtime's: it
    /// goes to the runtime's cgroup before.
    pub fn begin_freeze(&self, keeper: i32) -> Result<()> {
        let directory = self.directory_of("freezer").context("cgroup controller freezer is not available")?;
        let own = fs::read_to_string("/proc/self/cgroup").context("/proc/self/cgroup")?;
        let own = runtimes(&own, self.layout, directory).context("/proc/self/cgroup: no hierarchy of the freezer")?;
        put(&format!("{own}/cgroup.procs"), &keeper.to_string())?;
        match self.layout {
            Layout::V2 => put(&format!("{directory}/cgroup.freeze"), "1"),
            _ => put(&format!("{directory}/freezer.state"), "FROZEN"),
        }
    }

    /// Waits until all have frozen that were asked to. Those that do not in time are not let go for that.
    pub fn end_freeze(&self) -> Result<()> {
        let deadline = Deadline::after(FREEZE_WITHIN);
        if self.layout == Layout::V2 { self.freeze_v2(&deadline) } else { self.freeze_v1(&deadline) }
    }
}

/// Where the runtime is in the hierarchy that `directory` is of; `text` is /proc/self/cgroup.
fn runtimes(text: &str, layout: Layout, directory: &str) -> Option<String> {
    let line = text.lines().find_map(|line| {
        let (controllers, path) = line.split_once(':')?.1.split_once(':')?;
        let is_freezers = match layout {
            Layout::V2 => controllers.is_empty(),
            _ => controllers.split(',').any(|name| name == "freezer"),
        };
        is_freezers.then_some(path.trim_end_matches('/'))
    })?;
    match layout {
        Layout::V2 => Some(format!("{ROOT}{line}")),
        _ => {
            let hierarchy = directory.strip_prefix(ROOT)?.trim_start_matches('/').split('/').next()?;
            Some(format!("{ROOT}/{hierarchy}{line}"))
        }
    }
}

fn put(path: &str, value: &str) -> Result<()> {
    let written = file::write(cgroup::here(), &CString::new(path)?, value);
    written.map_err(|error| anyhow!("write {value:?} to {path}: {}", file::reason(error.errno)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_runtimes_own_cgroup_is_in_the_freezers_hierarchy() {
        let text = "9:name=systemd:/s\n6:cpu,freezer:/f\n0::/u\n";
        let v1 = runtimes(text, Layout::V1, "/sys/fs/cgroup/cpu,freezer/x/y");
        assert_eq!(v1.as_deref(), Some("/sys/fs/cgroup/cpu,freezer/f"));
        assert_eq!(runtimes(text, Layout::V2, "/sys/fs/cgroup/x").as_deref(), Some("/sys/fs/cgroup/u"));
        assert_eq!(runtimes("6:freezer:/\n", Layout::V1, "/sys/fs/cgroup/f/x").as_deref(), Some("/sys/fs/cgroup/f"));
        assert_eq!(runtimes("6:cpu:/\n", Layout::V1, "/sys/fs/cgroup/f/x"), None);
    }
}
