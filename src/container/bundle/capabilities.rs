//! The names of capabilities: the kernel's, `CAP_NET_ADMIN`. The types take `net_admin` and its like as well, which runc and
//! crun know nothing of, and so grant nothing for.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::str::FromStr;

use oci_spec::runtime::Process;
use serde::Deserialize;
use serde_json::{Deserializer, Value};

const KEY: &str = "\"capabilities\"";

/// Whether `name` is one, in this spelling.
pub fn is_exact(name: &str) -> bool {
    caps::Capability::from_str(name).is_ok()
}

/// Whether `text`, of which `process` was parsed, has none but exact names. False also if that takes a longer look.
pub(super) fn are_exact(text: &[u8], process: Option<&Process>) -> bool {
    if process.is_none_or(|process| process.capabilities().is_none()) {
        return true;
    }
    let Ok(text) = std::str::from_utf8(text) else { return false };
    let mut sections = 0;
    for (at, _) in text.match_indices(KEY) {
        // Elsewhere, such as in an annotation, it is no key, or another one: that costs a longer look at worst.
        let rest = text.get(at + KEY.len()..).unwrap_or_default().trim_start();
        let Some(value) = rest.strip_prefix(':') else { continue };
        sections += 1;
        let mut value = Deserializer::from_str(value);
        let Ok(sets) = BTreeMap::<Cow<str>, Option<Vec<Cow<str>>>>::deserialize(&mut value) else { return false };
        if !sets.values().flatten().flatten().all(|name| is_exact(name)) {
            return false;
        }
    }
    sections > 0
}

/// config.md, "Linux process": a capability that cannot be mapped to the kernel's is a warning, and left out.
pub(super) fn drop_unknown(config: &mut Value, warnings: &mut Vec<String>) {
    let Some(sets) = config.pointer_mut("/process/capabilities").and_then(Value::as_object_mut) else { return };
    for (set, names) in sets {
        let Some(names) = names.as_array_mut() else { continue };
        names.retain(|name| {
            let Some(text) = name.as_str() else { return true };
            let known = is_exact(text);
            if !known {
                warnings
                    .push(format!("process.capabilities.{set}: ignoring unknown capability {text:?}{}", hint(text)));
            }
            known
        });
    }
}

/// What was meant, perhaps.
fn hint(name: &str) -> String {
    let upper = name.to_ascii_uppercase();
    let meant = format!("CAP_{}", upper.strip_prefix("CAP_").unwrap_or(&upper));
    if is_exact(&meant) { format!(" (did you mean {meant}?)") } else { String::new() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_the_kernels_or_none() {
        assert!(is_exact("CAP_NET_ADMIN") && is_exact("CAP_BPF") && is_exact("CAP_CHECKPOINT_RESTORE"));
        for other in
            ["NET_ADMIN", "net_admin", "CAP_net_admin", "cap_net_admin", "CAP_CAP_NET_ADMIN", "", "CAP_", "CAP_MOON"]
        {
            assert!(!is_exact(other), "{other}");
        }
        assert_eq!(hint("cap_net_admin"), " (did you mean CAP_NET_ADMIN?)");
        assert_eq!(hint("CAP_MOON"), "");
    }

    #[test]
    fn every_spelling_of_the_section_is_looked_at() {
        let exact = |section: &str| {
            let text = format!("{{\"cwd\":\"/\",\"user\":{{\"uid\":0,\"gid\":0}},{section}}}");
            let process: Process = serde_json::from_str(&text).unwrap();
            are_exact(text.as_bytes(), Some(&process))
        };
        assert!(exact(r#""capabilities" : {"bounding":["CAP_KILL"],"ambient":null}"#));
        assert!(exact(r#""env":["\"capabilities\": x"]"#));
        for section in [
            r#""capabilities":{"bounding":["KILL"]}"#,
            r#""capabilities":{"bounding":["CAP_KILL"],"effective":["cap_kill"]}"#,
            r#""capabilities":{"bounding":["CAP_K\u0069LL"]}"#,
            r#""capabilit\u0069es":{"bounding":["KILL"]}"#,
        ] {
            assert!(!exact(section), "{section}");
        }
    }
}
