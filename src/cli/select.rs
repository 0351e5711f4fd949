//! One container by its id, or several by a regular expression (crun's `--regex`).

use anyhow::{Context, Result, anyhow};
use regex::Regex;

use crate::lifecycle::{self, Host, Id};

/// The id of a command's argument; an error names the command, as nothing else is known yet.
pub fn id(command: &'static str, text: &str) -> Result<Id> {
    Id::parse(text).context(command)
}

/// Calls `act` for the container `name`, or for each whose id the expression `name` matches.
///
/// All that match are tried; the first error is returned. None is no error, as with crun.
pub fn each(
    command: &'static str,
    host: &Host,
    name: &str,
    is_regex: bool,
    act: impl Fn(&Id) -> Result<()>,
) -> Result<()> {
    let act = |id: &Id| act(id).with_context(|| format!("{command} {id}"));
    if !is_regex {
        return act(&id(command, name)?);
    }
    let mut first = Ok(());
    for id in matching(command, host, name)? {
        let result = act(&id);
        if first.is_ok() {
            first = result;
        }
    }
    first
}

fn matching(command: &'static str, host: &Host, expression: &str) -> Result<Vec<Id>> {
    let expression = compile(expression).context(command)?;
    let mut ids = lifecycle::ids(host).context(command)?;
    ids.retain(|id| expression.is_match(&id.to_string()));
    Ok(ids)
}

fn compile(expression: &str) -> Result<Regex> {
    Regex::new(expression).map_err(|error| anyhow!("--regex {expression:?}: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_may_match_anywhere() {
        let expression = compile("b[0-9]$").unwrap();
        assert!(expression.is_match("web1b2"));
        assert!(!expression.is_match("b2x"));
    }

    #[test]
    fn a_broken_expression_is_one_line() {
        assert_eq!(compile("a(").unwrap_err().to_string(), "--regex \"a(\": found open group without closing ')'");
    }
}
