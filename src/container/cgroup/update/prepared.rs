//! What an update will write, from what is asked for and what holds already.

use anyhow::Result;
use oci_spec::runtime::{LinuxCpu, LinuxDeviceCgroup, LinuxMemory, LinuxResources};

use crate::container::cgroup::host::file;
use crate::container::cgroup::host::layout::Layout;
use crate::container::cgroup::paths::Paths;
use crate::container::cgroup::wanted::applied::Applied;
use crate::container::cgroup::wanted::device_filter;
use crate::container::cgroup::wanted::device_rules::Rules;
use crate::container::cgroup::wanted::resources::{self, Missing, Write, Writes};
use crate::container::cgroup::wanted::{v1, v2};
use crate::error::Faults;
use crate::sys::cgroup;

/// A prepared update. Nothing is touched before [`LimitUpdate::apply`].
#[derive(Debug)]
pub struct LimitUpdate {
    /// Each with its directory, in the order in which they are made.
    pub(super) writes: Vec<(String, Write)>,
    pub(super) devices: Option<Devices>,
    /// A limit of memory that is refused if more is in use (`memory.checkBeforeUpdate`).
    pub(super) check_before_update: Option<i64>,
    /// What holds afterwards.
    pub applied: Applied,
    pub warnings: Vec<String>,
}

/// Device rules in the form that the hierarchy wants.
#[derive(Debug)]
pub(super) enum Devices {
    V1(Rules),
    V2 { program: Vec<crate::sys::bpf::EbpfInstruction>, rules: Rules },
}

impl Devices {
    pub fn rules(&self) -> &Rules {
        let (Self::V1(rules) | Self::V2 { rules, .. }) = self;
        rules
    }
}

impl LimitUpdate {
    /// What is written, each with its directory.
    pub fn writes(&self) -> &[(String, Write)] {
        &self.writes
    }
}

/// Prepares an update of the cgroup at `paths` by what `wanted` sets; all else stays.
pub fn compile(wanted: LinuxResources, paths: &Paths, applied: Applied) -> Result<LimitUpdate> {
    let is_v2 = paths.layout == Layout::V2;
    let resources = if is_v2 { completed(wanted, paths, applied)? } else { wanted };
    let compile = if is_v2 { v2::compile } else { v1::compile };
    let Writes { list, warnings } = compile(&resources, &mut Faults::first())?;
    let mut writes = Vec::with_capacity(list.len());
    for write in list {
        match paths.directory_of(&write.controller) {
            Some(directory) => writes.push((directory.to_owned(), write)),
            None if write.missing == Missing::Ignore => {}
            None => return Err(write.not_available()),
        }
    }
    let memory = resources.memory().as_ref();
    let (devices, digest) = match resources.devices().as_ref().filter(|list| !list.is_empty()) {
        Some(list) => devices(list, is_v2, applied.devices)?,
        None => (None, applied.devices),
    };
    let applied = Applied {
        memory: memory.and_then(|memory| resources::set(memory.limit())).or(applied.memory),
        swap: memory.and_then(|memory| resources::set(memory.swap())).or(applied.swap),
        devices: digest,
    };
    let checked = memory.filter(|memory| memory.check_before_update() == Some(true));
    let check_before_update = checked.and_then(|memory| resources::set(memory.limit()));
    Ok(LimitUpdate { writes, devices, check_before_update, applied, warnings })
}

/// The rules, if they are not those that hold already, and their digest.
fn devices(list: &[LinuxDeviceCgroup], is_v2: bool, old: u64) -> Result<(Option<Devices>, u64)> {
    let rules = Rules::compile(list)?;
    let digest = rules.digest();
    if digest == old {
        return Ok((None, old));
    }
    if !is_v2 {
        // What v1 cannot express is refused here, with nothing done.
        rules.lines()?;
        return Ok((Some(Devices::V1(rules)), digest));
    }
    Ok((Some(Devices::V2 { program: device_filter::limited(&rules)?, rules }), digest))
}

/// What v2 takes only together is completed by what holds: memory and the sum of memory and swap, quota and period.
fn completed(mut wanted: LinuxResources, paths: &Paths, applied: Applied) -> Result<LinuxResources> {
    if let Some(memory) = wanted.memory_mut() {
        complete_memory(memory, applied);
    }
    if let Some(cpu) = wanted.cpu_mut() {
        let text = paths.directory_of("cpu").and_then(|directory| {
            let name = std::ffi::CString::new(format!("{directory}/cpu.max")).ok()?;
            file::read(cgroup::here(), &name).ok()
        });
        complete_cpu(cpu, text.as_deref().unwrap_or_default());
    }
    Ok(wanted)
}

/// `memory.swap` limits memory and swap together, as on v1: the share of swap follows from both.
fn complete_memory(memory: &mut LinuxMemory, applied: Applied) {
    match (resources::set(memory.limit()), resources::set(memory.swap())) {
        (None, Some(swap)) if swap != -1 => drop(memory.set_limit(applied.memory)),
        // No limit on memory lifts that of both.
        (Some(-1), None) => drop(memory.set_swap(Some(-1))),
        (Some(_), None) => drop(memory.set_swap(applied.swap)),
        _ => {}
    }
}

/// `text`: what cpu.max has now.
fn complete_cpu(cpu: &mut LinuxCpu, text: &str) {
    let mut words = text.split_whitespace();
    let (quota, period) = (words.next(), words.next());
    match (resources::set(cpu.quota()), resources::set(cpu.period())) {
        (Some(_), None) => drop(cpu.set_period(period.and_then(|period| period.parse().ok()))),
        (None, Some(_)) => drop(cpu.set_quota(quota.and_then(|quota| quota.parse().ok()))),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn memory(
        limit: Option<i64>,
        swap: Option<i64>,
        applied: (Option<i64>, Option<i64>),
    ) -> (Option<i64>, Option<i64>) {
        let mut memory = LinuxMemory::default();
        memory.set_limit(limit).set_swap(swap);
        complete_memory(&mut memory, Applied { memory: applied.0, swap: applied.1, devices: 0 });
        (memory.limit(), memory.swap())
    }

    #[test]
    fn memory_and_swap_are_completed_by_what_was_asked_for_before() {
        assert_eq!(memory(None, Some(300), (Some(100), None)), (Some(100), Some(300)));
        assert_eq!(memory(Some(200), None, (Some(100), Some(300))), (Some(200), Some(300)));
        assert_eq!(memory(Some(200), None, (Some(100), None)), (Some(200), None));
        assert_eq!(memory(Some(-1), None, (Some(100), Some(300))), (Some(-1), Some(-1)));
        assert_eq!(memory(None, Some(-1), (Some(100), Some(300))), (None, Some(-1)));
        assert_eq!(memory(None, None, (Some(100), Some(300))), (None, None));
        // Go's zero is "not set".
        assert_eq!(memory(Some(0), Some(300), (Some(100), None)), (Some(100), Some(300)));
    }

    #[test]
    fn quota_and_period_are_completed_by_what_the_kernel_has() {
        let complete = |quota, period, text| {
            let mut cpu = LinuxCpu::default();
            cpu.set_quota(quota).set_period(period);
            complete_cpu(&mut cpu, text);
            (cpu.quota(), cpu.period())
        };
        assert_eq!(complete(Some(5000), None, "max 50000\n"), (Some(5000), Some(50_000)));
        assert_eq!(complete(None, Some(200_000), "7000 100000\n"), (Some(7000), Some(200_000)));
        assert_eq!(complete(None, Some(200_000), "max 100000\n"), (None, Some(200_000)));
        assert_eq!(complete(Some(1), Some(2), "max 100000\n"), (Some(1), Some(2)));
        assert_eq!(complete(None, None, "7000 100000\n"), (None, None));
    }
}
