//! What a process changes about itself: its name, session, signals, and which descriptors survive an exec.

use core::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::error::{Errno, Result, SysError, check};
use super::stat;

/// Makes /proc/PID of the caller belong to root and its memory unreadable to others, so that no process of a
/// container it joins can ptrace it (CVE-2016-9962). Holds until the next execve(2) of a readable program.
pub fn set_undumpable() -> Result<()> {
    // SAFETY: the arguments are numbers.
    let ret = unsafe { libc::syscall(libc::SYS_prctl, libc::PR_SET_DUMPABLE as libc::c_long, 0u64, 0u64, 0u64, 0u64) };
    check("prctl(PR_SET_DUMPABLE)", ret).map(drop)
}

/// Sets the name that ps(1) shows for the caller; what goes beyond 15 bytes is cut.
pub fn set_name(name: &CStr) -> Result<()> {
    // SAFETY: `name` is NUL-terminated and outlives the call.
    let ret =
        unsafe { libc::syscall(libc::SYS_prctl, libc::PR_SET_NAME as libc::c_long, name.as_ptr(), 0u64, 0u64, 0u64) };
    check("prctl(PR_SET_NAME)", ret).map(drop)
}

/// Makes the caller the leader of a new session without a terminal; `EPERM` if it leads a process group.
pub fn new_session() -> Result<()> {
    // SAFETY: takes nothing.
    let ret = unsafe { libc::syscall(libc::SYS_setsid) };
    check("setsid", ret).map(drop)
}

/// `struct sigaction` as the kernel has it, all zero being the default action. Longer than that of any architecture.
#[repr(C)]
#[derive(Default)]
struct KernelAction([u64; 8]);

/// The bytes of the kernel's signal set: 64 signals.
pub(super) const SIGSET_BYTES: usize = 8;

/// Sets every signal to its default action and blocks none. An exec would keep what is ignored, SIGPIPE by Rust's
/// start code for one. The raw call reaches the two signals that the C library keeps to itself.
pub fn reset_signals() -> Result<()> {
    let default = KernelAction::default();
    let none = core::ptr::null_mut::<KernelAction>();
    for signal in (1..=64).filter(|signal| ![libc::SIGKILL, libc::SIGSTOP].contains(signal)) {
        // SAFETY: `default` outlives the call and is at least as long as the kernel's struct; no old one is asked for.
        let ret = unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, &default, none, SIGSET_BYTES) };
        check("rt_sigaction", ret)?;
    }
    let (empty, none) = (0u64, core::ptr::null_mut::<u64>());
    // SAFETY: `empty` is a signal set of that many bytes; no old one is asked for.
    let ret = unsafe { libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &empty, none, SIGSET_BYTES) };
    check("rt_sigprocmask", ret).map(drop)
}

/// Closes every descriptor from `first` on (close_range(2), Linux 5.9), but for those in `kept`.
///
/// Owners of closed descriptors must not use them any more: for a process on its way to exec.
pub fn close_from<const N: usize>(first: u32, kept: [Option<BorrowedFd<'_>>; N]) -> Result<()> {
    let mut next = first;
    loop {
        let numbers = kept.iter().flatten().map(|fd| fd.as_raw_fd() as u32);
        let stop = numbers.filter(|number| *number >= next).min();
        let last = stop.map_or(u32::MAX, |stop| stop.wrapping_sub(1));
        if stop != Some(next) {
            // SAFETY: nothing that is closed here is used again, which the caller promises.
            let ret = unsafe { libc::syscall(libc::SYS_close_range, next, last, 0) };
            check("close_range", ret)?;
        }
        let Some(stop) = stop else { return Ok(()) };
        next = stop + 1;
    }
}

/// The number that the caller's next descriptor will have: the lowest that is free. `any` is one that is open.
pub fn next_descriptor(any: BorrowedFd) -> Result<u32> {
    // SAFETY: F_DUPFD_CLOEXEC takes a number.
    let ret = unsafe { libc::syscall(libc::SYS_fcntl, any.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 0) };
    let number = check("fcntl(F_DUPFD_CLOEXEC)", ret)?;
    // SAFETY: the copy was made for this, and nobody else knows of it.
    let ret = unsafe { libc::syscall(libc::SYS_close, number) };
    check("close", ret)?;
    Ok(number as u32)
}

/// Lets the descriptor number `fd`, which the caller of the runtime passed on, survive an exec; `EBADF` if it is not
/// open.
pub fn keep_over_exec(fd: u32) -> Result<()> {
    // SAFETY: F_SETFD takes a number and closes nothing.
    let ret = unsafe { libc::syscall(libc::SYS_fcntl, fd, libc::F_SETFD, 0) };
    check("fcntl(F_SETFD)", ret).map(drop)
}

/// Gives standard input, output and error to `uid` where they are pipes, sockets or pseudo-terminals, so that it may
/// open them again as /dev/stdout. Files and host devices (/dev/null, a serial line) keep their owner. Refusals are
/// no error: the streams work, as they do in runc.
pub fn own_stdio(uid: u32) -> Result<()> {
    for fd in 0..=2 {
        // A closed stream needs no owner.
        if !stat::of(fd).is_ok_and(|stat| stat.st_uid != uid && is_stream(&stat)) {
            continue;
        }
        // SAFETY: the arguments are numbers; a group of -1 stays as it is.
        let ret = unsafe { libc::syscall(libc::SYS_fchown, fd, uid, -1) };
        match check("fchown", ret) {
            Err(SysError { errno: Errno::EPERM | Errno::EINVAL | Errno::EROFS | Errno::EOPNOTSUPP, .. }) => {}
            other => drop(other?),
        }
    }
    Ok(())
}

/// Pipe, socket, or the far end of a pseudo-terminal (majors 136 to 143 of the kernel's devices.txt).
fn is_stream(stat: &libc::stat) -> bool {
    match stat.st_mode & libc::S_IFMT {
        libc::S_IFIFO | libc::S_IFSOCK => true,
        libc::S_IFCHR => (136..=143).contains(&libc::major(stat.st_rdev)),
        _ => false,
    }
}

/// The number of bytes in a page of memory.
pub fn page_size() -> usize {
    // SAFETY: takes a number.
    let size = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
    usize::try_from(size).unwrap_or(4096)
}

/// Writes `bytes` to `fd` in one call; a short write is `EIO`, since kernel files take a value whole or not at all.
pub fn write_whole(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<()> {
    use std::os::fd::AsRawFd;
    // SAFETY: `bytes` is as long as is said.
    let ret = unsafe { libc::syscall(libc::SYS_write, fd.as_raw_fd(), bytes.as_ptr(), bytes.len()) };
    let written = check("write", ret)?;
    if usize::try_from(written) == Ok(bytes.len()) { Ok(()) } else { Err(SysError::new("write", Errno::EIO)) }
}

/// The caller's pid in its own pid namespace.
pub fn own_pid() -> u32 {
    // SAFETY: takes nothing, and cannot fail.
    (unsafe { libc::syscall(libc::SYS_getpid) }) as u32
}

/// Takes over the descriptor number `fd` that the caller of the runtime passed on; EBADF if there is none, or it is not
/// open for writing.
pub fn take_writable(fd: u32) -> Result<OwnedFd> {
    if !is_passed_on(fd) {
        return Err(SysError::new("fcntl", Errno::EBADF));
    }
    // SAFETY: F_GETFL takes no argument and changes nothing.
    let flags = unsafe { libc::syscall(libc::SYS_fcntl, fd, libc::F_GETFL) };
    if check("fcntl", flags)? as i32 & libc::O_ACCMODE == libc::O_RDONLY {
        return Err(SysError::new("write", Errno::EBADF));
    }
    // SAFETY: it is open, and not of our making: no `OwnedFd` has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Whether the descriptor number `fd` came from whoever started this program: it survived an exec, while all of ours are
/// close-on-exec.
pub fn is_passed_on(fd: u32) -> bool {
    // SAFETY: F_GETFD takes no argument and changes nothing.
    let ret = unsafe { libc::syscall(libc::SYS_fcntl, fd, libc::F_GETFD) };
    ret >= 0 && ret as i32 & libc::FD_CLOEXEC == 0
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

    /// What a change of ids does where fs.suid_dumpable is 1.
    pub fn make_dumpable() -> Result<()> {
        // SAFETY: the arguments are numbers.
        let ret = unsafe { libc::prctl(libc::PR_SET_DUMPABLE, 1u64, 0u64, 0u64, 0u64) };
        check("prctl(PR_SET_DUMPABLE)", ret.into()).map(drop)
    }

    pub fn is_dumpable() -> Result<bool> {
        // SAFETY: as above.
        let ret = unsafe { libc::prctl(libc::PR_GET_DUMPABLE, 0u64, 0u64, 0u64, 0u64) };
        check("prctl(PR_GET_DUMPABLE)", ret.into()).map(|value| value != 0)
    }
}
