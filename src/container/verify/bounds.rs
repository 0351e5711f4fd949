//! What a process has beyond its credentials that CRIU sets as root by what an image says: limits, the session that it is in,
//! and memory at addresses that take a capability.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context, Result};
use caps::Capability::{CAP_SYS_RAWIO, CAP_SYS_RESOURCE};

use super::Wanted;
use super::life::Life;
use super::row::Row;
use super::status::text;

/// Where the columns of /proc/PID/limits begin: behind the name.
const COLUMNS: usize = 26;

/// Of process `pid`, which has not ended.
pub fn compare(wanted: &Wanted, life: Life, pid: i32) -> Result<Vec<Row>> {
    let read = |name: &str| text(&format!("/proc/{pid}/{name}"));
    let mut rows = Vec::new();
    if !wanted.can_have(CAP_SYS_RESOURCE) {
        rows.extend(limits(&wanted.limits, &read("limits")?).context("/proc/PID/limits")?);
    }
    // What only CRIU makes of a process; and one that maps memory may be waiting for a file system that does not answer.
    if life == Life::Running {
        return Ok(rows.into_iter().map(|row: Row| row.of(pid)).collect());
    }
    if wanted.own_session {
        let outside = fs::read_to_string("/proc/self/stat").context("/proc/self/stat")?;
        rows.extend(session(&read("stat")?, &outside).context("/proc/PID/stat")?);
    }
    if !wanted.can_have(CAP_SYS_RAWIO) {
        let lowest = fs::read_to_string("/proc/sys/vm/mmap_min_addr").context("vm.mmap_min_addr")?;
        rows.extend(lowest_address(lowest.trim().parse()?, &read("maps")?));
    }
    Ok(rows.into_iter().map(|row| row.of(pid)).collect())
}

/// `most` are hard limits by their numbers, which is the kernel's order.
fn limits(most: &BTreeMap<u32, u64>, text: &str) -> Option<Vec<Row>> {
    let mut rows = Vec::new();
    for (line, number) in text.lines().skip(1).zip(0..) {
        let Some(most) = most.get(&number) else { continue };
        let (name, values) = line.split_at_checked(COLUMNS)?;
        let number = |text: &str| if text == "unlimited" { Some(u64::MAX) } else { text.parse().ok() };
        let mut values = values.split_whitespace().map(number);
        let (soft, hard) = (values.next()??, values.next()??);
        let wanted = format!("{}: at most {most}", name.trim().to_lowercase());
        rows.push(Row::new("process.rlimits", wanted, format!("{soft}, hard {hard}"), soft.max(hard) <= *most));
    }
    Some(rows)
}

/// By the session of whoever restores it, a process has their terminal, and by the process group, signals reach them: kill(2)
/// of one's own group looks at no pid namespace.
fn session(stat: &str, outside: &str) -> Option<Option<Row>> {
    let (found, outside) = (session_of(stat)?, session_of(outside)?);
    let wanted = || "a session of its own (--shell-job has it in the caller's)".to_owned();
    Some((found == outside).then(|| Row::new("--image-path", wanted(), format!("the caller's, {found}"), false)))
}

/// Field 6 of proc_pid_stat(5).
fn session_of(stat: &str) -> Option<i32> {
    stat.rsplit_once(") ")?.1.split(' ').nth(3)?.parse().ok()
}

/// Memory below vm.mmap_min_addr is where the kernel would find what a pointer of its own that is null leads to.
fn lowest_address(lowest: u64, maps: &str) -> Option<Row> {
    let first = maps.lines().next()?.split('-').next()?;
    let found = u64::from_str_radix(first, 16).ok()?;
    let wanted = format!("no memory below {lowest:#x}");
    (found < lowest).then(|| Row::new("--image-path", wanted, format!("{found:#x}"), false))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::sched;

    #[test]
    fn limits_are_compared_by_their_numbers() {
        let text = fs::read_to_string("/proc/self/limits").unwrap();
        let own: BTreeMap<u32, u64> = (0..16).map(|number| (number, sched::limit(number).unwrap().hard)).collect();
        let rows = limits(&own, &text).unwrap();
        assert!(rows.len() == 16 && rows.iter().all(Row::holds), "{rows:?}");
        let fewer = BTreeMap::from([(7, 2)]);
        let found = limits(&fewer, &text).unwrap();
        assert!(found.len() == 1 && !found[0].holds(), "{found:?}");
        assert_eq!(found[0].wanted, "max open files: at most 2");
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
