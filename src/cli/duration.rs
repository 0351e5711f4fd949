//! Durations as Go's time.ParseDuration takes them: `5s`, `500ms`, `1m30s`, `1.5h`.

use std::time::Duration;

use anyhow::{Result, anyhow, bail};

const UNITS: [(&str, f64); 8] =
    [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("μs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];

/// The duration; one below zero is zero.
pub fn parse(text: &str) -> Result<Duration> {
    let invalid = || anyhow!("invalid duration {text:?}");
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut nanoseconds = 0.0;
    while !rest.is_empty() {
        let is_number = |letter: char| letter.is_ascii_digit() || letter == '.';
        let (number, after) = rest.split_at(rest.find(|letter| !is_number(letter)).unwrap_or(rest.len()));
        let number: f64 = number.parse().map_err(|_| invalid())?;
        let (unit, after) = after.split_at(after.find(is_number).unwrap_or(after.len()));
        if unit.is_empty() {
            bail!("missing unit in duration {text:?}");
        }
        let factor = UNITS.iter().find(|(name, _)| *name == unit).map(|(_, factor)| factor);
        nanoseconds += number * factor.ok_or_else(|| anyhow!("unknown unit {unit:?} in duration {text:?}"))?;
        rest = after;
    }
    // Go's are 63 bits of nanoseconds.
    if nanoseconds >= i64::MAX as f64 {
        return Err(invalid());
    }
    Ok(if negative { Duration::ZERO } else { Duration::from_nanos(nanoseconds as u64) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_is_numbers_with_units() {
        let durations = [
            ("5s", 5_000_000_000),
            ("500ms", 500_000_000),
            ("1m30s", 90_000_000_000),
            ("1.5h", 5_400_000_000_000),
            ("100us", 100_000),
            ("100µs", 100_000),
            ("7ns", 7),
            ("+1s", 1_000_000_000),
            (".5s", 500_000_000),
            ("0", 0),
            ("0s", 0),
            ("-5s", 0),
        ];
        for (text, nanoseconds) in durations {
            assert_eq!(parse(text).unwrap(), Duration::from_nanos(nanoseconds), "{text}");
        }
    }

    #[test]
    fn anything_else_is_refused() {
        for text in ["", "-", "+", "s", "x", ".", ".s", "1.2.3s", "5 s", "--5s", "9999999999h", "1d", "5", "1s5"] {
            let error = parse(text).unwrap_err().to_string();
            assert!(error.contains("duration") && error.ends_with(&format!("{text:?}")), "{error}");
        }
        assert_eq!(parse("5").unwrap_err().to_string(), "missing unit in duration \"5\"");
        assert_eq!(parse("1d").unwrap_err().to_string(), "unknown unit \"d\" in duration \"1d\"");
    }
}
