//! What CRIU's log says about a failure, in the few words that an error has room for.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::sys::{regular, timed_io};

/// The most lines that are quoted.
const LINES: usize = 3;

/// Complaints that are in the log of every success, too.
const HARMLESS: [&str; 2] = ["Can't setup RLIMIT_NOFILE", "Can't keep kdat cache"];

/// The most that is read of a log.
const LIMIT: u64 = 16 << 20;

/// Whether the log `name` is in `directory`: CRIU's own configuration may have another place for it.
pub fn is_there(directory: BorrowedFd, name: &CStr) -> bool {
    regular::read(directory, name, LIMIT).is_ok_and(|(log, _)| !log.is_empty())
}

/// The same of the log that `configuration`, CRIU's own, has another place for; relative ones are below `work`.
pub fn configured(configuration: &Path, work: &Path) -> Option<String> {
    let text = String::from_utf8_lossy(&timed_io::read(configuration, 0, LIMIT as usize).ok()?).into_owned();
    let path = work.join(log_file(&text)?);
    let directory = File::open(path.parent()?).ok()?;
    let name = CString::new(path.file_name()?.as_bytes()).ok()?;
    Some(excerpt(directory.as_fd(), path.parent()?, &name))
}

/// criu(8), "Configuration files": options without dashes, with or without an equals sign; the last one counts.
fn log_file(text: &str) -> Option<&str> {
    let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
    lines.filter_map(log_file_of).next_back()
}

fn log_file_of(line: &str) -> Option<&str> {
    let rest = line.strip_prefix("--").unwrap_or(line).strip_prefix("log-file")?;
    let value = rest.trim_start();
    let value = value.strip_prefix('=').or_else(|| (value.len() < rest.len()).then_some(value))?;
    Some(value.trim().trim_matches('"')).filter(|path| !path.is_empty())
}

/// The interesting lines of the log `name` in `directory`, whose path is `path`, in one line that also names the file.
pub fn excerpt(directory: BorrowedFd, path: &Path, name: &CStr) -> String {
    let log = regular::read(directory, name, LIMIT).map(|(log, _)| log).unwrap_or_default();
    let text = String::from_utf8_lossy(&log);
    let lines = interesting(&text);
    let file = format!("(log file: {}/{})", path.display(), name.to_string_lossy());
    if lines.is_empty() { file } else { format!("{} {file}", lines.join("; ")) }
}

/// The first lines that tell an error, without time and level, and the version that wrote them. What comes after the
/// first ones are consequences.
fn interesting(text: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines() {
        // `(00.022663) Error (criu/util.c:1533): words`, or with a pid after the time: `(00.1)     13: Error (…): words`.
        let Some((_, error)) = line.split_once("Error (") else { continue };
        let Some((_, words)) = error.split_once("): ") else { continue };
        let words = words.trim().to_owned();
        if !HARMLESS.iter().any(|harmless| words.contains(harmless)) && !lines.contains(&words) {
            lines.push(words);
        }
    }
    lines.truncate(LINES);
    let version = text.lines().find_map(|line| line.split_once(") Version: ").map(|(_, version)| version));
    if let (Some(version), false) = (version.and_then(|text| text.split_whitespace().next()), lines.is_empty()) {
        lines.insert(0, format!("criu {version}"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configured_log_file_is_found() {
        assert_eq!(log_file("tcp-established\nlog-file=/a\nlog-file  \"/b c\" # no\n"), Some("/b c"));
        assert_eq!(log_file("--log-file /x"), Some("/x"));
        for none in ["", "log-file", "log-files=/x", "#log-file=/x", "log-file="] {
            assert_eq!(log_file(none), None, "{none}");
        }
    }

    #[test]
    fn the_first_errors_are_quoted_once() {
        let text = "(00.000000) Version: 4.1.1 (gitid 0)\n\
            (00.022663) Error (criu/util.c:1533): rlimit: Can't setup RLIMIT_NOFILE for self: Operation not permitted\n\
            (00.1) Warn  (criu/x.c:1): careful\n\
            (00.16) Error (criu/files-reg.c:1790): Can't lookup mount=27 for fd=1 path=/out\n\
            (00.17)     13: Error (criu/files-reg.c:1790): Can't lookup mount=27 for fd=1 path=/out\n\
            (00.24) Error (criu/cr-dump.c:2111): Dumping FAILED.\n";
        let expected = ["criu 4.1.1", "Can't lookup mount=27 for fd=1 path=/out", "Dumping FAILED."];
        assert_eq!(interesting(text), expected);
        assert!(interesting("").is_empty() && interesting("(00.0) Version: 4.1\nfine\n").is_empty());
    }

    #[test]
    fn a_log_that_is_missing_is_named_all_the_same() {
        let directory = std::fs::File::open("/proc").unwrap();
        let words = excerpt(directory.as_fd(), Path::new("/nope"), c"dump.log");
        assert_eq!(words, "(log file: /nope/dump.log)");
    }
}
