//! One value of a control file, and whether what the file says later means the same.

use std::collections::BTreeSet;
use std::ffi::CString;

use serde::{Deserialize, Serialize};

use super::compared::Compared;
use crate::container::cgroup::host::file;
use crate::container::cgroup::wanted::resources::{Missing, Write};
use crate::sys::sched::ranges;
use crate::sys::{Errno, cgroup};

/// Files with a line for each device or interface.
const KEYED: [&str; 6] = ["io.max", "io.weight", "io.latency", "io.bfq.weight", "rdma.max", "misc.max"];

/// From here on, a limit of v1 is none: what it reads as depends on the size of a page.
const UNLIMITED: u64 = 1 << 62;

/// The page sizes of all architectures: limits of memory are rounded down to them.
const PAGES: [u64; 3] = [4096, 16384, 65536];

#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct ExpectedValue {
    /// Of config.json.
    field: String,
    directory: String,
    file: String,
    value: String,
    /// File and value where the first file is not there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    instead: Option<(String, String)>,
}

impl ExpectedValue {
    pub fn new(write: &Write, directory: &str) -> Self {
        let instead = match &write.missing {
            Missing::Instead(file, value) => Some((file.clone(), value.clone())),
            Missing::Refuse | Missing::Ignore => None,
        };
        let Write { field, file, value, .. } = write.clone();
        Self { field, directory: directory.to_owned(), file, value, instead }
    }

    pub fn is_replaced_by(&self, other: &Self) -> bool {
        let key = |value: &Self| key(&value.file, &value.value).map(str::to_owned);
        self.directory == other.directory && self.file == other.file && key(self) == key(other)
    }

    /// None: there is nothing to limit.
    pub fn compare(&self) -> Option<Compared> {
        let Self { field, file, value, instead, .. } = self;
        let (name, value, found) = match (self.read(file), instead) {
            (Err(Errno::ENOENT), None) => return None,
            (Err(Errno::ENOENT), Some((file, value))) => (file, value, self.read(file)),
            (found, _) => (file, value, found),
        };
        let holds = found.as_ref().is_ok_and(|found| means(name, value, found));
        let found = match found {
            Ok(found) => Ok(format!("{name}: {}", line_of(name, value, &found))),
            Err(errno) => Err(format!("{name}: {}", file::reason(errno))),
        };
        Some(Compared { field: field.clone(), wanted: format!("{name}: {value}"), found, holds })
    }

    fn read(&self, name: &str) -> Result<String, Errno> {
        let path = CString::new(format!("{}/{name}", self.directory)).map_err(|_| Errno::EINVAL)?;
        file::read(cgroup::here(), &path).map_err(|error| error.errno)
    }
}

/// What a value is for, in a file with several lines.
fn key<'a>(file: &str, value: &'a str) -> Option<&'a str> {
    let first = value.split_whitespace().next()?;
    let is_keyed = KEYED.contains(&file) || file == "net_prio.ifpriomap" || file.starts_with("blkio.");
    match value.split_whitespace().count() {
        1 if file.ends_with("weight") => Some("default"),
        0 | 1 => None,
        // io.max has a line for each device, and a write for each of its limits.
        _ if file == "io.max" => value.split('=').next(),
        _ => is_keyed.then_some(first),
    }
}

/// The line that is about it.
fn line_of<'a>(file: &str, value: &str, text: &'a str) -> &'a str {
    let key = key(file, value).and_then(|key| key.split_whitespace().next());
    let is_it = |line: &&str| key.is_some_and(|key| line.split_whitespace().next() == Some(key));
    if file == "memory.oom_control" {
        let line = text.lines().find_map(|line| line.strip_prefix("oom_kill_disable "));
        return line.unwrap_or_default();
    }
    text.lines()
        .find(is_it)
        .or_else(|| text.lines().next().filter(|_| key.is_none_or(|key| key == "default")))
        .unwrap_or_default()
}

/// Whether the text of the file means `value`.
fn means(file: &str, value: &str, text: &str) -> bool {
    let line = line_of(file, value, text);
    if key(file, value).is_some_and(|key| key.contains(':') || file == "net_prio.ifpriomap") {
        return of_a_device(value, line);
    }
    let line = line.strip_prefix("default ").unwrap_or(line);
    let value = value.strip_prefix("default ").unwrap_or(value);
    if matches!(file, "cpuset.cpus" | "cpuset.mems") {
        return numbers(value) == numbers(line);
    }
    let (wanted, found): (Vec<&str>, Vec<&str>) =
        (value.split_whitespace().collect(), line.split_whitespace().collect());
    // cpu.max takes a quota alone.
    wanted.len() <= found.len() && wanted.iter().zip(&found).all(|(wanted, found)| is_same(file, wanted, found))
}

/// `8:0 rbps=7`, `8:0 200`: no line means no limit.
fn of_a_device(value: &str, line: &str) -> bool {
    let wanted: Vec<&str> = value.split_whitespace().skip(1).collect();
    let found: BTreeSet<&str> = line.split_whitespace().skip(1).collect();
    let is_none = |word: &&str| matches!(word.rsplit('=').next(), Some("max" | "0" | "default"));
    wanted.iter().all(|word| found.contains(word) || line.is_empty() && is_none(word))
}

fn is_same(file: &str, wanted: &str, found: &str) -> bool {
    if wanted == found {
        return true;
    }
    let number = |text: &str| match text {
        "max" | "-1" => Some(u64::MAX),
        text => text.parse::<u64>().ok(),
    };
    let (Some(wanted), Some(found)) = (number(wanted), number(found)) else { return false };
    let is_rounded = |size: u64| wanted >= size && wanted - wanted % size == found;
    let is_rounded = match file.split('.').next() {
        Some("memory") => PAGES.into_iter().any(is_rounded),
        Some("hugetlb") => file.split('.').nth(1).and_then(size).is_some_and(is_rounded),
        _ => false,
    };
    wanted == found || wanted >= UNLIMITED && found >= UNLIMITED || is_rounded
}

/// `2MB`
fn size(text: &str) -> Option<u64> {
    let units = [("KB", 10), ("MB", 20), ("GB", 30)];
    units.iter().find_map(|(unit, shift)| Some(text.strip_suffix(unit)?.parse::<u64>().ok()? << shift))
}

fn numbers(list: &str) -> Option<BTreeSet<u32>> {
    ranges(list).collect::<Option<Vec<_>>>().map(|ranges| ranges.into_iter().flatten().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_the_same_in_other_words() {
        for (file, value, text) in [
            ("pids.max", "7", "7\n"),
            ("pids.max", "max", "max\n"),
            ("memory.limit_in_bytes", "-1", "9223372036854771712\n"),
            ("memory.limit_in_bytes", "1000000", "999424\n"),
            ("memory.max", "max", "max\n"),
            ("memory.oom_control", "1", "oom_kill_disable 1\nunder_oom 0\noom_kill 0\n"),
            ("cpuset.cpus", "0,1,2,5", "0-2,5\n"),
            ("cpu.max", "5000 100000", "5000 100000\n"),
            ("cpu.cfs_quota_us", "-1", "-1\n"),
            ("io.max", "8:0 rbps=7", "8:0 rbps=7 wbps=max riops=max wiops=max\n"),
            ("io.max", "8:0 rbps=max", ""),
            ("io.weight", "200", "default 200\n8:0 50\n"),
            ("io.weight", "8:0 50", "default 200\n8:0 50\n"),
            ("blkio.throttle.read_bps_device", "8:0 0", ""),
            ("blkio.throttle.read_bps_device", "8:0 9", "8:0 9\n"),
            ("hugetlb.2MB.limit_in_bytes", "2097153", "2097152\n"),
            ("net_prio.ifpriomap", "lo 5", "eth0 1\nlo 5\n"),
        ] {
            assert!(means(file, value, text), "{file} {value} {text}");
        }
    }

    #[test]
    fn another_limit_is_another_one() {
        for (file, value, text) in [
            ("pids.max", "7", "max\n"),
            ("pids.max", "7", "8\n"),
            ("memory.limit_in_bytes", "1000000", "2000000\n"),
            ("memory.limit_in_bytes", "1000000", "9223372036854771712\n"),
            ("memory.swappiness", "60", "0\n"),
            ("memory.limit_in_bytes", "1000000", "995328\n"),
            ("memory.oom_control", "1", "oom_kill_disable 0\nunder_oom 0\noom_kill 1\n"),
            ("cpuset.cpus", "0", "0-1\n"),
            ("cpu.max", "5000 100000", "max 100000\n"),
            ("io.max", "8:0 rbps=7", "8:0 rbps=8 wbps=max riops=max wiops=max\n"),
            ("io.max", "8:0 rbps=7", "8:16 rbps=7\n"),
            ("io.weight", "200", "default 100\n"),
            ("blkio.throttle.read_bps_device", "8:0 9", ""),
            ("hugetlb.2MB.limit_in_bytes", "2097153", "0\n"),
            ("net_prio.ifpriomap", "lo 5", "eth0 5\nlo 1\n"),
        ] {
            assert!(!means(file, value, text), "{file} {value} {text}");
        }
    }

    #[test]
    fn what_is_written_last_for_the_same_thing_holds() {
        let value = |file: &str, value: &str| ExpectedValue {
            field: String::new(),
            directory: "/x".to_owned(),
            file: file.to_owned(),
            value: value.to_owned(),
            instead: None,
        };
        assert!(value("pids.max", "7").is_replaced_by(&value("pids.max", "8")));
        assert!(!value("pids.max", "7").is_replaced_by(&value("cpu.max", "8")));
        assert!(value("io.max", "8:0 rbps=7").is_replaced_by(&value("io.max", "8:0 rbps=8")));
        assert!(!value("io.max", "8:0 rbps=7").is_replaced_by(&value("io.max", "8:0 wbps=8")));
        assert!(!value("io.max", "8:0 rbps=7").is_replaced_by(&value("io.max", "8:16 rbps=7")));
    }
}
