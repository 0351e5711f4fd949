//! What a process has beyond its credentials that CRIU sets as root by what an image says: limits, the session that it is in,
//! and memory at addresses that take a capability.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};
use caps::Capability::{CAP_SYS_RAWIO, CAP_SYS_RESOURCE};

use super::{Difference, Wanted};

/// Where the columns of /proc/PID/limits begin: behind the name.
const COLUMNS: usize = 26;

/// Of process `pid`, which has not ended.
pub fn compare(wanted: &Wanted, pid: i32) -> Result<Vec<Difference>> {
    let read = |name: &str| {
        let path = format!("/proc/{pid}/{name}");
        fs::read_to_string(&path).context(path)
    };
    let mut found = Vec::new();
    if !wanted.can_have(CAP_SYS_RESOURCE) {
        found.extend(limits(&wanted.limits, &read("limits")?).context("/proc/PID/limits")?);
    }
    if wanted.own_session {
        let outside = fs::read_to_string("/proc/self/stat").context("/proc/self/stat")?;
        found.extend(session(&read("stat")?, &outside).context("/proc/PID/stat")?);
    }
    if !wanted.can_have(CAP_SYS_RAWIO) {
        let lowest = fs::read_to_string("/proc/sys/vm/mmap_min_addr").context("vm.mmap_min_addr")?;
        found.extend(lowest_address(lowest.trim().parse()?, &read("maps")?));
    }
    Ok(found.into_iter().map(|difference| Difference { pid: Some(pid), ..difference }).collect())
}

/// `most` are hard limits by their numbers, which is the kernel's order.
fn limits(most: &BTreeMap<u32, u64>, text: &str) -> Option<Vec<Difference>> {
    let mut found = Vec::new();
    for (line, number) in text.lines().skip(1).zip(0..) {
        let Some(most) = most.get(&number) else { continue };
        let (name, values) = line.split_at_checked(COLUMNS)?;
        for value in values.split_whitespace().take(2) {
            let value = if value == "unlimited" { u64::MAX } else { value.parse().ok()? };
            if value > *most {
                let wanted = format!("{}: at most {most}", name.trim().to_lowercase());
                found.push(difference("process.rlimits", wanted, value.to_string()));
            }
        }
    }
    Some(found)
}

/// By the session of whoever restores it, a process has their terminal, and by the process group, signals reach them: kill(2)
/// of one's own group looks at no pid namespace.
fn session(stat: &str, outside: &str) -> Option<Option<Difference>> {
    let (found, outside) = (session_of(stat)?, session_of(outside)?);
    let wanted = || "a session of its own (--shell-job has it in the caller's)".to_owned();
    Some((found == outside).then(|| difference("--image-path", wanted(), format!("the caller's, {found}"))))
}

/// Field 6 of proc_pid_stat(5).
fn session_of(stat: &str) -> Option<i32> {
    stat.rsplit_once(") ")?.1.split(' ').nth(3)?.parse().ok()
}

/// Memory below vm.mmap_min_addr is where the kernel would find what a pointer of its own that is null leads to.
fn lowest_address(lowest: u64, maps: &str) -> Option<Difference> {
    let first = maps.lines().next()?.split('-').next()?;
    let found = u64::from_str_radix(first, 16).ok()?;
    (found < lowest).then(|| difference("--image-path", format!("no memory below {lowest:#x}"), format!("{found:#x}")))
}

fn difference(field: &str, wanted: String, found: String) -> Difference {
    Difference { field: field.to_owned(), wanted, found, pid: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::sched;

    #[test]
    fn limits_are_compared_by_their_numbers() {
        let text = fs::read_to_string("/proc/self/limits").unwrap();
        let own: BTreeMap<u32, u64> = (0..16).map(|number| (number, sched::limit(number).unwrap().hard)).collect();
        assert_eq!(limits(&own, &text).unwrap().len(), 0, "{text}");
        // Of descriptors: the soft limit, and the hard one.
        let fewer = BTreeMap::from([(7, 2)]);
        let found = limits(&fewer, &text).unwrap();
        assert!(found.len() == 2 && found[0].wanted == "max open files: at most 2", "{found:?}");
        assert!(limits(&BTreeMap::from([(0, 2)]), "Limit\nMax").is_none());
    }

    #[test]
    fn what_a_process_could_not_have_is_found() {
        let stat = |session: i32| format!("7 (a) b) S 1 7 {session} 0 -1 4194304");
        assert!(session(&stat(9), &stat(9)).unwrap().is_some() && session(&stat(7), &stat(9)).unwrap().is_none());
        assert!(session("7 (a", &stat(9)).is_none());
        assert!(lowest_address(0x10000, "00000000-00001000 rwxp\n").is_some());
        assert!(lowest_address(0x10000, "00010000-00011000 rwxp\n").is_none());
        assert!(lowest_address(0x10000, "ffffffffff600000-ffffffffff601000 --xp\n").is_none());
    }
}
