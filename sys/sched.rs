//! How the kernel treats a process: CPU and I/O scheduling, affinity, NUMA memory policy, personality, limits.

use core::ops::RangeInclusive;

use super::error::{Result, SysError, check};

/// `struct sched_attr` of linux/sched/types.h, version 1 (Linux 5.3: with the utilisation clamps).
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct SchedAttr {
    pub size: u32,
    pub policy: u32,
    pub flags: u64,
    pub nice: i32,
    pub priority: u32,
    pub runtime: u64,
    pub deadline: u64,
    pub period: u64,
    pub util_min: u32,
    pub util_max: u32,
}

pub const SCHED_OTHER: u32 = 0;
pub const SCHED_FIFO: u32 = 1;
pub const SCHED_RR: u32 = 2;
pub const SCHED_BATCH: u32 = 3;
pub const SCHED_ISO: u32 = 4;
pub const SCHED_IDLE: u32 = 5;
pub const SCHED_DEADLINE: u32 = 6;

/// No kernel has more CPUs, or nodes of memory.
const MOST: u32 = 8192;

/// The ranges of a list of CPUs or nodes in the format of cpuset(7), `0-3,8`, as far as a kernel may have them. `None`: a part that
/// is no range.
pub fn ranges(list: &str) -> impl Iterator<Item = Option<RangeInclusive<u32>>> {
    let range = |part: &str| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.trim().parse().ok()?, last.trim().parse::<u32>().ok()?);
        Some(first..=last.min(MOST))
    };
    list.trim().split(',').filter(|part| !part.is_empty()).map(range)
}

/// Sets the scheduling policy and attributes of the caller; sched_setattr(2).
pub fn set_scheduler(attr: &SchedAttr) -> Result<()> {
    let attr = SchedAttr { size: size_of::<SchedAttr>() as u32, ..*attr };
    // SAFETY: `attr` lives through the call and its size field says how long it is.
    let ret = unsafe { libc::syscall(libc::SYS_sched_setattr, 0, &attr, 0) };
    check("sched_setattr", ret).map(drop)
}

/// The scheduling policy and attributes of the caller; sched_getattr(2).
pub fn scheduler() -> Result<SchedAttr> {
    let mut attr = SchedAttr::default();
    // SAFETY: the kernel writes at most the size that is passed, which is that of `attr`.
    let ret = unsafe { libc::syscall(libc::SYS_sched_getattr, 0, &mut attr, size_of::<SchedAttr>(), 0) };
    check("sched_getattr", ret).map(|_| attr)
}

/// Sets the I/O class (1 real-time, 2 best-effort, 3 idle) and priority of the caller; ioprio_set(2).
pub fn set_io_priority(class: u16, priority: u16) -> Result<()> {
    const IOPRIO_WHO_PROCESS: libc::c_long = 1;
    let value = libc::c_long::from(class) << 13 | libc::c_long::from(priority);
    // SAFETY: the arguments are numbers.
    let ret = unsafe { libc::syscall(libc::SYS_ioprio_set, IOPRIO_WHO_PROCESS, 0, value) };
    check("ioprio_set", ret).map(drop)
}

/// The I/O class and priority of the caller; ioprio_get(2).
pub fn io_priority() -> Result<(u16, u16)> {
    // SAFETY: the arguments are numbers.
    let ret = unsafe { libc::syscall(libc::SYS_ioprio_get, 1, 0) };
    let value = check("ioprio_get", ret)?;
    Ok((((value >> 13) & 7) as u16, (value & 0x1fff) as u16))
}

/// Sets the NUMA memory policy of the caller. `mode` includes the mode flags; set_mempolicy(2).
pub fn set_memory_policy(mode: u32, nodes: &[u64]) -> Result<()> {
    // The kernel reads one bit less than it is told.
    let bits = nodes.len() * 64 + 1;
    // SAFETY: `nodes` holds bits - 1 bits, and the kernel reads no more.
    let ret = unsafe { libc::syscall(libc::SYS_set_mempolicy, libc::c_ulong::from(mode), nodes.as_ptr(), bits) };
    check("set_mempolicy", ret).map(drop)
}

/// The execution domain 32-bit programs see; personality(2).
pub const PER_LINUX32: u64 = 0x0008;
pub const PER_LINUX: u64 = 0x0000;

/// Sets the execution domain of the caller.
pub fn set_personality(persona: u64) -> Result<()> {
    // SAFETY: takes a number.
    let ret = unsafe { libc::syscall(libc::SYS_personality, persona) };
    check("personality", ret).map(drop)
}

/// A limit of getrlimit(2): soft and hard, `u64::MAX` being no limit.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Limit {
    pub soft: u64,
    pub hard: u64,
}

/// Sets one resource limit of `pid`, 0 being the caller; prlimit(2). `resource` is the kernel's number.
pub fn set_limit(pid: i32, resource: u32, limit: Limit) -> Result<()> {
    let none = core::ptr::null_mut::<Limit>();
    // SAFETY: `limit` has the layout of struct rlimit64 and lives through the call; the old one is not asked for.
    let ret = unsafe { libc::syscall(libc::SYS_prlimit64, pid, resource, &limit, none) };
    check("prlimit", ret).map(drop)
}

/// One resource limit of the caller.
pub fn limit(resource: u32) -> Result<Limit> {
    let mut old = Limit::default();
    let none = core::ptr::null::<Limit>();
    // SAFETY: `old` has the layout of struct rlimit64; no new limit is set.
    let ret = unsafe { libc::syscall(libc::SYS_prlimit64, 0, resource, none, &mut old) };
    check("prlimit", ret).map(|_| old)
}

/// Restricts the caller to the CPUs whose bits are set; sched_setaffinity(2).
pub fn set_affinity(cpus: &[u64]) -> Result<()> {
    // SAFETY: `cpus` is as long as is said, in bytes.
    let ret = unsafe { libc::syscall(libc::SYS_sched_setaffinity, 0, size_of_val(cpus), cpus.as_ptr()) };
    check("sched_setaffinity", ret).map(drop)
}

/// The CPUs on which the caller may run, as bits from the lowest; returns how many bytes the kernel filled.
pub fn affinity(cpus: &mut [u64]) -> Result<usize> {
    // SAFETY: the kernel writes at most the size that is passed, which is that of `cpus`.
    let ret = unsafe { libc::syscall(libc::SYS_sched_getaffinity, 0, size_of_val(cpus), cpus.as_mut_ptr()) };
    let bytes = check("sched_getaffinity", ret)?;
    usize::try_from(bytes).map_err(|_| SysError::new("sched_getaffinity", super::Errno::EINVAL))
}
