//! What /proc says of one thread: proc_pid_status(5).

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};

/// The lines of a status file, by their names.
pub struct Status(BTreeMap<String, String>);

impl Status {
    /// Of a thread; its process is a thread, too.
    pub fn of(pid: i32, thread: i32) -> Result<Self> {
        Ok(Self::parse(&text(&format!("/proc/{pid}/task/{thread}/status"))?))
    }

    fn parse(text: &str) -> Self {
        let lines = text.lines().filter_map(|line| line.split_once(':'));
        Self(lines.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
    }

    pub fn line(&self, name: &str) -> Result<&str> {
        Ok(self.0.get(name).with_context(|| format!("/proc/PID/status has no {name}"))?)
    }

    /// A zombie has nothing left that could be looked at, and does nothing any more.
    pub fn has_ended(&self) -> bool {
        self.0.get("State").is_some_and(|state| state.starts_with(['Z', 'X']))
    }

    /// The ids of a line: real, effective, saved and of the file system; or groups.
    pub fn ids(&self, name: &str) -> Result<Vec<u32>> {
        let ids = self.line(name)?.split_whitespace().map(str::parse);
        ids.collect::<core::result::Result<_, _>>().with_context(|| format!("/proc/PID/status: {name}"))
    }

    pub fn number(&self, name: &str) -> Result<u64> {
        self.line(name)?.parse().with_context(|| format!("/proc/PID/status: {name}"))
    }

    /// A set of capabilities, or of signals.
    pub fn mask(&self, name: &str) -> Result<u64> {
        u64::from_str_radix(self.line(name)?, 16).with_context(|| format!("/proc/PID/status: {name}"))
    }
}

/// What a file of procfs says of a process. Its name and the names of its files are the container's to choose, and need be no
/// text.
pub fn text(path: &str) -> Result<String> {
    let bytes = fs::read(path).with_context(|| path.to_owned())?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The threads of a process.
pub fn threads(pid: i32) -> Result<Vec<i32>> {
    let path = format!("/proc/{pid}/task");
    let entries = fs::read_dir(&path).context(path)?.flatten();
    Ok(entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect())
}

/// A thread of the process that has not ended, where there is one: its first may have, and the others go on.
pub fn living(pid: i32) -> Result<Option<i32>> {
    first_living(pid, || threads(pid), |thread| Ok(Status::of(pid, thread)?.has_ended()))
}

/// The process itself, unless it has ended: only then are the others looked at.
fn first_living(
    pid: i32,
    threads: impl Fn() -> Result<Vec<i32>>,
    has_ended: impl Fn(i32) -> Result<bool>,
) -> Result<Option<i32>> {
    if !has_ended(pid)? {
        return Ok(Some(pid));
    }
    for thread in threads()? {
        if !has_ended(thread)? {
            return Ok(Some(thread));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_read_by_its_names() {
        let status = Status::parse("State:\tZ (zombie)\nUid:\t0\t1\t2\t3\nGroups:\t \nCapBnd:\t00a0\nSeccomp:\t2\n");
        assert_eq!(status.ids("Uid").unwrap(), [0, 1, 2, 3]);
        assert!(status.ids("Groups").unwrap().is_empty() && status.has_ended());
        assert_eq!((status.mask("CapBnd").unwrap(), status.number("Seccomp").unwrap()), (0xa0, 2));
        assert_eq!(status.number("Gid").unwrap_err().to_string(), "/proc/PID/status has no Gid");
    }

    #[test]
    fn a_process_whose_first_thread_has_ended_has_a_living_one() {
        let own = std::process::id() as i32;
        assert_eq!(living(own).unwrap(), Some(own));
        let first_living = |pid: i32, threads: Vec<(i32, bool)>| {
            let has_ended = |thread| Ok(threads.contains(&(thread, true)));
            first_living(pid, || Ok(threads.iter().map(|(thread, _)| *thread).collect()), has_ended).unwrap()
        };
        assert_eq!(first_living(7, vec![(8, false), (7, false)]), Some(7));
        assert_eq!(first_living(7, vec![(7, true), (8, true), (9, false)]), Some(9));
        assert_eq!(first_living(7, vec![(7, true)]), None);
    }

    #[test]
    fn a_process_may_choose_a_name_that_is_no_text() {
        fs::write("/proc/thread-self/comm", b"a\xff)").unwrap();
        let own = fs::read_link("/proc/thread-self").unwrap();
        let thread = own.file_name().unwrap().to_str().unwrap().parse().unwrap();
        let status = Status::of(std::process::id() as i32, thread).unwrap();
        assert_eq!((status.line("Name").unwrap(), status.has_ended()), ("a\u{fffd})", false));
        let stat = text("/proc/thread-self/stat").unwrap();
        assert!(stat.contains("(a\u{fffd}))"), "{stat}");
    }

    #[test]
    fn the_own_process_has_a_thread() {
        let pid = std::process::id() as i32;
        assert!(threads(pid).unwrap().contains(&pid));
        assert!(!Status::of(pid, pid).unwrap().has_ended());
    }
}
