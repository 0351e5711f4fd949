//! Writing other limits into a cgroup that is in use, all or nothing: what a file or a property of systemd had before is
//! read before it is changed, and is back if a later one fails.

use std::collections::BTreeMap;
use std::ffi::CString;

use anyhow::{Result, bail};

use super::devices::{self, OldDevices};
use super::prepared::{Devices, LimitUpdate};
use crate::container::cgroup::host::file;
use crate::container::cgroup::host::layout::{Layout, ROOT};
use crate::container::cgroup::paths::Paths;
use crate::container::cgroup::systemd::limits::{NewLimits, OldLimits};
use crate::container::cgroup::wanted::resources::{Missing, Write, has_word, refused};
use crate::error::field;
use crate::sys::{self, Errno, SysError, cgroup};

/// Limits that were changed. Dropping it brings back what was there before, as far as the kernel tells what that was.
#[must_use]
#[derive(Debug, Default)]
pub struct Changed {
    /// In the order in which they were written.
    old: Vec<Old>,
    unit: Option<OldLimits>,
    devices: Option<OldDevices>,
}

/// A control file, and the value that brings its old content back.
#[derive(Debug)]
struct Old {
    path: CString,
    value: String,
}

impl LimitUpdate {
    /// Writes everything. What was there before is back again once the returned value is dropped, unless it is kept.
    pub fn apply(&self, paths: &Paths) -> Result<Changed> {
        Changed::make(self, paths)
    }
}

impl Changed {
    fn make(update: &LimitUpdate, paths: &Paths) -> Result<Self> {
        if let (Some(limit), Layout::V2) = (update.check_before_update, paths.layout) {
            check_usage(paths, limit)?;
        }
        if paths.layout == Layout::V2 {
            enable_controllers(update);
        }
        let mut changed = Self::default();
        // What is invalid as long as another value is old comes again at the end: a limit of memory above the old one
        // of memory and swap, a period that makes the old quota too large.
        let mut again = Vec::new();
        for (directory, write) in &update.writes {
            match changed.write(directory, write) {
                Err(failure) if failure.error.errno == Errno::EINVAL => again.push((directory, write)),
                result => result.map_err(|failure| failure.word(directory, write))?,
            }
        }
        for (directory, write) in again {
            match changed.write(directory, write) {
                // What is invalid beside a value that is systemd's to change: a weight, as long as the cgroup is idle. It comes
                // once more when systemd has.
                Err(failure) if failure.error.errno == Errno::EINVAL && paths.unit.is_some() => {}
                result => result.map_err(|failure| failure.word(directory, write))?,
            }
        }
        // systemd puts device rules of its own into force, which can be stricter, until ours follow.
        let has_two = update.devices.is_some() && paths.unit.is_some();
        paths.standing_still(has_two, || changed.make_for_systemd(update, paths))?;
        Ok(changed)
    }

    /// What systemd has a property for, where the cgroup is a unit's, and the device rules.
    fn make_for_systemd(&mut self, update: &LimitUpdate, paths: &Paths) -> Result<()> {
        if let Some(unit) = &paths.unit {
            let writes: Vec<Write> = update.writes.iter().map(|(_, write)| write.clone()).collect();
            let limits = NewLimits::of(&writes, update.devices.as_ref().map(Devices::rules), paths.layout);
            // A call that fails may have come through.
            self.unit = unit.limits(&limits)?;
            if self.unit.is_some() {
                unit.set_limits(&limits)?;
            }
            // systemd rounds, and has done so by now.
            for (directory, write) in &update.writes {
                self.write(directory, write).map_err(|failure| failure.word(directory, write))?;
            }
        }
        if let Some(rules) = &update.devices {
            self.devices = Some(devices::make(rules, paths)?);
        }
        Ok(())
    }

    /// The new limits stay.
    pub fn keep(mut self) {
        self.old.clear();
        self.unit = None;
        self.devices = None;
    }

    fn write(&mut self, directory: &str, write: &Write) -> core::result::Result<(), WriteFailure> {
        let Some((name, value)) = target(directory, write) else { return Ok(()) };
        let failure = |error| WriteFailure { error, name: name.to_owned(), value: value.to_owned() };
        let path = path(directory, name).map_err(failure)?;
        let before = file::read(cgroup::here(), &path).ok();
        file::write(cgroup::here(), &path, value).map_err(failure)?;
        if let Some(value) = before.and_then(|text| restoring(name, value, &text)) {
            self.old.push(Old { path, value });
        }
        Ok(())
    }
}

impl Drop for Changed {
    fn drop(&mut self) {
        if let Some(devices) = self.devices.take() {
            devices.restore();
        }
        // Before the files: systemd writes to them, and rounds.
        if let Some(unit) = self.unit.take() {
            unit.restore();
        }
        // From the last to the first, since a file may have been written more than once; then again, for values that
        // depend on each other. The first error is the one to tell.
        for _ in 0..2 {
            self.old.reverse();
            self.old.retain(|old| file::write(cgroup::here(), &old.path, &old.value).is_err());
        }
    }
}

/// Why a value is not written: its file may be one that stands in for the usual one.
struct WriteFailure {
    error: SysError,
    name: String,
    value: String,
}

impl WriteFailure {
    fn word(self, directory: &str, write: &Write) -> anyhow::Error {
        let Self { error, name, value } = self;
        let read = |name: &str| path(directory, name).and_then(|path| file::read(cgroup::here(), &path));
        if error.errno == Errno::ENOENT
            && write.controller != "cgroup"
            && read("cgroup.controllers").is_ok_and(|list| !has_word(&list, &write.controller))
        {
            return write.not_available();
        }
        let refused = refused(write, &name, &value, &error);
        match read("memory.usage_in_bytes") {
            Ok(usage) if error.errno == Errno::EBUSY && name == "memory.limit_in_bytes" => {
                refused.and(format_args!(" (the current usage is {})", usage.trim())).into()
            }
            _ => refused.into(),
        }
    }
}

/// The file and the value that serve for a write on this host; nothing where there is nothing to limit.
fn target<'a>(directory: &str, write: &'a Write) -> Option<(&'a str, &'a str)> {
    let exists = || path(directory, &write.file).is_ok_and(|path| cgroup::exists(cgroup::here(), &path));
    match &write.missing {
        Missing::Refuse => Some((&write.file, &write.value)),
        Missing::Ignore => exists().then_some((&write.file, &write.value)),
        Missing::Instead(..) if exists() => Some((&write.file, &write.value)),
        Missing::Instead(file, value) => Some((file, value)),
    }
}

/// What brings `before`, the text of the file, back after `written`: a file of one value takes it as it is, one with a
/// line for each device or interface only the line in question. Nothing where the text does not tell.
fn restoring(name: &str, written: &str, before: &str) -> Option<String> {
    if name == "memory.oom_control" {
        return before.lines().find_map(|line| line.strip_prefix("oom_kill_disable ")).map(str::to_owned);
    }
    let key = written.split_whitespace().next().unwrap_or_default();
    let lines = keyed(before);
    if let Some(absent) = absent(name, written) {
        // The weight that counts without a device.
        let key = if key.contains(':') || !name.ends_with("weight") { key } else { "default" };
        return Some(lines.get(key).map_or_else(|| format!("{key} {absent}"), |line| (*line).to_owned()));
    }
    match before.lines().count() {
        // An empty value, as of cpuset.cpus, is written as a line, since nothing at all would change nothing.
        0 => Some("\n".to_owned()),
        1 => before.lines().next().map(|line| if line.is_empty() { "\n" } else { line }.to_owned()),
        _ => lines.get(key).map(|line| (*line).to_owned()),
    }
}

/// The lines of a file of `key value` or `key name=value …` by their keys.
fn keyed(text: &str) -> BTreeMap<&str, &str> {
    text.lines().filter_map(|line| Some((line.split_whitespace().next()?, line))).collect()
}

/// What stands for "no limit" in a file that has lines only for those that are limited.
fn absent(name: &str, written: &str) -> Option<&'static str> {
    match name {
        "io.max" => Some("rbps=max wbps=max riops=max wiops=max"),
        "rdma.max" => Some("hca_handle=max hca_object=max"),
        "misc.max" => Some("max"),
        "io.latency" => Some("target=0"),
        "io.weight" | "io.bfq.weight" => Some("default"),
        _ if name.starts_with("blkio.") && written.contains(':') => Some("0"),
        _ => None,
    }
}

/// Makes sure that the controllers of all writes reach the cgroup: `create` enabled those that are usual and those that
/// it needed. What cannot be had is not missed here, but by the limit that needs it.
fn enable_controllers(update: &LimitUpdate) {
    for (directory, write) in &update.writes {
        let have = path(directory, "cgroup.controllers").and_then(|path| file::read(cgroup::here(), &path));
        if write.controller == "cgroup" || have.is_ok_and(|have| has_word(&have, &write.controller)) {
            continue;
        }
        let below = directory.strip_prefix(ROOT).unwrap_or_default();
        // Each ancestor from the root down has to pass it on.
        for (end, _) in below.match_indices('/') {
            let ancestor = format!("{ROOT}{}", below.get(..end).unwrap_or_default());
            let name = path(&ancestor, "cgroup.subtree_control");
            let _ = name.and_then(|name| file::write(cgroup::here(), &name, &format!("+{}", write.controller)));
        }
    }
}

/// `memory.checkBeforeUpdate`: v1 refuses a limit below what is in use by itself, v2 would start to kill.
fn check_usage(paths: &Paths, limit: i64) -> Result<()> {
    let Some(directory) = paths.directory_of("memory") else { return Ok(()) };
    let Ok(usage) = path(directory, "memory.current").and_then(|path| file::read(cgroup::here(), &path)) else {
        return Ok(());
    };
    if usage.trim().parse::<i64>().is_ok_and(|usage| limit > 0 && limit <= usage) {
        bail!(field!("linux.resources.memory.limit"; "{limit} is not above the current usage, {}", usage.trim()));
    }
    Ok(())
}

fn path(directory: &str, name: &str) -> sys::Result<CString> {
    CString::new(format!("{directory}/{name}")).map_err(|_| SysError::new("openat", Errno::EINVAL))
}

#[cfg(test)]
mod tests {
    use super::restoring;

    fn back(name: &str, written: &str, before: &str) -> String {
        restoring(name, written, before).unwrap()
    }

    #[test]
    fn a_file_gets_its_old_value_back() {
        assert_eq!(back("pids.max", "7", "max\n"), "max");
        assert_eq!(back("cpu.max", "7 100000", "max 100000\n"), "max 100000");
        assert_eq!(back("cpuset.cpus", "0", "\n"), "\n");
        assert_eq!(back("cpuset.cpus", "0", ""), "\n");
        assert_eq!(back("memory.oom_control", "1", "oom_kill_disable 0\nunder_oom 0\noom_kill 0\n"), "0");
    }

    #[test]
    fn a_file_with_lines_gets_the_line_in_question() {
        let limits = "8:0 rbps=1 wbps=max riops=max wiops=max\n";
        assert_eq!(back("io.max", "8:0 rbps=7", limits), limits.trim());
        assert_eq!(back("io.max", "8:16 rbps=7", limits), "8:16 rbps=max wbps=max riops=max wiops=max");
        assert_eq!(back("io.weight", "200", "default 100\n8:0 50\n"), "default 100");
        assert_eq!(back("io.weight", "8:16 200", "default 100\n8:0 50\n"), "8:16 default");
        assert_eq!(back("blkio.throttle.read_bps_device", "8:0 9", ""), "8:0 0");
        assert_eq!(back("blkio.throttle.read_bps_device", "8:0 9", "8:0 5\n"), "8:0 5");
        assert_eq!(back("blkio.bfq.weight", "200", "100\n"), "100");
        assert_eq!(back("net_prio.ifpriomap", "lo 5", "lo 0\neth0 2\n"), "lo 0");
        assert_eq!(restoring("net_prio.ifpriomap", "eth9 5", "lo 0\neth0 2\n"), None);
    }
}
