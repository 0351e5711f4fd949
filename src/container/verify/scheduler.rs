//! How much of the CPU a thread may take before others: proc_pid_stat(5), sched(7). CRIU sets what the image says, as root.

use anyhow::{Context, Result};
use caps::Capability;

use super::row::Row;
use super::status::text;
use super::{Share, Wanted};

/// linux/sched.h.
const SCHED_FIFO: u32 = 1;
const SCHED_RR: u32 = 2;
const SCHED_DEADLINE: u32 = 6;

/// Compares a thread of a process with the most that it could get by itself.
pub fn compare(wanted: &Wanted, pid: i32, thread: i32) -> Result<Vec<Row>> {
    if wanted.can_have(Capability::CAP_SYS_NICE) {
        return Ok(Vec::new());
    }
    let path = format!("/proc/{pid}/task/{thread}/stat");
    let found = parse(&text(&path)?).context("/proc/PID/stat")?;
    Ok(vec![row(wanted.share, found)])
}

fn row(most: Share, found: Share) -> Row {
    let holds = match found.policy {
        SCHED_FIFO | SCHED_RR => found.priority <= most.priority,
        SCHED_DEADLINE => most.policy == SCHED_DEADLINE,
        _ => found.nice >= most.nice,
    };
    let show = |share: Share| format!("policy {}, nice {}, priority {}", share.policy, share.nice, share.priority);
    Row::new("process.scheduler", format!("at most {}", show(most)), show(found), holds)
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
            assert!(!row(most, found).holds(), "{found:?}");
        }
        for found in [most, share(0, 19, 0), share(3, 1, 0), share(5, 0, 0)] {
            assert!(row(most, found).holds(), "{found:?}");
        }
        for most in [share(1, 0, 10), share(0, 0, 10)] {
            assert!(row(most, share(2, 0, 10)).holds() && !row(most, share(1, 0, 11)).holds());
        }
    }

    #[test]
    fn the_own_stat_is_read() {
        let stat = text("/proc/thread-self/stat").unwrap();
        let own = crate::sys::sched::scheduler().unwrap();
        let expected = Share { policy: own.policy, nice: own.nice, priority: own.priority };
        assert_eq!(parse(&stat), Some(expected));
        assert_eq!(parse("1 (a"), None);
    }
}
