//! Frames and messages that are mutated, cut and made up, in pieces of any size: nothing panics, nothing is held beyond
//! the limit, and what is refused gets exactly one whole answer.

use super::client::{Call, Client};
use super::frame::{self, Decoder, Kind, Received};
use super::message::{KeyValue, Request};
use super::server::{Connection, Incoming};
use super::status::Status;
use crate::testing::Random;

const ROUNDS: usize = 20_000;

fn valid(random: &mut Random, stream: u32) -> Vec<u8> {
    let services = ["containerd.task.v2.Task", "containerd.task.v3.Task", "", "x"];
    let methods = ["State", "Create", "Wait", "Nothing"];
    let request = Request {
        service: random.one_of(&services).to_string(),
        method: random.one_of(&methods).to_string(),
        payload: random.bytes(200),
        timeout_nano: random.next() as i64,
        metadata: vec![KeyValue::default(); random.below(4)],
    };
    frame::encode(stream, Kind::Request, &request).unwrap()
}

/// A few frames, some of them damaged.
fn conversation(random: &mut Random) -> Vec<u8> {
    let mut bytes = Vec::new();
    for stream in 0..random.below(6) as u32 {
        let mut frame = valid(random, stream * 2 + 1);
        if random.below(2) == 0 {
            random.damage(&mut frame);
        }
        bytes.extend(frame);
    }
    bytes
}

/// Feeds `bytes` in pieces of random sizes.
fn pieces(random: &mut Random, mut bytes: &[u8], mut feed: impl FnMut(&mut &[u8])) {
    while !bytes.is_empty() {
        let (mut piece, rest) = bytes.split_at(1 + random.below(bytes.len()));
        while !piece.is_empty() {
            feed(&mut piece);
        }
        bytes = rest;
    }
}

#[test]
fn a_server_takes_any_bytes() {
    let mut random = Random(0x5eed);
    let (mut calls, mut refusals) = (0, 0);
    for _ in 0..ROUNDS {
        let bytes = conversation(&mut random);
        let mut connection = Connection::default();
        pieces(&mut random.clone(), &bytes, |piece| {
            match connection.receive(piece) {
                Some(Incoming::Call(call)) => {
                    calls += 1;
                    assert!(call.payload.len() <= frame::LIMIT);
                }
                Some(Incoming::Refused(answer)) => {
                    refusals += 1;
                    let mut input = answer.as_slice();
                    let whole = Decoder::default().take(&mut input);
                    assert!(matches!(whole, Some(Received::Frame { kind: Kind::Response, .. })) && input.is_empty());
                }
                None => assert!(piece.is_empty(), "without a result, everything is consumed"),
            }
            assert!(connection.held() <= frame::LIMIT);
        });
    }
    assert!(calls > ROUNDS / 2 && refusals > ROUNDS / 20, "{calls} calls, {refusals} refusals");
}

#[test]
fn the_pieces_do_not_matter() {
    let mut random = Random(0xf00d);
    for _ in 0..ROUNDS / 10 {
        let bytes = conversation(&mut random);
        let (mut whole, mut cut) = (Connection::default(), Connection::default());
        let mut expected = Vec::new();
        let mut input = bytes.as_slice();
        while !input.is_empty() {
            expected.extend(whole.receive(&mut input));
        }
        let mut found = Vec::new();
        pieces(&mut random, &bytes, |piece| found.extend(cut.receive(piece)));
        assert_eq!(found, expected);
    }
}

#[test]
fn a_client_takes_any_bytes_and_one_answer() {
    let mut random = Random(0xc11e);
    let mut answers = 0;
    for _ in 0..ROUNDS {
        let mut client = Client::default();
        let call = Call { service: "s", method: "m", namespace: "n", payload: Vec::new(), timeout: Default::default() };
        client.call(call);
        let mut bytes = super::server::answer(1, Ok(random.bytes(50)));
        bytes.extend(super::server::answer(1, Err(Status { code: random.next() as i32, message: "x".to_owned() })));
        random.damage(&mut bytes);
        let mut here = 0;
        pieces(&mut random, &bytes, |piece| here += usize::from(client.receive(piece).is_some()));
        assert!(here <= 1 && client.held() <= frame::LIMIT);
        answers += here;
    }
    assert!(answers > ROUNDS / 2, "{answers} answers");
}
