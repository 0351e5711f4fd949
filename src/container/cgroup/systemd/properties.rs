//! What systemd has to know of a unit: limits as properties (systemd.resource-control(5)), so that it neither resets
//! them when it is reloaded nor shows others. They are made from the writes of `linux.resources`, which are done besides:
//! systemd has no property for many, and rounds some.

use std::collections::HashMap;

use anyhow::{Context, Result, bail, ensure};

use super::gvariant;
use super::wire::Value;
use crate::container::cgroup::host::layout::Layout;
use crate::container::cgroup::wanted::device_rules::{Access, DeviceKind, Rule, Rules};
use crate::container::cgroup::wanted::resources::{Missing, Write};
use crate::error::field;

/// A property of a unit, and the first release of systemd that knows it; 0 for those that all know.
#[derive(Clone, PartialEq, Debug)]
pub struct Property {
    pub name: String,
    pub value: Value,
    pub since: u32,
}

impl Property {
    pub fn new(name: &str, value: Value) -> Self {
        Self { name: name.to_owned(), value, since: 0 }
    }

    fn since(name: &str, value: Value, since: u32) -> Self {
        Self { since, ..Self::new(name, value) }
    }
}

/// systemd's word for no limit.
const INFINITY: u64 = u64::MAX;

/// The properties of limits, each once: a later write of the same file wins, as it does in the kernel. Values that are
/// none are left out: the write itself will be refused, with its field.
pub fn of_limits(writes: &[Write]) -> Vec<Property> {
    let mut properties: Vec<Property> = Vec::new();
    let mut period = None;
    for write in writes {
        if write.file == "cpu.cfs_period_us" {
            period = write.value.trim().parse().ok();
        }
        for property in of_write(write, period) {
            properties.retain(|earlier| earlier.name != property.name);
            properties.push(property);
        }
    }
    // A weight of 0 is systemd's word for an idle group, which takes no other weight.
    if writes.iter().rfind(|write| write.file == "cpu.idle").is_some_and(|write| write.value.trim() == "1") {
        properties.retain(|property| property.name != "CPUWeight");
        properties.push(Property::since("CPUWeight", Value::Uint64(0), 252));
    }
    properties
}

fn of_write(write: &Write, period: Option<u64>) -> Vec<Property> {
    let value = write.value.trim();
    let one = |name: &str, number: Option<u64>| -> Vec<Property> {
        number.map(|number| Property::new(name, Value::Uint64(number))).into_iter().collect()
    };
    match write.file.as_str() {
        "pids.max" => one("TasksMax", limit(value)),
        "memory.max" => one("MemoryMax", limit(value)),
        "memory.high" => one("MemoryHigh", limit(value)),
        "memory.low" => one("MemoryLow", limit(value)),
        "memory.min" => one("MemoryMin", limit(value)),
        "memory.swap.max" => one("MemorySwapMax", limit(value)),
        "memory.limit_in_bytes" => one("MemoryLimit", limit(value)),
        "cpu.weight" => one("CPUWeight", value.parse().ok()),
        "cpu.shares" => one("CPUShares", value.parse().ok()),
        "blkio.weight" => one("BlockIOWeight", value.parse().ok()),
        "io.weight" => one("IOWeight", value.strip_prefix("default ").unwrap_or(value).parse().ok()),
        "io.bfq.weight" => match &write.missing {
            // The same on the scale of io.weight, which is systemd's; a device's own has a space in it.
            Missing::Instead(_, value) => one("IOWeight", value.parse().ok()),
            _ => Vec::new(),
        },
        "cpu.max" => cpu_max(value),
        "cpu.cfs_period_us" => one_since("CPUQuotaPeriodUSec", value.parse().ok().map(Value::Uint64), 242),
        "cpu.cfs_quota_us" => one("CPUQuotaPerSecUSec", value.parse().ok().and_then(|quota| per_second(quota, period))),
        "cpuset.cpus" => one_since("AllowedCPUs", set(value), 244),
        "cpuset.mems" => one_since("AllowedMemoryNodes", set(value), 244),
        _ => Vec::new(),
    }
}

fn one_since(name: &str, value: Option<Value>, since: u32) -> Vec<Property> {
    value.map(|value| Property::since(name, value, since)).into_iter().collect()
}

/// A number of bytes or processes, with the suffixes that the kernel's memparse takes, or none at all.
fn limit(value: &str) -> Option<u64> {
    if matches!(value, "max" | "-1") {
        return Some(INFINITY);
    }
    let shift = match value.bytes().last()?.to_ascii_uppercase() {
        b'K' => 10,
        b'M' => 20,
        b'G' => 30,
        b'T' => 40,
        _ => 0,
    };
    let digits = if shift == 0 { value } else { value.get(..value.len() - 1)? };
    digits.parse::<u64>().ok()?.checked_mul(1 << shift)
}

/// `cpu.max`: a quota, which may be `max`, and its period, both in µs.
fn cpu_max(value: &str) -> Vec<Property> {
    let mut words = value.split_whitespace();
    let quota = match words.next() {
        Some("max") => Some(-1),
        quota => quota.and_then(|quota| quota.parse().ok()),
    };
    let period: Option<u64> = words.next().and_then(|period| period.parse().ok());
    let Some(per_second) = quota.and_then(|quota| per_second(quota, period)) else { return Vec::new() };
    let mut properties = one_since("CPUQuotaPeriodUSec", period.map(Value::Uint64), 242);
    properties.push(Property::new("CPUQuotaPerSecUSec", Value::Uint64(per_second)));
    properties
}

/// Computing time per second in µs. systemd keeps whole per cents, so it is rounded up, as in runc: cgroups below must
/// be able to have what was asked for.
fn per_second(quota: i64, period: Option<u64>) -> Option<u64> {
    let Ok(quota) = u64::try_from(quota) else { return Some(INFINITY) };
    let exact = quota.checked_mul(1_000_000)?.checked_div(period.unwrap_or(100_000))?;
    (quota > 0).then_some(exact.next_multiple_of(10_000))
}

/// A list such as `0-3,7` as a bit mask, the lowest byte first. None for what is no list.
fn set(list: &str) -> Option<Value> {
    // More than any kernel can have.
    const MOST: usize = 1 << 16;
    let mut mask: Vec<u8> = Vec::new();
    for range in list.split(',').map(str::trim).filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if first > last || last >= MOST {
            return None;
        }
        mask.resize(mask.len().max(last / 8 + 1), 0);
        for bit in first..=last {
            if let Some(byte) = mask.get_mut(bit / 8) {
                *byte |= 1 << (bit % 8);
            }
        }
    }
    (!mask.is_empty()).then(|| Value::Array("y".to_owned(), mask.into_iter().map(Value::Byte).collect()))
}

/// `memory.oom.group` as what systemd does when the kernel kills a process of the unit; it can be set only at the start.
pub fn oom_policy(writes: &[Write]) -> Option<Property> {
    let write = writes.iter().rfind(|write| write.file == "memory.oom.group")?;
    let policy = match write.value.trim() {
        "0" => "continue",
        "1" => "kill",
        _ => return None,
    };
    Some(Property::since("OOMPolicy", Value::text(policy), 253))
}

/// The device rules. systemd knows a list of what is allowed, and nothing else; where the rules are a list of what is
/// forbidden, it lets all through on v2, where our own filter stands beside its own.
pub fn of_devices(rules: &Rules, layout: Layout) -> Vec<Property> {
    let all = rules.default_allow && (rules.list.is_empty() || layout == Layout::V2);
    let allowed = rules.list.iter().filter(|rule| rule.allow && !rules.default_allow);
    let entries: Vec<_> = if all { Vec::new() } else { allowed.filter_map(device).collect() };
    vec![
        Property::new("DevicePolicy", Value::text(if all { "auto" } else { "strict" })),
        Property::new(DEVICE_ALLOW, Value::pairs(entries)),
    ]
}

/// The same for a unit that is there: an empty list takes away what it had, others are added to it.
pub fn of_other_devices(rules: &Rules, layout: Layout) -> Vec<Property> {
    let none = Property::new(DEVICE_ALLOW, Value::pairs([]));
    [none].into_iter().chain(of_devices(rules, layout)).collect()
}

/// The property that is a list of devices.
pub const DEVICE_ALLOW: &str = "DeviceAllow";

/// An entry of DeviceAllow=. A rule for one minor number of every driver cannot be said there.
fn device(rule: &Rule) -> Option<(String, String)> {
    let kind = if rule.kind == DeviceKind::Char { "char" } else { "block" };
    let node = match (rule.major, rule.minor) {
        (None, None) => format!("{kind}-*"),
        (Some(major), None) => format!("{kind}-{major}"),
        (Some(major), Some(minor)) => format!("/dev/{kind}/{major}:{minor}"),
        (None, Some(_)) => return None,
    };
    let letters = [(Access::READ, 'r'), (Access::WRITE, 'w'), (Access::MKNOD, 'm')];
    let has = |access: Access| rule.access.bits() & access.bits() != 0;
    let access: String = letters.iter().filter(|(access, _)| has(*access)).map(|(_, letter)| letter).collect();
    Some((node, access))
}

const PREFIX: &str = "org.systemd.property.";

/// The properties that annotations ask for, each with its annotation: `org.systemd.property.TimeoutStopSec` is, as in
/// runc, the property TimeoutStopUSec in seconds.
pub fn of_annotations(annotations: &HashMap<String, String>) -> Result<Vec<(String, Property)>> {
    let mut asked: Vec<_> = annotations.iter().filter(|(key, _)| key.starts_with(PREFIX)).collect();
    asked.sort_unstable();
    let compile = |(key, text): (&String, &String)| {
        let name = key.strip_prefix(PREFIX).unwrap_or_default();
        let property = annotation(name, text).with_context(|| field!("annotations"; "{key}"))?;
        Ok((key.clone(), property))
    };
    asked.into_iter().map(compile).collect()
}

fn annotation(name: &str, text: &str) -> Result<Property> {
    let is_name = name.len() >= 3 && name.bytes().all(|byte| byte.is_ascii_alphabetic());
    ensure!(is_name, "{name:?} is not the name of a property of systemd");
    let value = gvariant::parse(text).with_context(|| format!("{text:?} is not a value in GVariant's text format"))?;
    match name.strip_suffix("Sec") {
        Some(stem) if stem.ends_with(|c: char| c.is_ascii_lowercase()) => {
            Ok(Property::new(&format!("{stem}USec"), microseconds(&value).with_context(|| format!("{text:?}"))?))
        }
        _ => Ok(Property::new(name, value)),
    }
}

fn microseconds(seconds: &Value) -> Result<Value> {
    const MICRO: u64 = 1_000_000;
    let whole: i128 = match seconds {
        Value::Double(seconds) if *seconds >= 0.0 && *seconds < INFINITY as f64 / MICRO as f64 => {
            return Ok(Value::Uint64((seconds * MICRO as f64) as u64));
        }
        Value::Byte(seconds) => i128::from(*seconds),
        Value::Int16(seconds) => i128::from(*seconds),
        Value::Uint16(seconds) => i128::from(*seconds),
        Value::Int32(seconds) => i128::from(*seconds),
        Value::Uint32(seconds) => i128::from(*seconds),
        Value::Int64(seconds) => i128::from(*seconds),
        Value::Uint64(seconds) => i128::from(*seconds),
        _ => bail!("is not a number of seconds"),
    };
    let micros = u64::try_from(whole).ok().and_then(|seconds| seconds.checked_mul(MICRO));
    micros.map(Value::Uint64).context("is not a number of seconds that systemd can count")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::cgroup::wanted::v2;
    use crate::error::Faults;

    fn limits(resources: serde_json::Value) -> Vec<(String, Value)> {
        let writes = v2::compile(&serde_json::from_value(resources).unwrap(), &mut Faults::first()).unwrap();
        let mut properties: Vec<_> =
            of_limits(&writes.list).into_iter().map(|property| (property.name, property.value)).collect();
        properties.sort_by(|one, other| one.0.cmp(&other.0));
        properties
    }

    fn bytes(bytes: &[u8]) -> Value {
        Value::Array("y".into(), bytes.iter().copied().map(Value::Byte).collect())
    }

    fn named(list: &[(&str, Value)]) -> Vec<(String, Value)> {
        list.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()
    }

    #[test]
    fn limits_are_what_runc_tells_systemd() {
        let resources = serde_json::json!({
            "memory": { "limit": 1000, "swap": 3000, "reservation": 500 },
            "cpu": { "shares": 1024, "quota": 5000, "period": 40000, "cpus": "0,8-9", "mems": "0" },
            "pids": { "limit": 7 }, "blockIO": { "weight": 10 },
        });
        let expected = named(&[
            ("AllowedCPUs", bytes(&[1, 3])),
            ("AllowedMemoryNodes", bytes(&[1])),
            // 12.5 per cent become 13.
            ("CPUQuotaPerSecUSec", Value::Uint64(130_000)),
            ("CPUQuotaPeriodUSec", Value::Uint64(40_000)),
            ("CPUWeight", Value::Uint64(100)),
            ("IOWeight", Value::Uint64(1)),
            ("MemoryLow", Value::Uint64(500)),
            ("MemoryMax", Value::Uint64(1000)),
            ("MemorySwapMax", Value::Uint64(2000)),
            ("TasksMax", Value::Uint64(7)),
        ]);
        assert_eq!(limits(resources), expected);
    }

    #[test]
    fn unified_keys_win_and_no_limit_is_infinity() {
        let resources = serde_json::json!({
            "memory": { "limit": 1000 }, "pids": { "limit": -1 }, "cpu": { "shares": 1024, "idle": 1 },
            "unified": { "memory.max": "2M", "cpu.max": "max 50000", "memory.high": "max", "memory.min": "nonsense" },
        });
        let expected = named(&[
            ("CPUQuotaPerSecUSec", Value::Uint64(INFINITY)),
            ("CPUQuotaPeriodUSec", Value::Uint64(50_000)),
            ("CPUWeight", Value::Uint64(0)),
            ("MemoryHigh", Value::Uint64(INFINITY)),
            ("MemoryMax", Value::Uint64(2 << 20)),
            ("TasksMax", Value::Uint64(INFINITY)),
        ]);
        assert_eq!(limits(resources), expected);
    }

    fn devices(json: serde_json::Value, layout: Layout) -> (Value, Vec<String>) {
        let rules = Rules::compile(&serde_json::from_value::<Vec<_>>(json).unwrap()).unwrap();
        let properties = of_devices(&rules, layout);
        let Value::Array(_, entries) = &properties[1].value else { panic!("{properties:?}") };
        let text = |value: &Value| match value {
            Value::Struct(fields) => {
                format!("{:?} {:?}", fields[0], fields[1]).replace("Text(", "").replace([')', '"'], "")
            }
            other => panic!("{other:?}"),
        };
        (properties[0].value.clone(), entries.iter().map(text).collect())
    }

    #[test]
    fn allowed_devices_are_listed_and_an_open_list_is_left_to_us() {
        let deny = serde_json::json!({ "allow": false, "access": "rwm" });
        let fuse = serde_json::json!({ "allow": true, "type": "c", "major": 10, "minor": 229, "access": "rw" });
        let major = serde_json::json!({ "allow": true, "type": "b", "major": 8, "access": "r" });
        let minor = serde_json::json!({ "allow": true, "type": "b", "minor": 8, "access": "r" });
        let (policy, entries) = devices(serde_json::json!([deny, fuse, major, minor]), Layout::V2);
        assert_eq!(policy, Value::text("strict"));
        assert_eq!(entries[..4], ["/dev/char/10:229 rw", "block-8 r", "char-* m", "block-* m"]);
        assert!(entries.contains(&"char-136 rwm".to_owned()) && entries.contains(&"/dev/char/1:3 rwm".to_owned()));

        let all = serde_json::json!({ "allow": true, "access": "rwm" });
        let no_fuse = serde_json::json!({ "allow": false, "type": "c", "major": 10, "minor": 229, "access": "rw" });
        assert_eq!(devices(serde_json::json!([all]), Layout::V1), (Value::text("auto"), vec![]));
        assert_eq!(devices(serde_json::json!([all, no_fuse]), Layout::V2), (Value::text("auto"), vec![]));
        assert_eq!(devices(serde_json::json!([all, no_fuse]), Layout::V1), (Value::text("strict"), vec![]));
    }

    fn annotated(name: &str, value: &str) -> Result<Vec<(String, Property)>> {
        let annotations = [(format!("{PREFIX}{name}"), value.to_owned()), ("other".to_owned(), "x".to_owned())];
        of_annotations(&annotations.into_iter().collect())
    }

    #[test]
    fn annotations_are_properties_and_seconds_become_microseconds() {
        for (name, text, property, value) in [
            ("TimeoutStopUSec", "uint64 5", "TimeoutStopUSec", Value::Uint64(5)),
            ("TimeoutStopSec", "uint64 5", "TimeoutStopUSec", Value::Uint64(5_000_000)),
            ("TimeoutStopSec", "1.5", "TimeoutStopUSec", Value::Uint64(1_500_000)),
            ("CollectMode", "'inactive-or-failed'", "CollectMode", Value::text("inactive-or-failed")),
        ] {
            assert_eq!(annotated(name, text).unwrap()[0].1, Property::new(property, value));
        }
        for (name, text) in [
            ("X", "1"),
            ("Time out", "1"),
            ("Nice2", "1"),
            ("Foo", "bar"),
            ("TimeoutStopSec", "'5'"),
            ("TimeoutStopSec", "-1"),
        ] {
            let error = format!("{:#}", annotated(name, text).expect_err(text));
            assert!(error.starts_with(&format!("annotations: {PREFIX}{name}: ")), "{error}");
        }
    }
}
