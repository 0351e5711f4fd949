//! `ocirt inspect`.

use std::fmt::Write as _;

use anyhow::{Context, Result};
use clap::Args;

use super::output::{TextOrJson, print};
use super::{json, select};
use crate::container::cgroup::stats::Stats;
use crate::error::printable;
use crate::lifecycle::{self, Host, Inspected, MountView, NamespaceView, ProcessView};

/// Show everything about a container: its state, program, namespaces, cgroup, processes and mounts
///
/// The kernel is asked now; what `create` was told is as it was saved. As text, long lists are cut off; --format json has all.
/// It has the program's environment too, in which secrets may be.
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct Inspect {
    #[command(flatten)]
    output: TextOrJson,

    /// Name of the container
    #[arg(value_name = "CONTAINER_ID")]
    pub id: String,
}

/// How many processes and mounts the text has.
const SHOWN: usize = 40;

impl Inspect {
    pub fn execute(self, host: &Host) -> Result<()> {
        let id = select::id("inspect", &self.id)?;
        let context = || format!("inspect {id}");
        let is_json = self.output.is_json().with_context(context)?;
        let inspected = lifecycle::inspect(host, &id).with_context(context)?;
        print(&if is_json { json::indented(&inspected, "  ")? + "\n" } else { text(&inspected) })
    }
}

fn text(inspected: &Inspected) -> String {
    let Inspected { state, engine, exit, namespaces, cgroup, processes, mounts, configuration } = inspected;
    let mut text = String::new();
    // Writing to a String cannot fail.
    let mut row = |name: &str, value: String| {
        let _ = writeln!(text, "{name:<11} {value}");
    };
    row("id", state.id.clone());
    let pid = if state.pid == 0 { String::new() } else { format!(", process {}", state.pid) };
    row("status", format!("{}{pid}", state.status));
    if let Some(exit) = exit {
        row("exit status", exit.exit_status.to_string());
    }
    if let Some(engine) = engine {
        row("engine", (*engine).to_owned());
    }
    row("created", format!("{} by {}", state.created, state.owner));
    row("root", state.root.iter().map(|root| root.display().to_string()).collect());
    row("bundle", printable(&state.bundle.to_string_lossy()));
    if let Some(saved) = configuration {
        let words = saved.process.args().as_deref().unwrap_or_default().iter().map(|word| printable(word));
        row("program", words.collect::<Vec<_>>().join(" "));
        let user = saved.process.user();
        row("user", format!("{}:{}", user.uid(), user.gid()));
    }
    for (name, is_shared) in [("namespaces", false), ("host's", true)] {
        let these = namespaces.iter().filter(|namespace| namespace.shared == is_shared);
        let these: Vec<String> = these.map(|NamespaceView { kind, inode, .. }| format!("{kind} {inode}")).collect();
        if !these.is_empty() {
            row(name, these.join(", "));
        }
    }
    if let Some(unit) = &cgroup.unit {
        row("unit", unit.clone());
    }
    let mut paths: Vec<&String> = cgroup.paths.values().collect();
    paths.dedup();
    match paths.as_slice() {
        [] => {}
        [path] => row("cgroup", printable(path)),
        [path, ..] => row("cgroup", format!("{} and {} more", printable(path), paths.len() - 1)),
    }
    if let Some(stats) = &cgroup.stats {
        usage(stats).into_iter().for_each(|(name, value)| row(name, value));
    }
    list(
        &mut text,
        "processes",
        processes,
        "  PID      PARENT   USER     STATE THREADS      MEMORY  NAME",
        |process| {
            let ProcessView { pid, parent, uid, state, threads, resident, name } = process;
            let memory = bytes(*resident);
            format!("{pid:<8} {parent:<8} {uid:<8} {state:<5} {threads:>7} {memory:>11}  {}", printable(name))
        },
    );
    list(&mut text, "mounts", mounts, "  DESTINATION                    TYPE       OPTIONS", |mount| {
        let MountView { destination, kind, options, propagation, .. } = mount;
        format!("{:<30} {:<10} {} {propagation}", printable(destination), printable(kind), printable(options))
            .trim_end()
            .to_owned()
    });
    text
}

fn list<T>(text: &mut String, name: &str, items: &[T], header: &str, line: impl Fn(&T) -> String) {
    if items.is_empty() {
        return;
    }
    let _ = writeln!(text, "{name}\n{header}");
    for item in items.iter().take(SHOWN) {
        let _ = writeln!(text, "  {}", line(item));
    }
    if let Some(more) = items.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        let _ = writeln!(text, "  and {more} more");
    }
}

/// What is used, and what of.
fn usage(stats: &Stats) -> Vec<(&'static str, String)> {
    let memory = &stats.memory.usage;
    let mut used = bytes(memory.usage);
    if let Some(limit) = Some(memory.limit).filter(|limit| *limit < 1 << 60 && *limit > 0) {
        let _ = write!(used, " of {}", bytes(limit));
    }
    if memory.max > 0 {
        let _ = write!(used, ", at most {}", bytes(memory.max));
    }
    if memory.failcnt > 0 {
        let _ = write!(used, "; the limit was reached {} times", memory.failcnt);
    }
    let mut pids = stats.pids.current.to_string();
    if stats.pids.limit > 0 {
        let _ = write!(pids, " of {}", stats.pids.limit);
    }
    let mut cpu = format!("{:.3} s", stats.cpu.usage.total as f64 / 1e9);
    if stats.cpu.throttling.throttled_periods > 0 {
        let throttling = &stats.cpu.throttling;
        let _ = write!(cpu, "; throttled in {} of {} periods", throttling.throttled_periods, throttling.periods);
    }
    vec![("memory", used), ("pids", pids), ("cpu", cpu)]
}

/// With a binary unit.
fn bytes(number: u64) -> String {
    const UNITS: [(&str, u32); 4] = [("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];
    let (unit, shift) = UNITS.into_iter().find(|(_, shift)| number >> shift > 0).unwrap_or(("B", 0));
    if shift == 0 { format!("{number} B") } else { format!("{:.1} {unit}", number as f64 / (1_u64 << shift) as f64) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_one_digit_behind_the_point() {
        for (number, text) in [
            (0, "0 B"),
            (1023, "1023 B"),
            (1024, "1.0 KiB"),
            (1536 << 10, "1.5 MiB"),
            (3 << 30, "3.0 GiB"),
            (u64::MAX, "17179869184.0 GiB"),
        ] {
            assert_eq!(bytes(number), text);
        }
    }
}
