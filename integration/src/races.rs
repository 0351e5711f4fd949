//! How often a race is run: as often as a usual run has time for, or `OCIRT_RACES` times.

use std::time::{Duration, Instant};

/// How many rounds, and for how long at most, where nothing else is asked for.
pub struct Usual {
    pub rounds: u64,
    pub time: Duration,
}

/// The most of both; with `OCIRT_RACES`, that many rounds, and two seconds for each, as a slow guest may need.
pub fn bounds(usual: &Usual) -> (u64, Duration) {
    asked().map_or((usual.rounds, usual.time), |rounds| (rounds, time_for(rounds)))
}

/// What a test may take beyond the usual: it has up to two loops of races.
pub fn more_time() -> Duration {
    asked().map_or(Duration::ZERO, |rounds| 2 * time_for(rounds))
}

fn asked() -> Option<u64> {
    std::env::var("OCIRT_RACES").ok()?.parse().ok()
}

fn time_for(rounds: u64) -> Duration {
    Duration::from_secs(30) + Duration::from_secs(2) * u32::try_from(rounds).unwrap_or(u32::MAX)
}

/// The numbers of the rounds, at least three. That there were fewer than `OCIRT_RACES` asks for is a failure.
pub fn rounds(usual: &Usual) -> impl Iterator<Item = u64> + use<> {
    let begun = Instant::now();
    let (most, time) = bounds(usual);
    (0..most).take_while(move |round| {
        let is_next = *round < 3 || begun.elapsed() < time;
        assert!(is_next || asked().is_none(), "{round} of {most} rounds in {time:?}");
        is_next
    })
}
