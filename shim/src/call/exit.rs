//! What the shim leaves in the bundle of how a container's init has ended. The shim alone is told, as its parent; `ocirt wait`
//! reads it for others, on kernels that do not keep it, and after the end.

use serde::Serialize;

/// In the bundle.
pub const FILE: &str = "ocirt-exit.json";

/// Which process it was, as ocirt tells one from a later one with its pid, and how it has ended.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record {
    pid: u32,
    start_time: u64,
    exit_status: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<u32>,
}

/// The file's text; none if `stat`, the text of /proc/PID/stat, is that of no process.
pub fn record(pid: u32, stat: &str, exit_status: u32, signal: Option<u32>) -> Option<Vec<u8>> {
    let start_time = start_time(stat)?;
    serde_json::to_vec(&Record { pid, start_time, exit_status, signal }).ok()
}

/// Field 22 of proc_pid_stat(5). The second one is the process's own to choose, and ends with the last parenthesis.
fn start_time(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    fields.split(' ').nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAT: &str =
        "7 (a) Z 1 (b) Z 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 0 0 18446744073709551615 0 0 0";

    #[test]
    fn a_record_names_the_process_whatever_that_calls_itself() {
        let text = |status, signal| String::from_utf8(record(7, STAT, status, signal).unwrap()).unwrap();
        assert_eq!(text(3, None), r#"{"pid":7,"startTime":4242,"exitStatus":3}"#);
        assert_eq!(text(137, Some(9)), r#"{"pid":7,"startTime":4242,"exitStatus":137,"signal":9}"#);
    }

    #[test]
    fn of_what_is_no_process_there_is_none() {
        for stat in ["", "7 (x", "7 (x) Z 1", "7 (x) Z 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 z"] {
            assert_eq!(record(7, stat, 0, None), None, "{stat:?}");
        }
    }
}
