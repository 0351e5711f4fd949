//! `linux.resources` for cgroup v2: fields modelled on v1 are converted as runc and crun do, so that a container gets
//! the same share from each. What v2 cannot do is refused.

use anyhow::{Result, bail};
use oci_spec::runtime::{LinuxBlockIo, LinuxCpu, LinuxMemory, LinuxResources};

use super::resources::{self, Author, Missing, Write, Writes, controller_of, set};

use crate::error::{Faults, field};

/// The writes for v2 but the device rules; `unified` comes last and so wins.
pub fn compile(resources: &LinuxResources, faults: &mut Faults) -> Result<Writes> {
    let mut writes = Writes::default();
    writes.warn_of_kernel_memory(resources);
    if let Some(pids) = resources.pids() {
        writes.push("pids.limit", "pids.max", resources::pids_max(pids.limit()));
    }
    if let Some(memory) = resources.memory() {
        faults.keep(self::memory(&mut writes, memory))?;
    }
    if let Some(io) = resources.block_io() {
        faults.keep(block_io(&mut writes, io, resources))?;
    }
    if let Some(cpu) = resources.cpu() {
        faults.keep(self::cpu(&mut writes, cpu))?;
    }
    for (field, size, limit) in faults.keep(resources::hugepage_limits(resources))?.unwrap_or_default() {
        writes.push(&field, &format!("hugetlb.{size}.max"), max(limit));
        writes.push_or(&field, &format!("hugetlb.{size}.rsvd.max"), max(limit), Missing::Ignore);
    }
    if let Some(network) = resources.network() {
        let priorities = network.priorities().as_ref().is_some_and(|list| !list.is_empty());
        faults.keep(refuse("network.classID", set(network.class_id()).is_some()))?;
        faults.keep(refuse("network.priorities", priorities))?;
    }
    faults.keep(resources::rdma(&mut writes, resources))?;
    faults.keep(unified(&mut writes, resources))?;
    Ok(writes)
}

fn refuse(field: &str, is_set: bool) -> Result<()> {
    if is_set {
        bail!(field!("linux.resources.{field}"; "cgroup v2 has no such setting"));
    }
    Ok(())
}

fn memory(writes: &mut Writes, memory: &LinuxMemory) -> Result<()> {
    refuse("memory.disableOOMKiller", memory.disable_oom_killer() == Some(true))?;
    // Docker's "unset" is -1.
    refuse("memory.swappiness", memory.swappiness().is_some_and(|swappiness| swappiness != u64::MAX))?;
    let (limit, swap) = (set(memory.limit()), set(memory.swap()));
    if let Some(swap) = swap_max(limit, swap)? {
        // Without swap accounting there is nothing to forbid or to allow.
        let missing = if swap == "0" || swap == "max" { Missing::Ignore } else { Missing::Refuse };
        let field = if memory.swap().is_some() { "memory.swap" } else { "memory.limit" };
        writes.push_or(field, "memory.swap.max", swap, missing);
    }
    if let Some(limit) = limit {
        writes.push("memory.limit", "memory.max", max(limit));
    }
    if let Some(reservation) = set(memory.reservation()) {
        writes.push("memory.reservation", "memory.low", max(reservation));
    }
    if memory.use_hierarchy() == Some(false) {
        let why = "ignored: memory is always accounted hierarchically on cgroup v2";
        writes.warnings.push(format!("linux.resources.memory.useHierarchy: {why}"));
    }
    Ok(())
}

/// The value of memory.swap.max. The field means memory and swap together, the file swap alone.
fn swap_max(limit: Option<i64>, swap: Option<i64>) -> Result<Option<String>> {
    const FIELD: &str = "linux.resources.memory.swap";
    let value = match (limit, swap) {
        // No limit on memory means none on swap either, as on v1.
        (Some(-1), None) | (_, Some(-1)) => "max".to_owned(),
        (_, None) => return Ok(None),
        (Some(-1), Some(swap)) => swap.to_string(),
        (None, Some(_)) => {
            bail!(field!("{FIELD}"; "needs linux.resources.memory.limit, from which the share of swap follows"))
        }
        (Some(limit), Some(swap)) if limit < 0 || swap < limit => {
            bail!(field!("{FIELD}"; "{swap} is below the limit of memory, {limit}"))
        }
        (Some(limit), Some(swap)) => (swap - limit).to_string(),
    };
    Ok(Some(value))
}

fn cpu(writes: &mut Writes, cpu: &LinuxCpu) -> Result<()> {
    refuse("cpu.realtimeRuntime", set(cpu.realtime_runtime()).is_some())?;
    refuse("cpu.realtimePeriod", set(cpu.realtime_period()).is_some())?;
    // An idle group takes no weight (EINVAL), so it gets it before it turns idle and after it no longer is.
    if cpu.idle() == Some(0) {
        writes.push("cpu.idle", "cpu.idle", 0);
    }
    if let Some(shares) = set(cpu.shares()) {
        writes.push("cpu.shares", "cpu.weight", weight_of_shares(shares));
    }
    if let Some(idle) = set(cpu.idle()) {
        writes.push("cpu.idle", "cpu.idle", idle);
    }
    let (quota, period) = (set(cpu.quota()), set(cpu.period()));
    if quota.is_some() || period.is_some() {
        let field = if quota.is_some() { "cpu.quota" } else { "cpu.period" };
        let quota = quota.filter(|quota| *quota > 0).map_or_else(|| "max".to_owned(), |quota| quota.to_string());
        // The kernel's default period (Documentation/admin-guide/cgroup-v2.rst, "cpu.max").
        writes.push(field, "cpu.max", format!("{quota} {}", period.unwrap_or(100_000)));
    }
    if let Some(burst) = cpu.burst() {
        writes.push("cpu.burst", "cpu.max.burst", burst);
    }
    for (field, file, value) in [("cpu.cpus", "cpuset.cpus", cpu.cpus()), ("cpu.mems", "cpuset.mems", cpu.mems())] {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            writes.push(field, file, value);
        }
    }
    Ok(())
}

fn block_io(writes: &mut Writes, io: &LinuxBlockIo, resources: &LinuxResources) -> Result<()> {
    refuse("blockIO.leafWeight", set(io.leaf_weight()).is_some())?;
    if let Some(weight) = set(io.weight()) {
        let missing = Missing::Instead("io.weight".to_owned(), io_weight(weight).to_string());
        writes.push_or("blockIO.weight", "io.bfq.weight", weight, missing);
    }
    for (field, device) in resources::weight_devices(resources) {
        refuse(&format!("{field}.leafWeight"), set(device.leaf_weight()).is_some())?;
        let number = resources::device_number(&field, device.major(), device.minor())?;
        if let Some(weight) = set(device.weight()) {
            let missing = Missing::Instead("io.weight".to_owned(), format!("{number} {}", io_weight(weight)));
            writes.push_or(&format!("{field}.weight"), "io.bfq.weight", format!("{number} {weight}"), missing);
        }
    }
    for (list, _, key, devices) in resources::throttles(resources) {
        for (index, device) in devices.iter().enumerate() {
            let field = format!("blockIO.{list}[{index}]");
            let number = resources::device_number(&field, device.major(), device.minor())?;
            // On v1, 0 takes the limit away; here that is a word of its own.
            let rate = set(Some(device.rate())).map_or_else(|| "max".to_owned(), |rate| rate.to_string());
            writes.push(&field, "io.max", format!("{number} {key}={rate}"));
        }
    }
    Ok(())
}

/// Files and values as they are, a write for each line (config-linux.md, "Unified"), ordered by name.
fn unified(writes: &mut Writes, resources: &LinuxResources) -> Result<()> {
    let Some(unified) = resources.unified() else { return Ok(()) };
    let mut keys: Vec<&String> = unified.keys().collect();
    keys.sort_unstable();
    for key in keys {
        let field = format!("linux.resources.unified[{key:?}]");
        if key.contains(['/', '\0']) {
            bail!(field!("{field}"; "must be the name of a file, without a slash"));
        }
        if key.starts_with('.') || !key.contains('.') {
            bail!(field!("{field}"; "must have the form CONTROLLER.PARAMETER"));
        }
        if matches!(key.as_str(), "cgroup.procs" | "cgroup.threads" | "cgroup.kill") {
            bail!(field!("{field}"; "is no limit, but moves or kills processes"));
        }
        let value = unified.get(key).map(String::as_str).unwrap_or_default();
        writes.list.extend(value.lines().filter(|line| !line.is_empty()).map(|line| Write {
            field: field.clone(),
            controller: controller_of(key).to_owned(),
            file: key.clone(),
            value: line.to_owned(),
            missing: Missing::Refuse,
            author: Author::Config,
        }));
    }
    Ok(())
}

/// -1 is v1's word for v2's `max`.
fn max(limit: i64) -> String {
    if limit == -1 { "max".to_owned() } else { limit.to_string() }
}

/// cpu.weight (1 to 10000, default 100) for CPU shares (2 to 262144, default 1024): the quadratic curve through
/// minimum, default and maximum on logarithmic scales that runc 1.3.2 and crun 1.23 use. The straight line that they
/// used before gave a default container 39 instead of 100 (kubernetes#131216).
fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        ..=2 => 1,
        262_144.. => 10_000,
        shares => {
            let log = (shares as f64).log2();
            let exponent = (log * log + 125.0 * log) / 612.0 - 7.0 / 34.0;
            10f64.powf(exponent).ceil() as u64
        }
    }
}

/// io.weight (1 to 10000) for a block IO weight (10 to 1000), linearly.
fn io_weight(weight: u16) -> u64 {
    1 + u64::from(weight.saturating_sub(10)) * 9999 / 990
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_map_to_weights_as_in_runc_and_crun() {
        let pairs = [(0, 1), (2, 1), (3, 2), (256, 35), (512, 59), (1024, 100), (2048, 174), (262_144, 10_000)];
        for (shares, weight) in pairs {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
    }

    #[test]
    fn block_weights_map_to_io_weights() {
        assert_eq!([10, 100, 500, 1000].map(io_weight), [1, 910, 4950, 10_000]);
    }

    #[test]
    fn swap_is_what_exceeds_memory() {
        let swap = |limit, swap| swap_max(limit, swap).unwrap();
        assert_eq!(swap(Some(100), Some(300)).as_deref(), Some("200"));
        assert_eq!(swap(Some(100), Some(100)).as_deref(), Some("0"));
        assert_eq!(swap(Some(100), Some(-1)).as_deref(), Some("max"));
        assert_eq!(swap(Some(-1), None).as_deref(), Some("max"));
        assert_eq!(swap(Some(-1), Some(300)).as_deref(), Some("300"));
        assert_eq!(swap(Some(100), None), None);
        let error = |limit, swap| swap_max(limit, swap).unwrap_err().to_string();
        assert!(error(None, Some(300)).contains("needs linux.resources.memory.limit"));
        assert!(error(Some(300), Some(100)).ends_with("100 is below the limit of memory, 300"));
    }
}
