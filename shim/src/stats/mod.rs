//! A cgroup's files as containerd's metrics. Texts in, messages out: `read` gives the content of a file by its name, or
//! nothing where there is none, which is 0.

pub mod v1;
pub mod v2;

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

/// Lines of a device and `key=value`: rdma.current, rdma.max.
fn rdma(text: &str) -> impl Iterator<Item = (String, u32, u32)> {
    text.lines().filter_map(|line| {
        let mut words = line.split_whitespace();
        let device = words.next()?.to_owned();
        let pairs: Vec<(&str, &str)> = words.filter_map(|word| word.split_once('=')).collect();
        let value = |key: &str| {
            let found = pairs.iter().find(|(name, _)| *name == key).map_or(0, |(_, value)| number(value));
            u32::try_from(found).unwrap_or(u32::MAX)
        };
        Some((device, value("hca_handle"), value("hca_object")))
    })
}
