//! Values in GVariant's text format, as annotations `org.systemd.property.NAME` have them: `5`, `uint64 5`, `true`,
//! `'text'`, `['a', 'b']`, `@as []`, `(1, 'a')`, `<5>`. A number without a type is an int32, as in the format.

use anyhow::{Context, Result, bail, ensure};

use super::wire::Value;

/// Reads one value that takes all of `text`.
pub fn parse(text: &str) -> Result<Value> {
    let mut parser = Parser { rest: text };
    let node = parser.node(0)?;
    parser.skip();
    ensure!(parser.rest.is_empty(), "{:?} follows the value", parser.rest);
    node.value(None)
}

/// A value as it is written, before its type is known.
enum Node {
    Bool(bool),
    Number(String),
    Text(String),
    List(Vec<Node>),
    Tuple(Vec<Node>),
    Variant(Box<Node>),
    Bytes(Vec<u8>),
    Typed(String, Box<Node>),
}

/// More than any property nests.
const DEEPEST: usize = 16;

const KEYWORDS: [(&str, &str); 12] = [
    ("boolean", "b"),
    ("byte", "y"),
    ("int16", "n"),
    ("uint16", "q"),
    ("int32", "i"),
    ("uint32", "u"),
    ("int64", "x"),
    ("uint64", "t"),
    ("double", "d"),
    ("string", "s"),
    ("objectpath", "o"),
    ("signature", "g"),
];

struct Parser<'a> {
    rest: &'a str,
}

impl Parser<'_> {
    fn skip(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn takes(&mut self, token: char) -> bool {
        self.skip();
        let rest = self.rest.strip_prefix(token);
        self.rest = rest.unwrap_or(self.rest);
        rest.is_some()
    }

    fn word(&mut self, belongs: impl Fn(char) -> bool) -> String {
        let end = self.rest.find(|c| !belongs(c)).unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        word.to_owned()
    }

    fn node(&mut self, depth: usize) -> Result<Node> {
        ensure!(depth < DEEPEST, "nested too deeply");
        self.skip();
        match self.rest.chars().next() {
            None => bail!("a value is missing"),
            Some('[') => self.list('[', ']', depth).map(Node::List),
            Some('(') => self.list('(', ')', depth).map(Node::Tuple),
            Some('<') => {
                let mut inside = self.list('<', '>', depth)?;
                ensure!(inside.len() == 1, "<…> holds one value");
                inside.pop().map(|node| Node::Variant(Box::new(node))).context("<…> holds one value")
            }
            Some(quote @ ('"' | '\'')) => self.text(quote).map(Node::Text),
            Some('@') => {
                self.takes('@');
                let signature = self.word(|c| !c.is_whitespace());
                Ok(Node::Typed(signature, Box::new(self.node(depth + 1)?)))
            }
            Some('b') if self.rest.starts_with("b'") || self.rest.starts_with("b\"") => self.bytes(),
            Some(_) => self.plain(depth),
        }
    }

    /// A number, `true`, `false`, or a keyword that says the type of the value behind it.
    fn plain(&mut self, depth: usize) -> Result<Node> {
        let word = self.word(|c| c.is_ascii_alphanumeric() || "+-._".contains(c));
        if let Some((_, signature)) = KEYWORDS.iter().find(|(keyword, _)| *keyword == word) {
            return Ok(Node::Typed((*signature).to_owned(), Box::new(self.node(depth + 1)?)));
        }
        match word.as_str() {
            "true" => Ok(Node::Bool(true)),
            "false" => Ok(Node::Bool(false)),
            "" => bail!("{:?} is no value", self.rest),
            _ if word.starts_with(|c: char| c.is_ascii_digit() || "+-.".contains(c)) => Ok(Node::Number(word)),
            _ => bail!("{word:?} is no value (text takes quotes)"),
        }
    }

    fn list(&mut self, open: char, close: char, depth: usize) -> Result<Vec<Node>> {
        self.takes(open);
        let mut nodes = Vec::new();
        while !self.takes(close) {
            nodes.push(self.node(depth + 1)?);
            if !self.takes(',') {
                ensure!(self.takes(close), "{close:?} is missing");
                break;
            }
        }
        Ok(nodes)
    }

    fn text(&mut self, quote: char) -> Result<String> {
        let mut text = String::new();
        let mut letters = self.rest.chars();
        letters.next();
        loop {
            match letters.next().context("a quote is missing")? {
                end if end == quote => break,
                '\\' => text.extend(escape(&mut letters)?),
                '\0' => bail!("text cannot hold a NUL"),
                letter => text.push(letter),
            }
        }
        self.rest = letters.as_str();
        Ok(text)
    }

    /// `b'…'`: bytes with a NUL at the end.
    fn bytes(&mut self) -> Result<Node> {
        self.takes('b');
        let quote = self.rest.chars().next().context("a quote is missing")?;
        let mut bytes = self.text(quote)?.into_bytes();
        bytes.push(0);
        Ok(Node::Bytes(bytes))
    }
}

/// What stands for a backslash and the letters behind it; nothing for an escaped end of line.
fn escape(letters: &mut std::str::Chars) -> Result<Option<char>> {
    Ok(Some(match letters.next().context("a quote is missing")? {
        'u' => code(letters, 4)?,
        'U' => code(letters, 8)?,
        'a' => '\x07',
        'b' => '\x08',
        'f' => '\x0c',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\x0b',
        '\n' => return Ok(None),
        letter => letter,
    }))
}

/// The character of a code in `count` hexadecimal digits.
fn code(letters: &mut std::str::Chars, count: usize) -> Result<char> {
    let digits: String = letters.by_ref().take(count).collect();
    let code = u32::from_str_radix(&digits, 16).ok().filter(|code| *code != 0);
    code.and_then(char::from_u32).with_context(|| format!("\\{digits} is no character"))
}

impl Node {
    /// The value, of the type that is `wanted`, or else of the one that follows from how it is written.
    fn value(&self, wanted: Option<&str>) -> Result<Value> {
        match (self, wanted) {
            (Self::Typed(own, node), None) => node.value(Some(own)),
            (Self::Typed(own, node), Some(wanted)) => {
                ensure!(own == wanted, "type {own:?} where {wanted:?} is wanted");
                node.value(Some(own))
            }
            (Self::Bool(value), None | Some("b")) => Ok(Value::Bool(*value)),
            (Self::Number(text), wanted) => number(text, wanted),
            (Self::Text(text), None | Some("s")) => Ok(Value::Text(text.clone())),
            (Self::Text(text), Some("o")) => {
                ensure!(text.starts_with('/'), "{text:?} is no object path");
                Ok(Value::ObjectPath(text.clone()))
            }
            (Self::Text(text), Some("g")) => {
                ensure!(
                    text.len() < 256 && text.bytes().all(|byte| b"ybnqiuxtdsogvha(){}".contains(&byte)),
                    "{text:?} is no signature"
                );
                Ok(Value::Signature(text.clone()))
            }
            (Self::Bytes(bytes), None | Some("ay")) => {
                Ok(Value::Array("y".to_owned(), bytes.iter().copied().map(Value::Byte).collect()))
            }
            (Self::Variant(node), None | Some("v")) => node.value(None).map(Box::new).map(Value::Variant),
            (Self::List(nodes), wanted) => list(nodes, wanted),
            (Self::Tuple(nodes), wanted) => tuple(nodes, wanted),
            (_, Some(wanted)) => bail!("the value is not of type {wanted:?}"),
        }
    }
}

fn number(text: &str, wanted: Option<&str>) -> Result<Value> {
    let default = if text.contains(['.', 'e', 'E']) && !text.contains('x') { "d" } else { "i" };
    let wanted = wanted.unwrap_or(default);
    let wrong = || format!("{text} is not a number of type {wanted:?}");
    if wanted == "d" {
        return text.parse().map(Value::Double).with_context(wrong);
    }
    let whole = whole(text).with_context(wrong)?;
    Ok(match wanted {
        "y" => Value::Byte(whole.try_into().with_context(wrong)?),
        "n" => Value::Int16(whole.try_into().with_context(wrong)?),
        "q" => Value::Uint16(whole.try_into().with_context(wrong)?),
        "i" => Value::Int32(whole.try_into().with_context(wrong)?),
        "u" => Value::Uint32(whole.try_into().with_context(wrong)?),
        "x" => Value::Int64(whole.try_into().with_context(wrong)?),
        "t" => Value::Uint64(whole.try_into().with_context(wrong)?),
        _ => bail!(wrong()),
    })
}

/// A whole number as C writes it: decimal, `0x` or, with a leading 0, octal.
fn whole(text: &str) -> Option<i128> {
    let digits = text.strip_prefix(['-', '+']).unwrap_or(text);
    let magnitude = match (digits.strip_prefix("0x"), digits.strip_prefix('0')) {
        (Some(hex), _) => i128::from(u64::from_str_radix(hex, 16).ok()?),
        (_, Some(octal)) if !octal.is_empty() => i128::from(u64::from_str_radix(octal, 8).ok()?),
        _ => i128::from(digits.parse::<u64>().ok()?),
    };
    Some(if text.starts_with('-') { -magnitude } else { magnitude })
}

fn list(nodes: &[Node], wanted: Option<&str>) -> Result<Value> {
    let element = match (wanted, nodes.first()) {
        (Some(wanted), _) => {
            wanted.strip_prefix('a').with_context(|| format!("the value is not of type {wanted:?}"))?.to_owned()
        }
        (None, Some(first)) => first.value(None)?.signature(),
        (None, None) => bail!("an empty list needs its type, such as @as []"),
    };
    let items = nodes.iter().map(|node| node.value(Some(&element))).collect::<Result<_>>()?;
    Ok(Value::Array(element, items))
}

fn tuple(nodes: &[Node], wanted: Option<&str>) -> Result<Value> {
    ensure!(!nodes.is_empty(), "() is no value of D-Bus");
    let Some(wanted) = wanted else {
        return nodes.iter().map(|node| node.value(None)).collect::<Result<_>>().map(Value::Struct);
    };
    let inside = wanted.strip_prefix('(').and_then(|rest| rest.strip_suffix(')'));
    let mut rest = inside.with_context(|| format!("the value is not of type {wanted:?}"))?;
    let mut fields = Vec::with_capacity(nodes.len());
    for node in nodes {
        let length = first_type(rest).with_context(|| format!("the value is not of type {wanted:?}"))?;
        let (own, others) = rest.split_at(length);
        fields.push(node.value(Some(own))?);
        rest = others;
    }
    ensure!(rest.is_empty(), "the value is not of type {wanted:?}");
    Ok(Value::Struct(fields))
}

/// The length of the first complete type of a signature.
fn first_type(signature: &str) -> Option<usize> {
    let mut depth = 0;
    for (index, letter) in signature.bytes().enumerate() {
        match letter {
            b'(' => depth += 1,
            b')' => depth -= 1,
            b'a' => continue,
            _ => {}
        }
        if depth == 0 {
            return Some(index + 1);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_with_their_types() {
        let text = |text: &str| Value::Text(text.to_owned());
        for (source, value) in [
            ("5", Value::Int32(5)),
            ("-0x10", Value::Int32(-16)),
            ("010", Value::Int32(8)),
            ("1.5", Value::Double(1.5)),
            (" uint64 5 ", Value::Uint64(5)),
            ("uint64 18446744073709551615", Value::Uint64(u64::MAX)),
            ("@u 7", Value::Uint32(7)),
            ("byte 255", Value::Byte(255)),
            ("true", Value::Bool(true)),
            ("\"a'b\\n\\u00e4\"", text("a'b\nä")),
            ("['a', \"b\"]", Value::Array("s".into(), vec![text("a"), text("b")])),
            ("@as []", Value::Array("s".into(), vec![])),
            ("[uint32 1, 2]", Value::Array("u".into(), vec![Value::Uint32(1), Value::Uint32(2)])),
            ("@a(ss) [('a','b')]", Value::Array("(ss)".into(), vec![Value::Struct(vec![text("a"), text("b")])])),
            ("(1, 'a')", Value::Struct(vec![Value::Int32(1), text("a")])),
            ("<5>", Value::Variant(Box::new(Value::Int32(5)))),
            ("b'a'", Value::Array("y".into(), vec![Value::Byte(b'a'), Value::Byte(0)])),
            ("objectpath '/a'", Value::ObjectPath("/a".into())),
        ] {
            assert_eq!(parse(source).unwrap(), value, "{source}");
        }
    }

    #[test]
    fn what_is_no_value_is_refused() {
        let deep = "[".repeat(5000);
        for source in [
            "",
            " ",
            "5 6",
            "text",
            "'open",
            "[1, 'a']",
            "[]",
            "[1",
            "()",
            "byte 256",
            "uint32 -1",
            "1e",
            "@as [1]",
            "@",
            "true false",
            "'it''s'",
            "int32 'a'",
            "99999999999",
            "'\\u0000'",
            "@(su) ('a', 1, 2)",
            "@(s ('a')",
            "<>",
            "<1,2>",
            "uint64",
            deep.as_str(),
        ] {
            assert!(parse(source).is_err(), "{source:?}");
        }
    }
}
