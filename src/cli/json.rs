//! JSON as Go's encoding/json writes it, which is what engines have been tested with: `<`, `>` and `&` are escaped.

use std::io::{self, Write};

use anyhow::Result;
use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, PrettyFormatter, Serializer};

/// One line, without a newline.
pub fn compact<T: Serialize + ?Sized>(value: &T) -> Result<String> {
    write(value, Go(CompactFormatter))
}

/// Several lines, without a newline after the last.
pub fn indented<T: Serialize + ?Sized>(value: &T, indent: &str) -> Result<String> {
    write(value, Go(PrettyFormatter::with_indent(indent.as_bytes())))
}

fn write<T: Serialize + ?Sized>(value: &T, formatter: impl Formatter) -> Result<String> {
    let mut text = Vec::with_capacity(1024);
    value.serialize(&mut Serializer::with_formatter(&mut text, formatter))?;
    Ok(String::from_utf8(text)?)
}

/// A formatter, but for the three characters that HTML would take for its own.
struct Go<F>(F);

impl<F: Formatter> Formatter for Go<F> {
    fn write_string_fragment<W: ?Sized + Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (before, found) = rest.split_at(at);
            let Some(special) = found.chars().next() else { break };
            writer.write_all(before.as_bytes())?;
            write!(writer, "\\u{:04x}", u32::from(special))?;
            rest = &found[special.len_utf8()..];
        }
        writer.write_all(rest.as_bytes())
    }

    fn begin_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_array(writer)
    }

    fn end_array<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array(writer)
    }

    fn begin_array_value<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_array_value(writer, first)
    }

    fn end_array_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_array_value(writer)
    }

    fn begin_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object(writer)
    }

    fn end_object<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object(writer)
    }

    fn begin_object_key<W: ?Sized + Write>(&mut self, writer: &mut W, first: bool) -> io::Result<()> {
        self.0.begin_object_key(writer, first)
    }

    fn begin_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.begin_object_value(writer)
    }

    fn end_object_value<W: ?Sized + Write>(&mut self, writer: &mut W) -> io::Result<()> {
        self.0.end_object_value(writer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::tests::state_of;

    #[test]
    fn a_state_is_that_of_runc() {
        let mut state = state_of("c1");
        state.owner = String::new();
        let expected = "{
  \"ociVersion\": \"1.0.2-dev\",
  \"id\": \"c1\",
  \"pid\": 3075,
  \"status\": \"running\",
  \"bundle\": \"/tmp/clicmp/b\",
  \"rootfs\": \"/tmp/clicmp/b/rootfs\",
  \"created\": \"2026-11-23T19:46:04.233813708Z\",
  \"annotations\": {
    \"a.x\": \"é\\\"q\",
    \"z.b\": \"\\u003ca\\u0026b\\u003e\"
  },
  \"owner\": \"\"
}";
        assert_eq!(indented(&state, "  ").unwrap(), expected);
        state.annotations.clear();
        assert!(!indented(&state, "  ").unwrap().contains("annotations"));
    }

    #[test]
    fn lists_are_those_of_go() {
        assert_eq!(compact(&[1, 2]).unwrap(), "[1,2]");
        assert_eq!(indented(&["a"], "    ").unwrap(), "[\n    \"a\"\n]");
        assert_eq!(compact("a\u{2028}<\n").unwrap(), "\"a\\u2028\\u003c\\n\"");
    }
}
