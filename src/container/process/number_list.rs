//! Lists of CPUs and of memory nodes as bits: `0-3,7` (cpuset(7), "List format").

use anyhow::{Context, Result, bail};

/// The bits of a list, in as many words as its largest number needs. `what` is in it, below `most`, for errors: a CPU, a
/// node.
pub fn bits(text: &str, what: &str, most: usize) -> Result<Vec<u64>> {
    let mut bits = Vec::new();
    for range in text.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let number = |word: &str| word.trim().parse::<usize>().with_context(|| format!("{range:?} in {text:?}"));
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            bail!("{range:?}: the range ends before it begins");
        }
        if last >= most {
            bail!("{range:?}: there is no {what} {last}");
        }
        bits.resize(bits.len().max(last / 64 + 1), 0);
        for number in first..=last {
            if let Some(word) = bits.get_mut(number / 64) {
                *word |= 1 << (number % 64);
            }
        }
    }
    Ok(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_becomes_its_bits() {
        assert_eq!(bits("0-3,7", "CPU", 8192).expect("list"), [0b1000_1111]);
        assert_eq!(bits("64-65", "CPU", 8192).expect("list"), [0, 3]);
        assert_eq!(bits("1024", "CPU", 8192).expect("list").len(), 17);
    }

    #[test]
    fn what_is_no_list_is_refused() {
        let ranges = [
            ("", ""),
            ("a", "a"),
            ("1-", "1-"),
            ("-1", "-1"),
            ("3-1", "3-1"),
            ("1,,2", ""),
            ("1,8192", "8192"),
            ("99999999999999999999", "99999999999999999999"),
        ];
        for (text, range) in ranges {
            let error = format!("{:#}", bits(text, "CPU", 8192).unwrap_err());
            assert!(error.starts_with(&format!("{range:?}")), "{text}: {error}");
        }
        assert_eq!(bits("1024", "node", 1024).unwrap_err().to_string(), r#""1024": there is no node 1024"#);
    }
}
