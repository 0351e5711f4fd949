//! Members that the specification requires and the types take for 0 when they are missing: no limit is what was forgotten.

use anyhow::Result;
use serde_json::Value;

use super::document::Document;

/// A list of objects, as a JSON pointer and as messages have it, and what each object must have.
pub type RequiredKeys = (&'static str, &'static str, &'static [&'static str]);

const THROTTLE: &[&str] = &["major", "minor", "rate"];

/// Those of `linux.resources` (config-linux.md, "Block IO", "Huge page limits").
pub const OF_RESOURCES: [RequiredKeys; 6] = [
    ("/hugepageLimits", "hugepageLimits", &["pageSize", "limit"]),
    ("/blockIO/weightDevice", "blockIO.weightDevice", &["major", "minor"]),
    ("/blockIO/throttleReadBpsDevice", "blockIO.throttleReadBpsDevice", THROTTLE),
    ("/blockIO/throttleWriteBpsDevice", "blockIO.throttleWriteBpsDevice", THROTTLE),
    ("/blockIO/throttleReadIOPSDevice", "blockIO.throttleReadIOPSDevice", THROTTLE),
    ("/blockIO/throttleWriteIOPSDevice", "blockIO.throttleWriteIOPSDevice", THROTTLE),
];

/// Sections of config.json: pointer, prefix in messages, lists (config.md, "POSIX process").
pub const SECTIONS: [(&str, &str, &[RequiredKeys]); 2] = [
    ("/linux/resources", "linux.resources.", &OF_RESOURCES),
    ("/process", "process.", &[("/rlimits", "rlimits", &["type", "soft", "hard"])]),
];

/// Fails for the first member that is missing in `section`. What is no list or no object is left to the types.
pub fn check(section: &Value, place: &str, lists: &[RequiredKeys], document: Document) -> Result<()> {
    for (pointer, name, members) in lists {
        let objects = section.pointer(pointer).and_then(Value::as_array).into_iter().flatten().enumerate();
        for (index, object) in objects.filter_map(|(index, value)| Some((index, value.as_object()?))) {
            if let Some(member) = members.iter().find(|member| !object.contains_key(**member)) {
                return Err(document.error(format!("{place}{name}[{index}].{member}"), "missing"));
            }
        }
    }
    Ok(())
}
