//! A cgroup's files as containerd's metrics. Texts in, messages out: `read` gives the content of a file by its name, or
//! nothing where there is none, which is 0.

pub mod v1;
pub mod v2;

use crate::api::metrics_rdma::{RdmaEntry, RdmaStat};

/// How a file is read.
pub type Read<'a> = &'a dyn Fn(&str) -> Option<String>;

/// A number, or `max`, which is the greatest one.
fn number(text: &str) -> u64 {
    let text = text.trim();
    if text == "max" { u64::MAX } else { text.parse().unwrap_or(0) }
}

fn file(read: Read<'_>, name: &str) -> u64 {
    read(name).map_or(0, |text| number(&text))
}

/// A file of lines with a name and a number.
struct Table(String);

impl Table {
    fn read(read: Read<'_>, name: &str) -> Option<Self> {
        read(name).map(Self)
    }

    fn get(&self, key: &str) -> u64 {
        let mut lines = self.0.lines().filter_map(|line| line.split_once(' '));
        lines.find(|(name, _)| *name == key).map_or(0, |(_, value)| number(value))
    }
}

/// rdma.current and rdma.max: lines of a device and `key=value`.
fn rdma(read: Read<'_>) -> RdmaStat {
    let entries = |name| read(name).unwrap_or_default().lines().filter_map(rdma_entry).collect();
    RdmaStat { current: entries("rdma.current"), limit: entries("rdma.max") }
}

fn rdma_entry(line: &str) -> Option<RdmaEntry> {
    let mut words = line.split_whitespace();
    let device = words.next()?.to_owned();
    let pairs: Vec<(&str, &str)> = words.filter_map(|word| word.split_once('=')).collect();
    let value = |key: &str| {
        let found = pairs.iter().find(|(name, _)| *name == key).map_or(0, |(_, value)| number(value));
        u32::try_from(found).unwrap_or(u32::MAX)
    };
    Some(RdmaEntry { device, hca_handles: value("hca_handle"), hca_objects: value("hca_object") })
}
