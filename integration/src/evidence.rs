//! What a failed test leaves to read: its configurations, its calls with their messages, and the command that runs just this
//! test again.

use std::path::{Path, PathBuf};

use crate::{host, runtime};

/// How much of one file is shown, in bytes.
const MOST: usize = 2048;

/// How many bundles and calls are shown, the newest last.
const BUNDLES: usize = 2;
const CALLS: usize = 8;

/// Prints it to standard error, which is the test's log.
pub fn print() {
    let place = host::place();
    let configs = configs(place);
    for config in &configs[configs.len().saturating_sub(BUNDLES)..] {
        eprintln!("-- {}", config.display());
        eprintln!("{}", excerpt(&compact(config)));
    }
    let calls = std::fs::read_to_string(host::calls_file()).unwrap_or_default();
    let calls: Vec<&str> = calls.lines().collect();
    for line in &calls[calls.len().saturating_sub(CALLS)..] {
        let (log, words) = line.split_once(' ').unwrap_or((line, ""));
        eprintln!("-- call: {words}");
        let stderr = std::fs::read_to_string(Path::new(log).with_extension("err")).unwrap_or_default();
        if !stderr.is_empty() {
            eprintln!("{}", excerpt(stderr.trim_end()));
        }
    }
    eprintln!("-- again: {}", again());
}

/// The command that runs just this test.
fn again() -> String {
    let name = host::place().file_name().unwrap_or_default().to_string_lossy().replacen('.', "::", 1);
    let modes = ["OCIRT_SUITE_SYSTEMD", "OCIRT_SUITE_USER"];
    let mode = |name: &&str| {
        std::env::var(name).ok().filter(|value| !value.is_empty()).map(|value| format!("{name}={value} "))
    };
    let modes: String = modes.iter().filter_map(mode).collect();
    let runtime = runtime::path();
    format!("{modes}RUNTIME={} cargo test -p ocirt-integration --test suite -- --exact {name}", runtime.display())
}

/// The config.json of each bundle, in the order in which they were written.
fn configs(place: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(place).into_iter().flatten().flatten();
    let mut found: Vec<_> =
        entries.map(|entry| entry.path().join("config.json")).filter(|path| path.exists()).collect();
    found.sort_by_key(|path| path.metadata().and_then(|meta| meta.modified()).ok());
    found
}

/// A configuration on one line; as it is, if it is no JSON.
fn compact(path: &Path) -> String {
    let text = String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned();
    serde_json::from_str::<serde_json::Value>(&text).map_or(text, |value| value.to_string())
}

/// The first [`MOST`] bytes.
fn excerpt(text: &str) -> String {
    match text.char_indices().find(|(at, _)| *at >= MOST) {
        Some((at, _)) => format!("{}… ({} bytes)", &text[..at], text.len()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_long_is_cut() {
        assert_eq!(excerpt("short"), "short");
        let long = "é".repeat(MOST);
        assert!(excerpt(&long).len() < MOST + 40 && excerpt(&long).ends_with("(4096 bytes)"));
    }
}
