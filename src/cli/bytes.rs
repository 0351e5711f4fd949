//! Sizes in bytes as Docker and runc take them: a decimal number and perhaps a binary unit, `512k`, `1.5g`, `64 MiB`.

use anyhow::{Result, anyhow};

/// The number of bytes; a fraction of a byte is cut off.
pub fn parse(text: &str) -> Result<i64> {
    let invalid = || anyhow!("invalid size: '{text}'");
    let end = text.rfind(|letter: char| letter.is_ascii_digit() || matches!(letter, '.' | ' ')).ok_or_else(invalid)?;
    let (number, unit) = text.split_at(end + 1);
    let number = number.strip_suffix(' ').unwrap_or(number);
    if !number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.') {
        return Err(invalid());
    }
    let number: f64 = number.parse().map_err(|_| invalid())?;
    let factor = factor(unit).ok_or_else(|| anyhow!("invalid suffix: '{unit}'"))?;
    let size = number * factor;
    // The largest that fits: the cast would silently take the nearest value.
    if size < i64::MAX as f64 { Ok(size as i64) } else { Err(invalid()) }
}

/// What a unit stands for: a letter, perhaps with `b` or `ib` behind it, in any case.
fn factor(unit: &str) -> Option<f64> {
    let unit = unit.to_ascii_lowercase();
    let mut letters = unit.chars();
    let power = match letters.next() {
        None => return Some(1.0),
        Some('b') if unit.len() == 1 => return Some(1.0),
        Some(letter) => "kmgtp".find(letter)? + 1,
    };
    matches!(letters.as_str(), "" | "b" | "ib").then(|| 1024f64.powi(power as i32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_is_a_number_with_a_unit() {
        let sizes = [
            ("0", 0),
            ("32", 32),
            ("32b", 32),
            ("32B", 32),
            ("32k", 32 << 10),
            ("32K", 32 << 10),
            ("32kb", 32 << 10),
            ("32KiB", 32 << 10),
            ("32 MB", 32 << 20),
            ("1.5m", 3 << 19),
            ("2g", 2 << 30),
            ("1t", 1 << 40),
            ("1p", 1 << 50),
            ("0.1", 0),
        ];
        for (text, size) in sizes {
            assert_eq!(parse(text).unwrap(), size, "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "k", "-1", "-1k", "1e5", "1 2", "1.2.3", "inf", "99999p", "hello"] {
            assert!(parse(text).unwrap_err().to_string().starts_with("invalid size"), "{text}");
        }
        for text in ["1x", "12kx", "1kbb", "1ib", "1mi"] {
            assert!(parse(text).unwrap_err().to_string().starts_with("invalid suffix"), "{text}");
        }
    }
}
