//! The calls that cgroupfs needs. Directories and files are named by a path below a held directory; an absolute path
//! disregards that directory, as openat(2) has it.

use core::ffi::CStr;
use core::time::Duration;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use nix::dir::{Dir, Type};
use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag};
use nix::poll::{PollFd, PollFlags, PollTimeout};
use nix::sys::stat::Mode;
use nix::unistd::{Uid, UnlinkatFlags};

use super::error::{Result, SysError};

/// What a mounted file system at one of the places where cgroups are mounted can be.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum CgroupFilesystem {
    Cgroup,
    Cgroup2,
    Other,
}

/// The current working directory as a dirfd, for absolute paths.
pub fn here() -> BorrowedFd<'static> {
    nix::fcntl::AT_FDCWD
}

/// Opens a directory as a mere location: for the `*_at` calls, CLONE_INTO_CGROUP and bpf(2).
pub fn open_location(dir: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd> {
    open(dir, path, OFlag::O_PATH | OFlag::O_DIRECTORY)
}

/// Opens a control file for reading.
pub fn open_read(dir: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd> {
    open(dir, path, OFlag::O_RDONLY)
}

/// Opens a control file for writing; never creates or truncates one.
pub fn open_write(dir: BorrowedFd<'_>, path: &CStr) -> Result<OwnedFd> {
    open(dir, path, OFlag::O_WRONLY)
}

fn open(dir: BorrowedFd<'_>, path: &CStr, flags: OFlag) -> Result<OwnedFd> {
    nix::fcntl::openat(dir, path, flags | OFlag::O_CLOEXEC, Mode::empty()).map_err(error("openat"))
}

/// Makes a cgroup, mode 0755: what runs in the container reads its limits.
pub fn make_directory(dir: BorrowedFd<'_>, path: &CStr) -> Result<()> {
    nix::sys::stat::mkdirat(dir, path, Mode::from_bits_truncate(0o755)).map_err(error("mkdirat"))
}

/// Removes a cgroup without processes and children; EBUSY while it has any.
pub fn remove_directory(dir: BorrowedFd<'_>, path: &CStr) -> Result<()> {
    nix::unistd::unlinkat(dir, path, UnlinkatFlags::RemoveDir).map_err(error("rmdir"))
}

/// Whether something is at `path`.
pub fn exists(dir: BorrowedFd<'_>, path: &CStr) -> bool {
    nix::unistd::faccessat(dir, path, nix::unistd::AccessFlags::F_OK, AtFlags::empty()).is_ok()
}

/// What is mounted at `fd`.
pub fn filesystem(fd: BorrowedFd<'_>) -> Result<CgroupFilesystem> {
    let found = nix::sys::statfs::fstatfs(fd).map_err(error("fstatfs"))?.filesystem_type();
    Ok(kind_of(found))
}

/// What is mounted at `path`.
pub fn filesystem_at(path: &CStr) -> Result<CgroupFilesystem> {
    let found = nix::sys::statfs::statfs(path).map_err(error("statfs"))?.filesystem_type();
    Ok(kind_of(found))
}

fn kind_of(found: nix::sys::statfs::FsType) -> CgroupFilesystem {
    match found {
        nix::sys::statfs::CGROUP2_SUPER_MAGIC => CgroupFilesystem::Cgroup2,
        nix::sys::statfs::CGROUP_SUPER_MAGIC => CgroupFilesystem::Cgroup,
        _ => CgroupFilesystem::Other,
    }
}

/// Reads at most a buffer full; 0 at the end.
pub fn read(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize> {
    retried(|| nix::unistd::read(fd, buffer)).map_err(error("read"))
}

/// Writes a value in one call, as control files want it.
pub fn write(fd: BorrowedFd<'_>, value: &[u8]) -> Result<()> {
    retried(|| nix::unistd::write(fd, value)).map_err(error("write")).map(drop)
}

/// Gives a file of a delegated cgroup to `owner`; its group stays.
pub fn give_to(dir: BorrowedFd<'_>, path: &CStr, owner: u32) -> Result<()> {
    nix::unistd::fchownat(dir, path, Some(Uid::from_raw(owner)), None, AtFlags::AT_SYMLINK_NOFOLLOW)
        .map_err(error("fchownat"))
}

/// Calls `each` with the name of every entry that is a directory or a symbolic link, but `.` and `..`.
pub fn list(dir: BorrowedFd<'_>, path: &CStr, mut each: impl FnMut(&CStr)) -> Result<()> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut entries = Dir::openat(dir, path, flags, Mode::empty()).map_err(error("openat"))?;
    for entry in entries.iter() {
        let entry = entry.map_err(error("getdents64"))?;
        let wanted = matches!(entry.file_type(), Some(Type::Directory | Type::Symlink));
        if wanted && !matches!(entry.file_name().to_bytes(), b"." | b"..") {
            each(entry.file_name());
        }
    }
    Ok(())
}

/// Waits until the kernel says that a control file (cgroup.events) has changed since it was read; false on a timeout.
pub fn wait_for_change(fd: BorrowedFd<'_>, timeout: Duration) -> Result<bool> {
    let timeout = PollTimeout::try_from(timeout).unwrap_or(PollTimeout::MAX);
    let mut fds = [PollFd::new(fd.as_fd(), PollFlags::POLLPRI)];
    match nix::poll::poll(&mut fds, timeout) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::EINTR) => Ok(true),
        Err(errno) => Err(SysError::new("poll", errno)),
    }
}

fn retried<T>(mut call: impl FnMut() -> nix::Result<T>) -> nix::Result<T> {
    loop {
        match call() {
            Err(Errno::EINTR) => {}
            done => return done,
        }
    }
}

fn error(call: &'static str) -> impl Fn(Errno) -> SysError {
    move |errno| SysError::new(call, errno)
}

/// Processes for tests: cloned as init is, so that they can enter a cgroup the same ways.
#[cfg(any(test, feature = "testing"))]
pub mod testing {
    #![allow(
        clippy::expect_used,
        clippy::indexing_slicing,
        clippy::unwrap_used,
        reason = "a test that cannot go on panics"
    )]

    use std::os::fd::AsRawFd;

    use super::*;

    /// `struct clone_args` of linux/sched.h, up to `cgroup` (Linux 5.7).
    #[repr(C)]
    #[derive(Default)]
    struct CloneArgs {
        flags: u64,
        unused: [u64; 3],
        exit_signal: u64,
        unused_too: [u64; 5],
        cgroup: u64,
    }

    const CLONE_INTO_CGROUP: u64 = 0x2_0000_0000;

    /// Starts `sh -c script` in a cgroup: cloned into `directory`, and after `enter`, which may not use the heap.
    pub fn spawn(directory: Option<BorrowedFd<'_>>, enter: &dyn Fn() -> bool, script: &CStr) -> i32 {
        let mut args = CloneArgs { exit_signal: libc::SIGCHLD as u64, ..CloneArgs::default() };
        if let Some(directory) = directory {
            args.flags = CLONE_INTO_CGROUP;
            args.cgroup = directory.as_raw_fd() as u64;
        }
        let argv = [c"sh".as_ptr(), c"-c".as_ptr(), script.as_ptr(), core::ptr::null()];
        // SAFETY: `args` is a valid clone_args of the given size; without CLONE_VM the child has memory of its own, and
        // until execv it makes system calls only.
        let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw mut args, size_of::<CloneArgs>()) };
        if pid == 0 {
            if enter() {
                // SAFETY: path and arguments are NUL-terminated, and a null pointer ends the list. Returns on errors.
                unsafe { libc::execv(c"/bin/sh".as_ptr(), argv.as_ptr()) };
            }
            // SAFETY: ends the child without the exit handlers of its parent.
            unsafe { libc::_exit(127) };
        }
        assert!(pid > 0, "clone3: {}", Errno::last());
        pid as i32
    }

    /// Waits for a child; its exit status, or 128 and the signal.
    pub fn reap(pid: i32) -> i32 {
        use nix::sys::wait::{WaitStatus, waitpid};
        loop {
            match waitpid(nix::unistd::Pid::from_raw(pid), None) {
                Ok(WaitStatus::Exited(_, status)) => return status,
                Ok(WaitStatus::Signaled(_, signal, _)) => return 128 + signal as i32,
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => panic!("waitpid: {errno}"),
            }
        }
    }
}
