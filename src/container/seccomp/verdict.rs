//! What the kernel gets back of a program: SECCOMP_RET_* and its data.

use anyhow::{Context, Result, ensure};
use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompAction as Action};

use crate::error::field;

/// Values of linux/seccomp.h.
pub const RET_KILL_PROCESS: u32 = 0x8000_0000;
pub const RET_KILL_THREAD: u32 = 0;
pub const RET_TRAP: u32 = 0x0003_0000;
pub const RET_ERRNO: u32 = 0x0005_0000;
pub const RET_USER_NOTIF: u32 = 0x7fc0_0000;
pub const RET_TRACE: u32 = 0x7ff0_0000;
pub const RET_LOG: u32 = 0x7ffc_0000;
pub const RET_ALLOW: u32 = 0x7fff_0000;
/// SECCOMP_RET_ACTION_FULL.
pub const RET_ACTION: u32 = 0xffff_0000;

pub const EPERM: u32 = 1;
pub const ENOSYS: u32 = 38;
/// The kernel's MAX_ERRNO.
pub const MAX_ERRNO: u32 = 4095;
/// The kernel's BPF_MAXINSNS.
pub const MAX_INSTRUCTIONS: usize = 4096;

pub fn default_verdict(spec: &LinuxSeccomp) -> Result<u32> {
    verdict(spec.default_action(), spec.default_errno_ret()).context(field!("linux.seccomp.defaultErrnoRet"))
}

/// SECCOMP_RET_* of an action. Without an errno it is EPERM; with one that the action does not take, the specification
/// wants an error (config-linux.md, Seccomp). libseccomp, and so runc, takes no errno above the kernel's MAX_ERRNO.
pub fn verdict(action: Action, errno: Option<u32>) -> Result<u32> {
    let data = errno.unwrap_or(EPERM);
    let plain = match action {
        Action::ScmpActErrno => {
            ensure!(data <= MAX_ERRNO, "{data} is not an errno (0 to {MAX_ERRNO})");
            return Ok(RET_ERRNO | data);
        }
        Action::ScmpActTrace => {
            ensure!(data <= u32::from(u16::MAX), "{data} does not fit the 16 bits that a tracer gets");
            return Ok(RET_TRACE | data);
        }
        Action::ScmpActKill | Action::ScmpActKillThread => RET_KILL_THREAD,
        Action::ScmpActKillProcess => RET_KILL_PROCESS,
        Action::ScmpActTrap => RET_TRAP,
        Action::ScmpActLog => RET_LOG,
        Action::ScmpActAllow => RET_ALLOW,
        Action::ScmpActNotify => RET_USER_NOTIF,
    };
    ensure!(errno.is_none(), "{action} takes no errno");
    Ok(plain)
}

/// What a system call gets that is newer than all the profile names, instead of the default action; None: nothing else.
///
/// C libraries try a new call first and take an older one if there is none: they look for ENOSYS, and a profile written
/// before the new call existed would give them EPERM. So runc does (libcontainer/seccomp/patchbpf), but not where the
/// default action lets the call through, or has a tracer decide.
pub fn stub(default: Action) -> Option<u32> {
    match default {
        Action::ScmpActAllow | Action::ScmpActLog | Action::ScmpActTrace | Action::ScmpActNotify => None,
        _ => Some(RET_ERRNO | ENOSYS),
    }
}
