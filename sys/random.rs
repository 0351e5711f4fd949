//! Random bytes: getrandom(2).

use super::error::{Errno, Result, SysError, check};

/// So many bytes that nobody can guess.
pub fn bytes<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    loop {
        // SAFETY: writes into the array, which outlives the call, no more than its length.
        let ret = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), N, 0) };
        match check("getrandom", ret as i64) {
            Err(SysError { errno: Errno::EINTR, .. }) => {}
            // What is no more than 256 bytes comes whole.
            result => return result.map(|_| bytes),
        }
    }
}

/// Bytes in lower-case hexadecimal digits.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_others_each_time() {
        let [first, second] = [bytes::<16>().unwrap(), bytes::<16>().unwrap()];
        assert_ne!(first, second);
        assert_eq!(hex(&[0, 0xab, 255]), "00abff");
    }
}
