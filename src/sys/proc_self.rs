//! What a process changes about itself: its name, session, signals, and which descriptors survive an exec.

use core::ffi::CStr;
use std::os::fd::BorrowedFd;

use super::error::{Errno, Result, SysError, check};

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

/// Makes the kernel send the caller SIGKILL when the thread that made it ends. A change of credentials or a set-id
/// exec clears it.
pub fn die_with_parent() -> Result<()> {
    let (option, signal) = (libc::PR_SET_PDEATHSIG as libc::c_long, libc::SIGKILL as libc::c_long);
    // SAFETY: the arguments are numbers.
    let ret = unsafe { libc::syscall(libc::SYS_prctl, option, signal, 0u64, 0u64, 0u64) };
    check("prctl(PR_SET_PDEATHSIG)", ret).map(drop)
}

/// Undoes [`die_with_parent`].
pub fn outlive_parent() -> Result<()> {
    // SAFETY: the arguments are numbers.
    let ret = unsafe { libc::syscall(libc::SYS_prctl, libc::PR_SET_PDEATHSIG as libc::c_long, 0u64, 0u64, 0u64, 0u64) };
    check("prctl(PR_SET_PDEATHSIG)", ret).map(drop)
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
const SIGSET_BYTES: usize = 8;

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

/// Makes every descriptor from `first` on close at the next exec (Linux 5.11). They stay usable until then.
pub fn close_on_exec_from(first: u32) -> Result<()> {
    // SAFETY: only a flag of descriptors changes; none is closed.
    let ret = unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    check("close_range", ret).map(drop)
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
        // SAFETY: an all-zero stat is valid.
        let mut stat: libc::stat = unsafe { core::mem::zeroed() };
        // SAFETY: `stat` is live; a bad descriptor is EBADF.
        let ret = unsafe { libc::fstat(fd, &mut stat) };
        // A closed stream needs no owner.
        if ret < 0 || stat.st_uid == uid || !is_stream(&stat) {
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
