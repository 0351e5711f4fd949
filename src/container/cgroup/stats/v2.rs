//! Statistics of cgroup v2, in the terms of v1 where runc has them so.

use anyhow::Result;

use super::files::{ControllerFiles, number, page_sizes, pairs, value_of};
use super::usage::{
    Blkio, BlkioEntry, Cpu, CpuUsage, HugeTlb, Memory, MemoryEntry, Pids, Pressure, Stalls, Stats, Throttling,
};
use crate::container::cgroup::paths::Paths;

pub fn read(paths: &Paths) -> Result<Stats> {
    let files = ControllerFiles(paths.directory_of(""));
    let mut stats = Stats {
        cpu: cpu(&files)?,
        memory: memory(&files)?,
        pids: pids(&files)?,
        blkio: blkio(&files)?,
        ..Stats::default()
    };
    for size in page_sizes() {
        if let Some(pages) = huge_pages(&files, &size)? {
            stats.hugetlb.insert(size, pages);
        }
    }
    Ok(stats)
}

fn cpu(files: &ControllerFiles) -> Result<Cpu> {
    let text = files.text("cpu.stat")?;
    let nanoseconds = |key| value_of(&text, key) * 1000;
    let usage = CpuUsage {
        total: nanoseconds("usage_usec"),
        kernel: nanoseconds("system_usec"),
        user: nanoseconds("user_usec"),
        ..CpuUsage::default()
    };
    let throttling = Throttling {
        periods: value_of(&text, "nr_periods"),
        throttled_periods: value_of(&text, "nr_throttled"),
        throttled_time: nanoseconds("throttled_usec"),
    };
    Ok(Cpu { usage, throttling, psi: pressure(&files.text("cpu.pressure")?) })
}

fn memory(files: &ControllerFiles) -> Result<Memory> {
    let text = files.text("memory.stat")?;
    let entry = |kind: &str| -> Result<MemoryEntry> {
        let number = |what: &str| files.number(&format!("memory.{kind}{what}"));
        Ok(MemoryEntry { limit: number("max")?, usage: number("current")?, max: number("peak")?, failcnt: 0 })
    };
    let (usage, swap) = (entry("")?, entry("swap.")?);
    // v1's is memory and swap together; of the peaks, no sum can be told.
    let swap = MemoryEntry {
        limit: swap.limit.saturating_add(usage.limit),
        usage: swap.usage.saturating_add(usage.usage),
        ..MemoryEntry::default()
    };
    Ok(Memory {
        cache: value_of(&text, "file"),
        usage,
        swap,
        raw: pairs(&text).map(|(key, value)| (key.to_owned(), value)).collect(),
        psi: pressure(&files.text("memory.pressure")?),
        ..Memory::default()
    })
}

fn pids(files: &ControllerFiles) -> Result<Pids> {
    let limit = files.number("pids.max")?;
    let current = match files.text("pids.current")? {
        // Without the controller, the processes are counted.
        text if text.is_empty() => files.text("cgroup.procs")?.lines().count() as u64,
        text => number(&text),
    };
    Ok(Pids { current, limit: if limit == u64::MAX { 0 } else { limit } })
}

fn blkio(files: &ControllerFiles) -> Result<Blkio> {
    let mut blkio = Blkio { psi: pressure(&files.text("io.pressure")?), ..Blkio::default() };
    for line in files.text("io.stat")?.lines() {
        let mut words = line.split_whitespace();
        let Some((major, minor)) = words.next().and_then(|device| device.split_once(':')) else { continue };
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            let (list, op) = match key {
                "rbytes" => (&mut blkio.io_service_bytes_recursive, "Read"),
                "wbytes" => (&mut blkio.io_service_bytes_recursive, "Write"),
                "rios" => (&mut blkio.io_serviced_recursive, "Read"),
                "wios" => (&mut blkio.io_serviced_recursive, "Write"),
                // v1 has no names for the rest.
                _ => continue,
            };
            list.push(BlkioEntry {
                major: number(major),
                minor: number(minor),
                op: op.to_owned(),
                value: number(value),
            });
        }
    }
    Ok(blkio)
}

/// Nothing without the controller. What is reserved counts, where the kernel tells it (Linux 5.7).
fn huge_pages(files: &ControllerFiles, size: &str) -> Result<Option<HugeTlb>> {
    let mut text = files.text(&format!("hugetlb.{size}.rsvd.current"))?;
    if text.is_empty() {
        text = files.text(&format!("hugetlb.{size}.current"))?;
    }
    if text.is_empty() {
        return Ok(None);
    }
    let failcnt = value_of(&files.text(&format!("hugetlb.{size}.events"))?, "max");
    Ok(Some(HugeTlb { usage: number(&text), max: 0, failcnt }))
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0` and the same with `full`, which cpu.pressure had not always.
fn pressure(text: &str) -> Option<Pressure> {
    let stalls = |kind: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(kind)).unwrap_or_default();
        let value = |key: &str| {
            line.split_whitespace()
                .filter_map(|word| word.split_once('='))
                .find(|(name, _)| *name == key)
                .map(|(_, v)| v)
        };
        let average = |key| value(key).and_then(|text| text.parse().ok()).unwrap_or(0.0);
        Stalls {
            avg10: average("avg10"),
            avg60: average("avg60"),
            avg300: average("avg300"),
            total: value("total").map_or(0, number),
        }
    };
    (!text.is_empty()).then(|| Pressure { some: stalls("some "), full: stalls("full ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_has_two_lines() {
        let text =
            "some avg10=1.50 avg60=0.00 avg300=0.25 total=4711\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=12\n";
        let expected = Pressure {
            some: Stalls { avg10: 1.5, avg60: 0.0, avg300: 0.25, total: 4711 },
            full: Stalls { total: 12, ..Stalls::default() },
        };
        assert_eq!(pressure(text), Some(expected));
        assert_eq!(pressure(""), None);
    }
}
