//! Which tests the command line chooses. What it does not know it refuses, and so it does a word that no test has: a
//! typing error must not look like a suite that passes.

use std::collections::VecDeque;

/// The command line of the suite, which is libtest's as far as it goes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Selection {
    words: Vec<String>,
    /// Words are whole names.
    exact: bool,
    skipped: Vec<String>,
    /// Print the names and run nothing.
    pub list: bool,
    /// Run this test in this process: what the runner itself calls.
    pub one: Option<String>,
    /// Tests at a time; none for twice the CPUs.
    pub threads: Option<usize>,
}

impl Selection {
    pub fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut selection = Self::default();
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--exact" => selection.exact = true,
                "--list" => selection.list = true,
                "--one" => selection.one = Some(value()?),
                "--skip" => selection.skipped.push(value()?),
                "--test-threads" => {
                    let number = value()?.parse().ok().filter(|number| *number > 0);
                    selection.threads = Some(number.ok_or("--test-threads needs a number above 0")?);
                }
                flag if flag.starts_with('-') => {
                    return Err(format!("{flag}: the flags are --exact, --list, --skip WORD and --test-threads N"));
                }
                _ => selection.words.push(argument),
            }
        }
        Ok(selection)
    }

    /// The names that are chosen of `all`, in their order. An error names a word that chooses nothing.
    pub fn of<'a>(&self, all: impl IntoIterator<Item = &'a str>) -> Result<VecDeque<&'a str>, String> {
        let all: Vec<&str> = all.into_iter().collect();
        let is_meant = |name: &str, word: &str| if self.exact { name == word } else { name.contains(word) };
        if let Some(word) = self.words.iter().find(|word| !all.iter().any(|name| is_meant(name, word))) {
            return Err(format!("no test has {word:?} {} its name", if self.exact { "as" } else { "in" }));
        }
        let is_chosen = |name: &str| {
            (self.words.is_empty() || self.words.iter().any(|word| is_meant(name, word)))
                && !self.skipped.iter().any(|word| is_meant(name, word))
        };
        let chosen: VecDeque<&str> = all.into_iter().filter(|name| is_chosen(name)).collect();
        if chosen.is_empty() { Err("no test is left to run".to_owned()) } else { Ok(chosen) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [&str; 3] = ["mounts::one", "mounts::one_more", "hooks::one"];

    fn chosen(line: &str) -> Result<Vec<&'static str>, String> {
        let selection = Selection::parse(line.split_whitespace().map(str::to_owned))?;
        Ok(selection.of(ALL)?.into())
    }

    #[test]
    fn words_names_and_exceptions_choose() {
        assert_eq!(chosen("").unwrap(), ALL);
        assert_eq!(chosen("mounts").unwrap(), ["mounts::one", "mounts::one_more"]);
        assert_eq!(chosen("--exact mounts::one").unwrap(), ["mounts::one"]);
        assert_eq!(chosen("--skip hooks mounts hooks").unwrap(), ["mounts::one", "mounts::one_more"]);
        assert_eq!(chosen("--exact --skip mounts::one").unwrap(), ["mounts::one_more", "hooks::one"]);
    }

    #[test]
    fn what_chooses_nothing_is_refused() {
        assert!(chosen("mounts typo").is_err_and(|error| error.contains("typo")));
        assert!(chosen("--exact mounts").is_err_and(|error| error.contains("mounts")));
        assert!(chosen("--skip one").is_err());
        assert!(chosen("--nocapture").is_err_and(|error| error.contains("--nocapture")));
        assert!(chosen("--skip").is_err() && chosen("--test-threads 0").is_err());
    }
}
