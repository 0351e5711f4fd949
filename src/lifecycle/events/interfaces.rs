//! The network interfaces of a container, as the kernel counts them.

use std::fs;

use serde::Serialize;

/// What runc's types/events.go has of an interface, under its names.
#[derive(Serialize, Default, PartialEq, Debug)]
#[serde(rename_all = "PascalCase")]
pub struct Interface {
    pub name: String,
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

/// The interfaces in the network namespace of `pid`, but for the loopback; nothing where there are none, or where the
/// namespace is the runtime's own: then they are the host's.
pub fn of(pid: i32) -> Option<Vec<Interface>> {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let theirs = namespace(&pid.to_string())?;
    if Some(theirs) == namespace("self") {
        return None;
    }
    let found = parse(&fs::read_to_string(format!("/proc/{pid}/net/dev")).ok()?);
    (!found.is_empty()).then_some(found)
}

/// /proc/net/dev (proc_pid_net(5)): two lines of titles, then eight counters of what was received and eight of what was
/// sent.
fn parse(text: &str) -> Vec<Interface> {
    let interface = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let counters: Vec<u64> = counters.split_whitespace().filter_map(|word| word.parse().ok()).collect();
        let at = |index: usize| counters.get(index).copied().unwrap_or(0);
        Some(Interface {
            name: name.trim().to_owned(),
            rx_bytes: at(0),
            rx_packets: at(1),
            rx_errors: at(2),
            rx_dropped: at(3),
            tx_bytes: at(8),
            tx_packets: at(9),
            tx_errors: at(10),
            tx_dropped: at(11),
        })
    };
    text.lines().skip(2).filter_map(interface).filter(|interface| interface.name != "lo").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_told_apart() {
        let text = "Inter-|   Receive                                                |  Transmit\n \
                    face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop fifo colls carrier compressed\n    \
                    lo:    9 9 9 9 0 0 0 0 9 9 9 9 0 0 0 0\n  \
                    eth0: 1 2 3 4 0 0 0 0 5 6 7 8 0 0 0 0\n";
        let expected = r#"[{"Name":"eth0","RxBytes":1,"RxPackets":2,"RxErrors":3,"RxDropped":4,"TxBytes":5,"TxPackets":6,"TxErrors":7,"TxDropped":8}]"#;
        assert_eq!(serde_json::to_string(&parse(text)).unwrap(), expected);
    }
}
