//! What a container does to the one that has its output, and its orphans.

use std::io::{self, Write};
use std::time::Duration;

use crate::answer::Answer;

/// Writes so many bytes, and ends without an answer.
pub fn flood(bytes: &str) -> Answer {
    let mut left: usize = bytes.parse().unwrap_or(0);
    let piece = [b'x'; 4096];
    while left > 0 {
        let length = left.min(piece.len());
        io::stdout().write_all(&piece[..length])?;
        left -= length;
    }
    io::stdout().flush()?;
    std::process::exit(0)
}

/// Makes so many processes whose parent has ended when they end.
pub fn orphans(wanted: &str) -> Answer {
    for _ in 0..wanted.parse().unwrap_or(0) {
        // SAFETY: the probe has one thread.
        let child = unsafe { libc::fork() };
        if child == 0 {
            // SAFETY: as above.
            if unsafe { libc::fork() } == 0 {
                std::thread::sleep(Duration::from_millis(20));
            }
            std::process::exit(0);
        }
        // SAFETY: our own child; its status is nobody's question.
        unsafe { libc::waitpid(child, std::ptr::null_mut(), 0) };
    }
    std::process::exit(0)
}
