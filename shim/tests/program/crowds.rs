//! Clients that want more than there is for one: none of them costs the others anything, or the shim much.

use std::io::{ErrorKind, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use containerd_shim_ocirt::api::task::ProcessRequest;
use containerd_shim_ocirt::wire::client::{Call, Client};
use prost::Message;

use crate::world::World;

fn connect(world: &World) -> UnixStream {
    let stream = UnixStream::connect(world.socket()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(2))).unwrap();
    stream
}

fn state_of(client: &mut Client, id: String) -> Vec<u8> {
    let payload = ProcessRequest { id, exec_id: String::new() }.encode_to_vec();
    let (service, timeout) = ("containerd.task.v2.Task", Duration::from_secs(30));
    client.call(Call { service, method: "State", namespace: "n", payload, timeout }).unwrap()
}

/// Each may hold 4 MiB of a message that does not come to its end.
#[test]
fn connections_beyond_the_limit_are_closed() {
    let mut world = World::new("true");
    world.start().unwrap();
    let mut streams: Vec<UnixStream> = (0..100).map(|_| connect(&world)).collect();
    let (mut client, mut bytes) = (Client::default(), [0; 1024]);
    let is_over = |stream: &mut UnixStream| match stream.read(&mut [0; 1024]) {
        Ok(count) => count == 0,
        // What is closed with something unread is reset.
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    };
    assert!(is_over(streams.last_mut().unwrap()));
    streams[0].write_all(&state_of(&mut client, "none".to_owned())).unwrap();
    assert!(streams[0].read(&mut bytes).unwrap() > 0, "those before go on");
    assert!(streams.iter_mut().skip(64).all(is_over));
    drop(streams);
    world.shim_pid();
}

/// What it does not read is kept for it, and has an end.
#[test]
fn a_client_that_reads_no_answers_is_not_listened_to() {
    let mut world = World::new("true");
    world.start().unwrap();
    let (mut stream, mut client) = (connect(&world), Client::default());
    let mut sent = 0;
    let error = loop {
        match stream.write_all(&state_of(&mut client, "i".repeat(8 << 10))) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 8000, "64 MiB of answers that nobody reads");
    };
    assert_eq!(error.kind(), ErrorKind::WouldBlock);
    world.shim_pid();
    // What it has asked is answered when it reads.
    let (mut bytes, mut read) = (vec![0; 1 << 16], 0);
    while read < sent * (8 << 10) {
        read += stream.read(&mut bytes).unwrap();
    }
}
