//! The metrics: each field has its own number for its value.

use super::super::metrics_rdma;
use super::*;

#[test]
fn types_are_what_consumers_switch_on() {
    assert_eq!(Any::pack(&v1::Metrics::default()).type_url, "io.containerd.cgroups.v1.Metrics");
    assert_eq!(Any::pack(&v2::Metrics::default()).type_url, "io.containerd.cgroups.v2.Metrics");
}

fn v2_psi() -> (Option<v2::PsiStats>, Content) {
    let data = v2::PsiData { avg10: 1.5, avg60: 2.5, avg300: 3.5, total: 4 };
    let fields = || M(bytes(&[(1, F(1.5)), (2, F(2.5)), (3, F(3.5)), (4, N(4))]));
    (Some(v2::PsiStats { some: Some(data), full: Some(data) }), M(bytes(&[(1, fields()), (2, fields())])))
}

#[test]
fn memory_of_v2() {
    let (psi, field) = v2_psi();
    let memory = v2::MemoryStat {
        anon: 1,
        file: 2,
        kernel_stack: 3,
        slab: 4,
        sock: 5,
        shmem: 6,
        file_mapped: 7,
        file_dirty: 8,
        file_writeback: 9,
        anon_thp: 10,
        inactive_anon: 11,
        active_anon: 12,
        inactive_file: 13,
        active_file: 14,
        unevictable: 15,
        slab_reclaimable: 16,
        slab_unreclaimable: 17,
        pgfault: 18,
        pgmajfault: 19,
        workingset_refault: 20,
        workingset_activate: 21,
        workingset_nodereclaim: 22,
        pgrefill: 23,
        pgscan: 24,
        pgsteal: 25,
        pgactivate: 26,
        pgdeactivate: 27,
        pglazyfree: 28,
        pglazyfreed: 29,
        thp_fault_alloc: 30,
        thp_collapse_alloc: 31,
        usage: 32,
        usage_limit: 33,
        swap_usage: 34,
        swap_limit: 35,
        max_usage: 36,
        swap_max_usage: 37,
        psi,
    };
    let mut fields = numbers(37);
    fields.push((38, field));
    same(memory, &fields);
}

#[test]
fn the_rest_of_v2() {
    let ((cpu_psi, cpu_field), (io_psi, io_field)) = (v2_psi(), v2_psi());
    let rdma = metrics_rdma::RdmaEntry { device: text("d"), hca_handles: 2, hca_objects: 3 };
    let metrics = v2::Metrics {
        pids: Some(v2::PidsStat { current: 1, limit: u64::MAX }),
        cpu: Some(v2::CpuStat {
            usage_usec: 1,
            user_usec: 2,
            system_usec: 3,
            nr_periods: 4,
            nr_throttled: 5,
            throttled_usec: 6,
            psi: cpu_psi,
            nr_bursts: 8,
            burst_usec: 9,
        }),
        memory: Some(v2::MemoryStat { anon: 1, ..Default::default() }),
        rdma: Some(metrics_rdma::RdmaStat { current: vec![rdma.clone()], limit: vec![rdma] }),
        io: Some(v2::IoStat {
            usage: vec![v2::IoEntry { major: 1, minor: 2, rbytes: 3, wbytes: 4, rios: 5, wios: 6 }],
            psi: io_psi,
        }),
        hugetlb: vec![v2::HugeTlbStat { current: 1, max: 2, pagesize: text("2MB"), failcnt: 4 }],
        memory_events: Some(v2::MemoryEvents { low: 1, high: 2, max: 3, oom: 4, oom_kill: 5, oom_group_kill: 6 }),
    };
    let mut cpu = numbers(6);
    cpu.extend([(7, cpu_field), (8, N(8)), (9, N(9))]);
    let rdma = || M(bytes(&[(1, T("d")), (2, N(2)), (3, N(3))]));
    let fields = [
        (1, M(bytes(&[(1, N(1)), (2, N(u64::MAX))]))),
        (2, M(bytes(&cpu))),
        (4, M(bytes(&numbers(1)))),
        (5, M(bytes(&[(1, rdma()), (2, rdma())]))),
        (6, M(bytes(&[(1, M(bytes(&numbers(6)))), (2, io_field)]))),
        (7, M(bytes(&[(1, N(1)), (2, N(2)), (3, T("2MB")), (4, N(4))]))),
        (8, M(bytes(&numbers(6)))),
    ];
    same(metrics, &fields);
}

#[test]
fn memory_of_v1() {
    let entry = Some(v1::MemoryEntry { limit: 1, usage: 2, max: 3, failcnt: 4 });
    let memory = v1::MemoryStat {
        cache: 1,
        rss: 2,
        rss_huge: 3,
        mapped_file: 4,
        dirty: 5,
        writeback: 6,
        pg_pg_in: 7,
        pg_pg_out: 8,
        pg_fault: 9,
        pg_maj_fault: 10,
        inactive_anon: 11,
        active_anon: 12,
        inactive_file: 13,
        active_file: 14,
        unevictable: 15,
        hierarchical_memory_limit: 16,
        hierarchical_swap_limit: 17,
        total_cache: 18,
        total_rss: 19,
        total_rss_huge: 20,
        total_mapped_file: 21,
        total_dirty: 22,
        total_writeback: 23,
        total_pg_pg_in: 24,
        total_pg_pg_out: 25,
        total_pg_fault: 26,
        total_pg_maj_fault: 27,
        total_inactive_anon: 28,
        total_active_anon: 29,
        total_inactive_file: 30,
        total_active_file: 31,
        total_unevictable: 32,
        usage: entry,
        swap: entry,
        kernel: entry,
        kernel_tcp: entry,
    };
    let mut fields = numbers(32);
    fields.extend((33..=36).map(|number| (number, M(bytes(&numbers(4))))));
    same(memory, &fields);
}

#[test]
fn the_rest_of_v1() {
    let block = |value| v1::BlkIoEntry { op: text("Read"), device: text("/dev/x"), major: 3, minor: 4, value };
    let rdma = metrics_rdma::RdmaEntry { device: text("d"), hca_handles: 2, hca_objects: 3 };
    let metrics = v1::Metrics {
        hugetlb: vec![v1::HugetlbStat { usage: 1, max: 2, failcnt: 3, pagesize: text("2MB") }],
        pids: Some(v1::PidsStat { current: 1, limit: 2 }),
        cpu: Some(v1::CpuStat {
            usage: Some(v1::CpuUsage { total: 1, kernel: 2, user: 3, per_cpu: vec![4, 5] }),
            throttling: Some(v1::Throttle { periods: 1, throttled_periods: 2, throttled_time: 3 }),
        }),
        memory: Some(v1::MemoryStat { cache: 1, ..Default::default() }),
        blkio: Some(v1::BlkIoStat {
            io_service_bytes_recursive: vec![block(1)],
            io_serviced_recursive: vec![block(2)],
            io_queued_recursive: vec![block(3)],
            io_service_time_recursive: vec![block(4)],
            io_wait_time_recursive: vec![block(5)],
            io_merged_recursive: vec![block(6)],
            io_time_recursive: vec![block(7)],
            sectors_recursive: vec![block(8)],
        }),
        rdma: Some(metrics_rdma::RdmaStat { current: vec![rdma.clone()], limit: vec![rdma] }),
        memory_oom_control: Some(v1::MemoryOomControl { oom_kill_disable: 1, under_oom: 2, oom_kill: 3 }),
    };
    let block = |value| M(bytes(&[(1, T("Read")), (2, T("/dev/x")), (3, N(3)), (4, N(4)), (5, N(value))]));
    let blocks: Vec<_> = (1..=8).map(|number| (number, block(number))).collect();
    let mut usage = numbers(3);
    usage.push((4, M(vec![4, 5])));
    let rdma = || M(bytes(&[(1, T("d")), (2, N(2)), (3, N(3))]));
    let fields = [
        (1, M(bytes(&[(1, N(1)), (2, N(2)), (3, N(3)), (4, T("2MB"))]))),
        (2, M(bytes(&numbers(2)))),
        (3, M(bytes(&[(1, M(bytes(&usage))), (2, M(bytes(&numbers(3))))]))),
        (4, M(bytes(&numbers(1)))),
        (5, M(bytes(&blocks))),
        (6, M(bytes(&[(1, rdma()), (2, rdma())]))),
        (9, M(bytes(&numbers(3)))),
    ];
    same(metrics, &fields);
}
