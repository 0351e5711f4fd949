//! Frames: ten bytes of header (length, stream and type, in network order, and flags), then the body.

use prost::Message;

/// The longest body, of either direction: `messageLengthMax` of containerd/ttrpc.
pub const LIMIT: usize = 4 << 20;

const HEADER: usize = 10;

/// What a frame is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    Request,
    Response,
    /// Part of a stream, which no call of the task service uses.
    Data,
    Other(u8),
}

impl Kind {
    fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Request,
            2 => Self::Response,
            3 => Self::Data,
            other => Self::Other(other),
        }
    }

    fn byte(self) -> u8 {
        match self {
            Self::Request => 1,
            Self::Response => 2,
            Self::Data => 3,
            Self::Other(byte) => byte,
        }
    }
}

/// What has arrived whole. The flags concern streams only, and are not kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Received {
    Frame {
        stream: u32,
        kind: Kind,
        body: Vec<u8>,
    },
    /// A frame whose body is beyond the limit. It has been read away.
    TooLong {
        stream: u32,
        kind: Kind,
        length: u32,
    },
}

/// Cuts what a socket gives into frames. It holds one frame at most, and of that only what has arrived: a header that
/// promises 4 MiB costs nothing.
#[derive(Default, Debug)]
pub struct Decoder {
    header: [u8; HEADER],
    /// How much of the header is there.
    headed: usize,
    body: Vec<u8>,
    /// How much of the body has gone by, kept or not.
    seen: usize,
}

impl Decoder {
    /// Consumes bytes of `input` up to the end of the next frame and returns that; or all of them, and nothing.
    pub fn take(&mut self, input: &mut &[u8]) -> Option<Received> {
        let missing = HEADER - self.headed;
        let part = split(input, missing);
        for (place, byte) in self.header.iter_mut().skip(self.headed).zip(part) {
            *place = *byte;
        }
        self.headed += part.len();
        if self.headed < HEADER {
            return None;
        }
        let [a, b, c, d, e, f, g, h, kind, _flags] = self.header;
        let length = u32::from_be_bytes([a, b, c, d]);
        let part = split(input, length as usize - self.seen);
        self.seen += part.len();
        if length as usize <= LIMIT {
            self.keep(part, length as usize);
        }
        if self.seen < length as usize {
            return None;
        }
        let body = std::mem::take(self).body;
        let (stream, kind) = (u32::from_be_bytes([e, f, g, h]), Kind::from_byte(kind));
        Some(if length as usize <= LIMIT {
            Received::Frame { stream, kind, body }
        } else {
            Received::TooLong { stream, kind, length }
        })
    }

    /// Doubles the memory as the body arrives, but not beyond its length.
    fn keep(&mut self, part: &[u8], length: usize) {
        let needed = self.body.len() + part.len();
        if needed > self.body.capacity() {
            let capacity = needed.max(self.body.capacity() * 2).min(length);
            self.body.reserve_exact(capacity - self.body.len());
        }
        self.body.extend_from_slice(part);
    }

    /// How much memory it holds.
    pub fn held(&self) -> usize {
        self.body.capacity()
    }
}

fn split<'a>(input: &mut &'a [u8], length: usize) -> &'a [u8] {
    let (part, rest) = input.split_at(length.min(input.len()));
    *input = rest;
    part
}

/// A frame as bytes, or nothing if the message is beyond the limit.
pub fn encode(stream: u32, kind: Kind, message: &impl Message) -> Option<Vec<u8>> {
    let length = message.encoded_len();
    if length > LIMIT {
        return None;
    }
    let mut frame = Vec::with_capacity(HEADER + length);
    frame.extend_from_slice(&(length as u32).to_be_bytes());
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(&[kind.byte(), 0]);
    message.encode_raw(&mut frame);
    Some(frame)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TWO: &[u8] = b"\0\0\0\x03\0\0\0\x01\x01\0abc\0\0\0\0\0\0\x01\x02\x09\x01";

    fn all(bytes: &[u8], step: usize) -> Vec<Received> {
        let mut decoder = Decoder::default();
        let mut found = Vec::new();
        for mut part in bytes.chunks(step) {
            while !part.is_empty() {
                found.extend(decoder.take(&mut part));
            }
        }
        found
    }

    #[test]
    fn frames_are_the_same_whatever_pieces_they_arrive_in() {
        let expected = [
            Received::Frame { stream: 1, kind: Kind::Request, body: b"abc".to_vec() },
            Received::Frame { stream: 258, kind: Kind::Other(9), body: Vec::new() },
        ];
        for step in 1..=TWO.len() {
            assert_eq!(all(TWO, step), expected, "{step} bytes at a time");
        }
    }

    #[test]
    fn a_frame_that_is_too_long_is_read_away_and_the_next_one_is_whole() {
        let mut bytes = b"\0\x40\0\x01\0\0\0\x05\x01\0".to_vec();
        bytes.resize(bytes.len() + LIMIT + 1, b'x');
        bytes.extend_from_slice(TWO);
        let found = all(&bytes, 65536);
        assert_eq!(found.len(), 3);
        assert_eq!(found[0], Received::TooLong { stream: 5, kind: Kind::Request, length: 4194305 });
        assert_eq!(found[1], Received::Frame { stream: 1, kind: Kind::Request, body: b"abc".to_vec() });
    }

    #[test]
    fn a_promise_of_four_mebibytes_costs_what_has_arrived() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.take(&mut b"\0\x40\0\0\0\0\0\x05\x01\0abc".as_slice()), None);
        assert_eq!(decoder.held(), 3);
        for _ in 0..63 {
            assert_eq!(decoder.take(&mut [0; 65536].as_slice()), None);
        }
        assert!(decoder.held() <= LIMIT, "{} bytes", decoder.held());
        let whole = decoder.take(&mut [0; 65533].as_slice());
        assert!(matches!(whole, Some(Received::Frame { stream: 5, body, .. }) if body.len() == LIMIT));
        assert_eq!(decoder.held(), 0);
    }
}
