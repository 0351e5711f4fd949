//! `linux.seccomp`: what a system call that the filter names returns (config-linux.md, "Seccomp").

use ocirt_integration::bundle::Bundle;
use ocirt_integration::needs::need_ocirt;
use ocirt_integration::{probe, tests};
use serde_json::{Value, json};

tests![
    each_action_acts,
    an_errno_can_be_chosen,
    the_default_errno_can_be_chosen,
    arguments_are_compared,
    several_conditions_must_all_hold,
    conditions_on_one_argument_are_alternatives,
    rules_of_one_call_are_alternatives,
    a_syscall_newer_than_the_profile_is_enosys,
    an_unknown_syscall_name_is_ignored,
    the_filter_is_seen_in_the_status,
    the_filter_works_without_no_new_privileges,
    a_kill_ends_the_container_with_sigsys,
    a_profile_that_keeps_every_program_from_starting_is_a_warning,
    a_profile_that_kills_for_execve_is_refused,
    a_profile_that_ends_the_program_is_named,
    a_large_default_profile_works,
    the_flags_are_accepted,
    the_runtimes_own_calls_are_not_filtered,
];

fn profile(default: &str, syscalls: Value) -> Value {
    json!({ "defaultAction": default, "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"], "syscalls": syscalls })
}

fn with(rules: Value) -> Bundle {
    Bundle::new().set("linux.seccomp", profile("SCMP_ACT_ALLOW", rules))
}

fn a_profile_that_keeps_every_program_from_starting_is_a_warning() {
    need_ocirt();
    let said = |action: &str, name: &str| {
        let rule = json!([{ "names": [name], "action": action }]);
        with(rule).write(probe!(print "x")).call("create").run().ok().stderr
    };
    let words = said("SCMP_ACT_ERRNO", "execve");
    assert!(words.contains("linux.seccomp: the profile does not allow execve, so that no program"), "{words}");
    for action in ["SCMP_ACT_ERRNO", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"] {
        let words = said(action, "exit_group");
        assert!(words.contains("linux.seccomp: the profile does not allow exit_group, so that"), "{words}");
    }
    for (action, name) in [("SCMP_ACT_LOG", "execve"), ("SCMP_ACT_ERRNO", "execveat"), ("SCMP_ACT_ERRNO", "exit")] {
        assert_eq!(said(action, name), "", "{action} {name}");
    }
}

/// `start` could not tell the end of init from the beginning of its program.
fn a_profile_that_kills_for_execve_is_refused() {
    need_ocirt();
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"] {
        let bundle = with(json!([{ "names": ["execve"], "action": action }]));
        bundle.refused("linux.seccomp: the profile kills for execve, so that no program can be started");
    }
}

fn a_profile_that_ends_the_program_is_named() {
    need_ocirt();
    let rule = json!([{ "names": ["getsid"], "action": "SCMP_ACT_KILL_PROCESS" }]);
    let output = with(rule).run(probe!(call GETSID));
    assert_eq!(output.status, 128 + libc::SIGSYS);
    assert!(output.stderr.contains("linux.seccomp: the filter ended the program (SIGSYS)"), "{}", output.stderr);
}

/// getsid(2) of the caller never fails, answers 1 in a pid namespace, and no runtime needs it.
const GETSID: i64 = libc::SYS_getsid;

fn each_action_acts() {
    // What getsid(2) answers.
    for (action, expected) in [
        ("SCMP_ACT_ALLOW", json!(1)),
        ("SCMP_ACT_LOG", json!(1)),
        ("SCMP_ACT_ERRNO", json!({ "error": "EPERM" })),
        // Without a tracer (seccomp(2)).
        ("SCMP_ACT_TRACE", json!({ "error": "ENOSYS" })),
    ] {
        let output = with(json!([{ "names": ["getsid"], "action": action }])).run(probe!(call GETSID, 0)).ok();
        assert_eq!(output.answer(), expected, "{action}");
    }
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"] {
        let output = with(json!([{ "names": ["getsid"], "action": action }])).run(probe!(call GETSID, 0));
        assert_eq!((output.status, output.stdout.as_str()), (128 + libc::SIGSYS, ""), "{action}");
    }
}

fn an_errno_can_be_chosen() {
    for (errno, name) in [(1, "EPERM"), (38, "ENOSYS"), (13, "EACCES"), (17, "EEXIST")] {
        let rule = json!([{ "names": ["getsid"], "action": "SCMP_ACT_ERRNO", "errnoRet": errno }]);
        assert_eq!(with(rule).run(probe!(call GETSID, 0)).ok().answer()["error"], name);
    }
    let rules = json!([
        { "names": ["getsid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5 },
        { "names": ["getpgrp"], "action": "SCMP_ACT_ERRNO", "errnoRet": 6 },
    ]);
    let answers = with(rules).run(probe!(call GETSID, 0; call libc::SYS_getpgrp)).ok().answers();
    assert_eq!(answers, [json!({ "error": "EIO" }), json!({ "error": "ENXIO" })]);
}

fn the_default_errno_can_be_chosen() {
    let mut seccomp =
        profile("SCMP_ACT_ERRNO", json!([{ "names": everything_but("getsid"), "action": "SCMP_ACT_ALLOW" }]));
    assert_eq!(
        Bundle::new().set("linux.seccomp", seccomp.clone()).run(probe!(call GETSID, 0)).ok().answer()["error"],
        "EPERM"
    );
    seccomp["defaultErrnoRet"] = json!(16);
    assert_eq!(Bundle::new().set("linux.seccomp", seccomp).run(probe!(call GETSID, 0)).ok().answer()["error"], "EBUSY");
}

/// What the probe and the runtimes need, as an allow list.
fn everything_but(name: &str) -> Vec<&'static str> {
    let all = [
        "access",
        "arch_prctl",
        "brk",
        "capget",
        "capset",
        "chdir",
        "clock_nanosleep",
        "clone",
        "clone3",
        "close",
        "close_range",
        "dup",
        "dup3",
        "epoll_create1",
        "epoll_ctl",
        "epoll_pwait",
        "eventfd2",
        "execve",
        "execveat",
        "exit",
        "exit_group",
        "faccessat",
        "faccessat2",
        "fcntl",
        "fchdir",
        "fchown",
        "fstat",
        "fstatfs",
        "futex",
        "getcwd",
        "getdents64",
        "getegid",
        "geteuid",
        "getgid",
        "getgroups",
        "getpgrp",
        "getpid",
        "getppid",
        "getsid",
        "getrandom",
        "gettid",
        "getuid",
        "ioctl",
        "keyctl",
        "lseek",
        "lstat",
        "madvise",
        "membarrier",
        "mmap",
        "mprotect",
        "munmap",
        "nanosleep",
        "newfstatat",
        "open",
        "openat",
        "openat2",
        "pidfd_open",
        "pipe2",
        "poll",
        "ppoll",
        "prctl",
        "pread64",
        "prlimit64",
        "read",
        "readlink",
        "readlinkat",
        "recvfrom",
        "recvmsg",
        "rseq",
        "rt_sigaction",
        "rt_sigprocmask",
        "rt_sigreturn",
        "sched_getaffinity",
        "sched_yield",
        "seccomp",
        "select",
        "sendmsg",
        "sendto",
        "set_robust_list",
        "set_tid_address",
        "setgid",
        "setgroups",
        "setsid",
        "setuid",
        "setresuid",
        "setresgid",
        "sigaltstack",
        "socket",
        "connect",
        "stat",
        "statfs",
        "statx",
        "tgkill",
        "umask",
        "uname",
        "wait4",
        "waitid",
        "write",
        "writev",
    ];
    all.into_iter().filter(|one| *one != name).collect()
}

/// A rule for `getpriority(which, …)`: argument 0 of a call that reads it.
fn condition(operator: &str, value: u64, second: u64) -> Value {
    json!([{ "names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95,
             "args": [{ "index": 1, "op": operator, "value": value, "valueTwo": second }] }])
}

/// Operator, value, valueTwo, then arguments that match and arguments that do not.
type Comparison = (&'static str, u64, u64, &'static [u64], &'static [u64]);

fn arguments_are_compared() {
    // getpgid(2) ignores its second argument.
    let rows: &[Comparison] = &[
        ("SCMP_CMP_EQ", 7, 0, &[7], &[6, 8, 7 | 1 << 32]),
        ("SCMP_CMP_NE", 7, 0, &[6, 8, 7 | 1 << 32], &[7]),
        ("SCMP_CMP_LT", 7, 0, &[0, 6], &[7, 8, 1 << 32]),
        ("SCMP_CMP_LE", 7, 0, &[0, 7], &[8, 1 << 32]),
        ("SCMP_CMP_GT", 7, 0, &[8, 1 << 32], &[0, 7]),
        ("SCMP_CMP_GE", 7, 0, &[7, 8, 1 << 32], &[0, 6]),
        ("SCMP_CMP_GT", 1 << 32, 0, &[(1 << 32) + 1, 1 << 33], &[7, 1 << 32, u32::MAX as u64]),
        ("SCMP_CMP_MASKED_EQ", 0x1_0000_00f0, 0x1_0000_0050, &[0x1_0000_0050, 0x3_0000_0f5f], &[0x50, 0x1_0000_0040]),
    ];
    for &(operator, value, second, matching, other) in rows {
        for (arguments, expected) in [(matching, json!({ "error": "EOPNOTSUPP" })), (other, json!(1))] {
            for argument in arguments {
                let bundle = with(condition(operator, value, second));
                let answer = bundle.run(probe!(call libc::SYS_getpgid, 0, argument)).ok().answer();
                assert_eq!(answer, expected, "{argument:#x} {operator} {value:#x} {second:#x}");
            }
        }
    }
}

fn several_conditions_must_all_hold() {
    let rule = json!([{ "names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95, "args": [
        { "index": 1, "op": "SCMP_CMP_EQ", "value": 1 }, { "index": 2, "op": "SCMP_CMP_EQ", "value": 2 }] }]);
    let nr = libc::SYS_getpgid;
    let answers = with(rule).run(probe!(call nr, 0, 1, 2; call nr, 0, 1, 3; call nr, 0, 0, 2)).ok().answers();
    assert_eq!(answers, [json!({ "error": "EOPNOTSUPP" }), json!(1), json!(1)]);
}

fn conditions_on_one_argument_are_alternatives() {
    // runc's reading of two conditions on the same index: each is a rule of its own.
    let rule = json!([{ "names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95, "args": [
        { "index": 1, "op": "SCMP_CMP_EQ", "value": 1 }, { "index": 1, "op": "SCMP_CMP_EQ", "value": 2 }] }]);
    let nr = libc::SYS_getpgid;
    let answers = with(rule).run(probe!(call nr, 0, 1; call nr, 0, 2; call nr, 0, 3)).ok().answers();
    assert_eq!(answers, [json!({ "error": "EOPNOTSUPP" }), json!({ "error": "EOPNOTSUPP" }), json!(1)]);
}

fn rules_of_one_call_are_alternatives() {
    let rules = json!([
        { "names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 95, "args": [{ "index": 1, "op": "SCMP_CMP_EQ", "value": 1 }] },
        { "names": ["getpgid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 5, "args": [{ "index": 1, "op": "SCMP_CMP_EQ", "value": 2 }] },
    ]);
    let nr = libc::SYS_getpgid;
    let answers = with(rules).run(probe!(call nr, 0, 1; call nr, 0, 2; call nr, 0, 3)).ok().answers();
    assert_eq!(answers, [json!({ "error": "EOPNOTSUPP" }), json!({ "error": "EIO" }), json!(1)]);
}

/// Programs probe for new calls and fall back only on ENOSYS: EPERM breaks them.
fn a_syscall_newer_than_the_profile_is_enosys() {
    let seccomp = profile("SCMP_ACT_ERRNO", json!([{ "names": everything_but("clone3"), "action": "SCMP_ACT_ALLOW" }]));
    let output = Bundle::new().set("linux.seccomp", seccomp).run(probe!(call 2000; call libc::SYS_mount)).ok();
    assert_eq!(output.answers(), [json!({ "error": "ENOSYS" }), json!({ "error": "EPERM" })]);
}

fn an_unknown_syscall_name_is_ignored() {
    let rule = json!([{ "names": ["call_of_the_future", "getsid"], "action": "SCMP_ACT_ERRNO" }]);
    assert_eq!(with(rule).run(probe!(call GETSID, 0)).ok().answer()["error"], "EPERM");
}

fn the_filter_is_seen_in_the_status() {
    let answers = with(json!([])).run(probe!(status "Seccomp"; status "NoNewPrivs")).ok().answers();
    assert_eq!(answers, ["2", "1"]);
    assert_eq!(Bundle::new().run(probe!(status "Seccomp")).ok().answer(), "0");
}

fn the_filter_works_without_no_new_privileges() {
    let rule = json!([{ "names": ["getsid"], "action": "SCMP_ACT_ERRNO" }]);
    let bundle = with(rule).set("process.noNewPrivileges", json!(false)).set("process.user.uid", json!(1000));
    let answers = bundle.run(probe!(call GETSID, 0; status "NoNewPrivs"; status "Seccomp")).ok().answers();
    assert_eq!(answers, [json!({ "error": "EPERM" }), json!("0"), json!("2")]);
}

fn a_kill_ends_the_container_with_sigsys() {
    let container =
        with(json!([{ "names": ["getsid"], "action": "SCMP_ACT_KILL_PROCESS" }])).create(probe!(call GETSID, 0));
    let pid = container.pid();
    container.start().ok();
    assert_eq!(ocirt_integration::host::reap(pid), 128 + libc::SIGSYS);
    container.wait_for("stopped");
}

fn a_large_default_profile_works() {
    let seccomp = profile(
        "SCMP_ACT_ERRNO",
        json!([
            { "names": everything_but(""), "action": "SCMP_ACT_ALLOW" },
            { "names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{ "index": 0, "op": "SCMP_CMP_EQ", "value": 0xffff_ffffu32 }] },
            { "names": ["clone"], "action": "SCMP_ACT_ALLOW", "args": [{ "index": 0, "op": "SCMP_CMP_MASKED_EQ", "value": 2_114_060_288, "valueTwo": 0 }] },
        ]),
    );
    let output = Bundle::new()
        .set("linux.seccomp", seccomp)
        .run(probe!(personality; call libc::SYS_personality, 8; call libc::SYS_reboot))
        .ok();
    assert_eq!(output.answers(), [json!(0), json!({ "error": "EPERM" }), json!({ "error": "EPERM" })]);
}

fn the_flags_are_accepted() {
    for flags in [
        json!([]),
        json!(["SECCOMP_FILTER_FLAG_LOG"]),
        json!(["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]),
    ] {
        let bundle = with(json!([{ "names": ["getsid"], "action": "SCMP_ACT_ERRNO" }]))
            .set("linux.seccomp.flags", flags.clone());
        assert_eq!(bundle.run(probe!(call GETSID, 0)).ok().answer()["error"], "EPERM", "{flags}");
    }
}

/// The default Docker profile forbids mount, unshare and more, which the runtime itself must have done before.
fn the_runtimes_own_calls_are_not_filtered() {
    let names = [
        "mount",
        "unshare",
        "setns",
        "pivot_root",
        "chroot",
        "sethostname",
        "mknod",
        "keyctl",
        "umount2",
        "move_mount",
        "fsopen",
        "clone3",
        "setsid",
    ];
    for no_new_privileges in [true, false] {
        let bundle = with(json!([{ "names": names, "action": "SCMP_ACT_KILL_PROCESS" }]));
        let bundle = bundle.set("process.noNewPrivileges", json!(no_new_privileges));
        assert_eq!(bundle.run(probe!(print "here")).ok().answer(), "here");
    }
}
