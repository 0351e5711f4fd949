//! Waiting, with an end.

use std::time::{Duration, Instant};

/// Polls `condition` until it holds; panics with `what` past ten seconds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < end, "not within 10 s: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}
