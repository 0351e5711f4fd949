//! `linux.resources` for cgroup v1, whose control files the fields are modelled on.

use anyhow::{Result, bail};
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxNetwork, LinuxResources};

use super::resources::{self, Missing, Writes, set};

use crate::error::{Faults, field};

/// The writes for v1 but the device rules, in an order that the kernel accepts for a new cgroup.
pub fn compile(resources: &LinuxResources, faults: &mut Faults) -> Result<Writes> {
    let mut writes = Writes::default();
    writes.warn_of_kernel_memory(resources);
    faults.keep(refuse_unified(resources))?;
    if let Some(cpu) = resources.cpu() {
        cpuset(&mut writes, cpu);
        faults.keep(self::cpu(&mut writes, cpu))?;
    }
    if let Some(memory) = resources.memory() {
        faults.keep(self::memory(&mut writes, memory))?;
    }
    if let Some(pids) = resources.pids() {
        writes.push("pids.limit", "pids.max", resources::pids_max(pids.limit()));
    }
    if let Some(io) = resources.block_io() {
        faults.keep(block_io(&mut writes, io, resources))?;
    }
    for (field, size, limit) in faults.keep(resources::hugepage_limits(resources))?.unwrap_or_default() {
        writes.push(&field, &format!("hugetlb.{size}.limit_in_bytes"), limit);
        // Reserved pages have their own limit since Linux 5.7; a reservation would pass by the other one.
        writes.push_or(&field, &format!("hugetlb.{size}.rsvd.limit_in_bytes"), limit, Missing::Ignore);
    }
    if let Some(network) = resources.network() {
        faults.keep(self::network(&mut writes, network))?;
    }
    faults.keep(resources::rdma(&mut writes, resources))?;
    Ok(writes)
}

fn refuse_unified(resources: &LinuxResources) -> Result<()> {
    if resources.unified().as_ref().is_some_and(|unified| !unified.is_empty()) {
        bail!(
            field!("linux.resources.unified"; "this host's controllers are on cgroup v1, which has no unified hierarchy")
        );
    }
    Ok(())
}

fn cpuset(writes: &mut Writes, cpu: &LinuxCpu) {
    for (field, file, value) in [("cpu.cpus", "cpuset.cpus", cpu.cpus()), ("cpu.mems", "cpuset.mems", cpu.mems())] {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            writes.push(field, file, value);
        }
    }
}

fn cpu(writes: &mut Writes, cpu: &LinuxCpu) -> Result<()> {
    // An idle group takes no shares (EINVAL), so it gets them before it turns idle and after it no longer is.
    if cpu.idle() == Some(0) {
        writes.push("cpu.idle", "cpu.idle", 0);
    }
    if let Some(shares) = set(cpu.shares()) {
        // The kernel would silently take the nearest value.
        if !(2..=262_144).contains(&shares) {
            bail!(field!("linux.resources.cpu.shares"; "{shares} is not between 2 and 262144"));
        }
        writes.push("cpu.shares", "cpu.shares", shares);
    }
    if let Some(idle) = set(cpu.idle()) {
        writes.push("cpu.idle", "cpu.idle", idle);
    }
    // The real-time budget must be there before a real-time process joins.
    if let Some(period) = set(cpu.realtime_period()) {
        writes.push("cpu.realtimePeriod", "cpu.rt_period_us", period);
    }
    if let Some(runtime) = set(cpu.realtime_runtime()) {
        writes.push("cpu.realtimeRuntime", "cpu.rt_runtime_us", runtime);
    }
    if let Some(period) = set(cpu.period()) {
        writes.push("cpu.period", "cpu.cfs_period_us", period);
    }
    if let Some(quota) = set(cpu.quota()) {
        writes.push("cpu.quota", "cpu.cfs_quota_us", quota);
    }
    if let Some(burst) = cpu.burst() {
        writes.push("cpu.burst", "cpu.cfs_burst_us", burst);
    }
    Ok(())
}

fn memory(writes: &mut Writes, memory: &LinuxMemory) -> Result<()> {
    let (limit, swap) = (set(memory.limit()), set(memory.swap()));
    if let Some(limit) = limit {
        writes.push("memory.limit", "memory.limit_in_bytes", limit);
    }
    // Limits memory and swap together, so it may not be below the memory limit. No limit on memory lifts this one too.
    match (limit, swap) {
        (_, Some(swap)) => drop(writes.push("memory.swap", "memory.memsw.limit_in_bytes", swap)),
        (Some(-1), None) => {
            writes.push_or("memory.limit", "memory.memsw.limit_in_bytes", -1, Missing::Ignore);
        }
        _ => {}
    }
    if let Some(reservation) = set(memory.reservation()) {
        writes.push("memory.reservation", "memory.soft_limit_in_bytes", reservation);
    }
    if memory.disable_oom_killer() == Some(true) {
        writes.push("memory.disableOOMKiller", "memory.oom_control", 1);
    }
    // Docker's "unset" is -1.
    match memory.swappiness().filter(|swappiness| *swappiness != u64::MAX) {
        Some(swappiness @ 0..=100) => drop(writes.push("memory.swappiness", "memory.swappiness", swappiness)),
        Some(swappiness) => bail!(field!("linux.resources.memory.swappiness"; "{swappiness} is not between 0 and 100")),
        None => {}
    }
    if memory.use_hierarchy() == Some(false) {
        let why = "ignored: memory is always accounted hierarchically since Linux 5.11";
        writes.warnings.push(format!("linux.resources.memory.useHierarchy: {why}"));
    }
    Ok(())
}

fn block_io(writes: &mut Writes, io: &LinuxBlockIo, resources: &LinuxResources) -> Result<()> {
    // CFQ's files went with Linux 5.0; BFQ's have its name, and no leaf weights.
    let bfq = |value: &str, file: &str| Missing::Instead(format!("blkio.bfq.{file}"), value.to_owned());
    if let Some(weight) = set(io.weight()) {
        let value = weight.to_string();
        writes.push_or("blockIO.weight", "blkio.weight", &value, bfq(&value, "weight"));
    }
    if let Some(weight) = set(io.leaf_weight()) {
        writes.push("blockIO.leafWeight", "blkio.leaf_weight", weight);
    }
    for (field, device) in resources::weight_devices(resources) {
        let number = resources::device_number(&field, device.major(), device.minor())?;
        if let Some(weight) = set(device.weight()) {
            let value = format!("{number} {weight}");
            writes.push_or(&format!("{field}.weight"), "blkio.weight_device", &value, bfq(&value, "weight_device"));
        }
        if let Some(weight) = set(device.leaf_weight()) {
            writes.push(&format!("{field}.leafWeight"), "blkio.leaf_weight_device", format!("{number} {weight}"));
        }
    }
    for (list, file, _, devices) in resources::throttles(resources) {
        for (index, device) in devices.iter().enumerate() {
            let field = format!("blockIO.{list}[{index}]");
            let number = resources::device_number(&field, device.major(), device.minor())?;
            writes.push(&field, file, format!("{number} {}", device.rate()));
        }
    }
    Ok(())
}

fn network(writes: &mut Writes, network: &LinuxNetwork) -> Result<()> {
    if let Some(class) = set(network.class_id()) {
        writes.push("network.classID", "net_cls.classid", class);
    }
    for (index, entry) in network.priorities().as_deref().unwrap_or_default().iter().enumerate() {
        let (field, name) = (format!("network.priorities[{index}]"), entry.name());
        if name.is_empty() || name.contains([' ', '\n']) {
            bail!(field!("linux.resources.{field}.name"; "{name:?} is not the name of an interface"));
        }
        writes.push(&field, "net_prio.ifpriomap", format!("{name} {}", entry.priority()));
    }
    Ok(())
}
