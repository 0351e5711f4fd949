//! `--trace FILE`: what a command does and when, as spans for people who look for the slow step of a slow start.
//!
//! The file is Chrome's trace-event format ("Trace Event Format", the JSON Array Format, whose closing bracket is optional):
//! one event per line, times in microseconds of CLOCK_MONOTONIC. Events are appended whole by one write(2), so that all commands
//! of a container, and of many containers, share a file. [`read`] is its reader, [`text`] and [`svg`] draw what it has read.

mod context;
pub mod read;
pub mod svg;
pub mod text;

use std::cell::RefCell;
use std::ffi::{CString, OsStr};
use std::fmt;
use std::fs::File;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::error::{About, io_error, one_line};
use crate::sys::file::{self, kind};
use crate::sys::timed_io;
use crate::sys::timeline::monotonic;
use context::TraceContext;

/// What a span is about, which is `cat` in the file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Category {
    /// The whole of a command.
    Command,
    /// config.json becomes a list of steps.
    Plan,
    /// Files below `--root`.
    State,
    /// Cgroups, also as systemd makes them.
    Cgroup,
    /// The clone of a process, and what it gets from outside.
    Process,
    /// A hook that the runtime runs.
    Hook,
    /// A step of init, or of a process of exec.
    Step,
    /// A wait for another process.
    Wait,
    /// A message to another process.
    Message,
}

impl Category {
    pub const ALL: [Self; 9] = [
        Self::Command,
        Self::Plan,
        Self::State,
        Self::Cgroup,
        Self::Process,
        Self::Hook,
        Self::Step,
        Self::Wait,
        Self::Message,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Command => "command",
            Self::Plan => "plan",
            Self::State => "state",
            Self::Cgroup => "cgroup",
            Self::Process => "process",
            Self::Hook => "hook",
            Self::Step => "step",
            Self::Wait => "wait",
            Self::Message => "message",
        }
    }

    /// What waits for somebody else is in the file while it waits.
    fn may_hang(self) -> bool {
        matches!(self, Self::Cgroup | Self::Process | Self::Hook | Self::Wait | Self::Message)
    }

    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|category| category.name() == name)
    }
}

/// Who did it: two lanes of one time line, `tid` in the file.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Lane {
    Runtime,
    /// The process that becomes the container's program.
    Init,
}

impl Lane {
    pub const ALL: [Self; 2] = [Self::Runtime, Self::Init];

    pub fn name(self) -> &'static str {
        match self {
            Self::Runtime => "runtime",
            Self::Init => "init",
        }
    }

    fn number(self) -> u64 {
        match self {
            Self::Runtime => 1,
            Self::Init => 2,
        }
    }
}

/// Something that was done, with the monotonic times of its begin and its end.
#[derive(Clone, Copy, Debug)]
pub struct Done<'a> {
    pub category: Category,
    pub name: &'a str,
    /// The place in config.json, or nothing.
    pub field: &'a str,
    pub begun: Duration,
    pub end: Duration,
}

/// Where spans go; nowhere, if nobody asked.
#[derive(Debug)]
pub struct Recorder {
    sink: Option<Sink>,
}

#[derive(Debug)]
struct Sink {
    file: File,
    pid: u32,
    context: TraceContext,
    /// Events that are not written yet: a write costs more than what it tells of.
    pending: RefCell<String>,
}

/// How long another command may take to begin the file, and a file system to take an event, in milliseconds.
const TIMEOUT: u32 = 1000;
/// What the file begins with; each event has a comma behind it.
const BEGIN: &[u8] = b"[\n";

impl Recorder {
    pub fn off() -> Self {
        Self { sink: None }
    }

    /// Opens the file, which is made where it is missing, for the events of one command. `parent` is the caller's TRACEPARENT.
    pub fn open(path: &OsStr, parent: Option<&OsStr>) -> Result<Self> {
        let path = Path::new(path);
        let file = open(path).context(About::new("--trace", path))?;
        let context = TraceContext::below(parent.and_then(OsStr::to_str)).context("--trace")?;
        Ok(Self { sink: Some(Sink { file, pid: std::process::id(), context, pending: RefCell::default() }) })
    }

    pub fn is_on(&self) -> bool {
        self.sink.is_some()
    }

    /// `TRACEPARENT=…` for the programs that the runtime starts: their spans are below the command's.
    pub fn environment(&self) -> Option<CString> {
        let sink = self.sink.as_ref()?;
        CString::new(format!("TRACEPARENT={}", sink.context.header())).ok()
    }

    /// The command begins; `container` is the one that it is about. If it replaces its own program, which it does at first, it
    /// begins again, and nothing is written of the time before.
    pub fn begin_command(&self, command: &str, container: Option<&str>) {
        let Some(sink) = &self.sink else { return };
        let name = container.map_or_else(|| command.to_owned(), |container| format!("{command} {container}"));
        sink.meta("process_name", 0, &format!("ocirt {name}"));
        for lane in Lane::ALL {
            sink.meta("thread_name", lane.number(), lane.name());
        }
        let TraceContext { trace, span, parent, .. } = &sink.context;
        let args = json!({
            "command": command, "container": container, "trace_id": trace, "span_id": span, "parent_id": parent,
        });
        sink.begin(Category::Command, Lane::Runtime, &name, monotonic(), None, Some(&args));
    }

    /// It ends, with an exit status or an error.
    pub fn end_command(&self, result: &Result<i32>) {
        let Some(sink) = &self.sink else { return };
        let args = match result {
            Ok(status) => json!({ "status": status }),
            Err(error) => json!({ "error": one_line(error) }),
        };
        sink.end(monotonic(), Some(&args));
        sink.write();
    }

    /// The runtime begins something; [`Recorder::end`] is its end.
    pub fn begin(&self, category: Category, name: &str, begun: Duration) {
        let Some(sink) = &self.sink else { return };
        sink.begin(category, Lane::Runtime, name, begun, None, None);
        if category.may_hang() {
            sink.write();
        }
    }

    pub fn end(&self, end: Duration, has_failed: bool) {
        let Some(sink) = &self.sink else { return };
        sink.end(end, has_failed.then(|| json!({ "failed": true })).as_ref());
    }

    /// Things that init has done; they are known at once.
    pub fn steps(&self, steps: &[Done]) {
        let Some(sink) = &self.sink else { return };
        for step in steps {
            let args = (!step.field.is_empty()).then(|| json!({ "field": step.field }));
            let length = step.end.saturating_sub(step.begun);
            sink.begin(step.category, Lane::Init, step.name, step.begun, Some(length), args.as_ref());
        }
    }
}

impl Sink {
    /// The begin of something, or the whole of what took so long.
    fn begin(
        &self,
        category: Category,
        lane: Lane,
        name: &str,
        begun: Duration,
        length: Option<Duration>,
        args: Option<&Value>,
    ) {
        let (phase, length) = match length {
            Some(length) => ("X", format!(r#","dur":{}"#, Micros(length))),
            None => ("B", String::new()),
        };
        let (cat, name) = (category.name(), Value::from(name));
        let what = format!(r#""name":{name},"cat":"{cat}","tid":{}{length}"#, lane.number());
        self.event(phase, &what, begun, args);
    }

    /// The end of what has begun last.
    fn end(&self, end: Duration, args: Option<&Value>) {
        self.event("E", &format!(r#""tid":{}"#, Lane::Runtime.number()), end, args);
    }

    fn event(&self, phase: &str, what: &str, time: Duration, args: Option<&Value>) {
        // A pid comes again; the id of the span does not.
        let (pid, ts, span) = (self.pid, Micros(time), &self.context.span);
        let more = args.map(Value::to_string);
        let more = more.as_deref().and_then(|object| object.strip_prefix('{')?.strip_suffix('}')).unwrap_or_default();
        let comma = if more.is_empty() { "" } else { "," };
        self.line(&format!(
            r#"{{"ph":"{phase}",{what},"pid":{pid},"ts":{ts},"args":{{"span":"{span}"{comma}{more}}}}}"#
        ));
    }

    /// A name that a viewer shows.
    fn meta(&self, what: &str, tid: u64, name: &str) {
        let args = json!({ "name": name });
        self.line(&format!(r#"{{"ph":"M","name":"{what}","pid":{},"tid":{tid},"args":{args}}}"#, self.pid));
    }

    fn line(&self, event: &str) {
        let mut pending = self.pending.borrow_mut();
        pending.push_str(event);
        pending.push_str(",\n");
    }

    /// All of it at once. A full disk must not turn a working container into a failing one.
    fn write(&self) {
        let pending = self.pending.take();
        timed_io::write_or_lose(self.file.as_fd(), pending.as_bytes(), TIMEOUT);
    }
}

/// Microseconds with three digits behind the point: nothing of the clock is lost.
struct Micros(Duration);

impl fmt::Display for Micros {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0.as_micros(), self.0.subsec_nanos() % 1000)
    }
}

/// Opens a regular file to append to; whoever comes first writes its beginning.
fn open(path: &Path) -> Result<File> {
    let file = timed_io::append(path, 0o644)?;
    let stat = file::stat(file.as_fd())?;
    ensure!(stat.kind() == kind::REGULAR, "not a regular file");
    if stat.size == 0 {
        begin(&file)?;
    }
    Ok(file)
}

fn begin(file: &File) -> Result<()> {
    for _ in 0..TIMEOUT {
        match file.try_lock() {
            Ok(()) => {
                if file::stat(file.as_fd())?.size == 0 {
                    timed_io::write_or_lose(file.as_fd(), BEGIN, TIMEOUT);
                }
                return file.unlock().map_err(|error| io_error("flock", &error).into());
            }
            Err(std::fs::TryLockError::WouldBlock) => std::thread::sleep(Duration::from_millis(1)),
            Err(std::fs::TryLockError::Error(error)) => return Err(io_error("flock", &error).into()),
        }
    }
    bail!("another process has the lock of the empty file")
}

#[cfg(test)]
mod tests;
