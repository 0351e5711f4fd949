//! The tests in which a runtime differs from what ocirt promises: `expected/<runtime>.txt`.
//!
//! ```text
//! module::name: reason                  it fails, and its message has one of the pieces below
//!     a piece of the message
//!     another one
//! module::name: on cgroup1: reason      so on cgroup v1 only; elsewhere it passes
//! module::name: sometimes: reason       a race, or some releases: it passes, or fails with one of the pieces
//! ```

use std::collections::BTreeMap;
use std::path::Path;

use crate::host;

/// At most this many may be either way in one list.
const MOST_SOMETIMES: usize = 20;

/// Where a difference shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Always,
    Sometimes,
    /// On cgroup v1, or on v2, alone.
    OnCgroup(u32),
}

/// One entry of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    when: When,
    pub reason: String,
    pieces: Vec<String>,
}

/// The entries by the tests' names.
pub type Differences = BTreeMap<String, Difference>;

/// The list of a runtime; empty for one that has none. An error names the line that makes no sense.
pub fn of(kind: &str) -> Result<Differences, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("expected").join(format!("{kind}.txt"));
    let cgroup = if host::is_cgroup2() { 2 } else { 1 };
    // No list: a runtime without known differences.
    let all = parse(&std::fs::read_to_string(path).unwrap_or_default())?;
    Ok(all.into_iter().filter(|(_, one)| !matches!(one.when, When::OnCgroup(other) if other != cgroup)).collect())
}

/// Reads a list.
pub fn parse(text: &str) -> Result<Differences, String> {
    let mut all = Differences::new();
    let mut last: Option<String> = None;
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        if let Some(piece) = line.strip_prefix("    ") {
            let known = last.as_ref().and_then(|name| all.get_mut(name));
            known.ok_or(format!("a piece of no test's message: {line}"))?.pieces.push(piece.trim().to_owned());
            continue;
        }
        let (name, reason) = line.split_once(": ").ok_or(format!("no reason: {line}"))?;
        let (when, reason) = when(reason);
        if reason.trim().is_empty() {
            return Err(format!("no reason: {line}"));
        }
        let entry = Difference { when, reason: reason.to_owned(), pieces: Vec::new() };
        if all.insert(name.to_owned(), entry).is_some() {
            return Err(format!("{name} is listed twice"));
        }
        last = Some(name.to_owned());
    }
    match all.values().filter(|one| one.when == When::Sometimes).count() {
        many if many > MOST_SOMETIMES => {
            Err(format!("{many} tests fail `sometimes`, at most {MOST_SOMETIMES} may: say on what it depends"))
        }
        _ => Ok(all),
    }
}

fn when(reason: &str) -> (When, &str) {
    let words =
        [("sometimes: ", When::Sometimes), ("on cgroup1: ", When::OnCgroup(1)), ("on cgroup2: ", When::OnCgroup(2))];
    let found = words.iter().find_map(|(word, when)| Some((*when, reason.strip_prefix(word)?)));
    found.unwrap_or((When::Always, reason))
}

impl Difference {
    /// Whether the test may pass all the same.
    pub fn may_pass(&self) -> bool {
        self.when == When::Sometimes
    }

    /// Whether a test that printed `output` failed in the way that the list says.
    pub fn is_told_by(&self, output: &str) -> bool {
        let message = message(output);
        self.pieces.iter().any(|piece| message.contains(piece.as_str()))
    }
}

/// What a failed test says: its panic's words, without the place in the source and without what it leaves as evidence.
pub fn message(output: &str) -> String {
    let words = match output.split_once("panicked at ") {
        Some((_, rest)) => rest.split_once('\n').map_or(rest, |(_, words)| words),
        None => output,
    };
    let words = words.split("\n-- ").next().unwrap_or_default();
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "panicked at x.rs:1:2:\nstate a: no \"exist\"\n  in \"gone\"\n-- /tmp/config.json\n{}\n";

    #[test]
    fn a_difference_has_a_reason_and_a_piece_of_the_message() {
        let list = parse("# x\na::b: why: so\n    no \"exist\" in\n    other\nc::d: sometimes: a race\n").unwrap();
        let known = &list["a::b"];
        assert_eq!((known.reason.as_str(), known.may_pass()), ("why: so", false));
        assert!(known.is_told_by(OUTPUT) && !known.is_told_by(&OUTPUT.replace("exist", "run")));
        // Neither the place nor the evidence is the message.
        assert_eq!(message(OUTPUT), "state a: no \"exist\" in \"gone\"");
        assert!(list["c::d"].may_pass() && !list["c::d"].is_told_by(OUTPUT));
    }

    #[test]
    fn a_list_that_makes_no_sense_is_refused() {
        for bad in ["    a piece\n", "a::b\n", "a::b: sometimes: \n", "a::b: x\na::b: y\n"] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        let many = |count: usize| (0..count).map(|number| format!("a::b{number}: sometimes: x\n")).collect::<String>();
        assert!(parse(&many(MOST_SOMETIMES)).is_ok());
        assert!(parse(&many(MOST_SOMETIMES + 1)).is_err_and(|error| error.contains("at most")));
    }

    #[test]
    fn each_difference_of_the_checked_in_lists_has_a_piece() {
        for text in [include_str!("../expected/runc.txt"), include_str!("../expected/crun.txt")] {
            for (name, known) in parse(text).unwrap() {
                let is_telling = |piece: &String| piece.chars().filter(|c| c.is_alphanumeric()).count() >= 4;
                assert!(!known.pieces.is_empty() && known.pieces.iter().all(is_telling), "{name}: {:?}", known.pieces);
            }
        }
    }
}
