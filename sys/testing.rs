//! What kernel tests need: forked children, since a test is a thread of the test program and must not change it, and
//! proof that what runs after the clone leaves the heap alone.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test that cannot go on panics"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::error::Error;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// What a test's child returns; any error turns into it.
pub type Outcome = Result<(), Box<dyn Error + Send + Sync>>;

/// Runs `body` in a forked child; the test fails if it returns an error or panics. The words go to standard error.
pub fn in_a_child(body: impl FnOnce() -> Outcome) {
    let good = || match catch_unwind(AssertUnwindSafe(body)) {
        Ok(Ok(())) => true,
        Ok(Err(error)) => {
            say(&format!("in the child: {error:#}"));
            false
        }
        Err(panic) => {
            let words = panic.downcast_ref::<String>().map(String::as_str);
            say(&format!("in the child: {}", words.or(panic.downcast_ref().copied()).unwrap_or("panic")));
            false
        }
    };
    assert!(wait(spawn(good)), "the child failed, its words are above");
}

/// Forks a child that runs `body` and ends; returns its pid.
pub fn spawn(body: impl FnOnce() -> bool) -> i32 {
    // SAFETY: the child is a copy of this thread only; the allocator's locks are made good by fork itself, others are
    // held by no thread for long; it leaves by _exit.
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

/// The value of one line of /proc/self/status.
pub fn status_line(key: &str) -> Result<String, Box<dyn Error + Send + Sync>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    Ok(line.ok_or("no such line")?.trim().to_owned())
}

/// Says that a test cannot run here for want of `word`, one of those of integration/needs.txt. Fails the test instead where
/// `OCIRT_HAS` lists the word. Each skip is a line of the file that `OCIRT_SKIPS` names, which scripts/test counts: libtest
/// itself takes the test for passed.
pub fn skip(word: &str, why: &str) {
    let known = include_str!("../integration/needs.txt").lines().any(|line| line.starts_with(&format!("{word}: ")));
    assert!(known, "integration/needs.txt has no word {word}");
    let declared = std::env::var("OCIRT_HAS").unwrap_or_default();
    assert!(
        !declared.split_whitespace().any(|has| has == word),
        "skipped for want of {word}, which is declared: {why}"
    );
    say(&format!("SKIP {word}: {why}"));
    if let Some(path) = std::env::var_os("OCIRT_SKIPS") {
        let mut file = std::fs::OpenOptions::new().create(true).append(true).open(path).expect("OCIRT_SKIPS");
        let test = std::thread::current().name().unwrap_or("?").to_owned();
        std::io::Write::write_all(&mut file, format!("{test}: {word}: {why}\n").as_bytes()).expect("OCIRT_SKIPS");
    }
}

/// Past the test program's capture, which a forked child's words would not come back from.
fn say(line: &str) {
    if let Ok(mut stream) = std::fs::OpenOptions::new().append(true).open("/dev/stderr") {
        // Nobody is left to tell that nobody can be told.
        let _ = std::io::Write::write_all(&mut stream, format!("{line}\n").as_bytes());
    }
}

/// What `body` returns; panics if it took memory from the heap, or gave some back.
pub fn heap_free<T>(body: impl FnOnce() -> T) -> T {
    let before = CALLS.get();
    let value = body();
    assert_eq!(CALLS.get() - before, 0, "calls of the allocator");
    value
}

thread_local! {
    /// How often this thread called the allocator.
    static CALLS: Cell<usize> = const { Cell::new(0) };
}

#[cfg(test)]
#[global_allocator]
static COUNTING: Counting = Counting;

/// The system's allocator, which counts its calls by thread.
pub struct Counting;

// SAFETY: every call goes to the system's allocator as it came; the counter is a plain thread-local number that needs
// no memory and no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        CALLS.set(CALLS.get() + 1);
        // SAFETY: the caller's promise is handed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[test]
#[should_panic(expected = "calls of the allocator")]
fn the_heap_is_watched() {
    drop(heap_free(|| vec![1]));
}
