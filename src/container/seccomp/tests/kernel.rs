//! The kernel's own verdicts, in children that install a filter.

use serde_json::json;

use super::compile;
use super::profiles::{allow_list, profile};
use crate::container::seccomp::arch::X32_BIT;
use crate::container::seccomp::{Filter, explain};
use crate::sys::seccomp::testing::{End, errno_of, in_child, no_new_privs};
use crate::sys::{Errno, SysError};

const SIGSYS: i32 = 31;
const GETPPID: i64 = 110;
const PERSONALITY: i64 = 135;
const ACCT: i64 = 163;
const PIDFD_GETFD: i64 = 438;

fn filter(action: &str) -> Filter {
    let equal = |value: u64| json!([{ "index": 0, "value": value, "op": "SCMP_CMP_EQ" }]);
    let architectures = ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"];
    let syscalls = json!([
        { "names": ["exit_group", "openat2"], "action": "SCMP_ACT_ALLOW" },
        { "names": ["getppid"], "action": "SCMP_ACT_ERRNO", "errnoRet": 77 },
        { "names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": equal(0xffff_ffff) },
        { "names": ["personality"], "action": "SCMP_ACT_ERRNO", "errnoRet": 78, "args": equal(0x1_ffff_ffff) },
        { "names": ["acct"], "action": action },
    ]);
    compile(&profile(
        json!({ "defaultAction": "SCMP_ACT_ERRNO", "architectures": architectures, "syscalls": syscalls }),
    ))
    .unwrap()
}

/// In a child under the filter.
fn under(filter: &Filter, body: impl FnOnce() -> i32) -> End {
    in_child(|| if no_new_privs() == 0 && filter.apply().is_ok() { body() } else { 99 })
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_kernel_gives_the_programs_verdicts() {
    let filter = filter("SCMP_ACT_LOG");
    for (number, argument, errno) in [
        (GETPPID, 0, 77),
        (PERSONALITY, 0xffff_ffff, 0),
        (PERSONALITY, 0x1_ffff_ffff, 78),
        (PERSONALITY, 0x2_ffff_ffff, 1),
        (PERSONALITY, 0, 1),
        // Older than openat2, and not named; newer than openat2.
        (39, 0, 1),
        (PIDFD_GETFD, 0, 38),
        (1000, 0, 38),
    ] {
        assert_eq!(under(&filter, || errno_of(number, [argument, 0, 0])), End::Exit(errno), "{number} {argument:#x}");
    }
}

#[cfg(target_arch = "x86_64")]
#[test]
fn the_kernel_kills_where_the_program_says_so() {
    for action in ["SCMP_ACT_KILL", "SCMP_ACT_KILL_PROCESS", "SCMP_ACT_TRAP"] {
        assert_eq!(under(&filter(action), || errno_of(ACCT, [0; 3])), End::Signal(SIGSYS), "{action}");
    }
    // A tracer is asked, and there is none.
    assert_eq!(under(&filter("SCMP_ACT_TRACE"), || errno_of(ACCT, [0; 3])), End::Exit(38));
    // A call of x32, which this profile does not list.
    let native = compile(&profile(json!({ "defaultAction": "SCMP_ACT_ALLOW" }))).unwrap();
    assert_eq!(under(&native, || errno_of(i64::from(X32_BIT) + 39, [0; 3])), End::Signal(SIGSYS));
    assert_eq!(under(&native, || errno_of(39, [0; 3])), End::Exit(0));
}

#[cfg(target_arch = "x86_64")]
#[test]
fn calls_of_x86_have_verdicts_of_their_own() {
    use crate::sys::seccomp::testing::errno_of_x86;
    let (getppid, getpid, pidfd_getfd) = (64, 20, 438);
    // SIGSEGV without them; under User-Mode Linux, a call of x86_64 with the same number.
    if in_child(|| errno_of_x86(getpid)) != End::Exit(0) {
        return crate::sys::testing::skip("calls-of-x86", "getpid by int 0x80");
    }
    let listed = filter("SCMP_ACT_LOG");
    for (number, errno) in [(getppid, 77), (getpid, 1), (pidfd_getfd, 38)] {
        assert_eq!(under(&listed, || errno_of_x86(number)), End::Exit(errno), "{number}");
    }
    let native = compile(&profile(json!({ "defaultAction": "SCMP_ACT_ALLOW" }))).unwrap();
    assert_eq!(under(&native, || errno_of_x86(getpid)), End::Signal(SIGSYS));
}

#[test]
fn the_kernel_takes_every_flag_and_the_longest_jumps() {
    let mut spec = allow_list();
    spec["flags"] = json!(["SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW"]);
    let filter = compile(&profile(spec)).unwrap();
    assert_eq!(under(&filter, || 0), End::Exit(0));
}

#[test]
fn without_privilege_a_filter_needs_no_new_privs() {
    let filter = filter("SCMP_ACT_LOG");
    let setresuid = 117;
    let end = in_child(|| match (errno_of(setresuid, [65534; 3]), filter.apply()) {
        (0, Err(fault)) if fault.errno == Errno::EACCES => 0,
        // Not root: there was nothing to drop.
        (_, Err(fault)) if fault.errno == Errno::EACCES => 0,
        _ => 1,
    });
    assert_eq!(end, End::Exit(0));
    let fault = SysError::new("seccomp", Errno::EACCES);
    assert_eq!(explain(fault).to_string(), "seccomp: permission denied (neither no_new_privs nor CAP_SYS_ADMIN)");
}

#[test]
fn the_kernel_gives_a_listener_with_every_flag() {
    let flags = crate::container::seccomp::known::FLAGS;
    let spec = json!({ "defaultAction": "SCMP_ACT_ALLOW", "flags": flags, "listenerPath": "/run/agent",
                       "syscalls": [{ "names": ["acct"], "action": "SCMP_ACT_NOTIFY" }] });
    let filter = compile(&profile(spec)).unwrap();
    // Closed again, the listener answers for itself: ENOSYS.
    let end = in_child(|| match (no_new_privs(), filter.apply_with_listener()) {
        (0, Ok(listener)) => {
            drop(listener);
            errno_of(ACCT, [0, 0, 0])
        }
        _ => 99,
    });
    assert_eq!(end, End::Exit(38));
}
