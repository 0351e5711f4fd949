//! seccomp(2) filters: the instruction the kernel takes, and the call that installs a program.

use std::os::fd::{FromRawFd, OwnedFd};

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
struct SockFprog {
    len: u16,
    filter: *const Instruction,
}

/// Adds `program` to the filters of the calling thread, and, with SECCOMP_FILTER_FLAG_TSYNC, of all its siblings.
///
/// seccomp(2), SECCOMP_SET_MODE_FILTER. EACCES: neither no_new_privs nor CAP_SYS_ADMIN in the user namespace. EINVAL: a
/// flag or an instruction this kernel does not know. ESRCH stands for a sibling thread that could not be synchronised.
/// With SECCOMP_FILTER_FLAG_NEW_LISTENER the call would return a descriptor: no caller of this function may set it.
pub fn seccomp_set_mode_filter(flags: u32, program: &[Instruction]) -> Result<()> {
    match install(flags, program)? {
        0 => Ok(()),
        _ => Err(SysError::new("seccomp", Errno::ESRCH)),
    }
}

/// As [`seccomp_set_mode_filter`], and returns the listener that answers what the program notifies (Linux 5.0): it is
/// close-on-exec. EBUSY: the caller has a filter with a listener already.
///
/// With SECCOMP_FILTER_FLAG_TSYNC the number of a thread could not be told from a descriptor, so TSYNC_ESRCH (Linux 5.7)
/// is added: the kernel takes the two no other way.
pub fn seccomp_new_listener(flags: u32, program: &[Instruction]) -> Result<OwnedFd> {
    const TSYNC: u32 = libc::SECCOMP_FILTER_FLAG_TSYNC as u32;
    const NEW_LISTENER: u32 = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER as u32;
    const TSYNC_ESRCH: u32 = libc::SECCOMP_FILTER_FLAG_TSYNC_ESRCH as u32;
    let esrch = if flags & TSYNC == 0 { 0 } else { TSYNC_ESRCH };
    let fd = install(flags | NEW_LISTENER | esrch, program)?;
    // SAFETY: the kernel just made this descriptor, close-on-exec, for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

fn install(flags: u32, program: &[Instruction]) -> Result<libc::c_long> {
    let len = u16::try_from(program.len()).map_err(|_| SysError::new("seccomp", Errno::E2BIG))?;
    let fprog = SockFprog { len, filter: program.as_ptr() };
    // SAFETY: `fprog` describes `program`, `len` instructions of the kernel's layout; both outlive the call, which copies.
    let ret = unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const fprog) };
    check("seccomp", ret)
}

#[cfg(any(test, feature = "testing"))]
pub mod testing {
    #![allow(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::unwrap_used,
        reason = "a test that cannot go on panics"
    )]

    use super::*;

    /// How a process ended.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    pub enum End {
        Exit(i32),
        Signal(i32),
    }

    /// Runs `body` in a child, which exits with its result. `body` may only do what is allowed after a fork of a process
    /// with threads: system calls.
    pub fn in_child(body: impl FnOnce() -> i32) -> End {
        // SAFETY: the child makes system calls and ends; it takes no lock and does not use the heap.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        if pid == 0 {
            let status = body();
            // SAFETY: ends the process.
            unsafe { libc::_exit(status) }
        }
        let mut status = 0;
        // SAFETY: `status` outlives the call.
        let ret = unsafe { libc::waitpid(pid, &raw mut status, 0) };
        assert_eq!(ret, pid);
        if libc::WIFSIGNALED(status) {
            End::Signal(libc::WTERMSIG(status))
        } else {
            End::Exit(libc::WEXITSTATUS(status))
        }
    }

    /// The errno of a system call, 0 if it succeeds.
    pub fn errno_of(number: libc::c_long, args: [libc::c_long; 3]) -> i32 {
        // SAFETY: the tests only call what takes numbers or null pointers.
        let ret = unsafe { libc::syscall(number, args[0], args[1], args[2], 0, 0, 0) };
        if ret < 0 { Errno::last_raw() } else { 0 }
    }

    /// The errno of a system call of 32-bit x86 without arguments; SIGSEGV where the kernel has no such calls.
    #[cfg(target_arch = "x86_64")]
    pub fn errno_of_x86(number: u64) -> i32 {
        let mut ret = number;
        // SAFETY: the calls of the tests touch no memory; the kernel may clear r8 to r11.
        unsafe {
            core::arch::asm!(
                "int 0x80",
                inlateout("rax") ret,
                out("r8") _, out("r9") _, out("r10") _, out("r11") _,
                options(nostack),
            );
        }
        let ret = ret as i32;
        if ret < 0 { -ret } else { 0 }
    }

    /// Lets the caller install filters without privilege.
    pub fn no_new_privs() -> i32 {
        errno_of(libc::SYS_prctl, [libc::PR_SET_NO_NEW_PRIVS.into(), 1, 0])
    }
}

#[cfg(test)]
mod tests {
    use super::testing::*;
    use super::*;

    const ALLOW: Instruction = Instruction { code: 6, jt: 0, jf: 0, k: libc::SECCOMP_RET_ALLOW };

    #[test]
    fn a_program_that_does_not_return_is_refused() {
        let endless = Instruction { code: 0x20, ..ALLOW };
        let end = in_child(|| match (no_new_privs(), seccomp_set_mode_filter(0, &[endless])) {
            (0, Err(error)) if error.errno == Errno::EINVAL => 0,
            _ => 1,
        });
        assert_eq!(end, End::Exit(0));
    }

    #[test]
    fn a_flag_that_the_kernel_does_not_know_is_refused() {
        let end = in_child(|| match (no_new_privs(), seccomp_set_mode_filter(1 << 30, &[ALLOW])) {
            (0, Err(error)) if error.errno == Errno::EINVAL => 0,
            _ => 1,
        });
        assert_eq!(end, End::Exit(0));
    }

    #[test]
    fn a_program_longer_than_a_length_field_is_refused() {
        let error = seccomp_set_mode_filter(0, &vec![ALLOW; 70_000]).map_err(|error| error.errno);
        assert_eq!(error, Err(Errno::E2BIG));
    }
}
