//! An end to waiting.

use std::fmt;
use std::time::{Duration, Instant};

/// A time by which something has to have happened. Pauses grow from 50 µs to 20 ms: what was just killed is gone at once,
/// what is not takes long.
pub struct Deadline {
    start: Instant,
    within: Duration,
}

impl Deadline {
    pub fn after(within: Duration) -> Self {
        Self { start: Instant::now(), within }
    }

    pub fn left(&self) -> Duration {
        self.within.saturating_sub(self.start.elapsed())
    }

    /// Sleeps a little; nothing when the time is over.
    pub fn pause(&self) -> Option<()> {
        if self.left().is_zero() {
            return None;
        }
        let next = (self.start.elapsed() / 2).clamp(Duration::from_micros(50), Duration::from_millis(20));
        std::thread::sleep(next);
        Some(())
    }
}

impl fmt::Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} s", self.within.as_secs())
    }
}
