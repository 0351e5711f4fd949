//! Profiles for tests: an allow list like those of engines, engines' own where they are at hand, and random ones.

use oci_spec::runtime::{Arch, LinuxSeccomp};
use serde_json::{Value, json};

use super::super::arch::{Abi, X32_BIT};
use super::super::{Filter, table};
use super::interpreter::Data;

/// A small generator of pseudo-random numbers (xorshift64*), so that a failure can be repeated.
pub(super) struct Random(pub u64);

impl Random {
    pub(super) fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub(super) fn below(&mut self, limit: usize) -> usize {
        (self.next() >> 33) as usize % limit
    }

    pub(super) fn of<'a, T>(&mut self, list: &'a [T]) -> &'a T {
        &list[self.below(list.len())]
    }
}

pub(super) fn profile(value: Value) -> LinuxSeccomp {
    serde_json::from_value(value).unwrap()
}

/// What random profiles are like.
#[derive(Clone, Copy, Debug)]
pub(super) struct Kind {
    pub names: &'static [&'static str],
    pub operators: &'static [&'static str],
    /// The fewest and the most conditions in a rule.
    pub conditions: [usize; 2],
    /// Calls can have several rules.
    pub several: bool,
    /// All rules of one call have the same action, so that they cannot contradict each other.
    pub one_action: bool,
}

pub(super) const OPERATORS: &[&str] = &["NE", "LT", "LE", "EQ", "GE", "GT", "MASKED_EQ"];

/// Calls of all kinds: some are not everywhere, some are multiplexed.
pub(super) const NAMES: &[&str] = &[
    "read",
    "write",
    "open",
    "openat",
    "close",
    "clone",
    "clone3",
    "personality",
    "socket",
    "socketcall",
    "ipc",
    "semop",
    "shmat",
    "accept4",
    "accept",
    "send",
    "ioctl",
    "execve",
    "mount",
    "umount2",
    "ptrace",
    "kexec_load",
    "bpf",
    "setns",
    "unshare",
    "keyctl",
    "reboot",
    "time",
    "stat",
    "fstat64",
    "futex_time64",
    "clock_gettime64",
    "set_tls",
    "arch_prctl",
    "sigreturn",
    "preadv2",
    "io_uring_setup",
    "mknod",
    "rt_sigaction",
    "semget",
];

/// So few that nearly all rules overlap: calls that every architecture has, one of them multiplexed on x86 and PowerPC.
pub(super) const FEW: &[&str] = &["personality", "ioctl", "socket"];

pub(super) fn random_profile(random: &mut Random, kind: &Kind) -> Value {
    const ARCHITECTURES: [&[&str]; 9] = [
        &[],
        &["SCMP_ARCH_X86_64"],
        &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        &["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"],
        &["SCMP_ARCH_X32"],
        &["SCMP_ARCH_AARCH64", "SCMP_ARCH_ARM", "SCMP_ARCH_RISCV64"],
        &["SCMP_ARCH_MIPSEL", "SCMP_ARCH_MIPSEL64", "SCMP_ARCH_MIPSEL64N32"],
        &["SCMP_ARCH_PPC64LE", "SCMP_ARCH_X86"],
        &["SCMP_ARCH_X86"],
    ];
    const ACTIONS: [(&str, Option<u32>); 9] = [
        ("SCMP_ACT_ALLOW", None),
        ("SCMP_ACT_ERRNO", None),
        ("SCMP_ACT_ERRNO", Some(38)),
        ("SCMP_ACT_ERRNO", Some(0)),
        ("SCMP_ACT_KILL", None),
        ("SCMP_ACT_KILL_PROCESS", None),
        ("SCMP_ACT_TRAP", None),
        ("SCMP_ACT_TRACE", Some(7)),
        ("SCMP_ACT_LOG", None),
    ];
    const VALUES: [u64; 14] = [
        0,
        1,
        2,
        3,
        8,
        16,
        40,
        0x7e02_0000,
        0xffff_ffff,
        0x1_0000_0000,
        0x1_0000_0001,
        0x8000_0000_0000_0000,
        u64::MAX,
        0x5_0000_0003,
    ];
    let (action, errno) = *random.of(&ACTIONS);
    let mut spec = json!({ "defaultAction": action, "architectures": random.of(&ARCHITECTURES), "syscalls": [] });
    if let Some(errno) = errno {
        spec["defaultErrnoRet"] = errno.into();
    }
    let mut named = std::collections::HashSet::new();
    let mut actions = std::collections::HashMap::new();
    for _ in 0..random.below(25) {
        let name = *random.of(kind.names);
        if !kind.several && !named.insert(name) {
            continue;
        }
        let chosen = *random.of(&ACTIONS);
        let (action, errno) = if kind.one_action { *actions.entry(name).or_insert(chosen) } else { chosen };
        let count = [0, 1, 1, 1, 2, 2, 3][random.below(7)].clamp(kind.conditions[0], kind.conditions[1]);
        let args: Vec<Value> = (0..count)
            .map(|_| {
                let op = format!("SCMP_CMP_{}", random.of(kind.operators));
                json!({ "index": random.below(3), "value": random.of(&VALUES), "valueTwo": random.of(&VALUES), "op": op })
            })
            .collect();
        let mut rule = json!({ "names": [name], "action": action, "args": args });
        if let Some(errno) = errno {
            rule["errnoRet"] = errno.into();
        }
        spec["syscalls"].as_array_mut().unwrap().push(rule);
    }
    spec
}

/// System calls around everything the profile says: token, number and arguments.
pub(super) fn calls(random: &mut Random, spec: &LinuxSeccomp, filter: &Filter, samples: usize) -> Vec<Data> {
    let mut values = vec![0, 1, u64::MAX, u64::from(u32::MAX)];
    for arg in spec.syscalls().iter().flatten().flat_map(|entry| entry.args().iter().flatten()) {
        for value in [arg.value(), arg.value_two().unwrap_or(0)] {
            values.extend([value, value.wrapping_add(1), value.wrapping_sub(1), value ^ 1 << 32, value ^ 1 << 63]);
        }
    }
    let edges = filter.program.iter().filter(|one| one.code & 7 == 5);
    let mut numbers: Vec<u32> = edges.flat_map(|one| [one.k.wrapping_sub(1), one.k, one.k.wrapping_add(1)]).collect();
    numbers.extend([0, 1, X32_BIT - 1, X32_BIT, X32_BIT + 1, 0x7fff_ffff, 0x8000_0000, u32::MAX - 1, u32::MAX]);
    numbers.extend((0..20).map(|_| random.below(600) as u32));
    numbers.sort_unstable();
    numbers.dedup();
    let mut tokens = vec![0, Arch::ScmpArchS390x as u32, Abi::native().unwrap().token];
    tokens.extend(spec.architectures().iter().flatten().map(|arch| Abi::of(*arch).unwrap().token));
    tokens.sort_unstable();
    tokens.dedup();
    let mut calls = Vec::new();
    for (&number, &token) in numbers.iter().flat_map(|number| tokens.iter().map(move |token| (number, token))) {
        calls.extend((0..samples).map(|_| Data {
            number,
            token,
            ip: 0,
            args: std::array::from_fn(|_| *random.of(&values)),
        }));
    }
    calls
}

/// An allow list as engines write them, of our own making: nearly all calls of x86_64, some with conditions.
pub(super) fn allow_list() -> Value {
    const DENIED: [&str; 30] = [
        "acct",
        "add_key",
        "bpf",
        "clock_settime",
        "create_module",
        "delete_module",
        "finit_module",
        "get_kernel_syms",
        "init_module",
        "ioperm",
        "iopl",
        "kcmp",
        "kexec_file_load",
        "kexec_load",
        "keyctl",
        "lookup_dcookie",
        "mount",
        "move_pages",
        "nfsservctl",
        "open_by_handle_at",
        "perf_event_open",
        "personality",
        "clone",
        "clone3",
        "query_module",
        "quotactl",
        "reboot",
        "request_key",
        "swapon",
        "userfaultfd",
    ];
    let allowed: Vec<&str> = table::CALLS.iter().map(|(name, _)| *name).filter(|name| !DENIED.contains(name)).collect();
    json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
        "syscalls": [
            { "names": allowed, "action": "SCMP_ACT_ALLOW" },
            { "names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{ "index": 0, "value": 0, "op": "SCMP_CMP_EQ" }] },
            { "names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{ "index": 0, "value": 8, "op": "SCMP_CMP_EQ" }] },
            { "names": ["personality"], "action": "SCMP_ACT_ALLOW",
              "args": [{ "index": 0, "value": 0xffff_ffffu32, "op": "SCMP_CMP_EQ" }] },
            { "names": ["clone"], "action": "SCMP_ACT_ALLOW",
              "args": [{ "index": 0, "value": 0x7e02_0000, "valueTwo": 0, "op": "SCMP_CMP_MASKED_EQ" }] },
            { "names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38 },
        ],
    })
}
