//! How many fields a message has, without decoding it. An empty element of a list takes two bytes on the wire and a
//! hundred in memory: a frame of 4 MiB would become 200 MB. So lists are counted before they are decoded.

use prost::DecodeError;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// The most fields that a message may have, those of its nested lists included. A root filesystem is one or two mounts;
/// an overlay of 500 layers has them in one option.
pub const LIMIT: usize = 4096;

/// Counts the fields of a message, and those of its submessages with the number `nested` (0: none has it).
pub fn count(mut message: &[u8], nested: u32) -> Result<usize, DecodeError> {
    let mut found = 0;
    while !message.is_empty() {
        let (number, kind) = decode_key(&mut message)?;
        let start = message;
        skip_field(kind, number, &mut message, DecodeContext::default())?;
        found += 1;
        if number == nested && kind == WireType::LengthDelimited {
            let mut body = start.get(..start.len() - message.len()).unwrap_or_default();
            decode_varint(&mut body)?;
            found += count(body, 0)?;
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_counted_with_those_of_the_nested_list() {
        // Field 1 is a number, field 3 twice a message of two fields, field 4 a text.
        let message = b"\x08\x01\x1a\x04\x0a\0\x0a\0\x1a\x04\x0a\0\x12\0\x22\x02hi";
        assert_eq!(count(message, 0).unwrap(), 4);
        assert_eq!(count(message, 3).unwrap(), 8);
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        for broken in [b"\x1a\x05ab".as_slice(), b"\x1a\x01\xff", b"\x0f", b"\x08", b"\x1b"] {
            assert!(count(broken, 3).is_err(), "{broken:?}");
        }
    }
}
