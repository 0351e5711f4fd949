//! Processes: clone, wait, signal, replace. A process is held by its pidfd, so a reused pid is never mistaken for it.

use core::ffi::CStr;
use core::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use super::directory::leave_locks_to_parent;
use super::error::{Errno, Result, SysError, check};
use super::exit::Exit;
use super::proc_self::reset_signals;
use super::program::{Strings, execve};

/// clone3's flag to be born in a cgroup (Linux 5.7); libc's constant is too narrow for it.
const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

/// A process of ours: its pid in our pid namespace, and the descriptor that is it.
#[derive(Debug)]
pub struct Child {
    pub pid: i32,
    pub pidfd: OwnedFd,
}

/// Which side of a clone this is.
pub enum Cloned {
    Runtime(Child),
    Child,
}

/// Makes a copy of the calling, single-threaded process in the new namespaces of `flags` (`CLONE_NEW*`), born in the
/// cgroup v2 directory `into_cgroup` where one is given (clone3(2), Linux 5.7). The parent hears SIGCHLD.
///
/// What runs in the child before it execs must not use the heap: see `init`.
pub fn clone_process(flags: u64, into_cgroup: Option<BorrowedFd>) -> Result<Cloned> {
    clone(flags, libc::SIGCHLD as u64, into_cgroup)
}

/// As [`clone_process`], but the copy is a child of the caller's parent, which hears of its end as it would of the
/// caller's.
pub fn clone_sibling(flags: u64, into_cgroup: Option<BorrowedFd>) -> Result<Cloned> {
    clone(flags | libc::CLONE_PARENT as u64, 0, into_cgroup)
}

fn clone(flags: u64, exit_signal: u64, into_cgroup: Option<BorrowedFd>) -> Result<Cloned> {
    let mut pidfd: libc::c_int = -1;
    // SAFETY: clone_args is plain data, for which all zeroes is a valid value.
    let mut args: libc::clone_args = unsafe { zeroed() };
    args.flags = flags | libc::CLONE_PIDFD as u64;
    args.pidfd = &raw mut pidfd as u64;
    args.exit_signal = exit_signal;
    if let Some(cgroup) = into_cgroup {
        args.flags |= CLONE_INTO_CGROUP;
        args.cgroup = cgroup.as_raw_fd() as u64;
    }
    // SAFETY: without CLONE_VM the child has memory of its own; `args` and `pidfd` outlive the call.
    let ret = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    match check("clone3", ret)? {
        0 => {
            leave_locks_to_parent();
            Ok(Cloned::Child)
        }
        pid => {
            // SAFETY: CLONE_PIDFD stored a new descriptor (close-on-exec by definition) that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Runtime(Child { pid: pid as i32, pidfd }))
        }
    }
}

/// As [`clone_process`] with nothing new, by clone(2) (`CLONE_PIDFD`: Linux 5.2): for a process under a seccomp filter,
/// which cannot look into the arguments of clone3(2). Docker's profile allows the one and not the other.
pub(super) fn clone_under_a_filter() -> Result<Cloned> {
    let mut pidfd: libc::c_int = -1;
    let flags = libc::c_long::from(libc::CLONE_PIDFD | libc::SIGCHLD);
    let same_stack: libc::c_long = 0;
    let [first, second] = if cfg!(target_arch = "s390x") { [same_stack, flags] } else { [flags, same_stack] };
    let unused: libc::c_long = 0;
    // SAFETY: without CLONE_VM the child has memory of its own, and goes on with its copy of the stack; `pidfd`, where
    // all architectures have the third argument, outlives the call.
    let ret = unsafe { libc::syscall(libc::SYS_clone, first, second, &raw mut pidfd, unused, unused) };
    match check("clone", ret)? {
        0 => {
            leave_locks_to_parent();
            Ok(Cloned::Child)
        }
        pid => {
            // SAFETY: CLONE_PIDFD stored a new descriptor (close-on-exec by definition) that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            Ok(Cloned::Runtime(Child { pid: pid as i32, pidfd }))
        }
    }
}

/// A descriptor of the running process `pid` (pidfd_open(2)). ESRCH: there is none.
pub fn pidfd_open(pid: i32) -> Result<OwnedFd> {
    // SAFETY: no pointers.
    let ret = unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) };
    let fd = check("pidfd_open", ret)?;
    // SAFETY: the kernel just made this descriptor, close-on-exec, for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// A copy, close-on-exec, of descriptor `number` of the process (pidfd_getfd(2), Linux 5.6). EBADF: it has none of that
/// number. EPERM: the caller may not ptrace it; of an undumpable process that takes CAP_SYS_PTRACE in the user namespace
/// in which its program was started.
pub fn pidfd_getfd(pidfd: BorrowedFd, number: u32) -> Result<OwnedFd> {
    // SAFETY: no pointers.
    let ret = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) };
    let fd = check("pidfd_getfd", ret)?;
    // SAFETY: the kernel just made this descriptor for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Sends `signal` to the process (pidfd_send_signal(2)). ESRCH: it is gone and reaped.
pub fn pidfd_send_signal(pidfd: BorrowedFd, signal: i32) -> Result<()> {
    let no_info = core::ptr::null::<libc::siginfo_t>();
    // SAFETY: a null siginfo asks the kernel to fill in its own.
    let ret = unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, no_info, 0) };
    check("pidfd_send_signal", ret).map(drop)
}

/// Kills a child that is not reaped yet, so that its pid is nobody else's: also under a seccomp profile that is older than
/// pidfd_send_signal(2).
pub fn kill_child(pid: i32, pidfd: BorrowedFd) -> Result<()> {
    if pidfd_send_signal(pidfd, libc::SIGKILL).is_ok() {
        return Ok(());
    }
    // SAFETY: takes integers only.
    let ret = unsafe { libc::kill(pid, libc::SIGKILL) };
    check("kill", ret.into()).map(drop)
}

/// How long a child that has ended, or was killed, may take until it can be reaped, in milliseconds.
const REAP_TIMEOUT: u32 = 10_000;
/// How often it is tried, in milliseconds.
const REAP_EVERY: u32 = 20;

/// How a child has ended, and reaps it. None: it lives; or it is a zombie that another process traces, and is for that one
/// to reap first (ptrace(2)), although its pidfd tells of the end. A container's processes may trace one another, and never
/// let go. ECHILD: it is not ours, or somebody reaped it.
pub fn try_wait(pidfd: BorrowedFd) -> Result<Option<Exit>> {
    Ok(wait_id(libc::P_PIDFD, pidfd.as_raw_fd() as u32, libc::WNOHANG)?.map(|(_, exit)| exit))
}

/// Waits at most ten seconds for a child that has ended, or was killed, and reaps it.
pub fn wait(pidfd: BorrowedFd) -> Result<Exit> {
    wait_within(pidfd, REAP_TIMEOUT)
}

/// The same for `milliseconds`. ETIMEDOUT: it lives, or one that traces it keeps its end.
pub fn wait_within(pidfd: BorrowedFd, milliseconds: u32) -> Result<Exit> {
    reap_within(pidfd, milliseconds, || try_wait(pidfd))
}

/// As [`wait`], also where a seccomp filter forbids waitid(2).
pub fn wait_under_a_filter(child: &Child) -> Result<Exit> {
    let pidfd = child.pidfd.as_fd();
    reap_within(pidfd, REAP_TIMEOUT, || try_wait(pidfd).or_else(|_| try_wait4(child.pid)))
}

/// Calls `reap` until it has an exit, for at most `milliseconds`.
fn reap_within(pidfd: BorrowedFd, milliseconds: u32, reap: impl Fn() -> Result<Option<Exit>>) -> Result<Exit> {
    if let Some(exit) = reap()? {
        return Ok(exit);
    }
    let deadline = Instant::now() + Duration::from_millis(milliseconds.into());
    ends_within(pidfd, milliseconds)?;
    loop {
        if let Some(exit) = reap()? {
            return Ok(exit);
        }
        if Instant::now() >= deadline {
            return Err(SysError::new("waitid", Errno::ETIMEDOUT));
        }
        // Nothing tells that a tracer has let go.
        poll([], Some(REAP_EVERY))?;
    }
}

fn try_wait4(pid: i32) -> Result<Option<Exit>> {
    let mut status = 0;
    // SAFETY: `status` outlives the call; of the usage nothing is asked.
    let ret = unsafe { libc::wait4(pid, &raw mut status, libc::WNOHANG, core::ptr::null_mut()) };
    Ok((check("wait4", ret.into())? != 0).then(|| Exit::of_status(status)))
}

/// The pid of a child that has ended and is not reaped yet; `None` where there is none.
pub fn ended_child() -> Result<Option<i32>> {
    match wait_id(libc::P_ALL, 0, libc::WNOHANG | libc::WNOWAIT) {
        Err(error) if error.errno == Errno::ECHILD => Ok(None),
        result => Ok(result?.map(|(pid, _)| pid)),
    }
}

/// Reaps the child `pid`, if it has ended.
pub fn reap(pid: i32) -> Result<()> {
    wait_id(libc::P_PID, pid as u32, libc::WNOHANG).map(drop)
}

fn wait_id(kind: libc::idtype_t, id: u32, flags: i32) -> Result<Option<(i32, Exit)>> {
    // SAFETY: siginfo_t is plain data, for which all zeroes is a valid value.
    let mut info: libc::siginfo_t = unsafe { zeroed() };
    loop {
        // SAFETY: `info` outlives the call.
        let ret = unsafe { libc::waitid(kind, id, &raw mut info, libc::WEXITED | flags) };
        match check("waitid", ret.into()) {
            Err(error) if error.errno == Errno::EINTR => continue,
            Err(error) => return Err(error),
            Ok(_) => break,
        }
    }
    // SAFETY: waitid fills the SIGCHLD fields, and leaves si_pid zero where nothing has ended.
    let pid = unsafe { info.si_pid() };
    // SAFETY: another of the fields that waitid fills.
    let status = unsafe { info.si_status() };
    match (pid, info.si_code) {
        (0, _) => Ok(None),
        (pid, libc::CLD_EXITED) => Ok(Some((pid, Exit::Status(status)))),
        (pid, _) => Ok(Some((pid, Exit::Signal(status)))),
    }
}

/// What a descriptor is polled for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Ready {
    Read,
    Write,
}

/// Waits until one of `fds` is readable or hung up, for at most `milliseconds` (`None`: without end). Returns which
/// are, in order; all false when the time is up.
pub fn poll<const N: usize>(fds: [BorrowedFd; N], milliseconds: Option<u32>) -> Result<[bool; N]> {
    poll_for(fds.map(|fd| Some((fd, Ready::Read))), milliseconds)
}

/// As [`poll`], each descriptor for what it is wanted for; `None` is never ready.
pub fn poll_for<const N: usize>(fds: [Option<(BorrowedFd, Ready)>; N], milliseconds: Option<u32>) -> Result<[bool; N]> {
    let mut polled = fds.map(|fd| match fd {
        Some((fd, Ready::Read)) => libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLIN, revents: 0 },
        Some((fd, Ready::Write)) => libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLOUT, revents: 0 },
        // poll(2) passes over a negative one.
        None => libc::pollfd { fd: -1, events: 0, revents: 0 },
    });
    let timeout = milliseconds.map_or(-1, |limit| i32::try_from(limit).unwrap_or(i32::MAX));
    loop {
        // SAFETY: the array holds N entries and outlives the call; the descriptors are borrowed for as long.
        let ret = unsafe { libc::poll(polled.as_mut_ptr(), N as libc::nfds_t, timeout) };
        match check("poll", ret.into()) {
            Err(error) if error.errno == Errno::EINTR => continue,
            Err(error) => return Err(error),
            Ok(_) => return Ok(polled.map(|polled| polled.revents != 0)),
        }
    }
}

/// Whether the process of `pidfd` ends within `milliseconds`.
pub fn ends_within(pidfd: BorrowedFd, milliseconds: u32) -> Result<bool> {
    poll([pidfd], Some(milliseconds)).map(|[ended]| ended)
}

/// Replaces this process by the program that `program` is open on (execveat(2) with `AT_EMPTY_PATH`); returns only to
/// report an error.
pub fn exec_descriptor(program: BorrowedFd, arguments: &Strings, environment: &Strings) -> SysError {
    // SAFETY: both arrays end in a null pointer and point at strings that outlive the call.
    unsafe {
        libc::syscall(
            libc::SYS_execveat,
            program.as_raw_fd(),
            c"".as_ptr(),
            arguments.as_ptr(),
            environment.as_ptr(),
            libc::AT_EMPTY_PATH,
        )
    };
    SysError::last("execveat")
}

/// Which of a process's descriptors from 3 on have to be made close-on-exec for a child.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Open {
    /// Any (close_range(2)).
    Any,
    /// None but the first, up to one that is not open; and close_range(2) may be forbidden, or deadly.
    First,
}

/// Has the kernel kill this process when its parent ends (PR_SET_PDEATHSIG, prctl(2)); holds over an exec.
pub fn die_with_parent() -> Result<()> {
    // SAFETY: no pointers.
    let ret = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
    check("prctl", ret.into()).map(drop)
}

/// The most descriptors that [`exec_with`] passes on.
pub const MAX_PASSED: usize = 8;

/// Becomes the program `path`, which gets nothing of ours but `passed`, as descriptors 3, 4 and so on. Returns only if
/// that is impossible. For a child that was just cloned: no heap.
pub fn exec_with(path: &CStr, arguments: &Strings, environment: &Strings, passed: &[BorrowedFd]) -> SysError {
    let mut copies = [const { None::<OwnedFd> }; MAX_PASSED];
    if passed.len() > MAX_PASSED {
        return SysError::new("execve", Errno::E2BIG);
    }
    if let Err(error) = reset_for_exec() {
        return error;
    }
    // First above all places, since what is passed may lie in one of them.
    for (copy, fd) in copies.iter_mut().zip(passed) {
        // SAFETY: takes integers only.
        let ret = unsafe { libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD_CLOEXEC, 3 + MAX_PASSED as i32) };
        match super::file::owned("fcntl", ret.into()) {
            Ok(fd) => *copy = Some(fd),
            Err(error) => return error,
        }
    }
    for (target, fd) in (3..).zip(copies.iter().flatten()) {
        // SAFETY: takes integers only; what was at the target is of no more use to this process, which is about to go.
        let ret = unsafe { libc::dup2(fd.as_raw_fd(), target) };
        if let Err(error) = check("dup2", ret.into()) {
            return error;
        }
    }
    execve(path, arguments, environment)
}

/// Resets signals, and has every descriptor from 3 on closed by the next exec (close_range(2), `CLOSE_RANGE_CLOEXEC`:
/// Linux 5.11).
pub(super) fn reset_for_exec() -> Result<()> {
    reset_signals()?;
    close_on_exec_from_3()
}

fn close_on_exec_from_3() -> Result<()> {
    // SAFETY: no pointers; nothing is closed before the exec.
    let ret = unsafe { libc::syscall(libc::SYS_close_range, 3, libc::c_uint::MAX, libc::CLOSE_RANGE_CLOEXEC) };
    check("close_range", ret).map(drop)
}

impl Open {
    pub(super) fn close_on_exec(self) -> Result<()> {
        if self == Open::Any {
            return close_on_exec_from_3();
        }
        for fd in 3.. {
            // SAFETY: takes integers only.
            let ret = unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
            match check("fcntl", ret.into()) {
                Err(error) if error.errno == Errno::EBADF => break,
                result => result?,
            };
        }
        Ok(())
    }
}

/// Ends this process at once, without running anything of ours.
pub fn exit_now(status: i32) -> ! {
    // SAFETY: _exit takes any number and does not return.
    unsafe { libc::_exit(status) }
}

/// Makes this process the one to which orphaned descendants are given (PR_SET_CHILD_SUBREAPER, Linux 3.4).
pub fn set_child_subreaper() -> Result<()> {
    // SAFETY: no pointers.
    let ret = unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) };
    check("prctl", ret.into()).map(drop)
}

/// The inode of a pidfd: with pidfs (Linux 6.9) it is unique to the process for the machine's uptime; before, all
/// pidfds share one.
pub fn pidfd_inode(pidfd: BorrowedFd) -> Result<u64> {
    nix::sys::stat::fstat(pidfd.as_fd()).map(|stat| stat.st_ino).map_err(|errno| SysError::new("fstat", errno))
}
