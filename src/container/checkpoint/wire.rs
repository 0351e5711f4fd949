//! A protobuf message of CRIU's, field by field: for checks that many kinds of messages have in common.

use anyhow::{Context, Result, bail};
use prost::encoding::{WireType, decode_key, decode_varint};

/// The value of a field.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FieldValue<'b> {
    Number(u64),
    Bytes(&'b [u8]),
}

/// A message. A field may be there more than once, and which one counts is up to its reader: so a check looks at all.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Fields<'b>(Vec<(u32, FieldValue<'b>)>);

impl<'b> Fields<'b> {
    pub fn parse(mut bytes: &'b [u8]) -> Result<Self> {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let (tag, kind) = decode_key(&mut bytes)?;
            let value = match kind {
                WireType::Varint => FieldValue::Number(decode_varint(&mut bytes)?),
                WireType::LengthDelimited => {
                    let length = usize::try_from(decode_varint(&mut bytes)?)?;
                    FieldValue::Bytes(take(&mut bytes, length)?)
                }
                WireType::ThirtyTwoBit => FieldValue::Bytes(take(&mut bytes, 4)?),
                WireType::SixtyFourBit => FieldValue::Bytes(take(&mut bytes, 8)?),
                WireType::StartGroup | WireType::EndGroup => bail!("a group, which no message has"),
            };
            fields.push((tag, value));
        }
        Ok(Self(fields))
    }

    pub fn tags(&self) -> impl Iterator<Item = u32> {
        self.0.iter().map(|(tag, _)| *tag)
    }

    /// The numbers in a field of 32 bits; those of a list, too.
    pub fn numbers(&self, tag: u32) -> Result<Vec<u32>> {
        let mut numbers = Vec::new();
        for value in self.values(tag) {
            match value {
                // CRIU's reader drops what is above.
                FieldValue::Number(number) => numbers.push(number as u32),
                FieldValue::Bytes(mut list) => {
                    while !list.is_empty() {
                        numbers.push(decode_varint(&mut list)? as u32);
                    }
                }
            }
        }
        Ok(numbers)
    }

    /// The numbers in a field of 64 bits; of a list, each by itself.
    pub fn wide_numbers(&self, tag: u32) -> Result<Vec<u64>> {
        let number = |value| match value {
            FieldValue::Number(number) => Ok(number),
            FieldValue::Bytes(_) => bail!("field {tag} is no number"),
        };
        self.values(tag).map(number).collect()
    }

    /// The messages, or texts, in a field.
    pub fn bytes(&self, tag: u32) -> impl Iterator<Item = &'b [u8]> {
        self.values(tag).filter_map(|value| match value {
            FieldValue::Bytes(bytes) => Some(bytes),
            FieldValue::Number(_) => None,
        })
    }

    /// The messages in a field.
    pub fn messages(&self, tag: u32) -> Result<Vec<Self>> {
        self.bytes(tag).map(Self::parse).collect()
    }

    fn values(&self, tag: u32) -> impl Iterator<Item = FieldValue<'b>> {
        self.0.iter().filter(move |(own, _)| *own == tag).map(|(_, value)| *value)
    }
}

fn take<'b>(bytes: &mut &'b [u8], length: usize) -> Result<&'b [u8]> {
    let (taken, rest) = bytes.split_at_checked(length).context("ends within a field")?;
    *bytes = rest;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_values_of_a_field_are_found() {
        // 1: 5, 1: 300, 1: [1, 2] in one, 2: "ab", 3 of four bytes.
        let bytes = [8, 5, 8, 0xac, 2, 10, 2, 1, 2, 18, 2, b'a', b'b', 29, 1, 0, 0, 0];
        let fields = Fields::parse(&bytes).unwrap();
        assert_eq!(fields.numbers(1).unwrap(), [5, 300, 1, 2]);
        assert_eq!(fields.bytes(2).collect::<Vec<_>>(), [b"ab"]);
        assert_eq!(fields.tags().collect::<Vec<_>>(), [1, 1, 1, 2, 3]);
        assert!(fields.numbers(4).unwrap().is_empty());
        for cut in [1, 4, 7, 11, 15] {
            Fields::parse(&bytes[..cut]).unwrap_err();
        }
    }
}
