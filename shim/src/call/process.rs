//! The process that an exec adds.

use serde_json::{Map, Value};

use super::{Refused, refuse};

/// The process as the client has described it, which has a terminal if the request says so.
pub fn with_terminal(spec: &[u8], terminal: bool) -> Result<Vec<u8>, Refused> {
    let mut process: Map<String, Value> = match serde_json::from_slice(spec) {
        Ok(process) => process,
        Err(error) => refuse!("process: {error}"),
    };
    process.insert("terminal".to_owned(), terminal.into());
    Ok(Value::Object(process).to_string().into_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_request_decides_whether_there_is_a_terminal() {
        let with = |spec: &str| String::from_utf8(with_terminal(spec.as_bytes(), true).unwrap()).unwrap();
        assert_eq!(with("{}"), r#"{"terminal":true}"#);
        assert_eq!(with(r#"{"cwd":"/","terminal":false}"#), r#"{"cwd":"/","terminal":true}"#);
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for spec in ["", "{", "[]", "[0]", "7", "null", "\"x\"", "{} {}", "\u{0}"] {
            let error = with_terminal(spec.as_bytes(), false).unwrap_err().0;
            assert!(error.starts_with("process: "), "{spec:?}: {error}");
        }
    }
}
