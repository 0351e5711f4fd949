//! D-Bus messages as bytes (D-Bus Specification, "Marshaling (Wire Format)" and "Message Protocol"), as far as a client
//! of systemd needs them: method calls out; replies, errors and signals in. Little endian only, as both ends are on one
//! machine.

use anyhow::{Context, Result, bail, ensure};

/// A D-Bus value that is sent.
#[derive(Clone, PartialEq, Debug)]
pub enum Value {
    Byte(u8),
    Bool(bool),
    Int16(i16),
    Uint16(u16),
    Int32(i32),
    Uint32(u32),
    Int64(i64),
    Uint64(u64),
    Double(f64),
    Text(String),
    ObjectPath(String),
    Signature(String),
    Variant(Box<Value>),
    /// The elements' signature, which an empty array has too.
    Array(String, Vec<Value>),
    Struct(Vec<Value>),
}

impl Value {
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// `a(ss)`
    pub fn pairs(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        let pair = |(one, other)| Self::Struct(vec![Self::Text(one), Self::Text(other)]);
        Self::Array("(ss)".to_owned(), pairs.into_iter().map(pair).collect())
    }

    /// The type in the specification's letters: `s`, `au`, `a(ss)`.
    pub fn signature(&self) -> String {
        match self {
            Self::Byte(_) => "y".to_owned(),
            Self::Bool(_) => "b".to_owned(),
            Self::Int16(_) => "n".to_owned(),
            Self::Uint16(_) => "q".to_owned(),
            Self::Int32(_) => "i".to_owned(),
            Self::Uint32(_) => "u".to_owned(),
            Self::Int64(_) => "x".to_owned(),
            Self::Uint64(_) => "t".to_owned(),
            Self::Double(_) => "d".to_owned(),
            Self::Text(_) => "s".to_owned(),
            Self::ObjectPath(_) => "o".to_owned(),
            Self::Signature(_) => "g".to_owned(),
            Self::Variant(_) => "v".to_owned(),
            Self::Array(element, _) => format!("a{element}"),
            Self::Struct(fields) => format!("({})", fields.iter().map(Self::signature).collect::<String>()),
        }
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Byte(value) => out.push(*value),
            Self::Bool(value) => write_u32(out, u32::from(*value)),
            Self::Int16(value) => write_number(out, &value.to_le_bytes()),
            Self::Uint16(value) => write_number(out, &value.to_le_bytes()),
            Self::Int32(value) => write_number(out, &value.to_le_bytes()),
            Self::Uint32(value) => write_u32(out, *value),
            Self::Int64(value) => write_number(out, &value.to_le_bytes()),
            Self::Uint64(value) => write_number(out, &value.to_le_bytes()),
            Self::Double(value) => write_number(out, &value.to_le_bytes()),
            Self::Text(text) | Self::ObjectPath(text) => {
                write_u32(out, text.len() as u32);
                out.extend_from_slice(text.as_bytes());
                out.push(0);
            }
            Self::Signature(text) => write_signature(out, text),
            Self::Variant(value) => {
                write_signature(out, &value.signature());
                value.write(out);
            }
            Self::Array(element, items) => write_array(out, element, items),
            Self::Struct(fields) => {
                pad(out, 8);
                fields.iter().for_each(|field| field.write(out));
            }
        }
    }
}

fn pad(out: &mut Vec<u8>, alignment: usize) {
    out.resize(out.len().next_multiple_of(alignment), 0);
}

fn write_number(out: &mut Vec<u8>, bytes: &[u8]) {
    pad(out, bytes.len());
    out.extend_from_slice(bytes);
}

fn write_u32(out: &mut Vec<u8>, value: u32) {
    write_number(out, &value.to_le_bytes());
}

fn write_signature(out: &mut Vec<u8>, signature: &str) {
    out.push(signature.len() as u8);
    out.extend_from_slice(signature.as_bytes());
    out.push(0);
}

/// The length is that of the elements, without the padding before the first.
fn write_array(out: &mut Vec<u8>, element: &str, items: &[Value]) {
    write_u32(out, 0);
    let length_at = out.len() - 4;
    pad(out, alignment(element));
    let start = out.len();
    items.iter().for_each(|item| item.write(out));
    let length = (out.len() - start) as u32;
    if let Some(place) = out.get_mut(length_at..length_at + 4) {
        place.copy_from_slice(&length.to_le_bytes());
    }
}

fn alignment(signature: &str) -> usize {
    match signature.bytes().next() {
        Some(b'y' | b'g' | b'v') => 1,
        Some(b'n' | b'q') => 2,
        Some(b'x' | b't' | b'd' | b'(' | b'{') => 8,
        _ => 4,
    }
}

/// Where a method is.
#[derive(Clone, Copy, Debug)]
pub struct Method<'a> {
    pub destination: &'a str,
    pub path: &'a str,
    pub interface: &'a str,
    pub name: &'a str,
}

const METHOD_CALL: u8 = 1;
const VERSION: u8 = 1;

/// The bytes of a method call.
pub fn call(method: &Method, serial: u32, arguments: &[Value]) -> Vec<u8> {
    let mut body = Vec::new();
    arguments.iter().for_each(|argument| argument.write(&mut body));
    let field = |code, value| Value::Struct(vec![Value::Byte(code), Value::Variant(Box::new(value))]);
    let mut fields = vec![
        field(1, Value::ObjectPath(method.path.to_owned())),
        field(2, Value::text(method.interface)),
        field(3, Value::text(method.name)),
        field(6, Value::text(method.destination)),
    ];
    if !arguments.is_empty() {
        fields.push(field(8, Value::Signature(arguments.iter().map(Value::signature).collect())));
    }
    let mut out = vec![b'l', METHOD_CALL, 0, VERSION];
    write_u32(&mut out, body.len() as u32);
    write_u32(&mut out, serial);
    write_array(&mut out, "(yv)", &fields);
    pad(&mut out, 8);
    out.extend(body);
    out
}

/// What kind of message came.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum MessageKind {
    Call,
    Reply,
    Error,
    Signal,
}

/// A message that came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BusMessage {
    pub kind: MessageKind,
    /// The serial number of the call that it answers.
    pub reply_to: Option<u32>,
    pub member: String,
    /// Of an error: `org.freedesktop.systemd1.NoSuchUnit`.
    pub error: String,
    pub signature: String,
    body: Vec<u8>,
}

/// More than any message that a client of systemd gets.
const LONGEST: usize = 8 << 20;

impl BusMessage {
    /// The first message in `bytes` and its length; `None` while a part of it is missing.
    pub fn parse(bytes: &[u8]) -> Result<Option<(Self, usize)>> {
        let mut reader = Reader { bytes, at: 0 };
        if bytes.len() < 16 {
            return Ok(None);
        }
        ensure!(reader.byte()? == b'l', "D-Bus message is not little endian");
        let kind = match reader.byte()? {
            1 => MessageKind::Call,
            2 => MessageKind::Reply,
            3 => MessageKind::Error,
            4 => MessageKind::Signal,
            other => bail!("D-Bus message of unknown type {other}"),
        };
        reader.at = 4;
        let body_length = reader.u32()? as usize;
        reader.at = 12;
        let fields_length = reader.u32()? as usize;
        ensure!(body_length < LONGEST && fields_length < LONGEST, "D-Bus message is too long");
        let body_at = (16 + fields_length).next_multiple_of(8);
        let Some(body) = bytes.get(body_at..body_at + body_length) else { return Ok(None) };
        let mut message = Self {
            kind,
            reply_to: None,
            member: String::new(),
            error: String::new(),
            signature: String::new(),
            body: body.to_vec(),
        };
        while reader.at < 16 + fields_length {
            message.field(&mut reader)?;
        }
        Ok(Some((message, body_at + body_length)))
    }

    fn field(&mut self, reader: &mut Reader) -> Result<()> {
        reader.align(8);
        let code = reader.byte()?;
        let signature = reader.signature()?;
        match (code, signature.as_str()) {
            (3, "s") => self.member = reader.text()?,
            (4, "s") => self.error = reader.text()?,
            (5, "u") => self.reply_to = Some(reader.u32()?),
            (8, "g") => self.signature = reader.signature()?,
            (_, "s" | "o") => drop(reader.text()?),
            (_, "g") => drop(reader.signature()?),
            (_, "u") => drop(reader.u32()?),
            _ => bail!("D-Bus message with a header field of type {signature:?}"),
        }
        Ok(())
    }

    /// What is in it.
    pub fn body(&self) -> Reader<'_> {
        Reader { bytes: &self.body, at: 0 }
    }
}

/// Values in the order in which they were written.
#[derive(Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn align(&mut self, alignment: usize) {
        self.at = self.at.next_multiple_of(alignment);
    }

    fn take(&mut self, length: usize) -> Result<&[u8]> {
        let end = self.at.checked_add(length).context("D-Bus message ends early")?;
        let bytes = self.bytes.get(self.at..end).context("D-Bus message ends early")?;
        self.at = end;
        Ok(bytes)
    }

    fn byte(&mut self) -> Result<u8> {
        Ok(self.take(1)?.first().copied().unwrap_or_default())
    }

    pub fn u32(&mut self) -> Result<u32> {
        self.align(4);
        let bytes = self.take(4)?;
        Ok(u32::from_le_bytes(bytes.try_into()?))
    }

    pub fn u64(&mut self) -> Result<u64> {
        self.align(8);
        let bytes = self.take(8)?;
        Ok(u64::from_le_bytes(bytes.try_into()?))
    }

    /// An array of bytes.
    pub fn bytes(&mut self) -> Result<&[u8]> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    /// A string or an object path.
    pub fn text(&mut self) -> Result<String> {
        let length = self.u32()? as usize;
        self.terminated(length)
    }

    /// An array of pairs of strings, `a(ss)`.
    pub fn pairs(&mut self) -> Result<Vec<(String, String)>> {
        let length = self.u32()? as usize;
        self.align(8);
        let end = self.at.checked_add(length).context("D-Bus message ends early")?;
        let mut pairs = Vec::new();
        while self.at < end {
            self.align(8);
            pairs.push((self.text()?, self.text()?));
        }
        Ok(pairs)
    }

    pub fn signature(&mut self) -> Result<String> {
        let length = self.byte()?;
        self.terminated(usize::from(length))
    }

    fn terminated(&mut self, length: usize) -> Result<String> {
        let bytes = self.take(length + 1)?;
        let text = std::str::from_utf8(bytes.get(..length).unwrap_or_default()).context("D-Bus message")?;
        Ok(text.to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const METHOD: Method = Method { destination: "d", path: "/p", interface: "i", name: "m" };

    #[test]
    fn a_call_has_the_bytes_of_the_specification() {
        let bytes = call(&METHOD, 7, &[Value::text("hi"), Value::Bool(true)]);
        let expected: &[u8] = &[
            b'l', 1, 0, 1, 12, 0, 0, 0, 7, 0, 0, 0, 72, 0, 0, 0, //
            1, 1, b'o', 0, 2, 0, 0, 0, b'/', b'p', 0, 0, 0, 0, 0, 0, //
            2, 1, b's', 0, 1, 0, 0, 0, b'i', 0, 0, 0, 0, 0, 0, 0, //
            3, 1, b's', 0, 1, 0, 0, 0, b'm', 0, 0, 0, 0, 0, 0, 0, //
            6, 1, b's', 0, 1, 0, 0, 0, b'd', 0, 0, 0, 0, 0, 0, 0, //
            8, 1, b'g', 0, 2, b's', b'b', 0, //
            2, 0, 0, 0, b'h', b'i', 0, 0, 1, 0, 0, 0,
        ];
        assert_eq!(bytes, expected);
    }

    #[test]
    fn an_array_does_not_count_the_padding_before_its_first_element() {
        let mut out = Vec::new();
        Value::Array("t".into(), vec![Value::Uint64(1)]).write(&mut out);
        assert_eq!(out, [8, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0]);
        out.clear();
        Value::Array("(ss)".into(), Vec::new()).write(&mut out);
        assert_eq!(out, [0, 0, 0, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn what_is_written_can_be_read_and_a_part_is_waited_for() {
        let mask = Value::Array("y".into(), vec![Value::Byte(3), Value::Byte(1)]);
        let arguments =
            [Value::Uint32(5), Value::text("x"), Value::ObjectPath("/job/1".into()), mask, Value::Uint64(u64::MAX)];
        let bytes = call(&METHOD, 1, &arguments);
        for length in 0..bytes.len() {
            assert_eq!(BusMessage::parse(&bytes[..length]).unwrap(), None, "{length}");
        }
        let (message, length) = BusMessage::parse(&[bytes.clone(), vec![1, 2, 3]].concat()).unwrap().unwrap();
        assert_eq!((length, message.kind, message.signature.as_str()), (bytes.len(), MessageKind::Call, "usoayt"));
        let mut body = message.body();
        assert_eq!((body.u32().unwrap(), body.text().unwrap().as_str()), (5, "x"));
        assert_eq!(body.text().unwrap(), "/job/1");
        assert_eq!(body.bytes().unwrap(), [3, 1]);
        assert_eq!(body.u64().unwrap(), u64::MAX);
        assert!(body.u32().is_err(), "the end");
    }

    #[test]
    fn garbage_is_an_error_and_no_panic() {
        let good = call(&METHOD, 1, &[Value::text("x")]);
        for index in 0..good.len() {
            for value in [0, 1, 0x7f, 0xff] {
                let mut bad = good.clone();
                bad[index] = value;
                let _ = BusMessage::parse(&bad).map(|parsed| parsed.map(|(message, _)| message.body().text()));
            }
        }
        assert!(BusMessage::parse(&[b'B'; 32]).is_err());
    }
}
