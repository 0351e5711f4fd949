//! What the types say of a wrong value, in the words of JSON and of the specification.

/// The message with no word of Rust in it.
pub(super) fn plain(message: &str) -> String {
    let Some((found, expected)) = message.split_once(", expected ") else { return message.to_owned() };
    let (kind, value) = found.split_once(": ").unwrap_or(("", found));
    let value = match value {
        "sequence" => "an array",
        "map" => "an object",
        "unit value" => "null",
        other => other,
    };
    let value = match ["integer ", "floating point ", "boolean "].iter().find_map(|kind| value.strip_prefix(kind)) {
        Some(bare) => bare.trim_matches('`'),
        None => value.strip_prefix("string ").unwrap_or(value),
    };
    format!("{kind}: {value}, expected {}", wanted(expected)).trim_start_matches(": ").to_owned()
}

fn wanted(expected: &str) -> &str {
    match expected {
        "a sequence" => "an array",
        "a map" => "an object",
        "a boolean" => "true or false",
        "path string" => "a string",
        "u8" => "a number from 0 to 255",
        "u16" => "a number from 0 to 65535",
        "u32" => "a number from 0 to 4294967295",
        "u64" | "usize" => "a number from 0 to 18446744073709551615",
        "i32" => "a number from -2147483648 to 2147483647",
        "i64" | "isize" => "a number from -9223372036854775808 to 9223372036854775807",
        "f32" | "f64" => "a number",
        other if other.starts_with("struct ") => "an object",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_term_of_rust_is_left() {
        for (message, words) in [
            ("invalid type: sequence, expected a string", "invalid type: an array, expected a string"),
            ("invalid type: map, expected u32", "invalid type: an object, expected a number from 0 to 4294967295"),
            ("invalid type: integer `7`, expected struct LinuxCpu", "invalid type: 7, expected an object"),
            ("invalid value: integer `-1`, expected u16", "invalid value: -1, expected a number from 0 to 65535"),
            ("invalid type: floating point `1.5`, expected path string", "invalid type: 1.5, expected a string"),
            ("invalid type: string \"a, b\", expected a sequence", "invalid type: \"a, b\", expected an array"),
            ("invalid type: boolean `true`, expected a map", "invalid type: true, expected an object"),
            ("unknown variant `x`, expected `a` or `b`", "unknown variant `x`, expected `a` or `b`"),
            ("expected a name", "expected a name"),
        ] {
            assert_eq!(plain(message), words);
        }
    }
}
