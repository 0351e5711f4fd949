//! What takes more than a median to find out: the smallest memory limit, the price of a bind mount, counts.

use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::bundle::{self, MOST_BINDS, Shape};
use crate::host::Host;
use crate::operations;
use crate::peer::Peer;
use crate::stats::median;

const STEP: u64 = 64 << 10;
const MOST_STEPS: u64 = 512;

/// The smallest memory limit, in KiB and multiples of 64, at which a container runs to its end, twice.
pub fn smallest_memory(peer: &Peer, host: &Host) -> Result<u64> {
    let runs = |steps: u64| -> Result<bool> {
        let shape = Shape { name: "memory", memory: steps * STEP, ..Shape::default() };
        let bundle = bundle::write(host, &shape)?;
        for _ in 0..2 {
            if operations::run(peer, &bundle, "memory").is_err() {
                peer.clean_up(host, "memory", &format!("{}/memory", host.parent));
                return Ok(false);
            }
        }
        Ok(true)
    };
    let (mut fails, mut works) = (0, MOST_STEPS);
    ensure!(runs(works)?, "does not run with {} MiB", (MOST_STEPS * STEP) >> 20);
    while works - fails > 1 {
        let middle = if works > 8 * (fails + 1) { (fails + 1) * 4 } else { (fails + works) / 2 };
        match runs(middle)? {
            true => works = middle,
            false => fails = middle,
        }
    }
    Ok((works * STEP) >> 10)
}

/// What one more bind mount costs, wall and processor, in microseconds.
pub fn per_bind(peer: &Peer, host: &Host, runs: usize) -> Result<(f64, f64)> {
    let bare = bundle::write(host, &Shape { name: "binds-0", ..Shape::default() })?;
    let full = bundle::write(host, &Shape { name: "binds-all", binds: MOST_BINDS, ..Shape::default() })?;
    let (mut walls, mut cpus) = (Vec::new(), Vec::new());
    for _ in 0..runs {
        let without = operations::run(peer, &bare, "binds")?;
        let with = operations::run(peer, &full, "binds")?;
        walls.push((with.wall - without.wall) / MOST_BINDS as f64);
        cpus.push((with.cpu - without.cpu) / MOST_BINDS as f64);
    }
    Ok((median(&walls), median(&cpus)))
}

/// System calls of `words` and of everything it starts, the container's program included.
pub fn syscalls(peer: &Peer, host: &Host, words: &[&str]) -> Result<u64> {
    let summary = host.work.join("strace");
    let mut line = vec!["/usr/bin/strace", "-f", "-c", "-o"].into_iter().map(str::to_owned).collect::<Vec<_>>();
    line.push(summary.display().to_string());
    line.extend(peer.command_line(words));
    peer.measure_line(&line, 0)?.expect_success()?;
    let text = std::fs::read_to_string(&summary)?;
    let total = text.lines().rfind(|line| line.trim_end().ends_with(" total")).context("strace printed no total")?;
    total.split_whitespace().nth(3).and_then(|count| count.parse().ok()).with_context(|| format!("strace: {total:?}"))
}

/// Instructions that `words` executes in user space, programs that it goes on as included, by callgrind.
pub fn instructions(peer: &Peer, host: &Host, words: &[&str]) -> Result<u64> {
    let result = host.work.join("callgrind.%p");
    let output = Command::new("valgrind")
        .args(["--tool=callgrind", "--trace-children=yes", &format!("--callgrind-out-file={}", result.display())])
        .args(peer.command_line(words))
        .stdin(Stdio::null())
        .output()
        .context("valgrind")?;
    let text = String::from_utf8_lossy(&output.stderr);
    let counts = text.lines().filter_map(|line| line.split("Collected : ").nth(1)?.trim().parse::<u64>().ok());
    match counts.sum() {
        0 => bail!(
            "callgrind: {}",
            text.lines().find(|line| line.contains("unhandled") || line.contains("error")).unwrap_or("no output")
        ),
        sum => Ok(sum),
    }
}
