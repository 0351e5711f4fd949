//! A seccomp profile of the size and content of Docker's default: as `linux.seccomp`, and compiled for the floor.
//!
//! Allowed is every system call up to Linux 5.17, less those that Docker's documentation lists as blocked; a few are
//! allowed depending on their arguments. What the filter does is the same in both forms; the floor's is what a good
//! compiler would make of it: ranges of numbers, found by binary search.

use std::collections::BTreeSet;

use serde_json::{Value, json};
use syscalls::{Sysno, x86};

/// `set_mempolicy_home_node`, the newest call that the distribution's libseccomp can know.
const NEWEST: u32 = 450;
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// `clone` may not make namespaces: CLONE_NEW* but for CLONE_NEWTIME.
const NAMESPACE_FLAGS: u32 = 0x7e02_0000;
const PERSONALITIES: [u32; 5] = [0, 8, 0x20000, 0x20008, 0xffff_ffff];

/// Allowed depending on their arguments, or answered with ENOSYS.
const CONDITIONAL: [&str; 3] = ["clone", "clone3", "personality"];

const BLOCKED: [&str; 83] = [
    "_sysctl",
    "acct",
    "add_key",
    "afs_syscall",
    "bdflush",
    "bpf",
    "break",
    "clock_adjtime",
    "clock_adjtime64",
    "clock_settime",
    "clock_settime64",
    "create_module",
    "delete_module",
    "epoll_ctl_old",
    "epoll_wait_old",
    "fanotify_init",
    "finit_module",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "ftime",
    "get_kernel_syms",
    "get_mempolicy",
    "getpmsg",
    "gtty",
    "idle",
    "init_module",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "ioperm",
    "iopl",
    "kcmp",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lock",
    "lookup_dcookie",
    "mbind",
    "migrate_pages",
    "mount",
    "mount_setattr",
    "move_mount",
    "move_pages",
    "mpx",
    "nfsservctl",
    "oldolduname",
    "olduname",
    "open_by_handle_at",
    "open_tree",
    "perf_event_open",
    "pivot_root",
    "prof",
    "profil",
    "putpmsg",
    "query_module",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "request_key",
    "security",
    "set_mempolicy",
    "set_mempolicy_home_node",
    "setdomainname",
    "sethostname",
    "setns",
    "settimeofday",
    "stime",
    "stty",
    "swapoff",
    "swapon",
    "sysfs",
    "syslog",
    "tuxcall",
    "ulimit",
    "umount",
    "umount2",
    "unshare",
    "uselib",
    "userfaultfd",
    "ustat",
    "vserver",
];

fn is_allowed(name: &str) -> bool {
    !BLOCKED.contains(&name) && !CONDITIONAL.contains(&name) && !name.starts_with("vm86")
}

/// The numbers that this machine's native architecture allows without a condition.
fn allowed_numbers() -> BTreeSet<u32> {
    Sysno::iter()
        .filter(|call| is_allowed(call.name()))
        .map(|call| call.id() as u32)
        .filter(|id| *id <= NEWEST)
        .collect()
}

/// The profile as `linux.seccomp` of a config.json.
pub fn config() -> Value {
    let native = Sysno::iter().filter(|call| call.id() as u32 <= NEWEST).map(|call| call.name());
    let compat = x86::Sysno::iter().filter(|call| call.id() as u32 <= NEWEST).map(|call| call.name());
    let names: BTreeSet<&str> = native.chain(compat).filter(|name| is_allowed(name)).collect();
    let mut rules = vec![json!({"names": names, "action": "SCMP_ACT_ALLOW"})];
    rules.extend(PERSONALITIES.map(|value| {
        json!({"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]})
    }));
    rules.push(json!({"names": ["clone"], "action": "SCMP_ACT_ALLOW",
        "args": [{"index": 0, "value": NAMESPACE_FLAGS, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ"}]}));
    rules.push(json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS}));
    let architectures: &[&str] = match std::env::consts::ARCH {
        "aarch64" => &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM"],
        _ => &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    };
    json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": EPERM, "architectures": architectures, "syscalls": rules})
}

// ---- classic BPF, see seccomp(2) and linux/filter.h ----

const LOAD: u16 = 0x20;
const JUMP: u16 = 0x05;
const JUMP_IF_EQUAL: u16 = 0x15;
const JUMP_IF_AT_LEAST: u16 = 0x35;
const JUMP_IF_BITS: u16 = 0x45;
const RETURN: u16 = 0x06;
const ALLOW: u32 = 0x7fff_0000;
const ERRNO: u32 = 0x0005_0000;
const NUMBER_AT: u32 = 0;
const ARCHITECTURE_AT: u32 = 4;
const FIRST_ARGUMENT_AT: u32 = 16;

type Instruction = (u16, u8, u8, u32);

fn native_architecture() -> u32 {
    match std::env::consts::ARCH {
        "aarch64" => 0xc000_00b7,
        _ => 0xc000_003e,
    }
}

/// What happens to one number; equal neighbours share a range.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    Return(u32),
    IfNoNamespaces,
    IfKnownPersonality,
}

fn verdict(number: u32, allowed: &BTreeSet<u32>) -> Verdict {
    match Sysno::new(number as usize).map(|call| call.name()) {
        Some("clone") => Verdict::IfNoNamespaces,
        Some("personality") => Verdict::IfKnownPersonality,
        Some("clone3") => Verdict::Return(ERRNO | ENOSYS),
        _ if allowed.contains(&number) => Verdict::Return(ALLOW),
        _ if number > NEWEST => Verdict::Return(ERRNO | ENOSYS),
        _ => Verdict::Return(ERRNO | EPERM),
    }
}

fn emit_leaf(verdict: Verdict) -> Vec<Instruction> {
    let (allow, deny) = ((RETURN, 0, 0, ALLOW), (RETURN, 0, 0, ERRNO | EPERM));
    match verdict {
        Verdict::Return(value) => vec![(RETURN, 0, 0, value)],
        Verdict::IfNoNamespaces => {
            vec![(LOAD, 0, 0, FIRST_ARGUMENT_AT), (JUMP_IF_BITS, 1, 0, NAMESPACE_FLAGS), allow, deny]
        }
        Verdict::IfKnownPersonality => {
            let mut code = vec![(LOAD, 0, 0, FIRST_ARGUMENT_AT)];
            let count = PERSONALITIES.len() as u8;
            code.extend((0..).zip(PERSONALITIES).map(|(at, value)| (JUMP_IF_EQUAL, count - at, 0, value)));
            code.extend([deny, allow]);
            code
        }
    }
}

/// A binary search over `ranges`, each a first number and its verdict.
fn emit_search(ranges: &[(u32, Verdict)]) -> Vec<Instruction> {
    let [_, .., _] = ranges else {
        return ranges.first().map(|(_, verdict)| emit_leaf(*verdict)).unwrap_or_default();
    };
    let (below, above) = ranges.split_at(ranges.len() / 2);
    let (first, below, above) = (above[0].0, emit_search(below), emit_search(above));
    let mut code = match u8::try_from(below.len()) {
        Ok(skip) => vec![(JUMP_IF_AT_LEAST, skip, 0, first)],
        Err(_) => vec![(JUMP_IF_AT_LEAST, 0, 1, first), (JUMP, 0, 0, below.len() as u32)],
    };
    code.extend(below);
    code.extend(above);
    code
}

/// The profile as the bytes of an array of `struct sock_filter`.
pub fn program() -> Vec<u8> {
    let allowed = allowed_numbers();
    let mut ranges: Vec<(u32, Verdict)> = Vec::new();
    for number in 0..=NEWEST + 1 {
        let verdict = verdict(number, &allowed);
        if ranges.last().is_none_or(|(_, last)| *last != verdict) {
            ranges.push((number, verdict));
        }
    }
    let mut code = vec![
        (LOAD, 0, 0, ARCHITECTURE_AT),
        (JUMP_IF_EQUAL, 1, 0, native_architecture()),
        (RETURN, 0, 0, ERRNO | ENOSYS),
        (LOAD, 0, 0, NUMBER_AT),
    ];
    code.extend(emit_search(&ranges));
    code.iter()
        .flat_map(|(code, yes, no, value)| {
            let [c0, c1] = code.to_ne_bytes();
            let [v0, v1, v2, v3] = value.to_ne_bytes();
            [c0, c1, *yes, *no, v0, v1, v2, v3]
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(number: u32, argument: u32) -> u32 {
        let bytes = program();
        let code: Vec<Instruction> = bytes
            .chunks(8)
            .map(|b| (u16::from_ne_bytes([b[0], b[1]]), b[2], b[3], u32::from_ne_bytes([b[4], b[5], b[6], b[7]])))
            .collect();
        let (mut at, mut loaded) = (0, 0);
        loop {
            let (op, yes, no, value) = code[at];
            let holds = match op {
                LOAD => {
                    loaded = [number, native_architecture(), 0, 0, argument][value as usize / 4];
                    at += 1;
                    continue;
                }
                RETURN => return value,
                JUMP => {
                    at += 1 + value as usize;
                    continue;
                }
                JUMP_IF_EQUAL => loaded == value,
                JUMP_IF_AT_LEAST => loaded >= value,
                _ => loaded & value != 0,
            };
            at += 1 + usize::from(if holds { yes } else { no });
        }
    }

    #[test]
    fn the_program_answers_as_the_profile_says() {
        assert_eq!(answer(Sysno::read as u32, 0), ALLOW);
        assert_eq!(answer(Sysno::mount as u32, 0), ERRNO | EPERM);
        assert_eq!(answer(Sysno::clone3 as u32, 0), ERRNO | ENOSYS);
        assert_eq!(answer(Sysno::clone as u32, 0x11), ALLOW);
        assert_eq!(answer(Sysno::clone as u32, 0x1002_0000), ERRNO | EPERM);
        assert_eq!(answer(Sysno::personality as u32, 0x20000), ALLOW);
        assert_eq!(answer(Sysno::personality as u32, 1), ERRNO | EPERM);
        assert_eq!(answer(NEWEST + 30, 0), ERRNO | ENOSYS);
    }

    #[test]
    fn the_profile_is_about_as_long_as_dockers() {
        let names = config()["syscalls"][0]["names"].as_array().map_or(0, Vec::len);
        assert!((330..=420).contains(&names), "{names}");
    }
}
