//! The control files of which statistics are made, and the numbers in them.

use std::ffi::CString;

use anyhow::{Result, anyhow};

use crate::container::cgroup::host::file;
use crate::sys::{Errno, cgroup};

/// The files of one controller.
pub struct ControllerFiles<'a>(pub Option<&'a str>);

impl ControllerFiles<'_> {
    /// The text of a file; empty where there is none, or none any more.
    pub fn text(&self, name: &str) -> Result<String> {
        let Some(directory) = self.0 else { return Ok(String::new()) };
        match file::read_to_end(cgroup::here(), &CString::new(format!("{directory}/{name}"))?) {
            Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ENODEV | Errno::EOPNOTSUPP) => Ok(String::new()),
            Err(error) => Err(anyhow!("{directory}/{name}: {}", file::reason(error.errno))),
            Ok(text) => Ok(text),
        }
    }

    pub fn number(&self, name: &str) -> Result<u64> {
        Ok(number(&self.text(name)?))
    }
}

/// A number as control files have it; `max` is the largest, and what is none is zero.
pub fn number(text: &str) -> u64 {
    match text.trim() {
        "max" => u64::MAX,
        text => text.parse().unwrap_or(0),
    }
}

/// `key value` lines.
pub fn pairs(text: &str) -> impl Iterator<Item = (&str, u64)> {
    text.lines().filter_map(|line| line.split_once(' ')).map(|(key, value)| (key, number(value)))
}

pub fn value_of(text: &str, key: &str) -> u64 {
    pairs(text).find(|(name, _)| *name == key).map_or(0, |(_, value)| value)
}

/// The page sizes of this kernel as its cgroups call them.
pub fn page_sizes() -> Vec<String> {
    let entries = std::fs::read_dir("/sys/kernel/mm/hugepages").into_iter().flatten().flatten();
    let mut sizes: Vec<String> =
        entries.filter_map(|entry| page_size(entry.file_name().to_str().unwrap_or_default())).collect();
    sizes.sort();
    sizes
}

/// `2MB` for `hugepages-2048kB`.
fn page_size(name: &str) -> Option<String> {
    let kilobytes: u64 = name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse().ok()?;
    Some(match kilobytes {
        1_048_576.. => format!("{}GB", kilobytes >> 20),
        1024.. => format!("{}MB", kilobytes >> 10),
        _ => format!("{kilobytes}KB"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_sizes_are_called_as_the_kernel_does() {
        let sizes = ["hugepages-64kB", "hugepages-2048kB", "hugepages-1048576kB", "nr"].map(page_size);
        assert_eq!(sizes.map(Option::unwrap_or_default), ["64KB", "2MB", "1GB", ""]);
    }
}
