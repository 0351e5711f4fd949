//! What programs do, against what profiles say.

mod differential;
mod engines;
mod floor;
mod interpreter;
mod kernel;
mod overlap;
mod profiles;
mod reference;

use oci_spec::runtime::Arch;
use serde_json::{Value, json};

use super::arch::X32_BIT;
use super::table::Column;
use super::verdict::{ENOSYS, EPERM, RET_ALLOW, RET_ERRNO, RET_LOG, RET_TRACE, RET_TRAP};
use super::*;
use interpreter::{Data, run};
use profiles::{Kind, NAMES, OPERATORS, Random, allow_list, calls, profile, random_profile};

fn compile(spec: &LinuxSeccomp) -> Result<Filter> {
    super::compile(spec, &Extra::default(), &mut Faults::first())
}

fn verdict_of(spec: &LinuxSeccomp, token: Arch, number: u32, args: [u64; 6]) -> u32 {
    run(&compile(spec).unwrap().program, &Data { number, token: token as u32, ip: 0, args }).0
}

#[test]
fn programs_do_what_the_profile_says() {
    for seed in 1..=400 {
        let mut random = Random(seed);
        let kind =
            Kind { names: NAMES, operators: OPERATORS, conditions: [0, 3], several: true, one_action: seed % 2 == 0 };
        let spec = profile(random_profile(&mut random, &kind));
        let filter = compile(&spec).unwrap();
        for data in calls(&mut random, &spec, &filter, 3) {
            let (verdict, _) = run(&filter.program, &data);
            let right = reference::verdicts(&spec, &data);
            assert!(right.contains(&verdict), "seed {seed}, {data:x?}: {verdict:#x}, not one of {right:x?}\n{spec:?}");
        }
    }
}

#[test]
fn an_allow_list_is_small_and_shallow() {
    let filter = compile(&profile(allow_list())).unwrap();
    let steps = |token: Arch| {
        let of_number = |number| run(&filter.program, &Data { number, token: token as u32, ..Data::default() }).1;
        (0..470).map(of_number).sum::<usize>() / 470
    };
    assert!(filter.program.len() < 400, "{filter}");
    assert!(steps(Arch::ScmpArchX86_64) <= 12, "{filter:?}");
    assert!(steps(Arch::ScmpArchX86) <= 14, "{filter:?}");
    assert_eq!(filter.to_string(), format!("{} syscalls, {} instructions", filter.calls, filter.program.len()));
}

/// The best of many rounds: an optimised build takes some 50 µs.
#[test]
fn a_compilation_takes_less_than_a_millisecond() {
    let spec = profile(allow_list());
    let round = || {
        let start = std::time::Instant::now();
        compile(&spec).unwrap();
        start.elapsed()
    };
    let best = (0..100).map(|_| round()).min().unwrap();
    eprintln!("{best:?} for {}", compile(&spec).unwrap());
    // Other builds are checked for being in the right order of magnitude.
    assert!(best < std::time::Duration::from_millis(if cfg!(debug_assertions) { 20 } else { 1 }), "{best:?}");
}

#[test]
fn jumps_reach_across_thousands_of_instructions() {
    let actions = ["SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRAP", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS"];
    // Neighbours differ, so that there are as many ranges as calls, and every fifth call has conditions.
    let rules: Vec<Value> = table::CALLS
        .iter()
        .enumerate()
        .map(|(i, (name, _))| {
            let condition = json!({ "index": i % 6, "value": i, "op": "SCMP_CMP_GT" });
            let args = if i % 5 == 0 { vec![condition] } else { vec![] };
            json!({ "names": [name], "action": actions[i % 5], "args": args })
        })
        .collect();
    let architectures = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"];
    let spec = profile(json!({ "defaultAction": "SCMP_ACT_ERRNO", "architectures": architectures, "syscalls": rules }));
    let filter = compile(&spec).unwrap();
    assert!(filter.program.len() > 1000, "{filter}");
    for data in calls(&mut Random(7), &spec, &filter, 1) {
        assert_eq!(vec![run(&filter.program, &data).0], reference::verdicts(&spec, &data), "{data:x?}");
    }
}

#[test]
fn more_instructions_than_the_kernel_takes_are_refused() {
    let condition = |i: u64| json!({ "index": i % 6, "value": i << 20, "op": "SCMP_CMP_GT" });
    let rules: Vec<Value> =
        (1..1500).map(|i| json!({ "names": ["read"], "action": "SCMP_ACT_KILL", "args": [condition(i)] })).collect();
    let error = compile(&profile(json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules }))).unwrap_err();
    assert!(error.to_string().starts_with("linux.seccomp: "), "{error}");
    assert!(error.to_string().ends_with("the kernel takes 4096"), "{error}");
}

#[test]
fn calls_newer_than_the_profile_do_not_exist() {
    let with = |action: &str| {
        let syscalls = json!([{ "names": ["read", "openat2", "no_such_call"], "action": "SCMP_ACT_TRAP" }]);
        let architectures = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X32"];
        profile(json!({ "defaultAction": action, "architectures": architectures, "syscalls": syscalls }))
    };
    let (openat2, pidfd_getfd) = (437, 438);
    for action in ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"] {
        let spec = with(action);
        for base in [0, X32_BIT] {
            let of = |number| verdict_of(&spec, Arch::ScmpArchX86_64, base + number, [0; 6]);
            assert_eq!(of(openat2), RET_TRAP);
            assert_eq!(of(pidfd_getfd), RET_ERRNO | ENOSYS);
            assert_ne!(of(1), RET_ERRNO | ENOSYS);
        }
    }
    for (action, default) in
        [("SCMP_ACT_ALLOW", RET_ALLOW), ("SCMP_ACT_LOG", RET_LOG), ("SCMP_ACT_TRACE", RET_TRACE | 1)]
    {
        assert_eq!(verdict_of(&with(action), Arch::ScmpArchX86_64, pidfd_getfd, [0; 6]), default);
    }
}

#[test]
fn a_rule_that_repeats_the_default_still_counts_as_known() {
    let syscalls = json!([
        { "names": ["read"], "action": "SCMP_ACT_ALLOW" },
        { "names": ["openat2"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1 },
    ]);
    let spec = profile(
        json!({ "defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_NATIVE"], "syscalls": syscalls }),
    );
    let native = Abi::native().unwrap();
    let of = |number| run(&compile(&spec).unwrap().program, &Data { number, token: native.token, ..Data::default() }).0;
    assert_eq!(of(437), RET_ERRNO | EPERM);
    assert_eq!(of(438), RET_ERRNO | ENOSYS);
}

#[test]
fn architectures_without_mention_are_killed_and_the_native_one_is_always_there() {
    let spec = profile(json!({ "defaultAction": "SCMP_ACT_ALLOW" }));
    assert_eq!(verdict_of(&spec, Arch::ScmpArchX86_64, 1, [0; 6]), RET_ALLOW);
    assert_eq!(verdict_of(&spec, Arch::ScmpArchX86, 1, [0; 6]), RET_KILL_THREAD);
    // x32 shares the token of x86_64.
    assert_eq!(verdict_of(&spec, Arch::ScmpArchX86_64, X32_BIT + 1, [0; 6]), RET_KILL_THREAD);
    assert_eq!(compile(&spec).unwrap().flags, FLAG_SPEC_ALLOW);
}

#[test]
fn a_socket_rule_on_x86_covers_socketcall() {
    let rule = |names: &[&str]| json!([{ "names": names, "action": "SCMP_ACT_ALLOW" }]);
    let spec = |names: &[&str]| json!({ "defaultAction": "SCMP_ACT_KILL", "architectures": ["SCMP_ARCH_X86"], "syscalls": rule(names) });
    let of = |names: &[&str], number, call| {
        verdict_of(&profile(spec(names)), Arch::ScmpArchX86, number, [call, 0, 0, 0, 0, 0])
    };
    let (socketcall, ipc, socket) = (102, 117, 359);
    assert_eq!(of(&["socket"], socketcall, 1), RET_ALLOW);
    assert_eq!(of(&["socket"], socketcall, 2), RET_KILL_THREAD);
    assert_eq!(of(&["socket"], socket, 2), RET_ALLOW);
    assert_eq!(of(&["shmdt"], ipc, 22), RET_ALLOW);
    assert_eq!(of(&["shmdt"], ipc, 21), RET_KILL_THREAD);
    assert_eq!(of(&["socketcall", "socket"], socketcall, 7), RET_ALLOW);
}

#[test]
fn an_argument_with_two_conditions_makes_two_rules() {
    let args = json!([
        { "index": 0, "value": 3, "op": "SCMP_CMP_EQ" },
        { "index": 0, "value": 5, "op": "SCMP_CMP_EQ" },
        { "index": 1, "value": 7, "op": "SCMP_CMP_EQ" },
    ]);
    let syscalls = json!([{ "names": ["personality"], "action": "SCMP_ACT_TRAP", "args": args }]);
    let spec = profile(json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": syscalls }));
    let of = |a, b| verdict_of(&spec, Arch::ScmpArchX86_64, 135, [a, b, 0, 0, 0, 0]);
    assert_eq!([of(3, 0), of(5, 0), of(0, 7), of(0, 0)], [RET_TRAP, RET_TRAP, RET_TRAP, RET_ALLOW]);
}

#[test]
fn actions_have_the_kernels_values() {
    let of = |action: &str, errno: Option<u32>| {
        let mut spec = json!({ "defaultAction": action });
        if let Some(errno) = errno {
            spec["defaultErrnoRet"] = errno.into();
        }
        verdict_of(&profile(spec), Arch::ScmpArchX86_64, 0, [0; 6])
    };
    assert_eq!(of("SCMP_ACT_KILL", None), 0);
    assert_eq!(of("SCMP_ACT_KILL_THREAD", None), 0);
    assert_eq!(of("SCMP_ACT_KILL_PROCESS", None), 0x8000_0000);
    assert_eq!(of("SCMP_ACT_TRAP", None), 0x0003_0000);
    assert_eq!(of("SCMP_ACT_ERRNO", None), 0x0005_0001);
    assert_eq!(of("SCMP_ACT_ERRNO", Some(0)), 0x0005_0000);
    assert_eq!(of("SCMP_ACT_ERRNO", Some(4095)), 0x0005_0fff);
    assert_eq!(of("SCMP_ACT_TRACE", None), 0x7ff0_0001);
    assert_eq!(of("SCMP_ACT_TRACE", Some(0xffff)), 0x7ff0_ffff);
    assert_eq!(of("SCMP_ACT_LOG", None), 0x7ffc_0000);
    assert_eq!(of("SCMP_ACT_ALLOW", None), 0x7fff_0000);
}

#[test]
fn flags_are_the_kernels() {
    let of =
        |flags: Value| compile(&profile(json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": flags }))).unwrap().flags;
    assert_eq!(of(json!([])), 0);
    assert_eq!(of(json!(["SECCOMP_FILTER_FLAG_LOG"])), 2);
    assert_eq!(
        of(json!(["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW", "SECCOMP_FILTER_FLAG_TSYNC"])),
        5
    );
}

#[test]
fn errors_name_the_field() {
    let rule = |rule: Value| json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{ "names": ["read"], "action": "SCMP_ACT_LOG" }, rule] });
    let arg = |index: u32| json!([{ "index": 0, "value": 0, "op": "SCMP_CMP_EQ" }, { "index": index, "value": 0, "op": "SCMP_CMP_EQ" }]);
    for (spec, expected) in [
        (
            json!({ "defaultAction": "SCMP_ACT_NOTIFY" }),
            "linux.seccomp.defaultAction: SCMP_ACT_NOTIFY cannot be used as default action",
        ),
        (
            json!({ "defaultAction": "SCMP_ACT_KILL", "defaultErrnoRet": 1 }),
            "linux.seccomp.defaultErrnoRet: SCMP_ACT_KILL takes no errno",
        ),
        (
            json!({ "defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096 }),
            "linux.seccomp.defaultErrnoRet: 4096 is not an errno (0 to 4095)",
        ),
        (
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "x" }),
            "linux.seccomp.listenerMetadata: must not be set without listenerPath",
        ),
        (
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"] }),
            "linux.seccomp.flags[0]: SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV needs SCMP_ACT_NOTIFY",
        ),
        (
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86", "SCMP_ARCH_M68K"] }),
            "linux.seccomp.architectures[1]: no system call table for SCMP_ARCH_M68K",
        ),
        (
            json!({ "defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_S390X"] }),
            "linux.seccomp.architectures[0]: SCMP_ARCH_S390X has not the byte order of this machine",
        ),
        (
            rule(json!({ "names": ["read"], "action": "SCMP_ACT_NOTIFY" })),
            "linux.seccomp.listenerPath: missing, but linux.seccomp.syscalls[1] has SCMP_ACT_NOTIFY",
        ),
        (
            rule(json!({ "names": ["read", "write"], "action": "SCMP_ACT_NOTIFY" })),
            "linux.seccomp.syscalls[1].action: SCMP_ACT_NOTIFY cannot be used for the write syscall",
        ),
        (
            rule(json!({ "names": ["read"], "action": "SCMP_ACT_NOTIFY", "errnoRet": 1 })),
            "linux.seccomp.listenerPath: missing, but linux.seccomp.syscalls[1] has SCMP_ACT_NOTIFY",
        ),
        (rule(json!({ "names": ["read", ""], "action": "SCMP_ACT_LOG" })), "linux.seccomp.syscalls[1].names[1]: empty"),
        (
            rule(json!({ "names": ["read"], "action": "SCMP_ACT_TRAP", "errnoRet": 1 })),
            "linux.seccomp.syscalls[1].errnoRet: SCMP_ACT_TRAP takes no errno",
        ),
        (
            rule(json!({ "names": ["read"], "action": "SCMP_ACT_TRACE", "errnoRet": 65536 })),
            "linux.seccomp.syscalls[1].errnoRet: 65536 does not fit the 16 bits that a tracer gets",
        ),
        (
            rule(json!({ "names": ["read"], "action": "SCMP_ACT_LOG", "args": arg(6) })),
            "linux.seccomp.syscalls[1].args[1].index: 6 is not an argument (0 to 5)",
        ),
    ] {
        assert_eq!(format!("{:#}", compile(&profile(spec)).unwrap_err()), expected);
    }
}

#[test]
fn the_table_is_sorted_and_has_the_numbers_of_the_syscalls_crate() {
    assert!(table::CALLS.is_sorted_by(|(a, _), (b, _)| a < b));
    macro_rules! compare {
        ($($module:ident $column:ident)*) => {$({
            let mut missing = Vec::new();
            for call in syscalls::$module::Sysno::iter() {
                match table::find(call.name()).and_then(|row| row.number(Column::$column)) {
                    Some(number) => assert_eq!(number, call.id() as u32, "{} {call}", stringify!($module)),
                    None => missing.push(call.name()),
                }
            }
            // The crate knows 32-bit calls on 64-bit machines, newfstatat by another name, and unused numbers of MIPS.
            let excused = |name: &&str| {
                let invented = ["fstatat", "r#break"].contains(name) || name.contains("time64") || name.ends_with("time_64");
                invented || name.contains("64") || name.starts_with("reserved") || name.starts_with("unused")
            };
            missing.retain(|name| !excused(name));
            assert!(missing.is_empty(), "{}: {missing:?}", stringify!($module));
        })*};
    }
    compare!(x86 X86 x86_64 X86_64 arm Arm aarch64 Aarch64 mips Mips mips64 Mips64 powerpc Ppc powerpc64 Ppc64);
    compare!(riscv64 Riscv64 loongarch64 Loongarch64 s390x S390x);
}

#[test]
fn what_features_lists_compiles() {
    for action in known::ACTIONS {
        for arch in known::ARCHITECTURES {
            // The last of the flags needs a listener.
            let rules = ["SCMP_ACT_NOTIFY", action].map(|action| json!({ "names": ["mkdir"], "action": action }));
            let spec = json!({ "defaultAction": "SCMP_ACT_KILL", "architectures": [arch], "flags": known::FLAGS,
                               "syscalls": rules, "listenerPath": "/run/agent" });
            compile(&profile(spec)).unwrap();
        }
    }
    for operator in known::OPERATORS {
        let args = json!([{ "index": 0, "value": 1, "op": operator }]);
        let rule = json!({ "names": ["read"], "action": "SCMP_ACT_LOG", "args": args });
        compile(&profile(json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] }))).unwrap();
    }
}

fn notifying(calls: Value) -> Filter {
    let rule = json!({ "names": calls, "action": "SCMP_ACT_NOTIFY" });
    compile(&profile(json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule], "listenerPath": "/run/agent",
                             "listenerMetadata": "meta" })))
    .unwrap()
}

#[test]
fn a_listener_travels_by_sendmsg_unless_that_is_notified() {
    let filter = notifying(json!(["mkdir", "recvmsg"]));
    assert_eq!(filter.handover(), Handover::Sent);
    assert_eq!(filter.agent().unwrap().path, std::path::Path::new("/run/agent"));
    assert_eq!(filter.agent().unwrap().metadata.as_deref(), Some("meta"));
    assert_eq!(notifying(json!(["sendmsg"])).handover(), Handover::Taken);
    let rule = json!({ "names": ["sendmsg"], "action": "SCMP_ACT_NOTIFY",
                       "args": [{ "index": 0, "value": 9, "op": "SCMP_CMP_EQ" }] });
    let spec = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule], "listenerPath": "/run/agent" });
    assert_eq!(compile(&profile(spec)).unwrap().handover(), Handover::Taken);
}

#[test]
fn without_a_notified_call_the_agent_is_nobody_and_its_path_is_ignored() {
    let spec = json!({ "defaultAction": "SCMP_ACT_ALLOW", "listenerPath": "/run/agent" });
    assert_eq!(compile(&profile(spec)).unwrap().agent(), None);
}

#[test]
fn unknown_names_are_refused_where_an_annotation_says_so() {
    let rule = json!({ "names": ["read", "call_of_the_future"], "action": "SCMP_ACT_LOG" });
    let spec = profile(json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] }));
    let extra = Extra { unknown: Unknown::Refused, ..Extra::default() };
    let error = super::compile(&spec, &extra, &mut Faults::first()).unwrap_err().to_string();
    let expected = "linux.seccomp.syscalls[0].names[1]: no architecture has a system call \"call_of_the_future\"";
    assert_eq!(error, expected);
    assert!(compile(&spec).is_ok());
}

#[test]
fn a_receiver_is_the_agent_where_the_profile_names_none() {
    let receiver = Some(Path::new("/receiver"));
    let rule = json!({ "names": ["mkdir"], "action": "SCMP_ACT_NOTIFY" });
    let mut spec = json!({ "defaultAction": "SCMP_ACT_ALLOW", "syscalls": [rule] });
    let path = |spec: &Value| {
        let extra = Extra { receiver, ..Extra::default() };
        super::compile(&profile(spec.clone()), &extra, &mut Faults::first()).unwrap().agent().unwrap().path.clone()
    };
    assert_eq!(path(&spec), Path::new("/receiver"));
    spec["listenerPath"] = json!("/agent");
    assert_eq!(path(&spec), Path::new("/agent"));
    // One that notifies has an agent or is refused, and may notify any call.
    let notifying = compile_raw("BgAAAAAAwH8=", None, receiver).unwrap();
    assert_eq!(
        (notifying.handover(), notifying.agent().unwrap().path.as_path()),
        (Handover::Taken, Path::new("/receiver"))
    );
    let error = format!("{:#}", compile_raw("BgAAAAAAwH8=", None, None).unwrap_err());
    assert!(error.contains("listenerPath"), "{error}");
    assert_eq!(compile_raw("BgAAAAAA/38=", None, receiver).unwrap().agent(), None);
}
