//! What a profile means whose rules overlap, or say more or less than they seem to.

use oci_spec::runtime::Arch;
use serde_json::{Value, json};

use super::super::verdict::{EPERM, RET_ALLOW, RET_ERRNO};
use super::super::*;
use super::profiles::{allow_list, profile};
use super::verdict_of;

/// docs/decisions/0002-seccomp-compiler.md, "Rules that overlap": the verdicts of two rules, in both orders.
#[test]
fn of_rules_that_overlap_the_strictest_decides_where_libseccomp_has_no_order() {
    let arg = |index: u32, op: &str, value: u64| json!({ "index": index, "value": value, "valueTwo": value, "op": format!("SCMP_CMP_{op}") });
    let (allow, errno) = ("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO");
    for (one, other, args, expected) in [
        // One without conditions decides, whatever the others say.
        ((allow, vec![]), (errno, vec![arg(0, "EQ", 1)]), [1, 0], RET_ALLOW),
        // The same conditions, and some of them: libseccomp refuses, or forgets, the second.
        ((allow, vec![arg(0, "EQ", 1)]), (errno, vec![arg(0, "EQ", 1)]), [1, 0], RET_ERRNO | EPERM),
        ((allow, vec![arg(0, "EQ", 1)]), (errno, vec![arg(0, "EQ", 1), arg(1, "EQ", 2)]), [1, 2], RET_ERRNO | EPERM),
        ((errno, vec![arg(0, "EQ", 1)]), (allow, vec![arg(0, "EQ", 1), arg(1, "EQ", 2)]), [1, 2], RET_ERRNO | EPERM),
        // Its order: the later argument first; equality before a bound; the higher of two bounds first.
        ((allow, vec![arg(1, "EQ", 2)]), (errno, vec![arg(0, "EQ", 1)]), [1, 2], RET_ALLOW),
        ((allow, vec![arg(0, "EQ", 5)]), (errno, vec![arg(0, "GE", 1)]), [5, 0], RET_ALLOW),
        ((allow, vec![arg(0, "GE", 5)]), (errno, vec![arg(0, "GT", 1)]), [5, 0], RET_ALLOW),
        // None: inequalities, upper bounds and masks share nodes of its tree.
        ((allow, vec![arg(0, "NE", 2)]), (errno, vec![arg(0, "NE", 3)]), [1 << 32, 0], RET_ERRNO | EPERM),
        ((allow, vec![arg(0, "LE", 2)]), (errno, vec![arg(0, "LT", 9)]), [1, 0], RET_ERRNO | EPERM),
        ((allow, vec![arg(0, "EQ", 3)]), (errno, vec![arg(0, "MASKED_EQ", 1)]), [3, 0], RET_ERRNO | EPERM),
    ] {
        for [first, second] in [[&one, &other], [&other, &one]] {
            let rule =
                |(action, args): &(&str, Vec<Value>)| json!({ "names": ["ioctl"], "action": action, "args": args });
            let syscalls = json!([rule(first), rule(second)]);
            let spec = profile(json!({ "defaultAction": "SCMP_ACT_KILL", "syscalls": syscalls }));
            let verdict = verdict_of(&spec, Arch::ScmpArchX86_64, 16, [args[0], args[1], 0, 0, 0, 0]);
            assert_eq!(verdict, expected, "{first:?} {second:?} {args:x?}");
        }
    }
}

/// The profile of Podman 4 counts on it: setns(2) is in its long list of what is allowed, and later among what is not.
#[test]
fn of_rules_without_conditions_the_first_decides() {
    for (first, second, expected) in
        [("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", RET_ALLOW), ("SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", RET_ERRNO | EPERM)]
    {
        let rules = [first, second].map(|action| json!({ "names": ["setns"], "action": action }));
        let spec = profile(json!({ "defaultAction": "SCMP_ACT_KILL", "syscalls": rules }));
        assert_eq!(verdict_of(&spec, Arch::ScmpArchX86_64, 308, [0; 6]), expected);
    }
}

#[test]
fn a_rule_that_lets_more_through_than_it_seems_to_is_warned_of() {
    let warned = |action: &str, ops: [&str; 2]| {
        let args = ops.map(|op| json!({ "index": 1, "value": 3, "op": op }));
        let rules = json!([{ "names": ["read"], "action": "SCMP_ACT_LOG" },
                           { "names": ["ioctl"], "action": action, "args": args }]);
        warnings(&profile(json!({ "defaultAction": "SCMP_ACT_ERRNO", "syscalls": rules })))
    };
    let words = "linux.seccomp.syscalls[1].args: conditions on the same argument (1) are alternatives, and let through \
                 what any of them does";
    assert_eq!(warned("SCMP_ACT_ALLOW", ["SCMP_CMP_GE", "SCMP_CMP_LE"]), [words]);
    assert_eq!(warned("SCMP_ACT_ALLOW", ["SCMP_CMP_NE", "SCMP_CMP_NE"]), [words]);
    // What works as it was meant, and what is only stricter.
    assert!(warned("SCMP_ACT_ALLOW", ["SCMP_CMP_EQ", "SCMP_CMP_EQ"]).is_empty());
    assert!(warned("SCMP_ACT_KILL", ["SCMP_CMP_GE", "SCMP_CMP_LE"]).is_empty());
    assert!(warnings(&profile(allow_list())).is_empty());
}

/// CVE-2026-123876: as with libseccomp, a condition compares all 64 bits, also of an argument that is an int to the kernel.
/// A profile that denies one value of it lets the same value with other upper bits through; a mask leaves those out.
#[test]
fn cve_2026_123876_a_condition_compares_64_bits_and_a_mask_what_it_says() {
    let of = |arg: Value, family: u64| {
        let rule = json!({ "names": ["socket"], "action": "SCMP_ACT_ERRNO", "args": [arg] });
        let spec = profile(json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] }));
        verdict_of(&spec, Arch::ScmpArchX86_64, 41, [family, 0, 0, 0, 0, 0])
    };
    let equal = json!({ "index": 0, "value": 38, "op": "SCMP_CMP_EQ" });
    let masked = json!({ "index": 0, "value": 0xffff_ffffu32, "valueTwo": 38, "op": "SCMP_CMP_MASKED_EQ" });
    assert_eq!([of(equal.clone(), 38), of(equal, 38 | 1 << 32)], [RET_ERRNO | EPERM, RET_ALLOW]);
    assert_eq!([of(masked.clone(), 38), of(masked, 38 | 1 << 32)], [RET_ERRNO | EPERM; 2]);
}
