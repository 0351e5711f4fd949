//! External programs that the runtime starts: hooks, and the tools that write id maps. [`Running`] owns the process, and
//! kills and reaps it when it is dropped, so that none outlives an error on the runtime's side.
//!
//! Nothing here uses the heap: init starts hooks, too.

use core::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::error::{Errno, Result, SysError, check};
use super::exit::Exit;
use super::proc_self::reset_signals;
use super::process::{self, Child, Cloned, Open};
use super::program::{Strings, change_directory, execve};
use super::{credentials, file, signal};

/// The exit status of a child that could not become the program, nor say why.
pub const NOT_STARTED: i32 = 127;

/// A program that is not ours, and all that it gets of the runtime.
pub struct ExternalProgram<'a> {
    pub path: &'a CStr,
    pub arguments: &'a Strings,
    pub environment: &'a Strings,
    /// Standard input, output and error.
    pub streams: [BorrowedFd<'a>; 3],
    /// `None`: the caller's own.
    pub directory: Option<&'a CStr>,
    /// The file mode creation mask; `None`: the caller's own.
    pub umask: Option<u32>,
    /// [`Open::First`]: under the container's seccomp filter. One that is written for runc lets all calls through that are
    /// made then: they are what Go makes to start a program.
    pub open: Open,
}

/// A program that runs, in a process group of its own unless a filter might forbid that. Dropped before [`Running::wait`]
/// has seen its end, it is killed with its group, and reaped.
pub struct Running {
    child: Child,
    has_group: bool,
    /// What kept it from becoming the program; the other end is closed by its exec.
    failure: Option<OwnedFd>,
    is_reaped: bool,
}

/// The calls that a child may fail at before it is the program, as [`Running`] is told of them.
const CALLS: [&str; 8] =
    ["setpgid", "chdir", "dup3", "rt_sigaction", "rt_sigprocmask", "close_range", "fcntl", "execve"];

impl ExternalProgram<'_> {
    /// Starts it. That it cannot become its program is an error of [`Running::wait`].
    pub fn start(&self) -> Result<Running> {
        // Without the pipe, which a filter may forbid, less is known of a failure.
        let (failure, tell) = match pipe() {
            Ok((failure, tell)) => (Some(failure), Some(tell)),
            Err(_) if self.open == Open::First => (None, None),
            Err(error) => return Err(error),
        };
        let has_group = self.open == Open::Any;
        match process::clone_under_a_filter()? {
            Cloned::Runtime(child) => Ok(Running { child, has_group, failure, is_reaped: false }),
            Cloned::Child => {
                let error = self.become_it();
                let call = CALLS.iter().position(|call| *call == error.call).unwrap_or(CALLS.len());
                let [a, b, c, d] = (error.errno as i32).to_ne_bytes();
                // The runtime may be gone; then there is nobody left to tell.
                let _ = tell.as_ref().map(|tell| file::write(tell.as_fd(), &[call as u8, a, b, c, d]));
                process::exit_now(NOT_STARTED)
            }
        }
    }

    /// Returns only why that is impossible.
    fn become_it(&self) -> SysError {
        match self.prepare() {
            Err(error) => error,
            Ok(()) => execve(self.path, self.arguments, self.environment),
        }
    }

    fn prepare(&self) -> Result<()> {
        if self.open == Open::Any {
            // SAFETY: takes numbers.
            let ret = unsafe { libc::setpgid(0, 0) };
            check("setpgid", ret.into())?;
        }
        if let Some(mask) = self.umask {
            credentials::set_umask(mask);
        }
        self.directory.map_or(Ok(()), change_directory)?;
        for (fd, number) in self.streams.iter().zip(0..) {
            // By itself: musl makes it a dup2(2), which no profile needs to let through, and other architectures have not.
            // SAFETY: takes numbers; the copy is meant to survive exec. What is passed lies above the three.
            let ret = unsafe { libc::syscall(libc::SYS_dup3, fd.as_raw_fd(), number, 0) };
            check("dup3", ret)?;
        }
        reset_signals()?;
        self.open.close_on_exec()
    }
}

impl Running {
    /// Waits for its end and reaps it; `None`: `milliseconds` were over, and it was killed, with what is left of its
    /// process group. An error says also why it could not become its program.
    pub fn wait(mut self, milliseconds: Option<u32>) -> Result<Option<Exit>> {
        let [ended] = process::poll([self.child.pidfd.as_fd()], milliseconds)?;
        if !ended {
            return Ok(None);
        }
        let exit = process::wait_under_a_filter(&self.child)?;
        self.is_reaped = true;
        if exit != Exit::Status(NOT_STARTED) {
            return Ok(Some(exit));
        }
        let mut words = [0; 5];
        // The other end went with the process, so this does not wait.
        let length = self.failure.as_ref().map_or(Ok(0), |failure| file::read(failure.as_fd(), &mut words))?;
        match (length, words) {
            (5, [call, a, b, c, d]) => {
                let call = CALLS.get(usize::from(call)).copied().unwrap_or("clone");
                Err(SysError::new(call, Errno::from_raw(i32::from_ne_bytes([a, b, c, d]))))
            }
            _ => Ok(Some(exit)),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.is_reaped {
            return;
        }
        let pidfd = self.child.pidfd.as_fd();
        // EPERM: it has become another user, and does not end for us; then it is left to itself.
        let is_killed = process::kill_child(self.child.pid, pidfd).is_ok();
        // After the process, which may have made its group and a child in it until then. The number is not given to another
        // group before the process is reaped.
        if self.has_group {
            // ESRCH: it had no group yet.
            // SAFETY: takes numbers.
            let _ = unsafe { libc::kill(-self.child.pid, signal::KILL) };
        }
        if is_killed {
            let _ = process::wait_under_a_filter(&self.child);
        }
    }
}

/// The reading and the writing end of a pipe, close-on-exec, and both above the standard streams, which are open.
fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    let mut fds = [-1; 2];
    // SAFETY: room for two descriptors.
    let ret = unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) };
    check("pipe2", ret.into())?;
    let [reader, writer] = fds;
    Ok((file::owned("pipe2", reader.into())?, file::owned("pipe2", writer.into())?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CString;
    use std::time::Instant;

    fn strings(words: &[&str]) -> Strings {
        Strings::new(words.iter().map(|word| CString::new(*word).unwrap()).collect())
    }

    fn start(path: &CStr, words: &[&str], directory: Option<&CStr>) -> Running {
        let null = std::fs::File::options().read(true).write(true).open("/dev/null").unwrap();
        let streams = [null.as_fd(), null.as_fd(), null.as_fd()];
        let (arguments, environment) = (strings(words), strings(&["PATH=/usr/bin:/bin"]));
        let program = ExternalProgram {
            path,
            arguments: &arguments,
            environment: &environment,
            streams,
            directory,
            umask: Some(0o27),
            open: Open::Any,
        };
        crate::testing::heap_free(|| program.start()).unwrap()
    }

    fn shell(script: &str) -> Running {
        start(c"/bin/sh", &["sh", "-c", script], None)
    }

    #[test]
    fn the_end_of_a_program_is_told() {
        assert_eq!(shell("exit 3").wait(None).unwrap(), Some(Exit::Status(3)));
        assert_eq!(shell("kill -9 $$").wait(None).unwrap(), Some(Exit::Signal(9)));
        assert_eq!(shell("test \"$(umask)\" = 0027").wait(None).unwrap(), Some(Exit::Status(0)));
        assert_eq!(shell("test $(cut -d' ' -f5 /proc/$$/stat) = $$").wait(None).unwrap(), Some(Exit::Status(0)));
    }

    #[test]
    fn what_keeps_a_program_from_starting_is_the_error() {
        let error = start(c"/no/such/program", &["x"], None).wait(None).unwrap_err();
        assert_eq!(error, SysError::new("execve", Errno::ENOENT));
        let error = start(c"/bin/true", &["true"], Some(c"/no/such")).wait(None).unwrap_err();
        assert_eq!(error, SysError::new("chdir", Errno::ENOENT));
    }

    #[test]
    fn a_program_that_is_not_waited_for_is_killed_with_its_children() {
        let mark = format!("{}", 4_000_000 + std::process::id());
        let sleeps = || {
            let pids = std::fs::read_dir("/proc").unwrap().filter_map(|entry| Some(entry.ok()?.path().join("cmdline")));
            let found = pids.filter(|path| std::fs::read_to_string(path).is_ok_and(|line| line.contains(&mark)));
            found.filter(|path| path.parent().is_some_and(|process| process.join("exe").exists())).count()
        };
        let begun = Instant::now();
        let running = shell(&format!("sleep {mark} & sleep {mark}; true"));
        assert_eq!(running.wait(Some(300)).unwrap(), None);
        assert!(begun.elapsed().as_millis() < 5000);
        while sleeps() > 0 {
            assert!(begun.elapsed().as_secs() < 10, "its children live on");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
        // The shell is met anywhere on its way: before it has its group, and while it starts its child.
        for microseconds in (0..3000).step_by(10) {
            let running = shell(&format!("sleep {mark}; true"));
            std::thread::sleep(std::time::Duration::from_micros(microseconds));
            drop(running);
        }
        let begun = Instant::now();
        while sleeps() > 0 {
            assert!(begun.elapsed().as_secs() < 10, "its children live on");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }
}
