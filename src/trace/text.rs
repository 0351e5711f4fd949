//! A recording for a terminal: of each command its spans as bars, the longest first, and what each kind took; of many
//! commands, how long they take as a rule.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::read::{Recording, Run, Span};
use super::{Category, Lane};
use crate::error::printable;

/// How wide a bar is, in columns.
const BAR: usize = 30;
/// How many spans of a command are shown.
const LONGEST: usize = 15;
/// So many commands are shown each; of more, the slowest of each name.
pub const EACH: usize = 8;

/// The text, whose lines end with a newline.
pub fn draw(recording: &Recording) -> String {
    let mut text = String::new();
    for run in shown(&recording.runs) {
        one(&mut text, run);
        text.push('\n');
    }
    many(&mut text, &recording.runs);
    // Writing to a String cannot fail.
    if recording.foreign > 0 {
        let _ = writeln!(text, "{} lines are not events of ocirt", recording.foreign);
    }
    text
}

/// All of a few commands; of many, the slowest `create`, the slowest `start` and so on.
pub fn shown(runs: &[Run]) -> Vec<&Run> {
    if runs.len() <= EACH {
        return runs.iter().collect();
    }
    let mut slowest: BTreeMap<&str, &Run> = BTreeMap::new();
    for run in runs {
        let place = slowest.entry(&run.command).or_insert(run);
        if length(run) > length(place) {
            *place = run;
        }
    }
    let mut slowest: Vec<&Run> = slowest.into_values().collect();
    slowest.sort_by(|one, other| one.begin_us.total_cmp(&other.begin_us));
    slowest
}

fn length(run: &Run) -> f64 {
    run.end_us() - run.begin_us
}

/// What is known of its end: `4.210 ms`, `4.210 ms: mounts[3]: …`.
pub fn outcome(run: &Run) -> String {
    let length = millis(length(run));
    match (&run.error, run.status, run.duration_us) {
        (Some(error), ..) => format!("{length}: {}", printable(error)),
        (None, Some(status), _) if status != 0 => format!("{length}, exit status {status}"),
        (None, None, None) => format!("{length}, and did not end"),
        _ => length,
    }
}

fn one(text: &mut String, run: &Run) {
    let _ = writeln!(text, "{}: {}", printable(&run.name()), outcome(run));
    let end = run.end_us();
    // Somebody else's work is in a wait: the reason is there.
    let (mut waits, mut work): (Vec<&Span>, Vec<&Span>) =
        run.spans.iter().partition(|span| span.category == Category::Wait);
    for list in [&mut work, &mut waits] {
        // What did not end may have taken any time.
        let length = |span: &Span| span.duration_us.unwrap_or(f64::INFINITY);
        list.sort_by(|one, other| length(other).total_cmp(&length(one)));
    }
    let hidden = work.len().saturating_sub(LONGEST);
    for span in work.iter().take(LONGEST) {
        line(text, run, span, end);
    }
    if hidden > 0 {
        let rest: f64 = work.iter().skip(LONGEST).map(|span| span.length_us(end)).sum();
        let _ = writeln!(text, "  {:>12}  and {hidden} shorter ones", millis(rest));
    }
    waits.iter().for_each(|span| line(text, run, span, end));
    let kinds = Category::ALL.into_iter().filter_map(|kind| {
        let all = run.spans.iter().filter(|span| span.category == kind);
        let lengths: Vec<f64> = all.map(|span| span.length_us(end)).collect();
        (!lengths.is_empty()).then(|| format!("{} {}", kind.name(), millis(lengths.iter().sum())))
    });
    let _ = writeln!(text, "  by kind: {}", kinds.collect::<Vec<_>>().join(", "));
}

fn line(text: &mut String, run: &Run, span: &Span, end: f64) {
    let field = if span.field.is_empty() { String::new() } else { format!(" ({})", printable(&span.field)) };
    let note = match (span.duration_us, span.failed) {
        (None, _) => ", which did not end",
        (Some(_), true) => ", which failed",
        (Some(_), false) => "",
    };
    let (length, bar) = (millis(span.length_us(end)), bar(run, span, end));
    let lane = if span.lane == Lane::Init { "init" } else { "" };
    let _ = writeln!(text, "  {length:>12}  {bar}  {lane:<4}  {}{field}{note}", printable(&span.name));
}

/// Where in the command the span was: the command's begin is on the left.
fn bar(run: &Run, span: &Span, end: f64) -> String {
    let whole = (end - run.begin_us).max(0.001);
    let column = |time: f64| ((time - run.begin_us) / whole * BAR as f64).clamp(0.0, BAR as f64) as usize;
    let first = column(span.begin_us).min(BAR - 1);
    let last = column(span.begin_us + span.length_us(end)).clamp(first + 1, BAR);
    (0..BAR).map(|at| if (first..last).contains(&at) { '█' } else { '·' }).collect()
}

/// How long each command and each thing that it does takes: the median, the 90th percentile and the longest.
fn many(text: &mut String, runs: &[Run]) {
    let mut commands: BTreeMap<&str, Vec<&Run>> = BTreeMap::new();
    for run in runs {
        commands.entry(&run.command).or_default().push(run);
    }
    commands.retain(|_, runs| runs.len() > 1);
    if !commands.is_empty() {
        let _ = writeln!(text, "{:>7} {:>12} {:>12} {:>12}", "count", "p50", "p90", "max");
    }
    for (command, runs) in commands {
        row(text, runs.iter().map(|run| length(run)).collect(), command);
        let mut spans: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
        for run in runs {
            for span in &run.spans {
                spans.entry(&span.name).or_default().push(span.length_us(run.end_us()));
            }
        }
        let mut spans: Vec<(&str, Vec<f64>)> = spans.into_iter().collect();
        let total = |lengths: &[f64]| lengths.iter().sum::<f64>();
        spans.sort_by(|one, other| total(&other.1).total_cmp(&total(&one.1)));
        for (name, lengths) in spans.into_iter().take(LONGEST) {
            row(text, lengths, &format!("  {}", printable(name)));
        }
    }
}

fn row(text: &mut String, mut lengths: Vec<f64>, name: &str) {
    lengths.sort_by(f64::total_cmp);
    let [median, high, longest] = [50, 90, 100].map(|percent| millis(percentile(&lengths, percent)));
    let _ = writeln!(text, "{:>7} {median:>12} {high:>12} {longest:>12}  {name}", lengths.len());
}

/// By nearest rank, of what is sorted.
fn percentile(sorted: &[f64], percent: usize) -> f64 {
    let rank = (sorted.len() * percent).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}

pub fn millis(us: f64) -> String {
    format!("{:.3} ms", us / 1000.0)
}
