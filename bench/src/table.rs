//! The one table on standard output.

use crate::results::{Results, Series};

/// In this order.
pub const OPERATIONS: [&str; 12] =
    ["run", "create", "start", "exec", "state", "update", "pause", "resume", "kill", "delete", "list", "version"];

/// What ratios are to.
pub struct Bases<'a> {
    pub peer: &'a str,
    pub floor: &'a str,
}

/// Prints every series and fact, operations in the order they were measured, runtimes in the order given.
pub fn print(results: &Results, peers: &[String], bases: &Bases) {
    let operations = operations(results);
    let widest = peers.iter().map(String::len).max().unwrap_or(0).max(7);
    println!(
        "{:<17} {:<widest$} {:>9} {:>7} {:>8} {:>8} {:>7} {:>6} {:>8} | {:>11} {:>11}",
        "operation",
        "runtime",
        "wall ms",
        "± MAD",
        "p90",
        "CPU ms",
        "RSS KiB",
        "faults",
        "syscalls",
        format!("× {}", bases.peer),
        "× floor"
    );
    println!("{:62}{:widest$} {:>11} | {:>5} {:>5} {:>5} {:>5}", "", "", "", "wall", "CPU", "wall", "CPU");
    for (operation, seccomp) in operations {
        for peer in peers {
            if let Some(series) = results.find(operation, seccomp, peer) {
                print_series(results, series, widest, bases);
            }
        }
        println!();
    }
    print_facts(results, peers, widest);
}

/// The operations that were measured, without and with seccomp.
pub fn operations(results: &Results) -> Vec<(&str, bool)> {
    let measured = results.series.iter().filter(|series| !series.costs.is_empty() || !series.failures.is_empty());
    let mut operations: Vec<(&str, bool)> = measured.map(|s| (s.operation.as_str(), s.seccomp)).collect();
    operations.sort_by_key(|(operation, seccomp)| (*seccomp, OPERATIONS.iter().position(|name| name == operation)));
    operations.dedup();
    operations
}

fn print_series(results: &Results, series: &Series, widest: usize, bases: &Bases) {
    let name = format!("{}{}", series.operation, if series.seccomp { " +seccomp" } else { "" });
    if !series.failures.is_empty() {
        let (count, all) = (series.failures.len(), series.failures.len() + series.costs.len());
        println!("{name:<17} {:<widest$} FAILED {count} of {all}: {}", series.peer, series.failures[0]);
    }
    if series.costs.is_empty() {
        return;
    }
    let own = series.figures();
    let ratios = [bases.peer, bases.floor].map(|base| {
        let [wall, cpu] = results.of_peer(series, base).map_or([f64::NAN; 2], |base| series.ratios(base));
        let show = |ratio: f64| if ratio.is_nan() { "-".to_owned() } else { format!("{ratio:.2}") };
        format!("{:>5} {:>5}", show(wall), show(cpu))
    });
    println!(
        "{name:<17} {:<widest$} {:>9.2} {:>7.2} {:>8.2} {:>8.2} {:>7.0} {:>6.0} {:>8} | {} {}",
        series.peer,
        own.wall / 1000.0,
        own.deviation / 1000.0,
        own.p90 / 1000.0,
        own.cpu / 1000.0,
        own.rss_kib,
        own.faults,
        series.syscalls.map_or("-".to_owned(), |count| count.to_string()),
        ratios[0],
        ratios[1]
    );
}

fn print_facts(results: &Results, peers: &[String], widest: usize) {
    let names = results.fact_names();
    if names.is_empty() {
        return;
    }
    print!("{:<38}", "");
    peers.iter().for_each(|peer| print!(" {peer:>widest$}"));
    println!();
    let mut failures = Vec::new();
    for name in names {
        print!("{name:<38}");
        for peer in peers {
            match results.fact(name, peer) {
                Some(Ok(value)) if *value < 1000.0 => print!(" {value:>widest$.1}"),
                Some(Ok(value)) => print!(" {value:>widest$.0}"),
                Some(Err(why)) => {
                    failures.push(format!("{peer}: {name}: {why}"));
                    print!(" {:>widest$}", "FAILED");
                }
                None => print!(" {:>widest$}", "-"),
            }
        }
        println!();
    }
    failures.iter().for_each(|failure| println!("{failure}"));
}
