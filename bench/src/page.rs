//! `docs/benchmarks.md`: the figures of one run between two marks, and the chart beside it.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use crate::chart;
use crate::machine::Machine;
use crate::results::Results;
use crate::table::{Bases, operations};

const BEGIN: &str = "<!-- made by `make bench-page` -->\n";
const END: &str = "<!-- end -->\n";

/// Replaces what is between the marks of benchmarks.md, and benchmarks.svg.
pub fn write(directory: &Path, machine: &Machine, results: &Results, peers: &[String], bases: &Bases) -> Result<()> {
    let path = directory.join("benchmarks.md");
    let page = fs::read_to_string(&path).with_context(|| format!("read {path:?}"))?;
    let made = made(machine, results, peers, bases);
    fs::write(&path, replaced(&page, &made).with_context(|| format!("{path:?}: no marks"))?)?;
    let picture = directory.join("benchmarks.svg");
    fs::write(&picture, chart::draw(results, peers, bases.floor)).with_context(|| format!("write {picture:?}"))
}

fn replaced(page: &str, made: &str) -> Option<String> {
    let (before, rest) = page.split_once(BEGIN)?;
    let (_, after) = rest.split_once(END)?;
    Some(format!("{before}{BEGIN}{made}{END}{after}"))
}

fn made(machine: &Machine, results: &Results, peers: &[String], bases: &Bases) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "\nLinux {}, cgroup {}, {} × {}. {}\n",
        machine.kernel,
        machine.cgroups,
        machine.processors,
        machine.processor,
        machine.verdict()
    );
    for (name, version) in &machine.versions {
        let _ = writeln!(text, "* `{name}`: {version}");
    }
    costs(&mut text, results, peers, bases);
    facts(&mut text, results, peers);
    text
}

/// A row for each operation and runtime.
fn costs(text: &mut String, results: &Results, peers: &[String], bases: &Bases) {
    let (peer, floor) = (bases.peer, bases.floor);
    let _ = writeln!(
        text,
        "\n| operation | runtime | wall ms | p90 | CPU ms | RSS KiB | faults | system calls | wall × {peer} | CPU × {peer} | \
         wall × {floor} | CPU × {floor} |\n|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|"
    );
    for (operation, seccomp) in operations(results) {
        for name in peers {
            let Some(series) = results.find(operation, seccomp, name).filter(|series| !series.costs.is_empty()) else {
                continue;
            };
            let own = series.figures();
            let with = if seccomp { " with seccomp" } else { "" };
            let calls = series.syscalls.map_or(String::new(), |count| count.to_string());
            let _ = write!(
                text,
                "| {operation}{with} | {name} | {:.2} | {:.2} | {:.2} | {:.0} | {:.0} | {calls} |",
                own.wall / 1000.0,
                own.p90 / 1000.0,
                own.cpu / 1000.0,
                own.rss_kib,
                own.faults
            );
            for base in [peer, floor] {
                let ratios = results.of_peer(series, base).map(|base| series.ratios(base));
                for ratio in ratios.unwrap_or([f64::NAN; 2]) {
                    let _ = if ratio.is_nan() { write!(text, " |") } else { write!(text, " {ratio:.2} |") };
                }
            }
            text.push('\n');
        }
    }
}

/// A row for each fact, a column for each runtime.
fn facts(text: &mut String, results: &Results, peers: &[String]) {
    let _ = writeln!(text, "\n| | {} |\n|---|{}", peers.join(" | "), "--:|".repeat(peers.len()));
    for name in results.fact_names() {
        let _ = write!(text, "| {name} |");
        for peer in peers {
            let _ = match results.fact(name, peer) {
                Some(Ok(value)) if *value < 1000.0 => write!(text, " {value:.1} |"),
                Some(Ok(value)) => write!(text, " {value:.0} |"),
                Some(Err(_)) => write!(text, " failed |"),
                None => write!(text, " |"),
            };
        }
        text.push('\n');
    }
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_between_the_marks_is_made_anew() {
        let page = format!("# Title\n{BEGIN}old\n{END}words\n");
        assert_eq!(replaced(&page, "new\n").unwrap(), format!("# Title\n{BEGIN}new\n{END}words\n"));
        assert!(replaced("# Title\n", "new\n").is_none());
    }
}
