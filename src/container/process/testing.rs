//! What kernel tests of this section need: a child to change, since a test runs in a thread of the test program.

use anyhow::{Context, Result};

/// Runs `body` in a forked child; the test fails if it returns an error or panics. The words go to standard error.
pub fn in_a_child(body: impl FnOnce() -> Result<()>) {
    assert!(crate::sys::testing::child_succeeds(|| match body() {
        Ok(()) => true,
        Err(error) => {
            say(&format!("in the child: {error:#}"));
            false
        }
    }));
}

/// The value of one line of /proc/self/status.
pub fn status_line(key: &str) -> Result<String> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
    Ok(line.context("no such line")?.trim().to_owned())
}

/// Says that a test cannot run here, and why.
pub fn skip(why: &str) {
    say(&format!("SKIP: {why}"));
}

/// Past the test program's capture, which a forked child's words would not come back from.
fn say(line: &str) {
    if let Ok(mut stream) = std::fs::OpenOptions::new().append(true).open("/dev/stderr") {
        // Nobody is left to tell that nobody can be told.
        let _ = std::io::Write::write_all(&mut stream, format!("{line}\n").as_bytes());
    }
}
