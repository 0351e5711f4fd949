//! Unknown keys of config.json. They are ignored (config.md, "Extensibility"): of one that is nearly a known key of its
//! object, which that object does not have, somebody should be told.

use std::borrow::Cow;
use std::fmt::Formatter;

use serde::de::{Deserialize, DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::known::{CONFIG, Contents, Keys, PROCESS};

/// A key that is not known.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct UnknownKey {
    /// The object, as `linux.resources`; empty for the whole.
    place: String,
    key: String,
    /// The known one that may be meant.
    pub meant: Option<&'static str>,
}

impl UnknownKey {
    /// For the log: nothing of a key that nobody could have meant otherwise.
    pub fn warning(&self) -> Option<String> {
        Some(format!("{}: unknown, and ignored (did you mean {}?)", self.field(), self.meant?))
    }

    /// Where it is, with its name.
    pub fn field(&self) -> String {
        self.named(&self.key)
    }

    fn named(&self, key: &str) -> String {
        if self.place.is_empty() { key.to_owned() } else { format!("{}.{key}", self.place) }
    }
}

/// What is wrong with `field`, which is not there.
pub fn missing(unknown: &[UnknownKey], field: &str) -> String {
    match unknown.iter().find(|key| key.meant.is_some_and(|meant| key.named(meant) == field)) {
        Some(UnknownKey { key, .. }) => format!("missing (did you mean it by {key:?}?)"),
        None => "missing".to_owned(),
    }
}

/// The unknown keys of `text`, a config.json. What is no JSON has none.
pub fn unknown(text: &[u8]) -> Vec<UnknownKey> {
    walk(text, None, &CONFIG)
}

/// The same of a process.json.
pub fn unknown_of_process(text: &[u8]) -> Vec<UnknownKey> {
    walk(text, Some("process"), &PROCESS)
}

fn walk(text: &[u8], place: Option<&'static str>, keys: &'static Keys) -> Vec<UnknownKey> {
    let mut look = KeyWalk { place: Vec::with_capacity(16), found: Vec::new() };
    look.place.extend(place.map(PlacePart::Key));
    let mut json = serde_json::Deserializer::from_slice(text);
    // That it is broken is another's to say.
    let _ = Value { inside: Contents::Object(keys), look: &mut look }.deserialize(&mut json);
    look.found
}

/// Where the walk is, and what it has found.
struct KeyWalk {
    place: Vec<PlacePart>,
    found: Vec<UnknownKey>,
}

enum PlacePart {
    Key(&'static str),
    Index(usize),
}

/// A value, and what is in it.
struct Value<'a> {
    inside: Contents,
    look: &'a mut KeyWalk,
}

impl<'de> DeserializeSeed<'de> for Value<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        match self.inside {
            Contents::Anything => IgnoredAny::deserialize(deserializer).map(drop),
            _ => deserializer.deserialize_any(self),
        }
    }
}

impl<'de> Visitor<'de> for Value<'_> {
    type Value = ();

    fn expecting(&self, formatter: &mut Formatter) -> std::fmt::Result {
        formatter.write_str("a value")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Contents::Object(keys) = self.inside else { return IgnoredAny.visit_map(map).map(drop) };
        let (mut seen, mut unknown) = (0u64, Vec::new());
        while let Some(key) = map.next_key::<KeyText>()? {
            let Some((index, (name, inside))) = keys.0.iter().enumerate().find(|(_, (known, _))| *known == key.0)
            else {
                unknown.push(key.0.into_owned());
                map.next_value::<IgnoredAny>()?;
                continue;
            };
            seen |= 1 << index;
            self.look.place.push(PlacePart::Key(name));
            map.next_value_seed(Value { inside: *inside, look: &mut *self.look })?;
            self.look.place.pop();
        }
        for key in unknown {
            self.look.note(keys, seen, key);
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Contents::List(keys) = self.inside else { return IgnoredAny.visit_seq(list).map(drop) };
        for index in 0.. {
            self.look.place.push(PlacePart::Index(index));
            let next = list.next_element_seed(Value { inside: Contents::Object(keys), look: &mut *self.look })?;
            self.look.place.pop();
            if next.is_none() {
                break;
            }
        }
        Ok(())
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: Error>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

impl KeyWalk {
    fn note(&mut self, keys: &Keys, seen: u64, key: String) {
        let mut free = keys.0.iter().enumerate().filter(|(index, _)| seen >> index & 1 == 0);
        let meant = free.find(|(_, (known, _))| is_near(&key, known)).map(|(_, (meant, _))| *meant);
        self.found.push(UnknownKey { place: self.in_words(), key, meant });
    }

    fn in_words(&self) -> String {
        let mut words = String::new();
        for part in &self.place {
            match part {
                PlacePart::Key(key) if words.is_empty() => words.push_str(key),
                PlacePart::Key(key) => words.push_str(&format!(".{key}")),
                PlacePart::Index(index) => words.push_str(&format!("[{index}]")),
            }
        }
        words
    }
}

/// A key, which is part of the text unless something in it is escaped.
struct KeyText<'a>(Cow<'a, str>);

impl<'de> Deserialize<'de> for KeyText<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeyVisitor;
        impl<'de> Visitor<'de> for KeyVisitor {
            type Value = KeyText<'de>;

            fn expecting(&self, formatter: &mut Formatter) -> std::fmt::Result {
                formatter.write_str("a key")
            }

            fn visit_borrowed_str<E: Error>(self, text: &'de str) -> Result<KeyText<'de>, E> {
                Ok(KeyText(Cow::Borrowed(text)))
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<KeyText<'de>, E> {
                Ok(KeyText(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(KeyVisitor)
    }
}

/// Whether a slip of the hand makes the one of the other: other case, `_` or `-` between words, one letter more, less or
/// wrong, or two exchanged; of long keys, two slips.
fn is_near(key: &str, known: &str) -> bool {
    let plain = |text: &str| {
        let letters = text.bytes().filter(|byte| !matches!(byte, b'_' | b'-'));
        letters.map(|byte| byte.to_ascii_lowercase()).collect::<Vec<u8>>()
    };
    let (key, known) = (plain(key), plain(known));
    let slips = match known.len() {
        0..=3 => 0,
        4..=7 => 1,
        _ => 2,
    };
    is_within(slips, &key, &known)
}

/// Whether so many letters put in, taken out, replaced, or exchanged with their neighbour make the one of the other.
fn is_within(slips: usize, a: &[u8], b: &[u8]) -> bool {
    let ([x, a_rest @ ..], [y, b_rest @ ..]) = (a, b) else { return a.len().max(b.len()) <= slips };
    if x == y && is_within(slips, a_rest, b_rest) {
        return true;
    }
    let exchanged = |slips| match (a, b) {
        ([x, next_x, a @ ..], [y, next_y, b @ ..]) => x == next_y && next_x == y && is_within(slips, a, b),
        _ => false,
    };
    slips.checked_sub(1).is_some_and(|left| {
        is_within(left, a_rest, b) || is_within(left, a, b_rest) || is_within(left, a_rest, b_rest) || exchanged(left)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn warnings(text: &str) -> Vec<String> {
        unknown(text.as_bytes()).iter().filter_map(UnknownKey::warning).collect()
    }

    #[test]
    fn a_key_that_is_nearly_known_is_told() {
        assert_eq!(
            warnings(
                r#"{"mounst":[],"root":{"path":"/","readOnly":true},"process":{"agrs":["a"],"user":{"uid":0,"additionalGIDs":[]}},
                   "linux":{"resources":{"memory":{"limits":1}},"namespaces":[{"type":"pid"},{"typ":"net","pth":"/x"}],
                   "seccomp":{"default_action":"x","syscalls":[{"names":[],"errnoret":1}]}}}"#
            ),
            [
                "root.readOnly: unknown, and ignored (did you mean readonly?)",
                "process.user.additionalGIDs: unknown, and ignored (did you mean additionalGids?)",
                "process.agrs: unknown, and ignored (did you mean args?)",
                "linux.resources.memory.limits: unknown, and ignored (did you mean limit?)",
                "linux.namespaces[1].typ: unknown, and ignored (did you mean type?)",
                "linux.namespaces[1].pth: unknown, and ignored (did you mean path?)",
                "linux.seccomp.syscalls[0].errnoret: unknown, and ignored (did you mean errnoRet?)",
                "linux.seccomp.default_action: unknown, and ignored (did you mean defaultAction?)",
                "mounst: unknown, and ignored (did you mean mounts?)",
            ]
        );
    }

    #[test]
    fn nothing_else_is() {
        for text in [
            // Another's extension; a key that is there beside the known one; names that are the user's own.
            r#"{"org.example.x":1,"linux":{"rootlessEUID":true}}"#,
            r#"{"root":{"path":"/","paths":"/"}}"#,
            r#"{"annotations":{"proces":"x"},"linux":{"sysctl":{"mounts":"1"},"resources":{"unified":{"limits":"1"}}}}"#,
            r#"{"process":[{"agrs":1}],"mounts":{"typ":1},"linux":null,"root":1}"#,
            "{\"mounst\":",
            "[]",
        ] {
            assert!(warnings(text).is_empty(), "{text}");
        }
        for (name, config) in crate::fixtures::engines() {
            assert!(warnings(&config.to_string()).is_empty(), "{name}");
        }
    }

    #[test]
    fn whoever_asks_is_told_of_every_unknown_key() {
        let keys = unknown(br#"{"org.example.x":1,"linux":{"rootlessEUID":true},"annotations":{"x":1}}"#);
        let told: Vec<_> = keys.iter().map(|key| (key.field(), key.meant)).collect();
        assert_eq!(told, [("linux.rootlessEUID".to_owned(), None), ("org.example.x".to_owned(), None)]);
    }

    #[test]
    fn short_keys_are_not_guessed() {
        assert!(is_near("cpuPeriods", "cpuPeriod") && is_near("maksedPaths", "maskedPaths"));
        assert!(!is_near("env", "nev") && !is_near("uid", "gid") && !is_near("hook", "host"));
        assert!(is_near("HOOKS", "hooks") && !is_near("hardware", "soft"));
    }
}
