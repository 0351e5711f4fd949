//! Who a thread is: ids, groups, capability sets, umask and no_new_privs (credentials(7), capabilities(7)).
//!
//! The raw system calls, not the C library's wrappers: those take locks to change every thread, and init has one.

use super::error::{Errno, Result, check};

/// The three sets that capset(2) takes, one bit a capability.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CapabilitySets {
    pub effective: u64,
    pub permitted: u64,
    pub inheritable: u64,
}

/// `_LINUX_CAPABILITY_VERSION_3` of linux/capability.h: 64 bits a set, in two halves.
const VERSION_3: u32 = 0x2008_0522;

#[repr(C)]
struct Header {
    version: u32,
    pid: i32,
}

#[repr(C)]
#[derive(Clone, Copy, Default)]
struct Half {
    effective: u32,
    permitted: u32,
    inheritable: u32,
}

/// The caller's capability sets; capget(2).
pub fn capabilities() -> Result<CapabilitySets> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let mut halves = [Half::default(); 2];
    // SAFETY: both point to live values of the layout of version 3, which has two data elements.
    let ret = unsafe { libc::syscall(libc::SYS_capget, &mut header, halves.as_mut_ptr()) };
    check("capget", ret)?;
    let [low, high] = halves;
    let join = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
    Ok(CapabilitySets {
        effective: join(low.effective, high.effective),
        permitted: join(low.permitted, high.permitted),
        inheritable: join(low.inheritable, high.inheritable),
    })
}

/// Sets the caller's capability sets; capset(2).
pub fn set_capabilities(sets: CapabilitySets) -> Result<()> {
    let mut header = Header { version: VERSION_3, pid: 0 };
    let half = |shift: u32| Half {
        effective: (sets.effective >> shift) as u32,
        permitted: (sets.permitted >> shift) as u32,
        inheritable: (sets.inheritable >> shift) as u32,
    };
    let halves = [half(0), half(32)];
    // SAFETY: both point to live values of the layout of version 3, which has two data elements.
    let ret = unsafe { libc::syscall(libc::SYS_capset, &mut header, halves.as_ptr()) };
    check("capset", ret).map(drop)
}

/// Gives up every capability but those in `kept`, one bit each; none is gained.
pub fn keep_only(kept: u64) -> Result<()> {
    let held = capabilities()?;
    let (effective, permitted) = (held.effective & kept, held.permitted & kept);
    set_capabilities(CapabilitySets { effective, permitted, inheritable: 0 })
}

/// prctl(2) with up to two numbers; the rest zero, as most options demand.
fn prctl(call: &'static str, option: i32, first: u64, second: u64) -> Result<libc::c_long> {
    // SAFETY: only options whose arguments are numbers are passed to this function.
    let ret = unsafe { libc::syscall(libc::SYS_prctl, libc::c_long::from(option), first, second, 0u64, 0u64) };
    check(call, ret)
}

/// Whether `capability` is in the bounding set; `EINVAL` if the kernel does not know it.
pub fn bounding_has(capability: u32) -> Result<bool> {
    prctl("prctl(PR_CAPBSET_READ)", libc::PR_CAPBSET_READ, u64::from(capability), 0).map(|has| has == 1)
}

/// Removes `capability` from the bounding set for good; needs CAP_SETPCAP.
pub fn bounding_drop(capability: u32) -> Result<()> {
    prctl("prctl(PR_CAPBSET_DROP)", libc::PR_CAPBSET_DROP, u64::from(capability), 0).map(drop)
}

/// Empties the ambient set.
pub fn ambient_clear() -> Result<()> {
    let operation = libc::PR_CAP_AMBIENT_CLEAR_ALL as u64;
    prctl("prctl(PR_CAP_AMBIENT_CLEAR_ALL)", libc::PR_CAP_AMBIENT, operation, 0).map(drop)
}

/// Adds `capability`, which must be permitted and inheritable, to the ambient set.
pub fn ambient_raise(capability: u32) -> Result<()> {
    let operation = libc::PR_CAP_AMBIENT_RAISE as u64;
    prctl("prctl(PR_CAP_AMBIENT_RAISE)", libc::PR_CAP_AMBIENT, operation, u64::from(capability)).map(drop)
}

/// Whether `capability` is in the ambient set.
#[cfg(any(test, feature = "testing"))]
pub fn ambient_has(capability: u32) -> Result<bool> {
    let operation = libc::PR_CAP_AMBIENT_IS_SET as u64;
    let has = prctl("prctl(PR_CAP_AMBIENT_IS_SET)", libc::PR_CAP_AMBIENT, operation, u64::from(capability))?;
    Ok(has == 1)
}

/// Makes the permitted set survive the next change from uid 0 to another; execve(2) clears it.
pub fn keep_capabilities() -> Result<()> {
    prctl("prctl(PR_SET_KEEPCAPS)", libc::PR_SET_KEEPCAPS, 1, 0).map(drop)
}

/// Undoes [`keep_capabilities`].
pub fn forget_capabilities() -> Result<()> {
    prctl("prctl(PR_SET_KEEPCAPS)", libc::PR_SET_KEEPCAPS, 0, 0).map(drop)
}

/// Forbids the thread and its children, for good, to gain privileges by execve(2).
pub fn set_no_new_privs() -> Result<()> {
    prctl("prctl(PR_SET_NO_NEW_PRIVS)", libc::PR_SET_NO_NEW_PRIVS, 1, 0).map(drop)
}

/// Whether no_new_privs is set.
pub fn no_new_privs() -> Result<bool> {
    prctl("prctl(PR_GET_NO_NEW_PRIVS)", libc::PR_GET_NO_NEW_PRIVS, 0, 0).map(|set| set == 1)
}

/// Sets the real, effective and saved user id of this thread. `u32::MAX` would mean "unchanged" to the kernel: an
/// id that nobody may ask for is `EINVAL` here, not a process that stays root.
pub fn set_uid(uid: u32) -> Result<()> {
    let id = valid_id("setresuid", uid)?;
    // SAFETY: the arguments are numbers.
    let ret = unsafe { libc::syscall(libc::SYS_setresuid, id, id, id) };
    check("setresuid", ret).map(drop)
}

/// Sets the real, effective and saved group id of this thread; `u32::MAX` is `EINVAL`, as in [`set_uid`].
pub fn set_gid(gid: u32) -> Result<()> {
    let id = valid_id("setresgid", gid)?;
    // SAFETY: the arguments are numbers.
    let ret = unsafe { libc::syscall(libc::SYS_setresgid, id, id, id) };
    check("setresgid", ret).map(drop)
}

fn valid_id(call: &'static str, id: u32) -> Result<libc::c_ulong> {
    if id == u32::MAX { Err(super::SysError::new(call, Errno::EINVAL)) } else { Ok(libc::c_ulong::from(id)) }
}

/// Replaces the supplementary groups of this thread.
pub fn set_groups(groups: &[u32]) -> Result<()> {
    // SAFETY: `groups` is that many gid_t, which are u32 on Linux.
    let ret = unsafe { libc::syscall(libc::SYS_setgroups, groups.len(), groups.as_ptr()) };
    check("setgroups", ret).map(drop)
}

/// The effective user id.
pub fn effective_uid() -> u32 {
    // SAFETY: takes nothing and cannot fail.
    unsafe { libc::geteuid() }
}

/// Sets the file mode creation mask and returns the one before.
pub fn set_umask(mask: u32) -> u32 {
    // SAFETY: takes a number and cannot fail.
    unsafe { libc::umask(mask) }
}
