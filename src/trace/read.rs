//! A trace file as it was recorded: commands, and the spans of each. Lines of other programs and torn ones are counted, not
//! believed.

use std::collections::HashMap;
use std::io::BufRead;
use std::ops::Range;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::{Category, Lane};
use crate::error::io_error;

/// Everything in a file.
#[derive(Default, Debug)]
pub struct Recording {
    /// In the order in which they began.
    pub runs: Vec<Run>,
    /// Lines that are no event of ours.
    pub foreign: usize,
}

/// One command. Times are microseconds of CLOCK_MONOTONIC.
#[derive(Serialize, Debug)]
pub struct Run {
    pub command: String,
    pub container: Option<String>,
    pub trace_id: String,
    pub span_id: String,
    pub parent_id: Option<String>,
    pub begin_us: f64,
    /// `None`: it did not end, or was killed.
    pub duration_us: Option<f64>,
    pub status: Option<i32>,
    pub error: Option<String>,
    /// In the order in which they began.
    pub spans: Vec<Span>,
}

/// Something that a command did.
#[derive(Serialize, Debug)]
pub struct Span {
    #[serde(serialize_with = "category_name")]
    pub category: Category,
    #[serde(serialize_with = "lane_name")]
    pub lane: Lane,
    pub name: String,
    /// The place in config.json, or nothing.
    pub field: String,
    pub begin_us: f64,
    /// `None`: it did not end.
    pub duration_us: Option<f64>,
    pub failed: bool,
}

impl Run {
    /// `create web1`
    pub fn name(&self) -> String {
        self.container.iter().fold(self.command.clone(), |name, container| format!("{name} {container}"))
    }

    /// When it ended, or when the last thing happened that is known of it.
    pub fn end_us(&self) -> f64 {
        let spans = self.spans.iter().map(|span| span.begin_us + span.duration_us.unwrap_or(0.0));
        let end = self.begin_us + self.duration_us.unwrap_or(0.0);
        spans.fold(end, f64::max)
    }
}

impl Span {
    /// How long it took, in a command that ended at `end_us`.
    pub fn length_us(&self, end_us: f64) -> f64 {
        self.duration_us.unwrap_or(end_us - self.begin_us)
    }
}

fn category_name<S: serde::Serializer>(category: &Category, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(category.name())
}

fn lane_name<S: serde::Serializer>(lane: &Lane, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(lane.name())
}

/// A line of the file.
#[derive(Deserialize)]
struct Event {
    ph: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    cat: String,
    #[serde(default)]
    ts: f64,
    #[serde(default)]
    dur: f64,
    #[serde(default)]
    tid: u64,
    #[serde(default)]
    args: Args,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Args {
    span: String,
    command: String,
    container: Option<String>,
    trace_id: String,
    parent_id: Option<String>,
    field: String,
    status: Option<i32>,
    error: Option<String>,
    failed: bool,
}

/// What a host may have been up for, and more: in microseconds, 30 years.
const TIMES: Range<f64> = 0.0..1e15;

/// Reads a file to its end.
pub fn read(file: impl BufRead) -> Result<Recording> {
    let mut recording = Recording::default();
    let mut open = HashMap::new();
    for line in file.split(b'\n') {
        let line = line.map_err(|error| io_error("read", &error)).context("trace")?;
        let line = line.trim_ascii();
        let line = line.strip_suffix(b",").unwrap_or(line);
        if matches!(line, b"" | b"[" | b"]") {
            continue;
        }
        let is_ours = serde_json::from_slice(line).is_ok_and(|event| recording.add(event, &mut open).is_some());
        recording.foreign += usize::from(!is_ours);
    }
    for run in &mut recording.runs {
        run.spans.sort_by(|one, other| one.begin_us.total_cmp(&other.begin_us));
    }
    recording.runs.sort_by(|one, other| one.begin_us.total_cmp(&other.begin_us));
    Ok(recording)
}

/// The command that a span id stands for, and the places of its spans that have not ended.
type Open = HashMap<String, (usize, Vec<usize>)>;

impl Recording {
    /// Takes an event in; `None`: it is none of ours.
    fn add(&mut self, event: Event, open: &mut Open) -> Option<()> {
        let Event { ph, name, cat, ts, dur, tid, args } = event;
        if !TIMES.contains(&ts) || !TIMES.contains(&dur) {
            return None;
        }
        match ph.as_str() {
            "M" => Some(()),
            "B" if cat == Category::Command.name() => {
                open.insert(args.span.clone(), (self.runs.len(), Vec::new()));
                self.runs.push(Run {
                    command: args.command,
                    container: args.container,
                    trace_id: args.trace_id,
                    span_id: args.span,
                    parent_id: args.parent_id,
                    begin_us: ts,
                    duration_us: None,
                    status: None,
                    error: None,
                    spans: Vec::new(),
                });
                Some(())
            }
            "B" | "X" => {
                let category = Category::parse(&cat)?;
                let lane = Lane::ALL.into_iter().find(|lane| lane.number() == tid)?;
                let (run, unended) = open.get_mut(&args.span)?;
                let run = self.runs.get_mut(*run)?;
                if ph == "B" {
                    unended.push(run.spans.len());
                }
                let duration_us = (ph == "X").then_some(dur);
                let (field, failed) = (args.field, args.failed);
                run.spans.push(Span { category, lane, name, field, begin_us: ts, duration_us, failed });
                Some(())
            }
            "E" => {
                let (run, unended) = open.get_mut(&args.span)?;
                let run = self.runs.get_mut(*run)?;
                match unended.pop().and_then(|span| run.spans.get_mut(span)) {
                    Some(span) => {
                        span.duration_us = Some(ts - span.begin_us);
                        span.failed = args.failed;
                    }
                    None => {
                        run.duration_us = Some(ts - run.begin_us);
                        (run.status, run.error) = (args.status, args.error);
                    }
                }
                Some(())
            }
            _ => None,
        }
    }
}
