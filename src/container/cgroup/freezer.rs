//! Stopping all processes of a container where they are, and letting them go on. To freeze the container's own cgroup
//! freezes those below it too, on v1 and v2.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};

use super::deadline::Deadline;
use super::host::file::{self, path};
use super::host::layout::Layout;
use super::host::tree;
use super::paths::Paths;
use crate::sys::{self, SysError, cgroup};

/// How long to wait for a freezer; runc's figure for v2.
const FREEZE_WITHIN: Duration = Duration::from_secs(10);

impl Paths {
    /// Stops every process, and waits until all have. A cgroup that does not freeze in time is thawed again.
    pub fn freeze(&self) -> Result<()> {
        self.freeze_within(FREEZE_WITHIN)
    }

    pub(super) fn freeze_within(&self, within: Duration) -> Result<()> {
        // A runtime that is called inside the container would wait for itself.
        if let Some(directory) = self.freezer().filter(|_| self.may_hold_us())
            && tree::members(directory)?.contains(&(std::process::id() as i32))
        {
            bail!("the runtime itself is in the cgroup, and cannot freeze it");
        }
        let deadline = Deadline::after(within);
        let frozen = if self.layout == Layout::V2 { self.freeze_v2(&deadline) } else { self.freeze_v1(&deadline) };
        if frozen.is_err() {
            // The first error is the one to tell.
            let _ = self.thaw();
        }
        frozen
    }

    /// Whether this process may be in the cgroup, which takes a look into all those below it; false where its own path in
    /// every hierarchy says that it is elsewhere.
    fn may_hold_us(&self) -> bool {
        let Ok(text) = file::read_bytes(cgroup::here(), c"/proc/self/cgroup") else { return true };
        let mut lines =
            text.split(|byte| *byte == b'\n').filter_map(|line| line.splitn(3, |byte| *byte == b':').nth(2));
        lines.any(|own| self.directories.values().any(|directory| may_be_below(own, directory.as_bytes())))
    }

    /// Does `work`, while every process stands still if `needed`, and can; what was frozen before stays so.
    pub(super) fn standing_still<T>(&self, needed: bool, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let is_frozen = needed && !self.is_frozen()? && self.freeze().is_ok();
        let done = work();
        if is_frozen {
            self.thaw()?;
        }
        done
    }

    /// Lets every process go on, but for those that the container froze itself in a cgroup below its own.
    pub fn thaw(&self) -> Result<()> {
        let (name, value) =
            if self.layout == Layout::V2 { ("cgroup.freeze", "0") } else { ("freezer.state", "THAWED") };
        let Some(directory) = self.freezer() else { return Ok(()) };
        match write(directory, name, value) {
            Err(error) if !file::is_gone(&error) => Err(refused(directory, name, value, &error)),
            _ => Ok(()),
        }
    }

    /// Lets processes die that were sent SIGKILL: on v1 those that are frozen do not, be it that the container froze them in
    /// a cgroup below its own, or that somebody paused it after the last look. On v2 they die where they are, but a pid
    /// namespace ends only when its other processes have been reaped, which frozen ones may keep waiting.
    pub fn thaw_killed(&self) -> Result<()> {
        if self.layout == Layout::V2 {
            return self.thaw();
        }
        let Some(directory) = self.freezer() else { return Ok(()) };
        let mut is_below = false;
        // The container's own last: until then nobody in it can freeze anything again.
        let below = tree::for_each(directory, |cgroup| {
            if std::mem::replace(&mut is_below, true)
                && file::read(cgroup, c"freezer.self_freezing").is_ok_and(|it| it.trim() == "1")
            {
                file::write(cgroup, c"freezer.state", "THAWED")?;
            }
            Ok(())
        });
        // Also after an error below. `THAWED` changes nothing where nobody is frozen.
        below.and(self.thaw())
    }

    /// Whether the cgroup itself was told to freeze; that of an ancestor does not count.
    pub fn is_frozen(&self) -> Result<bool> {
        let name = if self.layout == Layout::V2 { "cgroup.freeze" } else { "freezer.self_freezing" };
        let Some(directory) = self.freezer() else { return Ok(false) };
        match read(directory, name) {
            Ok(text) => Ok(text.trim() == "1"),
            Err(error) if file::is_gone(&error) => Ok(false),
            Err(error) => Err(anyhow!("{directory}/{name}: {}", file::reason(error.errno))),
        }
    }

    fn freezer(&self) -> Option<&str> {
        self.directory_of("freezer")
    }

    /// v1 stays in FREEZING while processes fork, and gets on only when it is told again.
    pub(super) fn freeze_v1(&self, deadline: &Deadline) -> Result<()> {
        let directory = self.freezer().ok_or_else(|| anyhow!("cgroup controller freezer is not available"))?;
        loop {
            write(directory, "freezer.state", "FROZEN")
                .map_err(|error| refused(directory, "freezer.state", "FROZEN", &error))?;
            let state = read(directory, "freezer.state").with_context(|| directory.to_owned())?;
            if state.trim() == "FROZEN" {
                return Ok(());
            }
            if deadline.pause().is_none() {
                bail!("{directory} does not freeze: {} processes still run after {deadline}", self.pids()?.len());
            }
        }
    }

    pub(super) fn freeze_v2(&self, deadline: &Deadline) -> Result<()> {
        let directory = self.freezer().ok_or_else(|| anyhow!("the container has no cgroup"))?;
        write(directory, "cgroup.freeze", "1").map_err(|error| refused(directory, "cgroup.freeze", "1", &error))?;
        if wait_for(directory, "frozen 1", deadline)? {
            return Ok(());
        }
        bail!("{directory} does not freeze within {deadline}")
    }
}

/// Whether `own`, a path in a hierarchy, may be that of `directory` or below, wherever the hierarchy is mounted.
fn may_be_below(own: &[u8], directory: &[u8]) -> bool {
    let ends = own.iter().enumerate().skip(1).filter(|(_, byte)| **byte == b'/').map(|(end, _)| end);
    let mut ancestors = ends.chain([own.len()]).filter_map(|end| own.get(..end));
    ancestors.any(|ancestor| ancestor.len() > 1 && directory.ends_with(ancestor))
}

/// Waits until cgroup.events has this line; false when the deadline comes first.
fn wait_for(directory: &str, line: &str, deadline: &Deadline) -> Result<bool> {
    let name = CString::new(format!("{directory}/cgroup.events"))?;
    loop {
        // Opened anew each time: the kernel tells a change since the last read of the open file.
        let events = cgroup::open_read(cgroup::here(), &name).with_context(|| directory.to_owned())?;
        let mut text = [0; 256];
        let length = cgroup::read(events.as_fd(), &mut text).with_context(|| directory.to_owned())?;
        let text = String::from_utf8_lossy(text.get(..length).unwrap_or_default()).into_owned();
        if text.lines().any(|found| found == line) {
            return Ok(true);
        }
        let left = deadline.left();
        if left.is_zero() || !cgroup::wait_for_change(events.as_fd(), left)? {
            return Ok(false);
        }
    }
}

pub(super) fn read(directory: &str, name: &str) -> sys::Result<String> {
    file::read(cgroup::here(), &path(&format!("{directory}/{name}"))?)
}

pub(super) fn write(directory: &str, name: &str, value: &str) -> sys::Result<()> {
    file::write(cgroup::here(), &path(&format!("{directory}/{name}"))?, value)
}

fn refused(directory: &str, name: &str, value: &str, error: &SysError) -> anyhow::Error {
    anyhow!("write {value:?} to {directory}/{name}: {}", file::reason(error.errno))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_may_be_below_a_directory_of_its_paths_end() {
        let below = |own: &[u8], directory: &str| may_be_below(own, directory.as_bytes());
        assert!(below(b"/a/b", "/sys/fs/cgroup/freezer/a/b") && below(b"/a/b/\xff/c", "/sys/fs/cgroup/freezer/a/b"));
        assert!(below(b"/a", "/sys/fs/cgroup/a") && !below(b"/", "/sys/fs/cgroup/a"));
        assert!(!below(b"/a", "/sys/fs/cgroup/a/b") && !below(b"/a/bc", "/sys/fs/cgroup/a/b"));
    }
}
