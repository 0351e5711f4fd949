//! The tests that are known to fail now and then: `flaky.txt`. What fails is run once more, alone; a test that passes then
//! is flaky, and one that is not in the list fails the suite.

/// At most this many may be known and not mended.
const MOST: usize = 5;

/// One line of the list: `module::name: YYYY-MM-DD: owner: reason`.
#[derive(Debug, PartialEq, Eq)]
pub struct Flaky<'a> {
    pub name: &'a str,
    pub since: &'a str,
    pub owner: &'a str,
    pub reason: &'a str,
}

/// The checked-in list.
pub fn listed() -> Result<Vec<Flaky<'static>>, String> {
    parse(include_str!("../flaky.txt"))
}

/// Reads a list; an error names the line that is none, or says that there are too many.
pub fn parse(text: &str) -> Result<Vec<Flaky<'_>>, String> {
    let lines = text.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
    let all = lines
        .map(|line| entry(line).ok_or(format!("flaky.txt: not `module::name: YYYY-MM-DD: owner: reason`: {line}")));
    let all = all.collect::<Result<Vec<_>, _>>()?;
    if all.len() > MOST {
        return Err(format!("flaky.txt: {} tests are listed, at most {MOST} may be: mend some", all.len()));
    }
    Ok(all)
}

fn entry(line: &str) -> Option<Flaky<'_>> {
    let mut fields = line.splitn(4, ": ").map(str::trim);
    let [name, since, owner, reason] = [fields.next()?, fields.next()?, fields.next()?, fields.next()?];
    let is_date = since.len() == 10 && since.split('-').map(str::len).eq([4, 2, 2]);
    let is_whole = name.contains("::") && is_date && !owner.is_empty() && !reason.is_empty();
    is_whole.then_some(Flaky { name, since, owner, reason })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_a_date_an_owner_and_a_reason() {
        let list = parse("# x\n\na::b: 2026-11-30: mounts: the kernel is slow: sometimes\n").unwrap();
        let wanted =
            Flaky { name: "a::b", since: "2026-11-30", owner: "mounts", reason: "the kernel is slow: sometimes" };
        assert_eq!(list, [wanted]);
        for bad in ["a::b: 2026-11-30: mounts", "a::b: soon: mounts: why", "b: 2026-11-30: mounts: why", "a::b"] {
            assert!(parse(bad).is_err_and(|error| error.contains(bad)), "{bad}");
        }
    }

    #[test]
    fn there_are_few() {
        let line = "a::b: 2026-11-30: mounts: why\n";
        assert!(parse(&line.repeat(MOST)).is_ok());
        assert!(parse(&line.repeat(MOST + 1)).is_err_and(|error| error.contains("at most 5")));
    }

    #[test]
    fn none_is_older_than_the_newest_release() {
        let changelog = include_str!("../../CHANGELOG.md");
        let releases = changelog.lines().filter_map(|line| line.strip_prefix("## [")?.rsplit_once(" - "));
        let newest = releases.map(|(_, date)| date.trim()).max().unwrap_or("");
        for entry in listed().unwrap() {
            assert!(entry.since > newest, "{}: flaky since {}, and {newest} was a release", entry.name, entry.since);
        }
    }
}
