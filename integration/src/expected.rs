//! The tests in which a runtime differs from what ocirt promises: `expected/<runtime>.txt`.
//!
//! ```text
//! module::name: reason                  it fails, and its message has one of the pieces below
//!     a piece of the message
//!     another one
//! module::name: on cgroup1: reason      so on cgroup v1 only; elsewhere it passes
//! module::name: sometimes: reason       a race: it passes, or fails with one of the pieces
//! module::name: before 1.3: reason      in releases before this one; `from 1.3: ` in this one and later ones
//! ```
//!
//! Of such words before the reason there may be several. A test may have an entry for each range of releases.

use std::collections::BTreeMap;
use std::path::Path;

use crate::host;

/// The number of a release, `1.3.6` of `runc version 1.3.6+ds1`; what is not said of it is 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Release([u32; 3]);

impl Release {
    /// What `text` begins with; none if that is no number.
    pub fn parse(text: &str) -> Option<Self> {
        let number = text.split(|c: char| !c.is_ascii_digit() && c != '.').next().unwrap_or_default();
        let mut release = Self::default();
        for (index, part) in number.split('.').enumerate() {
            *release.0.get_mut(index)? = part.parse().ok()?;
        }
        Some(release)
    }
}

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
    /// In this release and later ones.
    from: Option<Release>,
    /// In releases before this one.
    before: Option<Release>,
    pub reason: String,
    pieces: Vec<String>,
}

/// The entries by the tests' names.
pub type Differences = BTreeMap<String, Difference>;

/// The list of a release of a runtime; empty for one that has none. An error names the line that makes no sense.
pub fn of(kind: &str, release: Release) -> Result<Differences, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("expected").join(format!("{kind}.txt"));
    let cgroup = if host::is_cgroup2() { 2 } else { 1 };
    // No list: a runtime without known differences.
    let all = parse(&std::fs::read_to_string(path).unwrap_or_default(), release)?;
    Ok(all.into_iter().filter(|(_, one)| !matches!(one.when, When::OnCgroup(other) if other != cgroup)).collect())
}

/// Reads what a list says of a release.
pub fn parse(text: &str, release: Release) -> Result<Differences, String> {
    let mut all = Differences::new();
    for (name, difference) in entries(text)?.into_iter().filter(|(_, one)| one.is_of(release)) {
        if all.insert(name.clone(), difference).is_some() {
            return Err(format!("{name} is listed twice"));
        }
    }
    match all.values().filter(|one| one.when == When::Sometimes).count() {
        many if many > MOST_SOMETIMES => {
            Err(format!("{many} tests fail `sometimes`, at most {MOST_SOMETIMES} may: say on what it depends"))
        }
        _ => Ok(all),
    }
}

/// Every entry, of whichever release.
fn entries(text: &str) -> Result<Vec<(String, Difference)>, String> {
    let mut all: Vec<(String, Difference)> = Vec::new();
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty()) {
        if let Some(piece) = line.strip_prefix("    ") {
            let (_, known) = all.last_mut().ok_or(format!("a piece of no test's message: {line}"))?;
            known.pieces.push(piece.trim().to_owned());
            continue;
        }
        let (name, reason) = line.split_once(": ").ok_or(format!("no reason: {line}"))?;
        let difference = Difference::parse(reason);
        if difference.reason.trim().is_empty() {
            return Err(format!("no reason: {line}"));
        }
        all.push((name.to_owned(), difference));
    }
    Ok(all)
}

impl Difference {
    /// The words about where and when it shows, and the reason.
    fn parse(text: &str) -> Self {
        let (from, before) = (None, None);
        let mut one = Self { when: When::Always, from, before, reason: text.to_owned(), pieces: Vec::new() };
        while let Some((word, rest)) = one.reason.split_once(": ") {
            match (word, word.split_once(' ').and_then(|(word, number)| Some((word, Release::parse(number)?)))) {
                ("sometimes", _) => one.when = When::Sometimes,
                ("on cgroup1", _) => one.when = When::OnCgroup(1),
                ("on cgroup2", _) => one.when = When::OnCgroup(2),
                (_, Some(("from", release))) => one.from = Some(release),
                (_, Some(("before", release))) => one.before = Some(release),
                _ => break,
            }
            one.reason = rest.to_owned();
        }
        one
    }

    fn is_of(&self, release: Release) -> bool {
        self.from.is_none_or(|from| release >= from) && self.before.is_none_or(|before| release < before)
    }

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
        let text = "# x\na::b: why: so\n    no \"exist\" in\n    other\nc::d: sometimes: a race\n";
        let list = parse(text, Release::default()).unwrap();
        let known = &list["a::b"];
        assert_eq!((known.reason.as_str(), known.may_pass()), ("why: so", false));
        assert!(known.is_told_by(OUTPUT) && !known.is_told_by(&OUTPUT.replace("exist", "run")));
        // Neither the place nor the evidence is the message.
        assert_eq!(message(OUTPUT), "state a: no \"exist\" in \"gone\"");
        assert!(list["c::d"].may_pass() && !list["c::d"].is_told_by(OUTPUT));
    }

    #[test]
    fn a_list_that_makes_no_sense_is_refused() {
        for bad in
            ["    a piece\n", "a::b\n", "a::b: sometimes: \n", "a::b: x\na::b: y\n", "a::b: before 2: x\na::b: y\n"]
        {
            assert!(parse(bad, Release::default()).is_err(), "{bad:?}");
        }
        let many = |count: usize| (0..count).map(|number| format!("a::b{number}: sometimes: x\n")).collect::<String>();
        assert!(parse(&many(MOST_SOMETIMES), Release::default()).is_ok());
        assert!(parse(&many(MOST_SOMETIMES + 1), Release::default()).is_err_and(|error| error.contains("at most")));
    }

    #[test]
    fn a_release_is_a_number_of_up_to_three_parts() {
        let release = |text: &str| Release::parse(text).unwrap();
        assert_eq!(release("1.3.6+ds1"), Release([1, 3, 6]));
        assert!(release("1.28") > release("1.8.1") && release("2") > release("1.99"));
        assert!(Release::parse("unknown").is_none() && Release::parse("").is_none());
    }

    #[test]
    fn a_difference_may_be_one_of_some_releases() {
        let text = "a::b: before 1.3: old\n    one\na::b: from 1.3: on cgroup1: from then on: new\n    two\n";
        let of = |number: &str| parse(text, Release::parse(number).unwrap()).unwrap()["a::b"].clone();
        let (old, new) = (of("1.1.5"), of("1.3"));
        assert_eq!((old.reason.as_str(), old.pieces.len(), old.when), ("old", 1, When::Always));
        assert_eq!((new.reason.as_str(), new.pieces.len(), new.when), ("from then on: new", 1, When::OnCgroup(1)));
    }

    #[test]
    fn each_difference_of_the_checked_in_lists_has_a_piece() {
        let lists = [
            (include_str!("../expected/runc.txt"), ["1.1.5", "1.3.6"]),
            (include_str!("../expected/crun.txt"), ["1.8.1", "1.28"]),
        ];
        for (text, releases) in lists {
            for release in releases {
                parse(text, Release::parse(release).unwrap()).unwrap();
            }
            for (name, known) in entries(text).unwrap() {
                let is_telling = |piece: &String| piece.chars().filter(|c| c.is_alphanumeric()).count() >= 4;
                assert!(!known.pieces.is_empty() && known.pieces.iter().all(is_telling), "{name}: {:?}", known.pieces);
            }
        }
    }
}
