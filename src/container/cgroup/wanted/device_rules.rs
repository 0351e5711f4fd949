//! `linux.resources.devices`: an ordered list of rules, of which the last that matches decides, for each of read,
//! write and mknod on its own. Behind it come the devices that every container may use. The list is brought into a
//! canonical form here; `device_filter` makes an eBPF program of it for v2, [`Rules::lines`] what v1 wants.

use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceType};

use super::resources::Author;
use crate::error::field;

/// What a rule is about: read, write, mknod, with the values of BPF_DEVCG_ACC_*.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Access(u8);

impl Access {
    pub const MKNOD: Self = Self(1);
    pub const READ: Self = Self(2);
    pub const WRITE: Self = Self(4);
    pub const ALL: Self = Self(7);

    fn compile(text: &str) -> Result<Self> {
        let mut access = Self(0);
        for letter in text.chars() {
            access.0 |= match letter {
                'r' => Self::READ.0,
                'w' => Self::WRITE.0,
                'm' => Self::MKNOD.0,
                _ => bail!("{text:?} has letters other than r, w and m"),
            };
        }
        if access.is_empty() {
            bail!("must not be empty");
        }
        Ok(access)
    }

    pub fn bits(self) -> u8 {
        self.0
    }

    fn is_empty(self) -> bool {
        self.0 == 0
    }

    fn overlaps(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    fn covers(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

/// The two kinds of device nodes, with the values of BPF_DEVCG_DEV_*.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum DeviceKind {
    Block = 1,
    Char = 2,
}

/// A rule for one kind of device; an absent number matches all.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rule {
    pub allow: bool,
    pub kind: DeviceKind,
    pub major: Option<u32>,
    pub minor: Option<u32>,
    pub access: Access,
}

impl Rule {
    const fn allow(kind: DeviceKind, major: Option<u32>, minor: Option<u32>, access: Access) -> Self {
        Self { allow: true, kind, major, minor, access }
    }

    /// Whether every device that `other` matches is one that this rule matches.
    fn covers_devices(&self, other: &Self) -> bool {
        let number = |ours: Option<u32>, theirs: Option<u32>| ours.is_none() || ours == theirs;
        self.kind == other.kind && number(self.major, other.major) && number(self.minor, other.minor)
    }

    /// Whether it decides everything for its kind.
    pub fn is_for_all(&self) -> bool {
        self.major.is_none() && self.minor.is_none() && self.access == Access::ALL
    }

    /// Whether some device is matched by both.
    fn meets(&self, other: &Self) -> bool {
        let number = |ours: Option<u32>, theirs: Option<u32>| ours.is_none() || theirs.is_none() || ours == theirs;
        self.kind == other.kind && number(self.major, other.major) && number(self.minor, other.minor)
    }

    /// `c 10:200 rwm`, as devices.allow and devices.deny of cgroup v1 take it.
    fn line(&self) -> String {
        let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
        let kind = if self.kind == DeviceKind::Char { 'c' } else { 'b' };
        let access: String = [(Access::READ, 'r'), (Access::WRITE, 'w'), (Access::MKNOD, 'm')]
            .iter()
            .filter_map(|(access, letter)| self.access.overlaps(*access).then_some(*letter))
            .collect();
        format!("{kind} {}:{} {access}", number(self.major), number(self.minor))
    }
}

/// What runc allows to every container, whatever the configuration says: to make any node, the default devices of
/// config-linux.md, pseudo-terminals, and /dev/net/tun (which runc 1.2.4 brought back, since VPN images need it).
const ALWAYS: [Rule; 12] = [
    Rule::allow(DeviceKind::Char, None, None, Access::MKNOD),
    Rule::allow(DeviceKind::Block, None, None, Access::MKNOD),
    Rule::allow(DeviceKind::Char, Some(1), Some(3), Access::ALL), // null
    Rule::allow(DeviceKind::Char, Some(1), Some(8), Access::ALL), // random
    Rule::allow(DeviceKind::Char, Some(1), Some(7), Access::ALL), // full
    Rule::allow(DeviceKind::Char, Some(5), Some(0), Access::ALL), // tty
    Rule::allow(DeviceKind::Char, Some(1), Some(5), Access::ALL), // zero
    Rule::allow(DeviceKind::Char, Some(1), Some(9), Access::ALL), // urandom
    Rule::allow(DeviceKind::Char, Some(5), Some(1), Access::ALL), // console
    Rule::allow(DeviceKind::Char, Some(136), None, Access::ALL),  // pts/*
    Rule::allow(DeviceKind::Char, Some(5), Some(2), Access::ALL), // ptmx
    Rule::allow(DeviceKind::Char, Some(10), Some(200), Access::ALL), // net/tun
];

/// The most rules of a container that differ: each is compared with all others.
const MOST: usize = 4096;

/// A line for devices.allow or devices.deny of cgroup v1, and whose rule it is.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RuleLine {
    pub text: String,
    pub author: Author,
}

/// All rules of a container. A device that no rule matches is allowed or not by `default_allow`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Rules {
    pub default_allow: bool,
    /// In order; the last match decides. Rules without effect are left out.
    pub list: Vec<Rule>,
    /// How many at the end of the list come from [`ALWAYS`].
    always: usize,
}

impl Rules {
    /// The rules of a configuration, without which nothing but [`ALWAYS`] is allowed, as in runc.
    pub fn compile(devices: &[LinuxDeviceCgroup]) -> Result<Self> {
        let mut rules = Self { default_allow: false, list: Vec::new(), always: 0 };
        for (index, device) in devices.iter().enumerate() {
            rules.add_device(device).with_context(|| field!("linux.resources.devices[{index}]"))?;
            ensure!(
                rules.list.len() <= MOST,
                field!("linux.resources.devices"; "more than {MOST} rules for different devices")
            );
        }
        for rule in ALWAYS {
            rules.always += usize::from(rules.add(rule));
        }
        Ok(rules)
    }

    fn add_device(&mut self, device: &LinuxDeviceCgroup) -> Result<()> {
        let allow = device.allow();
        let access = Access::compile(device.access().as_deref().unwrap_or_default()).context("access")?;
        let major = number(device.major()).context("major")?;
        let minor = number(device.minor()).context("minor")?;
        let rule = |kind| Rule { allow, kind, major, minor, access };
        match device.typ().unwrap_or(LinuxDeviceType::A) {
            LinuxDeviceType::A if major.is_none() && minor.is_none() && access == Access::ALL => {
                *self = Self { default_allow: allow, list: Vec::new(), always: 0 };
            }
            LinuxDeviceType::A => {
                self.add(rule(DeviceKind::Char));
                self.add(rule(DeviceKind::Block));
            }
            LinuxDeviceType::B => drop(self.add(rule(DeviceKind::Block))),
            LinuxDeviceType::C => drop(self.add(rule(DeviceKind::Char))),
            other => bail!("type: {:?} is none of a, b, c", other.as_str()),
        }
        Ok(())
    }

    /// Appends a rule, drops those that it makes meaningless, and says whether it was of any use.
    fn add(&mut self, rule: Rule) -> bool {
        self.list.retain(|earlier| !(rule.covers_devices(earlier) && rule.access.covers(earlier.access)));
        let says_the_default = rule.allow == self.default_allow;
        let contradicts = |earlier: &Rule| earlier.allow != rule.allow && earlier.meets(&rule);
        if says_the_default && !self.list.iter().any(contradicts) {
            return false;
        }
        self.list.push(rule);
        true
    }

    /// A number by which two lists of rules that mean the same by the same words are known to be the same (FNV-1a), and
    /// never 0.
    pub fn digest(&self) -> u64 {
        let number = |number: Option<u32>| number.map_or(u64::MAX, u64::from);
        let each = self.list.iter().flat_map(|rule| {
            let kind = rule.kind as u64 | u64::from(rule.access.bits()) << 8 | u64::from(rule.allow) << 16;
            [kind, number(rule.major), number(rule.minor)]
        });
        let digest =
            std::iter::once(u64::from(self.default_allow)).chain(each).fold(0xcbf2_9ce4_8422_2325, |sum, word| {
                word.to_le_bytes()
                    .iter()
                    .fold(sum, |sum: u64, byte| (sum ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3))
            });
        digest.max(1)
    }

    /// The same for cgroup v1, whose kernel side knows a default and a set of exceptions from it, but no order: first
    /// what sets the default (`a`, which also clears the set), then the exceptions.
    ///
    /// An error if a rule takes back a part of a wider one, which v1 cannot express (the kernel would ignore it). One
    /// that [`ALWAYS`] would take back stays: then the configuration forbids the device explicitly.
    pub fn lines(&self) -> Result<Vec<RuleLine>> {
        let mut exceptions: Vec<(Rule, Author)> = Vec::new();
        let own = self.list.len().saturating_sub(self.always);
        for (index, rule) in self.list.iter().enumerate() {
            if rule.allow != self.default_allow {
                let same = |known: &&mut (Rule, Author)| known.0.covers_devices(rule) && rule.covers_devices(&known.0);
                match exceptions.iter_mut().find(same) {
                    Some((known, _)) => known.access = Access(known.access.0 | rule.access.0),
                    None => exceptions.push((*rule, if index < own { Author::Config } else { Author::Runtime })),
                }
            } else if index < own {
                take_back(&mut exceptions, rule)?;
            }
        }
        let all = RuleLine { text: "a".to_owned(), author: Author::Config };
        let line = |(rule, author): &(Rule, Author)| RuleLine { text: rule.line(), author: *author };
        Ok(std::iter::once(all).chain(exceptions.iter().map(line)).collect())
    }
}

fn take_back(exceptions: &mut Vec<(Rule, Author)>, rule: &Rule) -> Result<()> {
    let rules = exceptions.iter_mut().map(|(known, _)| known);
    for known in rules.filter(|known| known.meets(rule) && known.access.overlaps(rule.access)) {
        if !rule.covers_devices(known) {
            let (part, whole) = (rule.line(), known.line());
            bail!(field!("linux.resources.devices"; "cgroup v1 cannot except {part:?} from the wider {whole:?}"));
        }
        known.access = known.access.without(rule.access);
    }
    exceptions.retain(|(known, _)| !known.access.is_empty());
    Ok(())
}

/// A major or minor number; absent and -1 match all.
fn number(value: Option<i64>) -> Result<Option<u32>> {
    match value {
        None | Some(-1) => Ok(None),
        Some(value) => match u32::try_from(value) {
            Ok(number) => Ok(Some(number)),
            Err(_) => bail!("{value} is not a device number"),
        },
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Rules in the short form `+c 1:3 rwm`, `-a *:* rwm`.
    pub fn parse(text: &[&str]) -> Vec<LinuxDeviceCgroup> {
        let one = |line: &&str| {
            let (sign, rest) = line.split_at(1);
            let mut fields = rest.split([' ', ':']);
            let mut next = || fields.next().unwrap();
            let (kind, major, minor, access) = (next(), next(), next(), next());
            let mut json = serde_json::json!({ "allow": sign == "+", "type": kind, "access": access });
            for (key, value) in [("major", major), ("minor", minor)] {
                if value != "*" {
                    json[key] = value.parse::<i64>().unwrap().into();
                }
            }
            serde_json::from_value(json).unwrap()
        };
        text.iter().map(one).collect()
    }

    fn lines(text: &[&str]) -> Vec<String> {
        Rules::compile(&parse(text)).unwrap().lines().unwrap().into_iter().map(|line| line.text).collect()
    }

    #[test]
    fn a_line_knows_whether_the_runtime_wants_it() {
        let lines = Rules::compile(&parse(&["+c 10:229 rwm", "+c 1:3 r"])).unwrap().lines().unwrap();
        let author = |text: &str| lines.iter().find(|line| line.text == text).map(|line| line.author);
        assert_eq!(author("c 10:229 rwm"), Some(Author::Config));
        assert_eq!(author("c 10:200 rwm"), Some(Author::Runtime));
        assert!(lines.iter().any(|line| line.text.starts_with("c 1:3 ")));
    }

    #[test]
    fn rules_are_compared_only_as_long_as_that_is_quick() {
        let rule = |number: usize| format!("+c {number}:0 r");
        let rules = |count| (0..count).map(rule).collect::<Vec<_>>();
        let compiled = |texts: &[String]| Rules::compile(&parse(&texts.iter().map(String::as_str).collect::<Vec<_>>()));
        assert!(compiled(&rules(1000)).is_ok());
        let same = vec![rule(7); MOST + 1];
        assert!(compiled(&same).is_ok());
        let error = compiled(&rules(MOST + 1)).unwrap_err().to_string();
        assert_eq!(error, "linux.resources.devices: more than 4096 rules for different devices");
    }

    #[test]
    fn a_digest_tells_rules_apart() {
        let digest = |text: &[&str]| Rules::compile(&parse(text)).unwrap().digest();
        assert_eq!(digest(&["-a *:* rwm"]), digest(&[]));
        assert_eq!(digest(&["+c 8:1 r", "-a *:* rwm"]), digest(&[]));
        let all = [digest(&[]), digest(&["+a *:* rwm"]), digest(&["+c 10:229 rw"]), digest(&["+c 10:229 r"])];
        assert!((1..all.len()).all(|index| !all[..index].contains(&all[index])), "{all:?}");
    }

    #[test]
    fn without_rules_only_the_usual_devices_are_allowed() {
        let expected = [
            "a",
            "c *:* m",
            "b *:* m",
            "c 1:3 rwm",
            "c 1:8 rwm",
            "c 1:7 rwm",
            "c 5:0 rwm",
            "c 1:5 rwm",
            "c 1:9 rwm",
            "c 5:1 rwm",
            "c 136:* rwm",
            "c 5:2 rwm",
            "c 10:200 rwm",
        ];
        assert_eq!(lines(&[]), expected);
    }

    #[test]
    fn dockers_list_adds_nothing_to_the_usual_devices() {
        let docker = [
            "-a *:* rwm",
            "+c 1:5 rwm",
            "+c 1:3 rwm",
            "+c 1:9 rwm",
            "+c 1:8 rwm",
            "+c 5:0 rwm",
            "+c 5:1 rwm",
            "-c 10:229 rwm",
        ];
        assert_eq!(lines(&docker), lines(&[]));
    }

    #[test]
    fn a_privileged_container_keeps_every_device() {
        let rules = Rules::compile(&parse(&["-a *:* rwm", "+a *:* rwm"])).unwrap();
        assert!(rules.default_allow && rules.list.is_empty());
        assert_eq!(rules.lines().unwrap().len(), 1);
    }

    #[test]
    fn a_later_rule_takes_back_what_an_earlier_one_gave() {
        let all = lines(&["+c 10:229 rwm", "-c 10:229 w"]);
        assert!(all.contains(&"c 10:229 rm".to_owned()), "{all:?}");
        let all = lines(&["+c 10:229 rwm", "-c 10:* rwm"]);
        assert!(!all.iter().any(|line| line.contains("229")), "{all:?}");
    }

    #[test]
    fn v1_refuses_a_hole_in_a_wildcard() {
        let rules = Rules::compile(&parse(&["+c 10:* rwm", "-c 10:229 rwm"])).unwrap();
        let error = rules.lines().unwrap_err().to_string();
        assert!(error.contains("\"c 10:229 rwm\" from the wider \"c 10:* rwm\""), "{error}");
    }

    #[test]
    fn a_rule_for_both_kinds_with_numbers_does_not_open_everything() {
        let all = lines(&["+a 10:* r"]);
        assert!(all.contains(&"c 10:* r".to_owned()) && all.contains(&"b 10:* r".to_owned()), "{all:?}");
    }

    #[test]
    fn bad_rules_name_their_field() {
        let error = |text| format!("{:#}", Rules::compile(&parse(&[text])).unwrap_err());
        assert_eq!(
            error("+c 1:3 rwx"),
            "linux.resources.devices[0]: access: \"rwx\" has letters other than r, w and m"
        );
        assert_eq!(error("+c -5:3 r"), "linux.resources.devices[0]: major: -5 is not a device number");
        assert_eq!(error("+p *:* r"), "linux.resources.devices[0]: type: \"p\" is none of a, b, c");
        let empty = serde_json::from_str::<Vec<LinuxDeviceCgroup>>(r#"[{"allow": false}]"#).unwrap();
        let error = format!("{:#}", Rules::compile(&empty).unwrap_err());
        assert_eq!(error, "linux.resources.devices[0]: access: must not be empty");
    }
}
