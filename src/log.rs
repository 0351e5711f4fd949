//! The `--log` sink, and the one writer of error lines.
//!
//! Lines are runc's (logrus'), because engines parse them: `text` is `time="…" level=error msg="…"`, `json` is one object
//! per line with `level`, `msg` and `time`. An error's object also carries what is known about it, see [`facts`].
//! Without `--log`, people read the lines on stderr: `ocirt: create web1: …`.

mod daemon;
pub mod facts;
mod level;

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{IsTerminal as _, Write as _};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};

use crate::error::{About, one_line, printable};
use crate::sys::timed_io;
use daemon::{Daemon, Protocol};
use facts::{Code, Facts};

pub use level::Level;

/// How long a reader of the log, of a FIFO for one, may hold up a line, in milliseconds.
const TIMEOUT: u32 = 1000;

/// How a line of the log file looks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    Text,
    Json,
}

impl Format {
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "text" | "" => Ok(Self::Text),
            "json" => Ok(Self::Json),
            _ => bail!("invalid log-format: {name}"),
        }
    }
}

/// Where the lines go, and which.
pub struct Log {
    sink: Sink,
    format: Format,
    level: Level,
}

enum Sink {
    /// No `--log`: lines for people.
    Console,
    /// No file, but lines for a program: `--log-format json` alone, or `--log /dev/stderr`.
    Stderr,
    File(File),
    Daemon(Daemon),
}

impl Log {
    /// The log of a runtime that was told nothing: warnings and errors on stderr, for people.
    pub fn console() -> Self {
        Self { sink: Sink::Console, format: Format::Text, level: Level::Info }
    }

    /// Opens the log as `--log` and its companions say: a path, or crun's `file:PATH`, `journald:ID` and `syslog:ID`.
    /// Lines are appended to a file, each by one write(2): several runtimes of one container write to the same one.
    pub fn open(place: Option<&OsStr>, format: Format, level: Level) -> Result<Self> {
        let sink = match place.filter(|place| !place.is_empty()) {
            Some(place) => named(place.as_bytes())?,
            None if format == Format::Json => Sink::Stderr,
            None => Sink::Console,
        };
        Ok(Self { sink, format, level })
    }

    pub fn warn(&self, message: &str) {
        self.line(Level::Warning, message, None);
    }

    /// A warning of a command whose standard error is that of a program in a container: there it goes only if a person reads
    /// it, at a terminal.
    pub fn warn_beside_a_program(&self, message: &str) {
        if !matches!(self.sink, Sink::Console) || std::io::stderr().is_terminal() {
            self.warn(message);
        }
    }

    /// Whether what is only for those who look for a fault is written.
    pub fn is_debug(&self) -> bool {
        self.level >= Level::Debug
    }

    pub fn debug(&self, message: &str) {
        self.line(Level::Debug, message, None);
    }

    /// Writes the error that ends the command `phase`, to the log, and to stderr too when the log is elsewhere: callers
    /// read the one, people the other. `code` is the class of an error that has one of its own.
    pub fn error(&self, phase: &str, code: Option<Code>, error: &anyhow::Error) {
        let message = one_line(error);
        self.line(Level::Error, &message, Some(&Facts::of(phase, code, error)));
        if let Sink::File(_) | Sink::Daemon(_) = self.sink {
            to_stderr(&console_line(Level::Error, &message));
        }
    }

    fn line(&self, level: Level, message: &str, facts: Option<&Facts>) {
        if level > self.level {
            return;
        }
        if let Sink::Daemon(daemon) = &self.sink {
            // Level and time are theirs already; only what else is known about an error needs an object.
            return match self.format {
                Format::Text => daemon.send(level, message),
                Format::Json => daemon.send(level, json_line(&now(), level, message, facts).trim_end()),
            };
        }
        let line = match (&self.sink, self.format) {
            (Sink::Console, _) => console_line(level, message),
            (_, Format::Text) => text_line(&now(), level, message),
            (_, Format::Json) => json_line(&now(), level, message, facts),
        };
        match &self.sink {
            // A full disk must not turn a working container into a failing one.
            Sink::File(file) => timed_io::write_or_lose(file.as_fd(), line.as_bytes(), TIMEOUT),
            Sink::Console | Sink::Stderr | Sink::Daemon(_) => to_stderr(&line),
        }
    }
}

fn named(place: &[u8]) -> Result<Sink> {
    for (prefix, protocol) in [("journald:", Protocol::Journald), ("syslog:", Protocol::Syslog)] {
        if let Some(id) = place.strip_prefix(prefix.as_bytes()) {
            return Daemon::connect(protocol, &String::from_utf8_lossy(id)).map(Sink::Daemon);
        }
    }
    let path = Path::new(OsStr::from_bytes(place.strip_prefix(b"file:").unwrap_or(place)));
    if path == Path::new("/dev/stderr") { Ok(Sink::Stderr) } else { append(path).map(Sink::File) }
}

fn append(path: &Path) -> Result<File> {
    timed_io::append(path, 0o644).with_context(|| About::new("--log", path))
}

fn to_stderr(line: &str) {
    // Nobody is left to be told when stderr is closed.
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// One line for people.
fn console_line(level: Level, message: &str) -> String {
    let mut line = String::from("ocirt: ");
    if level != Level::Error {
        line.push_str(level.name());
        line.push_str(": ");
    }
    line.push_str(&printable(message.trim_end()));
    line.push('\n');
    line
}

/// logrus' text format, for a sink that is no terminal.
fn text_line(time: &str, level: Level, message: &str) -> String {
    format!("time=\"{time}\" level={} msg={}\n", level.name(), logfmt_value(message))
}

/// logrus' rule: bare, if nothing but letters, digits and `-._/@^+` is in it, else as Go's `%q` has it.
fn logfmt_value(text: &str) -> String {
    if text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._/@^+".contains(&byte)) {
        return text.to_owned();
    }
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            // Writing to a String cannot fail.
            c if c.is_control() => drop(write!(quoted, "\\x{:02x}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

fn json_line(time: &str, level: Level, message: &str, facts: Option<&Facts>) -> String {
    let mut object = serde_json::Map::new();
    let mut put = |key: &str, value: &str| object.insert(key.to_owned(), value.into());
    put("level", level.name());
    put("msg", message);
    put("time", time);
    for (key, value) in facts.into_iter().flat_map(Facts::entries) {
        put(key, value);
    }
    let mut line = serde_json::Value::from(object).to_string();
    line.push('\n');
    line
}

/// `time` in UTC with nanoseconds, as Go writes a time into JSON.
pub fn rfc3339_nanos(time: SystemTime) -> String {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    let seconds = rfc3339(since.as_secs());
    format!("{}.{:09}Z", seconds.trim_end_matches('Z'), since.subsec_nanos())
}

fn now() -> String {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    rfc3339(since.as_secs())
}

/// Seconds since 1970 as RFC 3339 has them, in UTC.
fn rfc3339(seconds: u64) -> String {
    let (year, month, day) = civil_date(seconds / 86_400);
    let (hour, minute, second) = (seconds / 3600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// The Gregorian date of a day counted from 1970-01-01. Years start in March here, so that the leap day comes last.
fn civil_date(day: u64) -> (u64, u64, u64) {
    const DAYS_BEFORE_1970: u64 = 719_468; // since 0000-03-01
    let day = day + DAYS_BEFORE_1970;
    let era = day / 146_097; // 400 years
    let of_era = day % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day_of_month = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
    let year = era * 400 + year_of_era + u64::from(month <= 2);
    (year, month, day_of_month)
}

#[cfg(test)]
mod tests;
