//! A program as text in a saved file: sixteen hexadecimal digits an instruction, which is a quarter of what a list of
//! numbers takes, to write and to read.

use serde::de::Error;
use serde::{Deserialize, Deserializer, Serializer};

use crate::sys::seccomp::Instruction;

const DIGITS: &[u8; 16] = b"0123456789abcdef";

pub(super) fn serialize<S: Serializer>(program: &[Instruction], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&encode(program))
}

pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Instruction>, D::Error> {
    let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
    decode(&text).ok_or_else(|| D::Error::custom("no seccomp program"))
}

fn encode(program: &[Instruction]) -> String {
    let mut text = String::with_capacity(16 * program.len());
    for Instruction { code, jt, jf, k } in program {
        let word = u64::from(*code) << 48 | u64::from(*jt) << 40 | u64::from(*jf) << 32 | u64::from(*k);
        for byte in word.to_be_bytes() {
            for half in [byte >> 4, byte & 15] {
                text.push(char::from(DIGITS.get(usize::from(half)).copied().unwrap_or_default()));
            }
        }
    }
    text
}

fn decode(text: &str) -> Option<Vec<Instruction>> {
    let (words, []) = text.as_bytes().as_chunks::<16>() else { return None };
    words.iter().map(instruction).collect()
}

fn instruction(digits: &[u8; 16]) -> Option<Instruction> {
    let mut word = 0u64;
    for digit in digits {
        word = word << 4 | u64::from(char::from(*digit).to_digit(16)?);
    }
    let [code_high, code_low, jt, jf, k @ ..] = word.to_be_bytes();
    Some(Instruction { code: u16::from_be_bytes([code_high, code_low]), jt, jf, k: u32::from_be_bytes(k) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_read_as_it_was_written() {
        let program = [
            Instruction { code: 0x20, jt: 0, jf: 0, k: 4 },
            Instruction { code: 0x15, jt: 255, jf: 1, k: 0xc000_003e },
            Instruction { code: 0x06, jt: 0, jf: 0, k: 0x7fff_0000 },
        ];
        let text = encode(&program);
        assert_eq!(text, "0020000000000004".to_owned() + "0015ff01c000003e" + "000600007fff0000");
        assert_eq!(decode(&text), Some(program.to_vec()));
    }

    #[test]
    fn what_is_no_program_is_refused() {
        for text in ["0", "00200000000000040", "002000000000000x", "+020000000000004"] {
            assert_eq!(decode(text), None, "{text}");
        }
        assert_eq!(decode(""), Some(Vec::new()));
    }
}
