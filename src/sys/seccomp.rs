//! seccomp(2) filters: the instruction the kernel takes, and the call that installs a program.

use super::error::{Result, SysError, check};
use nix::errno::Errno;

/// One instruction of classic BPF, laid out as `struct sock_filter` of linux/filter.h.
#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Instruction {
    pub code: u16,
    pub jt: u8,
    pub jf: u8,
    pub k: u32,
}

const _: () = assert!(size_of::<Instruction>() == size_of::<libc::sock_filter>());
const _: () = assert!(align_of::<Instruction>() == align_of::<libc::sock_filter>());

/// `struct sock_fprog`.
#[repr(C)]
struct Program {
    len: u16,
    filter: *const Instruction,
}

/// Adds `program` to the filters of the calling thread, and, with SECCOMP_FILTER_FLAG_TSYNC, of all its siblings.
///
/// seccomp(2), SECCOMP_SET_MODE_FILTER. EACCES: neither no_new_privs nor CAP_SYS_ADMIN in the user namespace. EINVAL: a
/// flag or an instruction this kernel does not know. ESRCH stands for a sibling thread that could not be synchronised.
/// With SECCOMP_FILTER_FLAG_NEW_LISTENER the call would return a descriptor: no caller of this function may set it.
pub fn seccomp_set_mode_filter(flags: u32, program: &[Instruction]) -> Result<()> {
    let len = u16::try_from(program.len()).map_err(|_| SysError::new("seccomp", Errno::E2BIG))?;
    let fprog = Program { len, filter: program.as_ptr() };
    // SAFETY: `fprog` describes `program`, `len` instructions of the kernel's layout; both outlive the call, which copies.
    let ret = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const fprog) };
    match check("seccomp", ret)? {
        0 => Ok(()),
        _ => Err(SysError::new("seccomp", Errno::ESRCH)),
    }
}
