//! Forked children for tests that change the process they run in.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Whether `body`, run in a forked child, returned true. A panic is a failure.
pub fn child_succeeds(body: impl FnOnce() -> bool) -> bool {
    wait(spawn(body))
}

/// Forks a child that runs `body` and ends; returns its pid.
pub fn spawn(body: impl FnOnce() -> bool) -> i32 {
    // SAFETY: the child is a copy of this thread only; it runs `body`, whose locks the tests' other threads do not
    // hold for long, and leaves by _exit.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        let good = catch_unwind(AssertUnwindSafe(body)).unwrap_or(false);
        // SAFETY: ends the child without running the parent's exit handlers.
        unsafe { libc::_exit(if good { 0 } else { 1 }) }
    }
    pid
}

/// Whether the child `pid` ended well.
pub fn wait(pid: i32) -> bool {
    let mut status = 0;
    // SAFETY: `status` is live; `pid` is a child that nobody else waits for.
    let waited = unsafe { libc::waitpid(pid, &mut status, 0) };
    pid > 0 && waited == pid && libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 0
}
