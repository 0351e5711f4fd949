//! The system calls that no crate has a safe function for, nor the runtime, and short forms of others.

pub mod limit;
pub mod mount;

use std::cell::Cell;
use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

use nix::fcntl::{FcntlArg, fcntl};
use nix::sys::signal::{SigSet, SigmaskHow};
use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use ocirt_sys::process::pidfd_open;

use self::limit::Descriptors;

/// Takes variables out of the environment of this process, and so of all its children.
pub fn remove_variables(names: &[&str]) {
    for name in names {
        // SAFETY: this process has one thread, so that nobody reads the environment meanwhile.
        unsafe { std::env::remove_var(name) };
    }
}

/// How a process has ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ended {
    pub pid: u32,
    /// Its own, or 128 and the number of the signal that ended it.
    pub status: u32,
    pub signal: Option<u32>,
}

/// The status of a process that has ended, which it is asked for once.
pub fn wait(pidfd: BorrowedFd<'_>) -> Option<u32> {
    let ended = wait_id(libc::P_PIDFD, pidfd.as_raw_fd() as u32, libc::WEXITED | libc::WNOHANG).ok()?;
    ended.map(|ended| ended.status)
}

/// The same of one that stays a zombie, which can be asked again. An error: it is no child of this process.
pub fn look(pidfd: BorrowedFd<'_>) -> io::Result<Option<Ended>> {
    wait_id(libc::P_PIDFD, pidfd.as_raw_fd() as u32, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT)
}

/// A child that has ended, and is not waited for by this.
pub fn ended_child() -> Option<u32> {
    let ended = wait_id(libc::P_ALL, 0, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT).ok()?;
    ended.map(|ended| ended.pid)
}

pub fn reap(pid: u32) {
    // It is there, since ended_child has just seen it; what it was is nobody's question.
    let _ = wait_id(libc::P_PID, pid, libc::WEXITED | libc::WNOHANG);
}

/// Has a child end, if this pid is that of one. It is not another one's meanwhile, since nobody else waits for it.
pub fn end_child(pid: u32) {
    if matches!(wait_id(libc::P_PID, pid, libc::WEXITED | libc::WNOHANG | libc::WNOWAIT), Ok(None)) {
        // That it has gone is what it is for.
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid as i32), nix::sys::signal::Signal::SIGKILL);
    }
}

/// waitid(2). The crate's own has an error for a process that a real-time signal ended, and takes it all the same: its exit
/// would be told to nobody, ever.
fn wait_id(kind: libc::idtype_t, id: u32, flags: c_int) -> io::Result<Option<Ended>> {
    let mut info = MaybeUninit::<libc::siginfo_t>::zeroed();
    // SAFETY: the call writes to `info`, which outlives it.
    if unsafe { libc::waitid(kind, id, info.as_mut_ptr(), flags) } < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a siginfo_t of zeros is one, and the kernel has written nothing else to it.
    let info = unsafe { info.assume_init() };
    // SAFETY: zero, or what waitid(2) says of a child.
    let (pid, status) = unsafe { (info.si_pid() as u32, info.si_status() as u32) };
    let signal = (info.si_code != libc::CLD_EXITED).then_some(status);
    let status = signal.map_or(status, |signal| 128 + signal);
    Ok((pid != 0).then_some(Ended { pid, status, signal }))
}

/// The size of a terminal's window, by its master.
pub fn resize(terminal: BorrowedFd<'_>, width: u16, height: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: height, ws_col: width, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: this request reads a winsize, which outlives the call.
    let result = unsafe { libc::ioctl(terminal.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// True of the master of a pseudo-terminal, and of nothing else.
pub fn is_terminal_master(fd: BorrowedFd<'_>) -> bool {
    let mut number: libc::c_uint = 0;
    // SAFETY: this request writes a number, which outlives the call.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCGPTN, &raw mut number) };
    result == 0
}

/// The descriptor that a message on this socket brings.
pub fn receive_descriptor(socket: BorrowedFd<'_>) -> io::Result<OwnedFd> {
    let mut byte = [0; 256];
    let mut parts = [io::IoSliceMut::new(&mut byte)];
    let mut space = nix::cmsg_space!([i32; 1]);
    let message = recvmsg::<()>(socket.as_raw_fd(), &mut parts, Some(&mut space), MsgFlags::MSG_CMSG_CLOEXEC)?;
    for control in message.cmsgs()? {
        if let ControlMessageOwned::ScmRights(fds) = control
            && let [fd] = fds.as_slice()
        {
            // SAFETY: the kernel has just made this descriptor for us, and nobody else has it.
            return Ok(unsafe { OwnedFd::from_raw_fd(*fd) });
        }
    }
    Err(io::Error::other("a message without a descriptor"))
}

/// The first descriptor that a child gets besides its standard streams.
const FIRST: i32 = 3;

/// Gives a child that is not born yet three descriptors, 3, 4 and 5, and its limit of them.
pub fn give(command: &mut Command, fds: [OwnedFd; 3], descriptors: Descriptors) {
    let place = move || {
        // Not one of them may be where another one goes.
        let mut above = [0; 3];
        for (above, fd) in above.iter_mut().zip(&fds) {
            *above = fcntl(fd, FcntlArg::F_DUPFD_CLOEXEC(FIRST + 3))?;
        }
        for (number, above) in (FIRST..).zip(above) {
            // SAFETY: dup2 takes two numbers; the second one is the child's to choose, which executes a program next.
            if unsafe { libc::dup2(above, number) } < 0 {
                return Err(io::Error::last_os_error());
            }
        }
        descriptors.apply()
    };
    // SAFETY: the closure makes system calls only, which fork(2) leaves to a child.
    unsafe { command.pre_exec(place) };
}

/// Gives this process's group, and so its later children, a core that only they use at a time: what another group does on
/// the core's other thread could be observed (Documentation/admin-guide/hw-vuln/core-scheduling.rst).
pub fn schedule_as_group() -> io::Result<()> {
    let group = libc::c_ulong::from(PIDTYPE_PGID);
    // SAFETY: this option takes numbers.
    let result = unsafe { libc::prctl(libc::PR_SCHED_CORE, libc::PR_SCHED_CORE_CREATE, 0, group, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The scope of a cookie: `enum pid_type` of linux/pid.h, which linux/prctl.h repeats.
const PIDTYPE_PGID: u8 = 2;

/// A child, and the descriptor of it.
#[derive(Debug)]
pub struct Born {
    pub pid: u32,
    pub pidfd: OwnedFd,
}

/// What a child executes.
#[derive(Debug)]
pub struct Execution<'a> {
    pub path: &'a CStr,
    pub words: &'a [CString],
    pub directory: Option<&'a CStr>,
    pub streams: [Option<BorrowedFd<'a>>; 3],
    pub descriptors: Descriptors,
}

/// The same, with nothing that would have to be made in the child.
struct Order {
    path: *const c_char,
    words: *const *const c_char,
    directory: *const c_char,
    streams: [RawFd; 3],
    descriptors: Descriptors,
    parent: libc::pid_t,
    /// What went wrong, an errno.
    error: Cell<c_int>,
}

/// Bytes of the stack on which a child comes to execve(2). execvp(3) puts a path of PATH on it.
const STACK: usize = 64 << 10;

/// Makes a child that executes a program, found like the shell's, with no signal blocked or ignored. What cannot be
/// executed is an error here, and no child.
pub fn execute(execution: Execution<'_>) -> io::Result<Born> {
    let words: Vec<*const c_char> =
        execution.words.iter().map(|word| word.as_ptr()).chain([std::ptr::null()]).collect();
    let null = std::fs::OpenOptions::new().read(true).write(true).open("/dev/null")?;
    let order = Order {
        path: execution.path.as_ptr(),
        words: words.as_ptr(),
        directory: execution.directory.map_or(std::ptr::null(), CStr::as_ptr),
        streams: execution.streams.map(|stream| stream.map_or(null.as_raw_fd(), |fd| fd.as_raw_fd())),
        descriptors: execution.descriptors,
        parent: std::process::id() as libc::pid_t,
        error: Cell::new(0),
    };
    let mut stack: Vec<MaybeUninit<u8>> = Vec::with_capacity(STACK);
    let top = stack.spare_capacity_mut().as_mut_ptr_range().end;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::CLONE_PIDFD | libc::SIGCHLD;
    let mut pidfd: c_int = -1;
    // The child has this memory: no handler of a signal may run there.
    let before = SigSet::all().thread_swap_mask(SigmaskHow::SIG_SETMASK)?;
    // SAFETY: `order` and what it points to, and the stack, outlive the child's use of them, since CLONE_VFORK has this
    // thread wait until the child has executed a program or has ended. clone(2) aligns the top itself.
    let pid = unsafe { libc::clone(begin, top.cast(), flags, (&raw const order).cast_mut().cast(), &raw mut pidfd) };
    let error = io::Error::last_os_error();
    before.thread_set_mask()?;
    if pid < 0 {
        return Err(error);
    }
    // SAFETY: the kernel has just made this descriptor for us, and nobody else has it.
    let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
    match order.error.get() {
        0 => Ok(Born { pid: pid as u32, pidfd }),
        errno => {
            // It has ended, since it said so.
            let _ = wait_id(libc::P_PIDFD, pidfd.as_raw_fd() as u32, libc::WEXITED);
            Err(io::Error::from_raw_os_error(errno))
        }
    }
}

/// The child's way to its program. It shares the shim's memory: system calls and nothing else.
extern "C" fn begin(order: *mut c_void) -> c_int {
    // SAFETY: `execute` passes an Order, which outlives this.
    let order = unsafe { &*order.cast::<Order>() };
    let failed = || {
        order.error.set(io::Error::last_os_error().raw_os_error().unwrap_or(libc::EINVAL));
        // SAFETY: ends this child only.
        unsafe { libc::_exit(127) }
    };
    if !ends_with(order.parent) {
        failed();
    }
    for (number, stream) in (0..).zip(order.streams) {
        // SAFETY: two numbers. None of the streams is one of 0 to 2, which the shim has for itself.
        if unsafe { libc::dup2(stream, number) } < 0 {
            failed();
        }
    }
    if order.descriptors.apply().is_err() {
        failed();
    }
    // SAFETY: the path is NUL-terminated and outlives the call.
    if !order.directory.is_null() && unsafe { libc::chdir(order.directory) } < 0 {
        failed();
    }
    // SAFETY: what is done at a signal is the child's own, and the default is no function.
    unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    // SAFETY: the set is initialised, and outlives the call.
    unsafe { libc::sigprocmask(libc::SIG_SETMASK, SigSet::empty().as_ref(), std::ptr::null_mut()) };
    // SAFETY: all strings are NUL-terminated, and the list of words ends with a null pointer.
    unsafe { libc::execvp(order.path, order.words) };
    failed()
}

/// Has the kernel end this child with its parent: what it would go on to make, a container or a mount, nobody would
/// remove, since `delete` is called at once. False if the parent has ended before. Programs that it executes keep this,
/// processes that it makes do not.
fn ends_with(parent: libc::pid_t) -> bool {
    // SAFETY: this option takes a number.
    let result = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL, 0, 0, 0) };
    // SAFETY: this call takes nothing, and cannot fail.
    result == 0 && unsafe { libc::getppid() } == parent
}

/// Makes a child that has a copy of this process, and ends with what `function` returns, or with this process.
pub fn fork_bound(function: impl FnOnce() -> c_int) -> io::Result<Born> {
    let parent = std::process::id() as libc::pid_t;
    fork(move || if ends_with(parent) { function() } else { 1 })
}

/// Makes a child that has a copy of this process, and ends with what `function` returns.
pub fn fork(function: impl FnOnce() -> c_int) -> io::Result<Born> {
    // SAFETY: this process has one thread, so that its copy is whole.
    match unsafe { libc::fork() } {
        0 => {
            let status = function();
            // SAFETY: ends this child only; what its parent has to do at its own end is not for the child.
            unsafe { libc::_exit(status) }
        }
        -1 => Err(io::Error::last_os_error()),
        pid => Ok(Born { pid: pid as u32, pidfd: pidfd_open(pid)? }),
    }
}

/// Has every descriptor from `first` on end with the next program: whoever called `start` may have left some open. A kernel
/// before 5.11 cannot.
pub fn close_on_exec_from(first: u32) {
    // SAFETY: three numbers; nothing is closed here.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, libc::CLOSE_RANGE_CLOEXEC) };
}

/// Closes every descriptor from `first` on, which a child does whose function needs none. A kernel before 5.9 cannot;
/// then they stay open for as long as the child lives.
pub fn close_all_from(first: u32) {
    // SAFETY: three numbers; nobody uses what is closed.
    unsafe { libc::syscall(libc::SYS_close_range, first, u32::MAX, 0) };
}
