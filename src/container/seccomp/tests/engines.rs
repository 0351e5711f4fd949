//! The default profiles of engines, as far as x86_64 goes: `tests/fixtures/seccomp.json` says of each which calls it has no
//! rule for, and which rules are more than a name.

use std::collections::BTreeMap;

use oci_spec::runtime::Arch;
use serde_json::{Value, json};

use super::super::table;
use super::super::verdict::{RET_ALLOW, RET_ERRNO};
use super::profiles::profile;
use super::verdict_of;

/// A profile for each engine: all calls of the table are allowed but for those that are not.
pub(super) fn defaults() -> BTreeMap<String, Value> {
    let fixtures: BTreeMap<String, Value> =
        serde_json::from_str(include_str!("../../../../tests/fixtures/seccomp.json")).unwrap();
    fixtures.into_iter().map(|(engine, fixture)| (engine, expand(&fixture))).collect()
}

fn expand(fixture: &Value) -> Value {
    let list = |value: &Value| value.as_array().unwrap().clone();
    let rules = list(&fixture["rules"]);
    let named: Vec<Value> =
        rules.iter().flat_map(|rule| list(&rule["names"])).chain(list(&fixture["denied"])).collect();
    let allowed: Vec<&str> =
        table::CALLS.iter().map(|(name, _)| *name).filter(|name| !named.iter().any(|other| other == name)).collect();
    let allow = json!({ "names": allowed, "action": "SCMP_ACT_ALLOW" });
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": fixture["defaultErrnoRet"],
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": std::iter::once(allow).chain(rules).collect::<Vec<_>>(),
    })
}

/// The first argument of clone(2) for a hook: CLONE_PIDFD and SIGCHLD.
const FLAGS_OF_CLONE: u64 = 0x1000 | 17;

/// With noNewPrivileges and without: the table has what is called in either case.
#[test]
fn no_profile_of_an_engine_refuses_what_init_calls_under_it() {
    let calls = include_str!("../../../../tests/fixtures/calls-under-a-filter.txt");
    let lines = calls.lines().filter(|line| !line.starts_with('#'));
    let profiles = defaults();
    let mut count = 0;
    for line in lines {
        let (name, when) = line.split_once(' ').unwrap();
        assert!(["early", "hooks", "last"].contains(&when.trim()), "{line}");
        let needed = name.strip_prefix('(').and_then(|name| name.strip_suffix(')'));
        let number = table::find(needed.unwrap_or(name)).unwrap().number(table::Column::X86_64).unwrap();
        let args = [if name == "clone" { FLAGS_OF_CLONE } else { 0 }, 0, 0, 0, 0, 0];
        for (engine, value) in &profiles {
            let verdict = verdict_of(&profile(value.clone()), Arch::ScmpArchX86_64, number, args);
            let is_refused = verdict & 0xffff_0000 == RET_ERRNO && needed.is_some();
            assert!(verdict == RET_ALLOW || is_refused, "{engine}: {name}: {verdict:#x}");
            count += 1;
        }
    }
    assert_eq!((profiles.len(), count % 5), (5, 0));
}

/// What Docker 29 says of sockets and of clone3.
#[test]
fn socket_families_are_ranges_and_clone3_does_not_exist() {
    let docker = profile(defaults()["docker-29"].clone());
    let number = |name| table::find(name).unwrap().number(table::Column::X86_64).unwrap();
    let verdict = |name, first| verdict_of(&docker, Arch::ScmpArchX86_64, number(name), [first, 0, 0, 0, 0, 0]);
    let families: Vec<u64> = (0..60).filter(|family| verdict("socket", *family) == RET_ALLOW).collect();
    // Neither those without a use any more nor AF_ALG (38) and AF_VSOCK (40).
    let gone = [12, 19, 20, 23, 25, 34, 37, 38, 40];
    assert_eq!(families, (0..46).filter(|family| !gone.contains(family)).collect::<Vec<u64>>());
    assert_eq!(verdict("socket", 38), RET_ERRNO | 1);
    assert_eq!(verdict("clone3", 0), RET_ERRNO | 38);
    assert_eq!(verdict("clone", FLAGS_OF_CLONE), RET_ALLOW);
    assert_eq!(verdict("clone", 0x1000_0000), RET_ERRNO | 1, "CLONE_NEWUSER");
    assert_eq!(verdict("io_uring_setup", 0), RET_ERRNO | 1);
}
