//! cgroup v2: Documentation/admin-guide/cgroup-v2.rst of the kernel.

use super::{Read, Table, file, number, rdma};
use crate::api::metrics_v2::{
    CpuStat, HugeTlbStat, IoEntry, IoStat, MemoryEvents, MemoryStat, Metrics, PidsStat, PsiData, PsiStats,
};

/// The metrics of a cgroup; `page_sizes` are those of huge pages, as file names spell them (`2MB`).
pub fn metrics(read: Read<'_>, page_sizes: &[String]) -> Metrics {
    Metrics {
        pids: Some(PidsStat { current: file(read, "pids.current"), limit: file(read, "pids.max") }),
        cpu: Some(cpu(read)),
        memory: Some(memory(read)),
        rdma: Some(rdma(read)),
        io: Some(io(read)),
        hugetlb: page_sizes.iter().map(|size| huge(read, size)).collect(),
        memory_events: Table::read(read, "memory.events").map(|events| MemoryEvents {
            low: events.get("low"),
            high: events.get("high"),
            max: events.get("max"),
            oom: events.get("oom"),
            oom_kill: events.get("oom_kill"),
            oom_group_kill: events.get("oom_group_kill"),
        }),
    }
}

fn cpu(read: Read<'_>) -> CpuStat {
    let Some(stat) = Table::read(read, "cpu.stat") else { return CpuStat::default() };
    CpuStat {
        usage_usec: stat.get("usage_usec"),
        user_usec: stat.get("user_usec"),
        system_usec: stat.get("system_usec"),
        nr_periods: stat.get("nr_periods"),
        nr_throttled: stat.get("nr_throttled"),
        throttled_usec: stat.get("throttled_usec"),
        psi: pressure(read, "cpu.pressure"),
        nr_bursts: stat.get("nr_bursts"),
        burst_usec: stat.get("burst_usec"),
    }
}

fn memory(read: Read<'_>) -> MemoryStat {
    let Some(stat) = Table::read(read, "memory.stat") else { return MemoryStat::default() };
    // Since 5.9 there is one of these for anonymous memory and one for files (kernel commit 170b04b7ae49).
    let both = |key: &str| stat.get(key) + stat.get(&format!("{key}_anon")) + stat.get(&format!("{key}_file"));
    MemoryStat {
        anon: stat.get("anon"),
        file: stat.get("file"),
        kernel_stack: stat.get("kernel_stack"),
        slab: stat.get("slab"),
        sock: stat.get("sock"),
        shmem: stat.get("shmem"),
        file_mapped: stat.get("file_mapped"),
        file_dirty: stat.get("file_dirty"),
        file_writeback: stat.get("file_writeback"),
        anon_thp: stat.get("anon_thp"),
        inactive_anon: stat.get("inactive_anon"),
        active_anon: stat.get("active_anon"),
        inactive_file: stat.get("inactive_file"),
        active_file: stat.get("active_file"),
        unevictable: stat.get("unevictable"),
        slab_reclaimable: stat.get("slab_reclaimable"),
        slab_unreclaimable: stat.get("slab_unreclaimable"),
        pgfault: stat.get("pgfault"),
        pgmajfault: stat.get("pgmajfault"),
        workingset_refault: both("workingset_refault"),
        workingset_activate: both("workingset_activate"),
        workingset_nodereclaim: stat.get("workingset_nodereclaim"),
        pgrefill: stat.get("pgrefill"),
        pgscan: stat.get("pgscan"),
        pgsteal: stat.get("pgsteal"),
        pgactivate: stat.get("pgactivate"),
        pgdeactivate: stat.get("pgdeactivate"),
        pglazyfree: stat.get("pglazyfree"),
        pglazyfreed: stat.get("pglazyfreed"),
        thp_fault_alloc: stat.get("thp_fault_alloc"),
        thp_collapse_alloc: stat.get("thp_collapse_alloc"),
        usage: file(read, "memory.current"),
        usage_limit: file(read, "memory.max"),
        swap_usage: file(read, "memory.swap.current"),
        swap_limit: file(read, "memory.swap.max"),
        max_usage: file(read, "memory.peak"),
        swap_max_usage: file(read, "memory.swap.peak"),
        psi: pressure(read, "memory.pressure"),
    }
}

fn io(read: Read<'_>) -> IoStat {
    let text = read("io.stat").unwrap_or_default();
    IoStat { usage: text.lines().filter_map(io_entry).collect(), psi: pressure(read, "io.pressure") }
}

/// `8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0`.
fn io_entry(line: &str) -> Option<IoEntry> {
    let mut words = line.split_whitespace();
    let (major, minor) = words.next()?.split_once(':')?;
    let mut entry = IoEntry { major: number(major), minor: number(minor), ..IoEntry::default() };
    for (key, value) in words.filter_map(|word| word.split_once('=')) {
        match key {
            "rbytes" => entry.rbytes = number(value),
            "wbytes" => entry.wbytes = number(value),
            "rios" => entry.rios = number(value),
            "wios" => entry.wios = number(value),
            _ => {}
        }
    }
    Some(entry)
}

fn huge(read: Read<'_>, size: &str) -> HugeTlbStat {
    HugeTlbStat {
        current: file(read, &format!("hugetlb.{size}.current")),
        max: file(read, &format!("hugetlb.{size}.max")),
        pagesize: size.to_owned(),
        failcnt: Table::read(read, &format!("hugetlb.{size}.events")).map_or(0, |events| events.get("max")),
    }
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`, and the same with `full`, which a kernel may not have for all.
fn pressure(read: Read<'_>, name: &str) -> Option<PsiStats> {
    let text = read(name)?;
    let line = |which: &str| {
        let words = text.lines().find_map(|line| line.strip_prefix(which))?.split_whitespace();
        let mut data = PsiData::default();
        for (key, value) in words.filter_map(|word| word.split_once('=')) {
            match key {
                "avg10" => data.avg10 = value.parse().unwrap_or(0.0),
                "avg60" => data.avg60 = value.parse().unwrap_or(0.0),
                "avg300" => data.avg300 = value.parse().unwrap_or(0.0),
                "total" => data.total = number(value),
                _ => {}
            }
        }
        Some(data)
    };
    Some(PsiStats { some: line("some "), full: line("full ") })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(name: &str) -> Option<String> {
        let text = match name {
            "pids.current" => "3\n",
            "pids.max" | "memory.max" => "max\n",
            "cpu.stat" => "usage_usec 10\nuser_usec 7\nsystem_usec 3\nnr_periods 0\nnr_bursts 2\n",
            "memory.current" => "4096\n",
            "memory.stat" => "anon 1\nanon_thp 2\nworkingset_refault_anon 3\nworkingset_refault_file 4\n",
            "memory.events" => "low 0\noom 1\noom_kill 2\noom_group_kill 1\n",
            "memory.pressure" => "some avg10=1.50 avg60=0.20 avg300=0.00 total=77\nfull avg10=0.00 total=5\n",
            "io.stat" => "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=9\n\n254:1 \n",
            "rdma.max" => "mlx4_0 hca_handle=2 hca_object=max\n",
            "hugetlb.2MB.current" => "2097152\n",
            "hugetlb.2MB.events" => "max 6\n",
            _ => return None,
        };
        Some(text.to_owned())
    }

    #[test]
    fn files_become_metrics_and_a_missing_one_is_0() {
        let metrics = metrics(&files, &["2MB".to_owned()]);
        assert_eq!(metrics.pids, Some(PidsStat { current: 3, limit: u64::MAX }));
        let cpu = metrics.cpu.unwrap();
        assert_eq!((cpu.usage_usec, cpu.system_usec, cpu.nr_bursts, cpu.psi), (10, 3, 2, None));
        let memory = metrics.memory.unwrap();
        assert_eq!((memory.anon, memory.anon_thp, memory.workingset_refault), (1, 2, 7));
        assert_eq!((memory.usage, memory.usage_limit, memory.max_usage), (4096, u64::MAX, 0));
        let psi = memory.psi.unwrap();
        assert_eq!((psi.some.unwrap().avg10, psi.some.unwrap().total, psi.full.unwrap().total), (1.5, 77, 5));
        assert_eq!(metrics.memory_events.unwrap().oom_kill, 2);
        let io = metrics.io.unwrap().usage;
        assert_eq!(io[0], IoEntry { major: 8, minor: 0, rbytes: 1, wbytes: 2, rios: 3, wios: 4 });
        assert_eq!((io.len(), io[1].minor), (2, 1));
        let rdma = metrics.rdma.unwrap();
        assert_eq!((rdma.current.len(), rdma.limit[0].hca_handles, rdma.limit[0].hca_objects), (0, 2, u32::MAX));
        assert_eq!((metrics.hugetlb[0].current, metrics.hugetlb[0].failcnt), (2_097_152, 6));
    }

    #[test]
    fn a_cgroup_without_files_has_metrics() {
        assert_eq!(super::metrics(&|_| None, &[]).memory, Some(MemoryStat::default()));
    }
}
