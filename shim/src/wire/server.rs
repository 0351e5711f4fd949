//! The server's side of one connection: calls in, answers out.

use std::time::Duration;

use prost::Message;

use super::elements;
use super::frame::{self, Decoder, Kind, Received};
use super::message::{NAMESPACE, Request, Response};
use super::status::{Code, Status};

/// A call that has arrived whole.
#[derive(Clone, PartialEq, Debug)]
pub struct Call {
    /// Where the answer goes.
    pub stream: u32,
    pub service: String,
    pub method: String,
    pub payload: Vec<u8>,
    pub namespace: Option<String>,
    /// When this has passed, the client has gone: nobody reads a later answer.
    pub timeout: Option<Duration>,
}

/// What to do next on a connection.
#[derive(Clone, PartialEq, Debug)]
pub enum Incoming {
    Call(Call),
    /// What has arrived is no call; these bytes say so to the client.
    Refused(Vec<u8>),
}

/// What is known of a connection.
#[derive(Default, Debug)]
pub struct Connection {
    decoder: Decoder,
    /// Streams are odd and grow; 0 is before the first.
    last: u32,
}

impl Connection {
    /// Consumes bytes of `input` up to the end of the next frame. A frame that is no call is refused on its own stream,
    /// as containerd's own server does it, and the connection goes on.
    pub fn receive(&mut self, input: &mut &[u8]) -> Option<Incoming> {
        let (stream, outcome) = match self.decoder.take(input)? {
            Received::TooLong { stream, length, .. } => {
                let words = format!("message of {length} bytes: more than {}", frame::LIMIT);
                (stream, Err(Status::new(Code::ResourceExhausted, words)))
            }
            Received::Frame { stream, kind, body } => (stream, self.call(stream, kind, &body)),
        };
        Some(match outcome {
            Ok(call) => Incoming::Call(call),
            Err(status) => Incoming::Refused(answer(stream, Err(status))),
        })
    }

    fn call(&mut self, stream: u32, kind: Kind, body: &[u8]) -> Result<Call, Status> {
        let invalid = |words: &str| Err(Status::new(Code::InvalidArgument, words));
        match kind {
            Kind::Request => {}
            Kind::Data => return Err(Status::new(Code::Unimplemented, "streams")),
            Kind::Response => return invalid("a response, to a server"),
            Kind::Other(kind) => return Err(Status::new(Code::Unimplemented, format!("frame of type {kind}"))),
        }
        if stream.is_multiple_of(2) {
            return invalid("stream of a client: even");
        }
        if stream <= self.last {
            return invalid("stream of a client: used before");
        }
        self.last = stream;
        let request = decode(body)?;
        let namespace = request.metadata.into_iter().find(|pair| pair.key == NAMESPACE).map(|pair| pair.value);
        let timeout = u64::try_from(request.timeout_nano).ok().filter(|nanos| *nanos > 0).map(Duration::from_nanos);
        let Request { service, method, payload, .. } = request;
        Ok(Call { stream, service, method, payload, namespace, timeout })
    }

    /// How much memory of what has arrived it holds.
    pub fn held(&self) -> usize {
        self.decoder.held()
    }
}

fn decode(body: &[u8]) -> Result<Request, Status> {
    let invalid = |error| Status::new(Code::InvalidArgument, format!("request: {error}"));
    if elements::count(body, 0).map_err(invalid)? > elements::LIMIT {
        let words = format!("request: more than {} fields", elements::LIMIT);
        return Err(Status::new(Code::ResourceExhausted, words));
    }
    Request::decode(body).map_err(invalid)
}

/// An answer as a frame. One that is beyond the limit becomes an error that says so.
pub fn answer(stream: u32, answer: Result<Vec<u8>, Status>) -> Vec<u8> {
    frame::encode(stream, Kind::Response, &Response::new(answer)).unwrap_or_else(|| {
        let status = Status::new(Code::ResourceExhausted, format!("answer: more than {} bytes", frame::LIMIT));
        frame::encode(stream, Kind::Response, &Response::new(Err(status))).unwrap_or_default()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receive(connection: &mut Connection, bytes: &[u8]) -> Incoming {
        let mut input = bytes;
        let incoming = connection.receive(&mut input).unwrap();
        assert!(input.is_empty());
        incoming
    }

    fn code(incoming: Incoming) -> i32 {
        let Incoming::Refused(bytes) = incoming else { panic!("{incoming:?}") };
        let mut decoder = Decoder::default();
        let Some(Received::Frame { kind: Kind::Response, body, .. }) = decoder.take(&mut bytes.as_slice()) else {
            panic!("{bytes:?}")
        };
        Response::decode(body.as_slice()).unwrap().answer().unwrap_err().code
    }

    /// Written out by hand: service "s", method "m", payload "p", one second, and the namespace "n".
    const CALL: &[u8] = b"\0\0\0\x30\0\0\0\x03\x01\0\
        \x0a\x01s\x12\x01m\x1a\x01p\x20\x80\x94\xeb\xdc\x03\
        \x2a\x1f\x0a\x1acontainerd-namespace-ttrpc\x12\x01n";

    #[test]
    fn a_call_is_read_with_its_namespace_and_its_time_limit() {
        let expected = Call {
            stream: 3,
            service: "s".to_owned(),
            method: "m".to_owned(),
            payload: b"p".to_vec(),
            namespace: Some("n".to_owned()),
            timeout: Some(Duration::from_secs(1)),
        };
        assert_eq!(receive(&mut Connection::default(), CALL), Incoming::Call(expected));
    }

    #[test]
    fn answers_are_the_bytes_of_the_protocol() {
        assert_eq!(answer(3, Ok(b"p".to_vec())), b"\0\0\0\x03\0\0\0\x03\x02\0\x12\x01p");
        assert_eq!(answer(3, Ok(Vec::new())), b"\0\0\0\0\0\0\0\x03\x02\0");
        let status = Status::new(Code::NotFound, "no");
        assert_eq!(answer(3, Err(status)), b"\0\0\0\x08\0\0\0\x03\x02\0\x0a\x06\x08\x05\x12\x02no");
    }

    #[test]
    fn an_answer_that_is_too_long_is_an_error_and_no_broken_frame() {
        let bytes = answer(1, Ok(vec![0; frame::LIMIT]));
        assert_eq!(code(Incoming::Refused(bytes)), Code::ResourceExhausted as i32);
    }

    #[test]
    fn what_is_no_call_is_refused_and_the_connection_goes_on() {
        let mut connection = Connection::default();
        let refused: [(&[u8], Code); 6] = [
            (b"\0\0\0\0\0\0\0\x02\x01\0", Code::InvalidArgument),
            (b"\0\0\0\0\0\0\0\x01\x02\0", Code::InvalidArgument),
            (b"\0\0\0\0\0\0\0\x01\x03\0", Code::Unimplemented),
            (b"\0\0\0\0\0\0\0\x01\x63\0", Code::Unimplemented),
            (b"\0\0\0\x01\0\0\0\x01\x01\0\xff", Code::InvalidArgument),
            // The stream of the one before.
            (b"\0\0\0\0\0\0\0\x01\x01\0", Code::InvalidArgument),
        ];
        for (bytes, expected) in refused {
            assert_eq!(code(receive(&mut connection, bytes)), expected as i32, "{bytes:?}");
        }
        assert!(matches!(receive(&mut connection, CALL), Incoming::Call(_)));
    }

    #[test]
    fn a_frame_that_is_too_long_is_answered_with_code_8() {
        let mut bytes = b"\0\x40\0\x01\0\0\0\x01\x01\0".to_vec();
        bytes.resize(bytes.len() + frame::LIMIT + 1, 0);
        assert_eq!(code(receive(&mut Connection::default(), &bytes)), 8);
    }

    #[test]
    fn a_list_that_is_small_on_the_wire_and_large_in_memory_is_refused() {
        let mut bytes = b"\0\x20\0\0\0\0\0\x01\x01\0".to_vec();
        (0..1 << 20).for_each(|_| bytes.extend_from_slice(b"\x2a\0"));
        assert_eq!(code(receive(&mut Connection::default(), &bytes)), Code::ResourceExhausted as i32);
    }
}
