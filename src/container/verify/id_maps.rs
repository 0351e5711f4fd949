//! The id maps of a container's user namespace: user_namespaces(7), /proc/PID/uid_map.

use std::fs;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::row::Row;

/// A range of ids: the first one inside, the first one outside, how many.
pub type Range = (u32, u32, u32);

/// The maps that config.json gives to a new user namespace; empty where it makes none.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
pub struct IdRanges {
    pub uids: Vec<Range>,
    pub gids: Vec<Range>,
}

impl IdRanges {
    /// What process `init` has of them.
    pub fn compare(&self, init: i32) -> Result<Vec<Row>> {
        let maps = [("linux.uidMappings", "uid_map", &self.uids), ("linux.gidMappings", "gid_map", &self.gids)];
        let mut rows = Vec::new();
        for (field, file, wanted) in maps.into_iter().filter(|(.., wanted)| !wanted.is_empty()) {
            let path = format!("/proc/{init}/{file}");
            let found = parse(&fs::read_to_string(&path).context(path)?);
            rows.push(Row::new(field, show(wanted), show(&found), is_same(wanted, &found)));
        }
        Ok(rows)
    }
}

/// How an id inside is called outside. Without ranges both are the same.
pub fn outside(ranges: &[Range], id: u32) -> Option<u32> {
    if ranges.is_empty() {
        return Some(id);
    }
    ranges.iter().find_map(|(inside, outside, count)| {
        let offset = id.checked_sub(*inside).filter(|offset| offset < count)?;
        outside.checked_add(offset)
    })
}

fn parse(text: &str) -> Vec<Range> {
    let line = |line: &str| {
        let mut numbers = line.split_whitespace().map(|number| number.parse().ok());
        Some((numbers.next()??, numbers.next()??, numbers.next()??))
    };
    text.lines().filter_map(line).collect()
}

/// The kernel sorts long maps.
fn is_same(one: &[Range], other: &[Range]) -> bool {
    let sorted = |ranges: &[Range]| {
        let mut ranges = ranges.to_vec();
        ranges.sort_unstable();
        ranges
    };
    sorted(one) == sorted(other)
}

/// `0:100000:65536`
fn show(ranges: &[Range]) -> String {
    let one = |(inside, outside, count): &Range| format!("{inside}:{outside}:{count}");
    if ranges.is_empty() { "none".to_owned() } else { ranges.iter().map(one).collect::<Vec<_>>().join(" ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_map_is_the_same_in_any_order() {
        let text = "         0     100000      65536\n     65536          7          1\n";
        let found = parse(text);
        assert_eq!(found, [(0, 100_000, 65536), (65536, 7, 1)]);
        assert!(is_same(&found, &[(65536, 7, 1), (0, 100_000, 65536)]) && !is_same(&found, &found[..1]));
        assert_eq!((show(&found).as_str(), show(&[]).as_str()), ("0:100000:65536 65536:7:1", "none"));
        assert_eq!(
            (outside(&found, 5), outside(&found, 65536), outside(&found, 70_000)),
            (Some(100_005), Some(7), None)
        );
        assert_eq!(outside(&[], 5), Some(5));
    }

    #[test]
    fn the_own_map_is_read() {
        let own = i32::try_from(std::process::id()).unwrap();
        let text = fs::read_to_string("/proc/self/uid_map").unwrap();
        let ranges = IdRanges { uids: parse(&text), gids: vec![(1, 2, 3)] };
        let rows = ranges.compare(own).unwrap();
        assert!(rows[0].holds() && !rows[1].holds(), "{rows:?}");
        assert_eq!(IdRanges::default().compare(own).unwrap(), []);
    }
}
