//! cgroup v1: Documentation/admin-guide/cgroup-v1/ of the kernel. A file's name begins with that of its controller.

use super::{Read, Table, file, number, rdma};
use crate::api::metrics_v1::{
    BlkIoEntry, BlkIoStat, CpuStat, CpuUsage, HugetlbStat, MemoryEntry, MemoryOomControl, MemoryStat, Metrics,
    PidsStat, Throttle,
};

/// cpuacct.stat counts in ticks, of which a second has a hundred on every architecture (USER_HZ).
const TICK: u64 = 10_000_000;

/// The metrics of a cgroup; `page_sizes` are those of huge pages, as file names spell them (`2MB`).
pub fn metrics(read: Read<'_>, page_sizes: &[String]) -> Metrics {
    Metrics {
        hugetlb: page_sizes.iter().map(|size| huge(read, size)).collect(),
        pids: Some(PidsStat { current: file(read, "pids.current"), limit: limit(file(read, "pids.max")) }),
        cpu: Some(CpuStat { usage: Some(usage(read)), throttling: Some(throttling(read)) }),
        memory: Some(memory(read)),
        blkio: Some(blkio(read)),
        rdma: Some(rdma(read)),
        memory_oom_control: Table::read(read, "memory.oom_control").map(|control| MemoryOomControl {
            oom_kill_disable: control.get("oom_kill_disable"),
            under_oom: control.get("under_oom"),
            oom_kill: control.get("oom_kill"),
        }),
    }
}

/// Of pids.max, containerd's own metrics have 0 for none.
fn limit(value: u64) -> u64 {
    if value == u64::MAX { 0 } else { value }
}

fn usage(read: Read<'_>) -> CpuUsage {
    let ticks = Table::read(read, "cpuacct.stat");
    let time = |key: &str| ticks.as_ref().map_or(0, |ticks| ticks.get(key).saturating_mul(TICK));
    let each = read("cpuacct.usage_percpu").unwrap_or_default();
    CpuUsage {
        total: file(read, "cpuacct.usage"),
        kernel: time("system"),
        user: time("user"),
        per_cpu: each.split_whitespace().map(number).collect(),
    }
}

fn throttling(read: Read<'_>) -> Throttle {
    let Some(stat) = Table::read(read, "cpu.stat") else { return Throttle::default() };
    Throttle {
        periods: stat.get("nr_periods"),
        throttled_periods: stat.get("nr_throttled"),
        throttled_time: stat.get("throttled_time"),
    }
}

fn memory(read: Read<'_>) -> MemoryStat {
    let Some(stat) = Table::read(read, "memory.stat") else { return MemoryStat::default() };
    MemoryStat {
        cache: stat.get("cache"),
        rss: stat.get("rss"),
        rss_huge: stat.get("rss_huge"),
        mapped_file: stat.get("mapped_file"),
        dirty: stat.get("dirty"),
        writeback: stat.get("writeback"),
        pg_pg_in: stat.get("pgpgin"),
        pg_pg_out: stat.get("pgpgout"),
        pg_fault: stat.get("pgfault"),
        pg_maj_fault: stat.get("pgmajfault"),
        inactive_anon: stat.get("inactive_anon"),
        active_anon: stat.get("active_anon"),
        inactive_file: stat.get("inactive_file"),
        active_file: stat.get("active_file"),
        unevictable: stat.get("unevictable"),
        hierarchical_memory_limit: stat.get("hierarchical_memory_limit"),
        hierarchical_swap_limit: stat.get("hierarchical_memsw_limit"),
        total_cache: stat.get("total_cache"),
        total_rss: stat.get("total_rss"),
        total_rss_huge: stat.get("total_rss_huge"),
        total_mapped_file: stat.get("total_mapped_file"),
        total_dirty: stat.get("total_dirty"),
        total_writeback: stat.get("total_writeback"),
        total_pg_pg_in: stat.get("total_pgpgin"),
        total_pg_pg_out: stat.get("total_pgpgout"),
        total_pg_fault: stat.get("total_pgfault"),
        total_pg_maj_fault: stat.get("total_pgmajfault"),
        total_inactive_anon: stat.get("total_inactive_anon"),
        total_active_anon: stat.get("total_active_anon"),
        total_inactive_file: stat.get("total_inactive_file"),
        total_active_file: stat.get("total_active_file"),
        total_unevictable: stat.get("total_unevictable"),
        usage: Some(group(read, "memory")),
        swap: Some(group(read, "memory.memsw")),
        kernel: Some(group(read, "memory.kmem")),
        kernel_tcp: Some(group(read, "memory.kmem.tcp")),
    }
}

fn group(read: Read<'_>, name: &str) -> MemoryEntry {
    let file = |suffix: &str| file(read, &format!("{name}.{suffix}"));
    MemoryEntry {
        limit: file("limit_in_bytes"),
        usage: file("usage_in_bytes"),
        max: file("max_usage_in_bytes"),
        failcnt: file("failcnt"),
    }
}

/// Statistics of the BFQ scheduler where it is in use, else those of throttling, which has fewer.
fn blkio(read: Read<'_>) -> BlkIoStat {
    let first = |name: &str| {
        let bfq = block(read, &format!("blkio.bfq.{name}_recursive"));
        if bfq.is_empty() { block(read, &format!("blkio.throttle.{name}_recursive")) } else { bfq }
    };
    let bfq = |name: &str| block(read, &format!("blkio.bfq.{name}_recursive"));
    BlkIoStat {
        io_service_bytes_recursive: first("io_service_bytes"),
        io_serviced_recursive: first("io_serviced"),
        io_queued_recursive: bfq("io_queued"),
        io_service_time_recursive: bfq("io_service_time"),
        io_wait_time_recursive: bfq("io_wait_time"),
        io_merged_recursive: bfq("io_merged"),
        io_time_recursive: bfq("time"),
        sectors_recursive: bfq("sectors"),
    }
}

/// `254:0 Read 17`, or without an operation; the last line is a total.
fn block(read: Read<'_>, name: &str) -> Vec<BlkIoEntry> {
    let text = read(name).unwrap_or_default();
    let entry = |line: &str| {
        let mut words = line.split_whitespace();
        let (major, minor) = words.next()?.split_once(':')?;
        let (op, value) = match (words.next()?, words.next()) {
            (op, Some(value)) => (op.to_owned(), value),
            (value, None) => (String::new(), value),
        };
        let (major, minor, value) = (number(major), number(minor), number(value));
        Some(BlkIoEntry { op, device: String::new(), major, minor, value })
    };
    text.lines().filter_map(entry).collect()
}

fn huge(read: Read<'_>, size: &str) -> HugetlbStat {
    HugetlbStat {
        usage: file(read, &format!("hugetlb.{size}.usage_in_bytes")),
        max: file(read, &format!("hugetlb.{size}.max_usage_in_bytes")),
        failcnt: file(read, &format!("hugetlb.{size}.failcnt")),
        pagesize: size.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(name: &str) -> Option<String> {
        let text = match name {
            "pids.current" => "3\n",
            "pids.max" => "max\n",
            "cpuacct.usage" => "123456789\n",
            "cpuacct.usage_percpu" => "100 200 \n",
            "cpuacct.stat" => "user 5\nsystem 2\n",
            "cpu.stat" => "nr_periods 4\nnr_throttled 1\nthrottled_time 99\n",
            "memory.stat" => "cache 1\npgpgin 7\nhierarchical_memsw_limit 8\ntotal_cache 9\ntotal_pgmajfault 10\n",
            "memory.usage_in_bytes" => "4096\n",
            "memory.memsw.failcnt" => "2\n",
            "memory.oom_control" => "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n",
            "blkio.throttle.io_serviced_recursive" => "254:0 Read 17\n254:0 Total 17\nTotal 17\n",
            "blkio.bfq.time_recursive" => "8:16 42\n",
            "hugetlb.2MB.failcnt" => "1\n",
            _ => return None,
        };
        Some(text.to_owned())
    }

    #[test]
    fn files_become_metrics_and_a_missing_one_is_0() {
        let metrics = metrics(&files, &["2MB".to_owned()]);
        assert_eq!(metrics.pids, Some(PidsStat { current: 3, limit: 0 }));
        let cpu = metrics.cpu.unwrap();
        let usage = CpuUsage { total: 123_456_789, kernel: 20_000_000, user: 50_000_000, per_cpu: vec![100, 200] };
        assert_eq!(cpu.usage, Some(usage));
        assert_eq!(cpu.throttling, Some(Throttle { periods: 4, throttled_periods: 1, throttled_time: 99 }));
        let memory = metrics.memory.unwrap();
        assert_eq!((memory.cache, memory.pg_pg_in, memory.hierarchical_swap_limit), (1, 7, 8));
        assert_eq!((memory.total_cache, memory.total_pg_maj_fault), (9, 10));
        assert_eq!((memory.usage.unwrap().usage, memory.swap.unwrap().failcnt), (4096, 2));
        assert_eq!(metrics.memory_oom_control.unwrap().oom_kill, 3);
        let blkio = metrics.blkio.unwrap();
        let entry =
            |op: &str, value| BlkIoEntry { op: op.to_owned(), device: String::new(), major: 254, minor: 0, value };
        assert_eq!(blkio.io_serviced_recursive, [entry("Read", 17), entry("Total", 17)]);
        assert_eq!((blkio.io_time_recursive[0].value, blkio.io_time_recursive[0].minor), (42, 16));
        assert_eq!(metrics.hugetlb[0].failcnt, 1);
    }
}
