//! ptrace(2), as far as the runtime looks at the filters of a stopped thread.

use std::time::{Duration, Instant};

use super::error::{Errno, Result, SysError, check};
use super::seccomp::Instruction;

/// linux/ptrace.h; libc has no name for it.
const SECCOMP_GET_FILTER: libc::c_int = 0x420c;

/// Between two looks at a thread that has not stopped yet.
const PAUSE: Duration = Duration::from_millis(1);

/// A thread that the runtime traces. Dropped, it goes on.
#[derive(Debug)]
pub struct Traced {
    thread: i32,
}

impl Traced {
    /// Traces the thread and asks it to stop; one that is frozen stops as soon as it is thawed, before it runs an
    /// instruction of its own.
    pub fn seize(thread: i32) -> Result<Self> {
        request(libc::PTRACE_SEIZE as libc::c_int, thread, 0, core::ptr::null_mut())?;
        let traced = Self { thread };
        request(libc::PTRACE_INTERRUPT as libc::c_int, thread, 0, core::ptr::null_mut())?;
        Ok(traced)
    }

    /// Waits until it has stopped. ESRCH: it has ended. ETIMEDOUT: it has not stopped.
    pub fn wait(&self, within: Duration) -> Result<()> {
        let start = Instant::now();
        loop {
            let mut status = 0;
            // SAFETY: `status` outlives the call.
            let ret = unsafe { libc::waitpid(self.thread, &raw mut status, libc::__WALL | libc::WNOHANG) };
            match check("waitpid", ret.into())? {
                0 if start.elapsed() < within => std::thread::sleep(PAUSE),
                0 => return Err(SysError::new("waitpid", Errno::ETIMEDOUT)),
                _ if libc::WIFSTOPPED(status) => return Ok(()),
                _ => return Err(SysError::new("waitpid", Errno::ESRCH)),
            }
        }
    }

    /// The program of the filter with this number, in the order in which they were installed; of a thread that has
    /// stopped. ENOENT: there is none. EACCES: the caller has a filter itself, or lacks CAP_SYS_ADMIN (Linux 4.4).
    pub fn filter(&self, number: usize) -> Result<Vec<Instruction>> {
        let length = request(SECCOMP_GET_FILTER, self.thread, number, core::ptr::null_mut())?;
        let mut program = vec![Instruction { code: 0, jt: 0, jf: 0, k: 0 }; length as usize];
        // The program of a filter that is installed never changes.
        request(SECCOMP_GET_FILTER, self.thread, number, program.as_mut_ptr().cast())?;
        Ok(program)
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        // Fails if it has ended, or not stopped: then the end of the runtime lets it go.
        let _ = request(libc::PTRACE_DETACH as libc::c_int, self.thread, 0, core::ptr::null_mut());
    }
}

/// `data` is null, or has room for what the request writes.
fn request(what: libc::c_int, thread: i32, address: usize, data: *mut libc::c_void) -> Result<libc::c_long> {
    // SAFETY: of these requests only SECCOMP_GET_FILTER writes, and that to `data`, which has room for the program.
    let ret = unsafe { libc::ptrace(what as _, thread, address, data) };
    check("ptrace", ret)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn a_thread_without_a_filter_has_none_and_goes_on() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let traced = Traced::seize(child.id() as i32).unwrap();
        traced.wait(Duration::from_secs(10)).unwrap();
        // EACCES: where the tests may not look; EINVAL: a filter of the caller's own.
        let found = traced.filter(0).map_err(|error| error.errno);
        assert!(matches!(found, Err(Errno::ENOENT | Errno::EINVAL | Errno::EACCES)), "{found:?}");
        drop(traced);
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
        let gone = Traced::seize(child.id() as i32).unwrap_err();
        assert_eq!(gone.errno, Errno::ESRCH);
    }
}
