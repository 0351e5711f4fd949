//! What became of the tests: each verdict sorted under what was expected of this runtime, printed and counted.
//!
//! [`crate::expected`] lists the tests in which a runtime differs; a listed test that passes, or that fails with another
//! message, is a failure of the suite. The module `deliberate` must fail, or the harness could not.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Duration;

use crate::expected::{self, Differences, Release};
use crate::flaky::{self, Flaky};
use crate::needs;

/// How one test ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    Passed,
    Failed(String),
    /// The word of what is missing.
    Skipped(String),
}

/// The tests so far.
pub struct Report {
    expected: Differences,
    /// What this machine is declared to have.
    declared: Vec<String>,
    flaky: Vec<Flaky<'static>>,
    /// All that passed, but the false claims.
    passed: Vec<String>,
    /// The false claims that failed, as they must.
    refuted: usize,
    differs: usize,
    skipped: Vec<(String, String)>,
    /// What failed, to be run once more: name and output.
    again: Vec<(String, String)>,
    surprises: Vec<(String, String)>,
    seen_flaky: Vec<String>,
    /// How long each test took.
    times: Vec<(Duration, String)>,
}

/// How many of the slowest tests are named at the end.
const SLOWEST: usize = 5;

impl Report {
    /// An error is one of the checked-in lists or of `OCIRT_HAS`.
    pub fn new(kind: &str, release: Release) -> Result<Self, String> {
        Ok(Self::with(expected::of(kind, release)?, needs::declared()?, flaky::listed()?))
    }

    fn with(expected: Differences, declared: Vec<String>, flaky: Vec<Flaky<'static>>) -> Self {
        let (refuted, differs) = (0, 0);
        let (passed, skipped, again, surprises, seen_flaky, times) = Default::default();
        Self { expected, declared, flaky, passed, refuted, differs, skipped, again, surprises, seen_flaky, times }
    }

    /// Sorts a verdict under what was expected, and prints its line.
    pub fn add(&mut self, name: &str, verdict: Verdict) {
        let expected = self.expected.get(name).cloned();
        let deliberate = name.starts_with("deliberate::");
        match verdict {
            Verdict::Passed if deliberate => self.surprise(name, "a false claim passed: the harness cannot fail"),
            Verdict::Failed(_) if deliberate => self.refuted += 1,
            Verdict::Passed if expected.as_ref().is_some_and(|known| !known.may_pass()) => {
                self.surprise(name, "an expected failure passed");
            }
            Verdict::Passed => self.passed.push(name.to_owned()),
            Verdict::Failed(output) => match expected {
                Some(known) => self.differ(name, &known, &output),
                None => {
                    print_failure("FAILED ", name, &output);
                    self.again.push((name.to_owned(), output));
                }
            },
            Verdict::Skipped(word) => self.skip(name, word),
        }
    }

    /// Remembers how long a test took, for the last lines.
    pub fn took(&mut self, name: &str, time: Duration) {
        self.times.push((time, name.to_owned()));
        self.times.sort_unstable_by(|one, other| other.cmp(one));
        self.times.truncate(SLOWEST);
    }

    /// A known failure, which is one of its message's, too.
    fn differ(&mut self, name: &str, known: &expected::Difference, output: &str) {
        if !known.is_told_by(output) {
            let message = expected::message(output);
            return self.surprise(name, &format!("differs, but not as the list says: {message}\n{output}"));
        }
        println!("differs {name}: {}", known.reason);
        self.differs += 1;
    }

    fn skip(&mut self, name: &str, word: String) {
        if !needs::is_known(&word) {
            return self.surprise(name, &format!("skipped for a reason that needs.txt does not have: {word}"));
        }
        if self.declared.contains(&word) {
            return self.surprise(name, &format!("skipped for want of {word}, which OCIRT_HAS says is here"));
        }
        println!("skipped: {name}: {word}");
        self.skipped.push((name.to_owned(), word));
    }

    /// The names of what failed, each of which is to be run once more, alone.
    pub fn again(&self) -> Vec<String> {
        self.again.iter().map(|(name, _)| name.clone()).collect()
    }

    /// What the second run of a failed test says: a test that passes now is flaky, which a listed one may be.
    pub fn add_again(&mut self, name: &str, verdict: Verdict) {
        let Some(index) = self.again.iter().position(|(failed, _)| failed == name) else { return };
        let (name, output) = self.again.swap_remove(index);
        let first_line = expected::message(&output);
        if verdict != Verdict::Passed {
            return self.surprises.push((name, first_line));
        }
        println!("FLAKY {name}");
        match self.flaky.iter().find(|entry| entry.name == name) {
            Some(entry) => {
                println!("        known since {}: {}", entry.since, entry.reason);
                self.passed.push(name.clone());
            }
            None => {
                let words = format!("flaky, and not in integration/flaky.txt; it failed with: {first_line}");
                self.surprises.push((name.clone(), words));
            }
        }
        self.seen_flaky.push(name);
    }

    fn surprise(&mut self, name: &str, output: &str) {
        print_failure("FAILED ", name, output);
        self.surprises.push((name.to_owned(), output.lines().next().unwrap_or("").to_owned()));
    }

    /// A host that is not as before fails the suite.
    pub fn host(&mut self, differences: &[(&str, String)]) {
        for (what, line) in differences {
            let name = format!("host::{what}");
            match self.expected.get(&name).cloned() {
                Some(known) => self.differ(&name, &known, line),
                None => self.surprise(&name, line),
            }
        }
    }

    /// Whether nothing was a surprise.
    pub fn is_good(&self) -> bool {
        self.surprises.is_empty() && self.again.is_empty()
    }

    /// "passed NAME" and "skipped NAME WORD", for scripts/evidence.
    pub fn results(&self) -> String {
        let passed = self.passed.iter().map(|name| format!("passed {name}\n"));
        passed.chain(self.skipped.iter().map(|(name, word)| format!("skipped {name} {word}\n"))).collect()
    }

    /// The last lines: what this machine lacks, what was flaky, what took longest, the counts, what failed.
    pub fn finish(&self, kind: &str, took: Duration) -> ExitCode {
        println!();
        let mut lacking = BTreeMap::<&str, usize>::new();
        self.skipped.iter().for_each(|(_, word)| *lacking.entry(word).or_default() += 1);
        lacking.iter().for_each(|(word, count)| println!("skipped for want of {word}: {count}"));
        self.seen_flaky.iter().for_each(|name| println!("flaky: {name}"));
        self.times.iter().for_each(|(time, name)| println!("slow: {:.1} s {name}", time.as_secs_f64()));
        println!(
            "{kind}: {} passed, {} differ as documented, {} skipped, {} FAILED, {:.1} s",
            self.passed.len() + self.refuted,
            self.differs,
            self.skipped.len(),
            self.surprises.len(),
            took.as_secs_f64()
        );
        for (name, first_line) in &self.surprises {
            println!("  {name}: {first_line}");
        }
        ExitCode::from(u8::from(!self.is_good()))
    }
}

fn print_failure(what: &str, name: &str, output: &str) {
    println!("{what} {name}\n        {}", output.trim_end().replace('\n', "\n        "));
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "a::b";

    fn report(expected: Option<&str>, declared: &[&str], flaky: &[&'static str]) -> Report {
        let list = expected.map(|why| format!("{NAME}: {why}\n    not so\n")).unwrap_or_default();
        let expected = expected::parse(&list, Release::default()).unwrap();
        let entry = |name| Flaky { name, since: "2026-11-30", owner: "x", reason: "x" };
        let declared = declared.iter().map(|word| (*word).to_owned()).collect();
        Report::with(expected, declared, flaky.iter().copied().map(entry).collect())
    }

    fn is_good(name: &str, verdict: Verdict, expected: Option<&str>) -> bool {
        let mut report = report(expected, &[], &[]);
        report.add(name, verdict);
        report.is_good()
    }

    fn failed() -> Verdict {
        Verdict::Failed("panicked at x.rs:1:1:\nit is not so".into())
    }

    #[test]
    fn a_surprise_in_either_direction_fails_the_suite() {
        assert!(!is_good(NAME, failed(), None));
        assert!(is_good(NAME, failed(), Some("why")));
        assert!(!is_good(NAME, Verdict::Failed("another message".into()), Some("why")));
        assert!(!is_good(NAME, Verdict::Failed("another message".into()), Some("sometimes: why")));
        assert!(!is_good(NAME, Verdict::Passed, Some("why")));
        assert!(is_good(NAME, Verdict::Passed, Some("sometimes: why")));
        assert!(!is_good("deliberate::b", Verdict::Passed, None));
        assert!(is_good("deliberate::b", failed(), None));
    }

    #[test]
    fn a_skip_for_what_is_declared_or_unknown_fails_the_suite() {
        let skipped = |word: &str, declared: &[&str]| {
            let mut report = report(None, declared, &[]);
            report.add(NAME, Verdict::Skipped(word.into()));
            report.is_good()
        };
        let mut report = report(None, &[], &[]);
        report.add(NAME, Verdict::Skipped("strace".into()));
        report.add("c::d", Verdict::Passed);
        report.add("deliberate::e", failed());
        assert_eq!(report.results(), "passed c::d\nskipped a::b strace\n");
        assert!(skipped("strace", &[]));
        assert!(skipped("strace", &["criu"]));
        assert!(!skipped("strace", &["criu", "strace"]));
        assert!(!skipped("no reason", &[]));
    }

    #[test]
    fn only_a_listed_test_may_pass_at_the_second_try() {
        let second = |verdict: Verdict, flaky: &[&'static str]| {
            let mut report = report(None, &[], flaky);
            report.add(NAME, failed());
            assert_eq!(report.again(), [NAME]);
            assert!(!report.is_good());
            report.add_again(NAME, verdict);
            report.is_good()
        };
        assert!(!second(Verdict::Passed, &[]));
        assert!(second(Verdict::Passed, &[NAME]));
        assert!(!second(failed(), &[NAME]));
        assert!(!second(Verdict::Skipped("strace".into()), &[NAME]));
    }
}
