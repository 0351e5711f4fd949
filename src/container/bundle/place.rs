//! Where in a JSON text a byte is, as `linux.resources.pids.limit`: an error of the types knows only the byte.

/// A container that is open at some byte.
enum OpenJson<'a> {
    Object(Option<&'a str>),
    Array(usize),
}

/// The place of the value that the first `len` bytes of `text`, valid JSON, end in or behind; `.` for the whole.
pub fn of(text: &str, len: usize) -> String {
    let mut open: Vec<OpenJson> = Vec::new();
    let mut rest = text.get(..len.min(text.len())).unwrap_or(text);
    while let Some(byte) = rest.bytes().next() {
        let mut used = 1;
        match byte {
            b'{' => open.push(OpenJson::Object(None)),
            b'[' => open.push(OpenJson::Array(0)),
            b'}' | b']' => drop(open.pop()),
            b',' => match open.last_mut() {
                Some(OpenJson::Array(index)) => *index += 1,
                Some(OpenJson::Object(key)) => *key = None,
                None => {}
            },
            b'"' => {
                used = string_len(rest);
                if let Some(OpenJson::Object(key @ None)) = open.last_mut() {
                    *key = rest.get(1..used - 1);
                }
            }
            _ => {}
        }
        rest = rest.get(used..).unwrap_or_default();
    }
    name(&open)
}

/// The bytes of the string that `text` begins with, both quotes included.
fn string_len(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len().max(2)
}

fn name(open: &[OpenJson]) -> String {
    let mut name = String::new();
    for container in open {
        match container {
            OpenJson::Array(index) => name.push_str(&format!("[{index}]")),
            OpenJson::Object(Some(key)) if name.is_empty() => name.push_str(key),
            OpenJson::Object(Some(key)) => name.push_str(&format!(".{key}")),
            OpenJson::Object(None) => {}
        }
    }
    if name.is_empty() { ".".to_owned() } else { name }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_is_in_the_value_it_ends() {
        let text = r#"{"a":{"b":[1,{"c d\"":"x"}]},"e":2}"#;
        let at = |end: &str| of(text, text.find(end).unwrap() + end.len());
        assert_eq!(at("[1"), "a.b[0]");
        assert_eq!(at(r#""x""#), r#"a.b[1].c d\""#);
        assert_eq!(at(r#""x"}"#), "a.b[1]");
        assert_eq!(at(r#""x"}]"#), "a.b");
        assert_eq!(at(r#""e":2"#), "e");
        assert_eq!(at(r#""e":2}"#), ".");
        assert_eq!(of("", 5), ".");
    }
}
