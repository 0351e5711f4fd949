//! Requests that are damaged: an error or a request, and never more elements than the limit.

use super::service::{Request, SERVICES};
use crate::testing::Random;
use crate::wire::elements;

const METHODS: [&str; 17] = [
    "State",
    "Create",
    "Start",
    "Delete",
    "Pids",
    "Pause",
    "Resume",
    "Checkpoint",
    "Kill",
    "Exec",
    "ResizePty",
    "CloseIO",
    "Update",
    "Wait",
    "Stats",
    "Connect",
    "Shutdown",
];

/// A message with the fields 1 to 10 of random wire types.
fn message(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in 1..=random.below(11) as u8 {
        let body = random.bytes(12);
        match random.below(3) {
            0 => bytes.extend([field << 3, random.next() as u8 & 0x7f]),
            1 => bytes.extend([&[field << 3 | 2, body.len() as u8], body.as_slice()].concat()),
            _ => bytes.extend([field << 3 | 2, 3, 0x0a, 1, b'a']),
        }
    }
    bytes
}

#[test]
fn requests_are_any_bytes() {
    let mut random = Random(0xab1e);
    let (mut good, mut bad) = (0, 0);
    for _ in 0..50_000 {
        let mut payload = message(&mut random);
        if random.below(2) == 0 {
            random.damage(&mut payload);
        }
        match Request::decode(random.one_of(&SERVICES), random.one_of(&METHODS), &payload) {
            Ok(Request::Create(request)) => {
                good += 1;
                let options: usize = request.rootfs.iter().map(|mount| mount.options.len()).sum();
                assert!(request.rootfs.len() + options <= elements::LIMIT);
            }
            Ok(_) => good += 1,
            Err(status) => {
                bad += 1;
                assert!([3, 8].contains(&status.code), "{status}");
            }
        }
    }
    assert!(good > 1000 && bad > 1000, "{good} good, {bad} bad");
}
