//! The floor's filter: no ABI and no bit that the kernel ignores goes past it.

use oci_spec::runtime::LinuxSyscall;

use super::super::floor::compile;
use super::*;

/// linux/socket.h, linux/net.h.
const AF_ALG: u64 = 38;
const SYS_SOCKET: u64 = 1;
const SYS_BIND: u64 = 2;

fn rules(rules: Value) -> Vec<LinuxSyscall> {
    serde_json::from_value(rules).unwrap()
}

fn socket(args: Value) -> Vec<LinuxSyscall> {
    rules(json!([{ "names": ["socket"], "action": "SCMP_ACT_ERRNO", "errnoRet": 97, "args": args }]))
}

fn verdict(rules: &[LinuxSyscall], token: Arch, number: u32, args: [u64; 6]) -> u32 {
    run(&compile(rules).unwrap().program, &Data { number, token: token as u32, ip: 0, args }).0
}

#[cfg(target_arch = "x86_64")]
#[test]
fn no_abi_goes_past_it() {
    let rules = socket(json!([{ "index": 0, "value": AF_ALG, "op": "SCMP_CMP_EQ" }]));
    let denied = RET_ERRNO | 97;
    let of = |token, number, first| verdict(&rules, token, number, [first, 0, 0, 0, 0, 0]);
    for (token, number) in [(Arch::ScmpArchX86_64, 41), (Arch::ScmpArchX86_64, X32_BIT | 41), (Arch::ScmpArchX86, 359)]
    {
        assert_eq!(of(token, number, AF_ALG), denied, "{token:?} {number}");
        assert_eq!(of(token, number, 2), RET_ALLOW, "{token:?} {number}");
    }
    // Of the kernel's int, only the lower half counts.
    assert_eq!(of(Arch::ScmpArchX86_64, 41, AF_ALG | 1 << 40), denied);
    // Its arguments lie in memory: all sockets that way are denied, and nothing else.
    assert_eq!(of(Arch::ScmpArchX86, 102, SYS_SOCKET), denied);
    assert_eq!(of(Arch::ScmpArchX86, 102, SYS_BIND), RET_ALLOW);
}

#[cfg(target_arch = "x86_64")]
#[test]
fn what_a_multiplexer_hides_is_denied() {
    // On another argument than the one that selects the call.
    let denied = socket(json!([{ "index": 2, "value": 7, "op": "SCMP_CMP_EQ" }]));
    assert_eq!(verdict(&denied, Arch::ScmpArchX86, 102, [SYS_SOCKET, 0, 0, 0, 0, 0]), RET_ERRNO | 97);
    let of_ipc = rules(json!([{
        "names": ["shmget"], "action": "SCMP_ACT_ERRNO", "args": [{ "index": 1, "value": 7, "op": "SCMP_CMP_EQ" }],
    }]));
    // ipc(2) has a version in the upper half of its first argument.
    for version in [0, 1] {
        let shmget = 23 | version << 16;
        assert_eq!(verdict(&of_ipc, Arch::ScmpArchX86, 117, [shmget, 0, 0, 0, 0, 0]), RET_ERRNO | EPERM);
    }
}

#[test]
fn it_only_denies() {
    for (rule, words) in [
        (
            json!({ "names": ["getsid"], "action": "SCMP_ACT_TRACE" }),
            "seccomp[0].action: SCMP_ACT_TRACE denies nothing",
        ),
        (
            json!({ "names": ["getsid"], "action": "SCMP_ACT_NOTIFY" }),
            "seccomp[0].action: SCMP_ACT_NOTIFY denies nothing",
        ),
        (json!({ "names": ["exit_group"], "action": "SCMP_ACT_ERRNO" }), "seccomp: without execve and exit_group"),
    ] {
        let error = compile(&rules(json!([rule]))).unwrap_err();
        assert!(format!("{error:#}").starts_with(words), "{error:#}");
    }
}
