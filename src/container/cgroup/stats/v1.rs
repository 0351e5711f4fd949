//! Statistics of cgroup v1: a hierarchy and a handful of files for each controller.

use anyhow::Result;

use super::files::{ControllerFiles, number, page_sizes, pairs, value_of};
use super::usage::{Blkio, BlkioEntry, Cpu, CpuSet, CpuUsage, HugeTlb, Memory, MemoryEntry, Pids, Stats, Throttling};
use crate::container::cgroup::paths::Paths;

/// cpuacct.stat counts ticks of USER_HZ, which is 100 on every architecture of today (times(2)).
const NANOSECONDS_OF_A_TICK: u64 = 10_000_000;

pub fn read(paths: &Paths) -> Result<Stats> {
    let files = |controller| ControllerFiles(paths.directory_of(controller));
    let hugetlb = files("hugetlb");
    let mut stats = Stats {
        cpu: cpu(&files("cpu"), &files("cpuacct"))?,
        cpuset: cpuset(&files("cpuset"))?,
        memory: memory(&files("memory"))?,
        pids: pids(&files("pids"))?,
        blkio: blkio(&files("blkio"))?,
        ..Stats::default()
    };
    if hugetlb.0.is_some() {
        for size in page_sizes() {
            stats.hugetlb.insert(size.clone(), huge_pages(&hugetlb, &size)?);
        }
    }
    Ok(stats)
}

fn cpu(cpu: &ControllerFiles, accounts: &ControllerFiles) -> Result<Cpu> {
    let throttled = cpu.text("cpu.stat")?;
    let ticks = accounts.text("cpuacct.stat")?;
    let per_cpu = accounts.text("cpuacct.usage_all")?;
    let column = |index| per_cpu.lines().skip(1).map(move |line| number(line.split(' ').nth(index).unwrap_or("0")));
    let usage = CpuUsage {
        total: accounts.number("cpuacct.usage")?,
        percpu: accounts.text("cpuacct.usage_percpu")?.split_whitespace().map(number).collect(),
        percpu_kernel: column(2).collect(),
        percpu_user: column(1).collect(),
        kernel: value_of(&ticks, "system") * NANOSECONDS_OF_A_TICK,
        user: value_of(&ticks, "user") * NANOSECONDS_OF_A_TICK,
    };
    let throttling = Throttling {
        periods: value_of(&throttled, "nr_periods"),
        throttled_periods: value_of(&throttled, "nr_throttled"),
        throttled_time: value_of(&throttled, "throttled_time"),
    };
    Ok(Cpu { usage, throttling, psi: None })
}

fn cpuset(files: &ControllerFiles) -> Result<CpuSet> {
    let number = |name: &str| files.number(&format!("cpuset.{name}"));
    Ok(CpuSet {
        cpus: list(&files.text("cpuset.cpus")?),
        cpu_exclusive: number("cpu_exclusive")?,
        mems: list(&files.text("cpuset.mems")?),
        mem_hardwall: number("mem_hardwall")?,
        mem_exclusive: number("mem_exclusive")?,
        memory_migrate: number("memory_migrate")?,
        memory_spread_page: number("memory_spread_page")?,
        memory_spread_slab: number("memory_spread_slab")?,
        memory_pressure: number("memory_pressure")?,
        sched_load_balance: number("sched_load_balance")?,
        sched_relax_domain_level: files.text("cpuset.sched_relax_domain_level")?.trim().parse().unwrap_or(0),
    })
}

/// `0-2,5` one by one.
fn list(text: &str) -> Vec<u16> {
    let ranges = text.trim().split(',').filter_map(|range| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        Some(first.parse::<u16>().ok()?..=last.parse::<u16>().ok()?)
    });
    ranges.flatten().collect()
}

fn memory(files: &ControllerFiles) -> Result<Memory> {
    let text = files.text("memory.stat")?;
    let entry = |kind: &str| -> Result<MemoryEntry> {
        let number = |what: &str| files.number(&format!("memory.{kind}{what}"));
        Ok(MemoryEntry {
            limit: number("limit_in_bytes")?,
            usage: number("usage_in_bytes")?,
            max: number("max_usage_in_bytes")?,
            failcnt: number("failcnt")?,
        })
    };
    Ok(Memory {
        cache: value_of(&text, "cache"),
        usage: entry("")?,
        swap: entry("memsw.")?,
        kernel: entry("kmem.")?,
        kernel_tcp: entry("kmem.tcp.")?,
        raw: pairs(&text).map(|(key, value)| (key.to_owned(), value)).collect(),
        psi: None,
    })
}

fn pids(files: &ControllerFiles) -> Result<Pids> {
    let limit = files.number("pids.max")?;
    Ok(Pids { current: files.number("pids.current")?, limit: if limit == u64::MAX { 0 } else { limit } })
}

/// The first of the schedulers that has counted anything: BFQ, with or without its debugging files, CFQ of old kernels,
/// or what counts below them, with the cgroups inside or without.
fn blkio(files: &ControllerFiles) -> Result<Blkio> {
    let entries = |name: &str| files.text(name).map(|text| entries(&text));
    for (prefix, suffix) in [("bfq.", "_recursive"), ("", "_recursive"), ("throttle.", "_recursive"), ("throttle.", "")]
    {
        let file = |what: &str| format!("blkio.{prefix}{what}{suffix}");
        let serviced = entries(&file("io_serviced"))?;
        if serviced.is_empty() {
            continue;
        }
        let mut blkio = Blkio {
            io_service_bytes_recursive: entries(&file("io_service_bytes"))?,
            io_serviced_recursive: serviced,
            ..Blkio::default()
        };
        if prefix != "throttle." {
            blkio.io_queue_recursive = entries(&file("io_queued"))?;
            blkio.io_service_time_recursive = entries(&file("io_service_time"))?;
            blkio.io_wait_time_recursive = entries(&file("io_wait_time"))?;
            blkio.io_merged_recursive = entries(&file("io_merged"))?;
            blkio.io_time_recursive = entries(&file("time"))?;
            blkio.sectors_recursive = entries(&file("sectors"))?;
        }
        return Ok(blkio);
    }
    Ok(Blkio::default())
}

/// `8:0 Read 4096` or `8:0 4096`; the line with the total of all is left out.
fn entries(text: &str) -> Vec<BlkioEntry> {
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        let (word, value) = (words.next()?, words.next());
        let (op, value) = value.map_or(("", word), |value| (word, value));
        Some(BlkioEntry { major: number(major), minor: number(minor), op: op.to_owned(), value: number(value) })
    };
    text.lines().filter_map(entry).collect()
}

/// What is reserved counts, where the kernel tells it (Linux 5.7).
fn huge_pages(files: &ControllerFiles, size: &str) -> Result<HugeTlb> {
    let reserved = format!("hugetlb.{size}.rsvd.usage_in_bytes");
    let text = files.text(&reserved)?;
    let kind = if text.is_empty() { "" } else { "rsvd." };
    let number = |what: &str| files.number(&format!("hugetlb.{size}.{kind}{what}"));
    Ok(HugeTlb { usage: number("usage_in_bytes")?, max: number("max_usage_in_bytes")?, failcnt: number("failcnt")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_spelt_out() {
        assert_eq!(list("0-2,5\n"), [0, 1, 2, 5]);
        assert!(list("\n").is_empty());
    }

    #[test]
    fn block_io_has_devices_and_operations() {
        let text = "8:0 Read 4096\n8:0 Write 0\n259:1 77\nTotal 4173\n";
        let entry = |major, minor, op: &str, value| BlkioEntry { major, minor, op: op.to_owned(), value };
        let expected = [entry(8, 0, "Read", 4096), entry(8, 0, "Write", 0), entry(259, 1, "", 77)];
        assert_eq!(entries(text), expected);
    }
}
