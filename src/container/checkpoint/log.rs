//! What CRIU's log says about a failure, in the few words that an error has room for.

use std::ffi::CStr;
use std::os::fd::BorrowedFd;
use std::path::Path;

use crate::sys::regular;

/// The most lines that are quoted.
const LINES: usize = 3;

/// Complaints that are in the log of every success, too.
const HARMLESS: [&str; 2] = ["Can't setup RLIMIT_NOFILE", "Can't keep kdat cache"];

/// The most that is read of a log.
const LIMIT: u64 = 16 << 20;

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
    use std::os::fd::AsFd;

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
