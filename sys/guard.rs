//! Who ends a child that nobody waits for any more: its guard, or the kernel where the guard's process is gone.
//!
//! Nothing here uses the heap: init has children, too.

use core::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::process::parent_id;

use super::error::{Result, check};
use super::exit::Exit;
use super::process::{self, Child, Cloned};
use super::signal;

/// How long a child that was killed may take to end, in milliseconds.
const GRACE: u32 = 10_000;

/// A child that is killed and reaped when this is dropped, unless it was kept, or waited for.
#[derive(Debug)]
pub struct Guard {
    child: Child,
    grace: u32,
    is_armed: bool,
}

/// A child that lives on, whatever becomes of this.
#[derive(Debug)]
pub struct Kept(Guard);

/// As [`process::clone_process`], for a helper: a process that does something for the caller, and is of use to nobody
/// without it. The kernel kills it when the caller ends, until it takes other ids (PR_SET_PDEATHSIG, prctl(2)), which it
/// follows with [`process::die_with_parent`], or says [`outlive_parent`].
pub fn clone_helper(flags: u64, into_cgroup: Option<BorrowedFd>) -> Result<Cloned> {
    let caller = std::process::id();
    let cloned = process::clone_process(flags, into_cgroup)?;
    if let Cloned::Child = cloned {
        let parent = process::die_with_parent().map(|()| parent_id());
        // The caller may have ended before. It has no number in a pid namespace that it has only its children born in.
        if !matches!(parent, Ok(pid) if pid == caller || pid == 0) {
            process::exit_now(1);
        }
    }
    Ok(cloned)
}

/// For a helper that is in the middle of what it has to finish, or to undo, also when the caller has ended.
pub fn outlive_parent() -> Result<()> {
    // SAFETY: no pointers.
    let ret = unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, 0, 0, 0, 0) };
    check("prctl", ret.into()).map(drop)
}

impl Guard {
    pub fn new(child: Child) -> Self {
        Self::with_grace(child, GRACE)
    }

    /// One that is left to itself if it has not ended so many milliseconds after it was killed.
    pub fn with_grace(child: Child, grace: u32) -> Self {
        Self { child, grace, is_armed: true }
    }

    pub fn keep(mut self) -> Kept {
        self.is_armed = false;
        Kept(self)
    }

    /// As [`process::wait`]; after an error it is killed.
    pub fn wait(mut self) -> Result<Exit> {
        let exit = process::wait(self.child.pidfd.as_fd());
        self.is_armed = exit.is_err();
        exit
    }
}

impl Deref for Guard {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.child
    }
}

impl Deref for Kept {
    type Target = Child;

    fn deref(&self) -> &Child {
        &self.0
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        let pidfd = self.child.pidfd.as_fd();
        // Both fail only if it has ended and is reaped. A frozen one ends when it is thawed, but not before (cgroup v1).
        if self.is_armed && process::pidfd_send_signal(pidfd, signal::KILL).is_ok() {
            let _ = process::wait_within(pidfd, self.grace);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{Cloned, clone_process, ends_within, exit_now, pidfd_open, try_wait};
    use crate::testing::{Outcome, heap_free, in_a_child};
    use crate::{Errno, SysError};

    /// A child that does nothing, or ends with `status`.
    fn child(status: Option<i32>) -> Result<Child> {
        match clone_process(0, None)? {
            Cloned::Runtime(child) => Ok(child),
            Cloned::Child => {
                if status.is_none() {
                    let _ = process::poll([], None);
                }
                exit_now(status.unwrap_or(1))
            }
        }
    }

    #[test]
    fn a_child_that_is_dropped_is_killed_and_reaped() {
        in_a_child(|| -> Outcome {
            let guard = Guard::new(child(None)?);
            let (pid, pidfd) = (guard.pid, guard.pidfd.try_clone()?);
            assert_eq!(try_wait(pidfd.as_fd())?, None, "it lives");
            heap_free(|| drop(guard));
            assert_eq!(try_wait(pidfd.as_fd()), Err(SysError::new("waitid", Errno::ECHILD)), "it is reaped");
            assert_eq!(pidfd_open(pid).map(drop), Err(SysError::new("pidfd_open", Errno::ESRCH)));
            Ok(())
        });
    }

    #[test]
    fn a_child_that_is_kept_lives_on() {
        in_a_child(|| -> Outcome {
            let kept = Guard::new(child(None)?).keep();
            let pidfd = kept.pidfd.try_clone()?;
            drop(kept);
            assert!(!ends_within(pidfd.as_fd(), 100)?, "it was killed");
            drop(Guard::new(Child { pid: 0, pidfd }));
            Ok(())
        });
    }

    #[test]
    fn a_child_that_is_waited_for_ends_as_it_ends() {
        in_a_child(|| -> Outcome {
            assert_eq!(Guard::new(child(Some(7))?).wait()?, Exit::Status(7));
            Ok(())
        });
    }
}
