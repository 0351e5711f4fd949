//! The client's side of one connection, with one call at a time: that is how events go to containerd, in their order.

use std::time::Duration;

use prost::Message;

use super::frame::{self, Decoder, Kind, Received};
use super::message::{KeyValue, NAMESPACE, Request, Response};
use super::status::{Code, Status};

/// What is called, and for whom.
#[derive(Clone, PartialEq, Debug)]
pub struct Call<'a> {
    pub service: &'a str,
    pub method: &'a str,
    pub namespace: &'a str,
    pub payload: Vec<u8>,
    pub timeout: Duration,
}

/// What is known of a connection. A new connection is a new client.
#[derive(Debug)]
pub struct Client {
    decoder: Decoder,
    /// The next call's stream; none when they are used up.
    next: Option<u32>,
    waiting: Option<u32>,
}

impl Default for Client {
    fn default() -> Self {
        Self { decoder: Decoder::default(), next: Some(1), waiting: None }
    }
}

impl Client {
    /// The bytes of a call. An answer to an earlier one, which may yet come, is nobody's from now on. Nothing, if the
    /// connection has had its 2³¹ calls, or the call is longer than a frame.
    pub fn call(&mut self, call: Call<'_>) -> Option<Vec<u8>> {
        let stream = self.next?;
        let request = Request {
            service: call.service.to_owned(),
            method: call.method.to_owned(),
            payload: call.payload,
            timeout_nano: i64::try_from(call.timeout.as_nanos()).unwrap_or(i64::MAX),
            metadata: vec![KeyValue { key: NAMESPACE.to_owned(), value: call.namespace.to_owned() }],
        };
        let bytes = frame::encode(stream, Kind::Request, &request)?;
        self.next = stream.checked_add(2);
        self.waiting = Some(stream);
        Some(bytes)
    }

    /// Consumes `input` up to the end of the answer that is waited for, and returns that.
    pub fn receive(&mut self, input: &mut &[u8]) -> Option<Result<Vec<u8>, Status>> {
        while let Some(received) = self.decoder.take(input) {
            let (stream, answer) = match received {
                Received::Frame { stream, kind: Kind::Response, body } => (stream, decode(&body)),
                Received::TooLong { stream, kind: Kind::Response, length } => {
                    (stream, Err(Status::new(Code::ResourceExhausted, format!("answer of {length} bytes"))))
                }
                // A server sends nothing else, and what it means for a call, nobody knows.
                Received::Frame { .. } | Received::TooLong { .. } => continue,
            };
            if self.waiting == Some(stream) {
                self.waiting = None;
                return Some(answer);
            }
        }
        None
    }

    /// How much memory of what has arrived it holds.
    pub fn held(&self) -> usize {
        self.decoder.held()
    }
}

fn decode(body: &[u8]) -> Result<Vec<u8>, Status> {
    match Response::decode(body) {
        Ok(response) => response.answer(),
        Err(error) => Err(Status::new(Code::Unknown, format!("answer: {error}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call() -> Call<'static> {
        Call { service: "s", method: "m", namespace: "n", payload: b"p".to_vec(), timeout: Duration::from_secs(1) }
    }

    #[test]
    fn a_call_is_the_bytes_of_the_protocol() {
        let mut client = Client::default();
        let expected = b"\0\0\0\x30\0\0\0\x01\x01\0\
            \x0a\x01s\x12\x01m\x1a\x01p\x20\x80\x94\xeb\xdc\x03\
            \x2a\x1f\x0a\x1acontainerd-namespace-ttrpc\x12\x01n";
        assert_eq!(client.call(call()).unwrap(), expected);
        assert_eq!(client.call(call()).unwrap()[7], 3, "the next odd stream");
    }

    #[test]
    fn only_the_answer_that_is_waited_for_is_one() {
        let mut client = Client::default();
        client.call(call());
        client.call(call());
        let late = b"\0\0\0\0\0\0\0\x01\x02\0";
        assert_eq!(client.receive(&mut late.as_slice()), None);
        let refused = b"\0\0\0\x08\0\0\0\x03\x02\0\x0a\x06\x08\x05\x12\x02no";
        let twice = [refused.as_slice(), refused].concat();
        let mut input = twice.as_slice();
        assert_eq!(client.receive(&mut input), Some(Err(Status::new(Code::NotFound, "no"))));
        assert_eq!(client.receive(&mut input), None, "the same answer again is nobody's");
    }

    #[test]
    fn a_connection_ends_with_its_streams() {
        let mut client = Client { next: Some(u32::MAX), ..Client::default() };
        assert!(client.call(call()).is_some());
        assert_eq!(client.call(call()), None);
    }
}
