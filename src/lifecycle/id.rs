//! What a container is called.

use std::fmt;

use anyhow::{Result, bail};

/// A container id: letters, digits and `_ + - .`, and neither `.` nor `..`, so that it names one directory entry.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Id(String);

impl Id {
    pub fn parse(text: &str) -> Result<Self> {
        let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '+' | '-' | '.');
        if text.is_empty() || !text.chars().all(allowed) || matches!(text, "." | "..") {
            bail!(InvalidId { text: text.to_owned(), why: "an id is made of letters, digits and _ + - ." });
        }
        // NAME_MAX: the id is the name of a directory.
        if text.len() > 255 {
            bail!(InvalidId { text: text.to_owned(), why: "longer than 255 bytes" });
        }
        Ok(Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A text that is no id, and why.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct InvalidId {
    text: String,
    why: &'static str,
}

impl fmt::Display for InvalidId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid id format: '{}' ({})", self.text, self.why)
    }
}

impl std::error::Error for InvalidId {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_names_one_directory_entry() {
        for good in ["a", "web-1", "a_b+c.d", "...", "0"] {
            assert_eq!(Id::parse(good).unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a/b", "../a", "a b", "é", "a\n", &"x".repeat(256)] {
            let error = Id::parse(bad).unwrap_err().to_string();
            assert!(error.starts_with("invalid id format: '"), "{error}");
        }
    }
}
