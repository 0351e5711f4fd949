//! How much of the CPU a thread may take before others: proc_pid_stat(5), sched(7). CRIU sets what the image says, as root.

use std::fs;

use anyhow::{Context, Result};
use caps::Capability;

use super::{Difference, Share, Wanted};

/// linux/sched.h.
const SCHED_FIFO: u32 = 1;
const SCHED_RR: u32 = 2;
const SCHED_DEADLINE: u32 = 6;

/// Compares a thread of a process with the most that it could get by itself.
pub fn compare(wanted: &Wanted, pid: i32, thread: i32) -> Result<Vec<Difference>> {
    if wanted.can_have(Capability::CAP_SYS_NICE) {
        return Ok(Vec::new());
    }
    let path = format!("/proc/{pid}/task/{thread}/stat");
    let found = parse(&fs::read_to_string(&path).context(path)?).context("/proc/PID/stat")?;
    Ok(difference(wanted.share, found).into_iter().collect())
}

fn difference(most: Share, found: Share) -> Option<Difference> {
    let holds = match found.policy {
        SCHED_FIFO | SCHED_RR => found.priority <= most.priority,
        SCHED_DEADLINE => most.policy == SCHED_DEADLINE,
        _ => found.nice >= most.nice,
    };
    let show = |share: Share| format!("policy {}, nice {}, priority {}", share.policy, share.nice, share.priority);
    (!holds).then(|| Difference {
        field: "process.scheduler".to_owned(),
        wanted: format!("at most {}", show(most)),
        found: show(found),
        pid: None,
    })
}

/// Fields 19, 40 and 41.
fn parse(stat: &str) -> Option<Share> {
    let fields: Vec<&str> = stat.trim_end().rsplit_once(") ")?.1.split(' ').collect();
    Some(Share {
        policy: fields.get(38)?.parse().ok()?,
        nice: fields.get(16)?.parse().ok()?,
        priority: fields.get(37)?.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_before_others_is_found() {
        let most = Share { policy: 0, nice: 0, priority: 0 };
        let share = |policy, nice, priority| Share { policy, nice, priority };
        for found in [share(0, -1, 0), share(3, -20, 0), share(1, 0, 1), share(2, 10, 99), share(6, 0, 0)] {
            assert!(difference(most, found).is_some(), "{found:?}");
        }
        for found in [most, share(0, 19, 0), share(3, 1, 0), share(5, 0, 0)] {
            assert!(difference(most, found).is_none(), "{found:?}");
        }
        for most in [share(1, 0, 10), share(0, 0, 10)] {
            assert!(difference(most, share(2, 0, 10)).is_none() && difference(most, share(1, 0, 11)).is_some());
        }
    }

    #[test]
    fn the_own_stat_is_read() {
        let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
        let own = crate::sys::sched::scheduler().unwrap();
        let expected = Share { policy: own.policy, nice: own.nice, priority: own.priority };
        assert_eq!(parse(&stat), Some(expected));
        assert_eq!(parse("1 (a"), None);
    }
}
