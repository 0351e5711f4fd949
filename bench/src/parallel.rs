//! Many containers at a time: how many a second, and how long one waits from `create` to the end of `start`.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use anyhow::{Result, anyhow};

use crate::bundle::{self, SLEEP, Shape};
use crate::host::Host;
use crate::operations;
use crate::peer::{Peer, end_descendants};
use crate::results::Fact;
use crate::stats::{median, quantile};

/// As many slots, each with one container after the other.
const CONCURRENCIES: [usize; 3] = [1, 8, 64];
const PERCENTILES: [(&str, f64); 3] = [("p50", 0.5), ("p90", 0.9), ("p99", 0.99)];

/// The bundles of each slot, with seccomp: of a container that prints and ends, and of one that lives.
struct Slots {
    greeters: Vec<PathBuf>,
    sleepers: Vec<PathBuf>,
}

impl Slots {
    fn write(host: &Host, count: usize) -> Result<Self> {
        let bundles = |kind: &str, args: &[&str]| -> Result<Vec<PathBuf>> {
            let write = |slot| {
                let name = format!("{kind}-{slot}");
                bundle::write(host, &Shape { name: &name, args, seccomp: true, ..Shape::default() })
            };
            (0..count).map(write).collect()
        };
        Ok(Self { greeters: bundles("slot", Shape::default().args)?, sleepers: bundles("live-slot", SLEEP)? })
    }
}

/// What one runtime has shown so far.
#[derive(Default)]
struct Seen {
    /// Containers a second, by round.
    rates: Vec<f64>,
    /// Of each container, in milliseconds.
    latencies: Vec<f64>,
    failure: Option<String>,
}

/// Runtimes in turn, in rounds, at each concurrency.
pub fn measure(host: &Host, peers: &[Peer], rounds: usize) -> Result<Vec<Fact>> {
    let mut facts = Vec::new();
    for concurrency in CONCURRENCIES {
        let slots = Slots::write(host, concurrency)?;
        let mut seen: Vec<Seen> = peers.iter().map(|_| Seen::default()).collect();
        for round in 0..rounds {
            for turn in 0..peers.len() {
                let at = (turn + round) % peers.len();
                if seen[at].failure.is_none() {
                    seen[at].failure =
                        batches(&peers[at], &slots, &mut seen[at]).err().map(|error| format!("{error:#}"));
                    clean_up(host, &peers[at], &slots, seen[at].failure.is_some());
                }
            }
        }
        for (peer, seen) in peers.iter().zip(&seen) {
            facts.extend(figures(&peer.name, concurrency, seen));
        }
    }
    Ok(facts)
}

/// A round of one runtime: containers that run to their end, then such that are started, and killed.
fn batches(peer: &Peer, slots: &Slots, seen: &mut Seen) -> Result<()> {
    let count = slots.greeters.len().max(16) * 2;
    let (elapsed, _) = in_slots(&slots.greeters, count, |slot, bundle| {
        operations::run_at_once(peer, bundle, &name_of(bundle), slot).map(|cost| cost.wall)
    })?;
    seen.rates.push(count as f64 / elapsed);
    let (_, latencies) = in_slots(&slots.sleepers, count, |slot, bundle| {
        operations::start_at_once(peer, bundle, &name_of(bundle), slot)
    })?;
    seen.latencies.extend(latencies.iter().map(|microseconds| microseconds / 1000.0));
    Ok(())
}

fn name_of(bundle: &Path) -> String {
    bundle.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

/// Does `one` for `count` containers, in as many slots as there are bundles at a time; returns the seconds that it took,
/// and what each returned.
fn in_slots(
    bundles: &[PathBuf],
    count: usize,
    one: impl Fn(usize, &Path) -> Result<f64> + Sync,
) -> Result<(f64, Vec<f64>)> {
    let next = AtomicUsize::new(0);
    let begin = Instant::now();
    let work = |slot: usize, bundle: &Path| -> Result<Vec<f64>> {
        let mut results = Vec::new();
        while next.fetch_add(1, Ordering::Relaxed) < count {
            results.push(one(slot, bundle)?);
        }
        Ok(results)
    };
    let results: Vec<Result<Vec<f64>>> = thread::scope(|scope| {
        let work = &work;
        let threads: Vec<_> =
            bundles.iter().enumerate().map(|(slot, bundle)| scope.spawn(move || work(slot, bundle))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err(anyhow!("panicked")))).collect()
    });
    let elapsed = begin.elapsed().as_secs_f64();
    let results: Vec<Vec<f64>> = results.into_iter().collect::<Result<_>>()?;
    Ok((elapsed, results.concat()))
}

fn clean_up(host: &Host, peer: &Peer, slots: &Slots, has_failed: bool) {
    end_descendants();
    for bundle in slots.greeters.iter().chain(&slots.sleepers).filter(|_| has_failed) {
        let name = name_of(bundle);
        peer.clean_up(host, &name, &format!("{}/{name}", host.parent));
    }
}

fn figures(peer: &str, concurrency: usize, seen: &Seen) -> Vec<Fact> {
    let fact = |name: String, value: f64| {
        let value = seen.failure.clone().map_or(Ok(value), Err);
        Fact { name, peer: peer.to_owned(), value }
    };
    let rate = fact(format!("containers/s, {concurrency} at a time"), median(&seen.rates));
    let latency = |(percentile, share)| {
        let name = format!("create and start, {concurrency} at a time, {percentile} ms");
        fact(name, quantile(&seen.latencies, share))
    };
    [rate].into_iter().chain(PERCENTILES.map(latency)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_container_is_made_once_and_a_failure_is_told() {
        let bundles = [PathBuf::from("/a"), PathBuf::from("/b")];
        let made = AtomicUsize::new(0);
        let one = |_: usize, _: &Path| Ok(made.fetch_add(1, Ordering::Relaxed) as f64);
        let (_, mut results) = in_slots(&bundles, 9, one).unwrap();
        results.sort_by(f64::total_cmp);
        assert_eq!(results, (0..9).map(f64::from).collect::<Vec<_>>());
        assert!(in_slots(&bundles, 9, |_, _| Err(anyhow!("no"))).is_err());
    }
}
