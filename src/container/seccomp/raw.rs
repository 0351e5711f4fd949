//! A filter that somebody else compiled: crun's annotation `run.oci.seccomp_bpf_data`, base64 of struct sock_filter.

use anyhow::{Context, Result, ensure};

use super::bpf;
use super::verdict::{MAX_INSTRUCTIONS, RET_ACTION, RET_USER_NOTIF};
use crate::sys::seccomp::Instruction;

/// The program that `text` holds. What it does is the kernel's to check.
pub(super) fn program(text: &str) -> Result<Vec<Instruction>> {
    let bytes = base64(text).context("not base64")?;
    let (instructions, rest) = bytes.as_chunks::<8>();
    ensure!(rest.is_empty() && !instructions.is_empty(), "{} bytes are no program of 8-byte instructions", bytes.len());
    let length = instructions.len();
    ensure!(length <= MAX_INSTRUCTIONS, "{length} instructions, the kernel takes {MAX_INSTRUCTIONS}");
    let instruction = |&[c0, c1, jt, jf, k0, k1, k2, k3]: &[u8; 8]| Instruction {
        code: u16::from_ne_bytes([c0, c1]),
        jt,
        jf,
        k: u32::from_ne_bytes([k0, k1, k2, k3]),
    };
    Ok(instructions.iter().map(instruction).collect())
}

/// Whether some path of the program ends in a notification.
pub(super) fn notifies(program: &[Instruction]) -> bool {
    // A value that is computed may be anything.
    const RETURN_ACCUMULATOR: u16 = 0x16;
    let may = |one: &Instruction| {
        one.code == RETURN_ACCUMULATOR || one.code == bpf::RETURN && one.k & RET_ACTION == RET_USER_NOTIF
    };
    program.iter().any(may)
}

/// RFC 4648, with or without padding; None: another character, or bits that are left over.
fn base64(text: &str) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for c in text.trim_end_matches('=').bytes() {
        let value = match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    (bits == 0 && count < 6).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_that_of_the_rfc() {
        for (text, bytes) in
            [("", ""), ("Zg==", "f"), ("Zm8=", "fo"), ("Zm8", "fo"), ("Zm9v", "foo"), ("Zm9vYmE=", "fooba")]
        {
            assert_eq!(base64(text).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        for bad in ["Z", "Zh==", "Zm9v\n", "Zm-v"] {
            assert_eq!(base64(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_program_is_whole_instructions() {
        assert_eq!(program("BgAAAAAA/38=").unwrap(), [Instruction { code: 6, jt: 0, jf: 0, k: 0x7fff_0000 }]);
        assert_eq!(program("Zm9v").unwrap_err().to_string(), "3 bytes are no program of 8-byte instructions");
        assert_eq!(program("?").unwrap_err().to_string(), "not base64");
        assert!(!notifies(&program("BgAAAAAA/38=").unwrap()) && notifies(&program("BgAAAAAAwH8=").unwrap()));
    }
}
