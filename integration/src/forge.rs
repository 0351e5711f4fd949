//! Forged checkpoints: CRIU's images taken apart, edited and written again. An image is one or two numbers that tell its
//! type, then entries: a length of four bytes, and a protobuf message.

use std::path::Path;

/// Where an image's first entry begins: `inventory.img` has one number.
fn head(path: &Path) -> usize {
    if path.ends_with("inventory.img") { 4 } else { 8 }
}

/// The value of a field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Value {
    Number(u64),
    Bytes(Vec<u8>),
    /// Of 4 or 8 bytes.
    Fixed(Vec<u8>),
}

/// A message: its fields in their order, by their numbers.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Entry(pub Vec<(u64, Value)>);

fn varint(bytes: &mut &[u8]) -> u64 {
    let (mut value, mut shift) = (0, 0);
    loop {
        let (byte, rest) = bytes.split_first().expect("a number");
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        shift += 7;
        if byte & 0x80 == 0 {
            return value;
        }
    }
}

fn take(bytes: &mut &[u8], length: usize) -> Vec<u8> {
    let (taken, rest) = bytes.split_at(length);
    *bytes = rest;
    taken.to_vec()
}

fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

impl Entry {
    pub fn parse(mut bytes: &[u8]) -> Self {
        let mut fields = Vec::new();
        while !bytes.is_empty() {
            let key = varint(&mut bytes);
            let value = match key & 7 {
                0 => Value::Number(varint(&mut bytes)),
                1 => Value::Fixed(take(&mut bytes, 8)),
                2 => {
                    let length = varint(&mut bytes) as usize;
                    Value::Bytes(take(&mut bytes, length))
                }
                5 => Value::Fixed(take(&mut bytes, 4)),
                kind => panic!("wire type {kind}"),
            };
            fields.push((key >> 3, value));
        }
        Self(fields)
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        for (field, value) in &self.0 {
            match value {
                Value::Number(number) => {
                    put(&mut out, field << 3);
                    put(&mut out, *number);
                }
                Value::Fixed(bytes) => {
                    put(&mut out, field << 3 | if bytes.len() == 8 { 1 } else { 5 });
                    out.extend(bytes);
                }
                Value::Bytes(bytes) => {
                    put(&mut out, field << 3 | 2);
                    put(&mut out, bytes.len() as u64);
                    out.extend(bytes);
                }
            }
        }
        out
    }

    pub fn number(&self, field: u64) -> Option<u64> {
        self.0.iter().find_map(|(found, value)| match value {
            Value::Number(number) if *found == field => Some(*number),
            _ => None,
        })
    }

    pub fn text(&self, field: u64) -> Option<String> {
        self.0.iter().find_map(|(found, value)| match value {
            Value::Bytes(bytes) if *found == field => Some(String::from_utf8_lossy(bytes).into_owned()),
            _ => None,
        })
    }

    /// Puts one value in the place of all that the field has.
    pub fn set(&mut self, field: u64, value: Value) {
        self.0.retain(|(found, _)| *found != field);
        self.0.push((field, value));
    }

    pub fn set_number(&mut self, field: u64, number: u64) {
        self.set(field, Value::Number(number));
    }

    pub fn set_text(&mut self, field: u64, text: &str) {
        self.set(field, Value::Bytes(text.into()));
    }

    /// Edits each message that the field holds.
    pub fn each(&mut self, field: u64, mut edit: impl FnMut(&mut Entry)) {
        for (_, value) in self.0.iter_mut().filter(|(found, _)| *found == field) {
            let Value::Bytes(bytes) = value else { panic!("field {field} is no message") };
            let mut entry = Entry::parse(bytes);
            edit(&mut entry);
            *bytes = entry.encode();
        }
    }
}

/// The entries of an image.
pub fn entries(path: &Path) -> Vec<Entry> {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let mut rest = &bytes[head(path)..];
    let mut entries = Vec::new();
    while !rest.is_empty() {
        let length = take(&mut rest, 4);
        let length = u32::from_le_bytes(length.try_into().expect("four bytes"));
        entries.push(Entry::parse(&take(&mut rest, length as usize)));
    }
    entries
}

/// Edits the entries of an image.
pub fn edit(path: &Path, edit: impl FnOnce(&mut Vec<Entry>)) {
    let mut all = entries(path);
    edit(&mut all);
    let mut bytes = std::fs::read(path).expect("image")[..head(path)].to_vec();
    for entry in all {
        let text = entry.encode();
        bytes.extend((text.len() as u32).to_le_bytes());
        bytes.extend(text);
    }
    std::fs::write(path, bytes).expect("image");
}

/// Edits every image of a directory whose name begins so; there is one at least.
pub fn edit_all(directory: &Path, prefix: &str, mut each: impl FnMut(&mut Vec<Entry>)) {
    let mut found = 0;
    for file in std::fs::read_dir(directory).expect("directory").flatten() {
        if file.file_name().to_str().is_some_and(|name| name.starts_with(prefix) && name.ends_with(".img")) {
            edit(&file.path(), &mut each);
            found += 1;
        }
    }
    assert!(found > 0, "no {prefix} in {}", directory.display());
}
