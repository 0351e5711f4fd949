//! The rules about `linux.resources`: limits that are missing, and such as the kernel does not take.

use oci_spec::runtime::{Linux, LinuxCpu, LinuxDeviceCgroup, LinuxDeviceType, LinuxResources};

use super::code::Code;
use super::finding::{Author, Finding, Surroundings};
use crate::sys::sched::ranges;

/// With less, init does not come as far as its program: page tables, stack and what the kernel keeps for it. Measured with a
/// static binary on cgroup v1; v2 counts more of the kernel.
const LEAST_MEMORY: i64 = 128 * 1024;
/// kernel/sched/core.c: a quota and a period are no less than this, in microseconds; a period no more than a second.
const LEAST_TIME: i64 = 1000;
const MOST_PERIOD: u64 = 1_000_000;

pub(super) fn rules(linux: &Linux, around: &Surroundings, found: &mut Vec<Finding>) {
    let none = LinuxResources::default();
    let resources = linux.resources().as_ref().unwrap_or(&none);
    memory(resources, found);
    pids(resources, around, found);
    for (index, rule) in resources.devices().iter().flatten().enumerate().filter(|(_, rule)| allows_everything(rule)) {
        let access = rule.access().as_deref().unwrap_or("rwm");
        let why = format!("every device of the host may be used ({access}), its disks included");
        found.push(Finding::new(Code::DevicesAllAllowed, format!("linux.resources.devices[{index}]"), why));
    }
    resources.cpu().iter().for_each(|cpu| self::cpu(cpu, around, found));
}

/// Whether `file` of cgroup v2 is written as it is.
fn is_unified(resources: &LinuxResources, file: &str) -> bool {
    resources.unified().as_ref().is_some_and(|unified| unified.contains_key(file))
}

fn memory(resources: &LinuxResources, found: &mut Vec<Finding>) {
    let Some(memory) = resources.memory() else { return };
    let Some(limit) = memory.limit().filter(|limit| *limit > 0) else { return };
    if limit < LEAST_MEMORY {
        let why = format!("{limit} bytes, and init needs {LEAST_MEMORY}");
        found.push(Finding::new(Code::MemoryTooSmall, "linux.resources.memory.limit", why));
    }
    let has_swap = memory.swap().is_some_and(|swap| swap != 0) || is_unified(resources, "memory.swap.max");
    if !has_swap {
        let why = "memory is limited, swap is not: the container may fill all of the host's";
        found.push(Finding::new(Code::MemoryWithoutSwap, "linux.resources.memory.swap", why));
    }
}

/// Docker has no limit unless its user gives one, and kubelet limits the pod.
fn pids(resources: &LinuxResources, around: &Surroundings, found: &mut Vec<Finding>) {
    let is_left_to_others = matches!(around.author, Some(Author::Docker | Author::Cri));
    let is_limited =
        resources.pids().as_ref().is_some_and(|pids| pids.limit() > 0) || is_unified(resources, "pids.max");
    if !is_limited && !is_left_to_others {
        let why = "the container may make as many processes as the host has room for";
        found.push(Finding::new(Code::PidsUnlimited, "linux.resources.pids.limit", why));
    }
}

fn allows_everything(rule: &LinuxDeviceCgroup) -> bool {
    let is_any = |number: Option<i64>| number.is_none_or(|number| number == -1);
    let access = rule.access().as_deref().unwrap_or("rwm");
    rule.allow()
        && matches!(rule.typ(), None | Some(LinuxDeviceType::A))
        && is_any(rule.major())
        && is_any(rule.minor())
        && access.contains(['r', 'w'])
}

fn cpu(cpu: &LinuxCpu, around: &Surroundings, found: &mut Vec<Finding>) {
    let mut impossible = |field: &str, why: String| {
        found.push(Finding::new(Code::LimitImpossible, format!("linux.resources.cpu.{field}"), why));
    };
    if let Some(quota) = cpu.quota().filter(|quota| (1..LEAST_TIME).contains(quota)) {
        impossible("quota", format!("{quota} microseconds, and the kernel takes no less than {LEAST_TIME}"));
    }
    if let Some(period) = cpu.period().filter(|period| *period != 0)
        && !(LEAST_TIME.unsigned_abs()..=MOST_PERIOD).contains(&period)
    {
        impossible("period", format!("{period} microseconds, and the kernel takes {LEAST_TIME} to {MOST_PERIOD}"));
    }
    let Some((wanted, online)) = cpu.cpus().as_deref().zip(around.processors.as_deref()) else { return };
    // What is no number is passed over.
    let [wanted_ones, online_ones] =
        [wanted, online].map(|list| ranges(list).flatten().flatten().collect::<Vec<u32>>());
    if wanted_ones.iter().any(|cpu| !online_ones.contains(cpu)) {
        impossible("cpus", format!("{wanted}: online are {online}"));
    }
}
