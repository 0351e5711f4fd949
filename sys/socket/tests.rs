use std::os::fd::AsFd;

use super::*;

#[test]
fn what_a_peer_has_said_is_heard_though_it_read_nothing() {
    let (ours, theirs) = pair().unwrap();
    send(theirs.as_fd(), b"last", &[]).unwrap();
    send(ours.as_fd(), b"unread", &[]).unwrap();
    drop(theirs);
    let mut buffer = [0; 8];
    for expected in [b"last".as_slice(), b""] {
        let received = receive(ours.as_fd(), &mut buffer).unwrap();
        assert_eq!(&buffer[..received.len], expected);
    }
}
