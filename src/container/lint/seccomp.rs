//! The rules about `linux.seccomp`: what a profile lets through although it seems to deny it, and what it denies in a way
//! that programs do not understand.

use oci_spec::runtime::{
    Arch, LinuxSeccomp, LinuxSeccompAction as Action, LinuxSeccompArg, LinuxSeccompOperator as Operator, LinuxSyscall,
};

use super::code::Code;
use super::finding::Finding;

/// Calls with arguments of 32 bits, of which the kernel does not look at the upper half (include/linux/syscalls.h).
const INTS: [(&str, &[usize]); 38] = [
    ("accept4", &[0, 3]),
    ("arch_prctl", &[0]),
    ("bpf", &[0, 2]),
    ("dup3", &[0, 1, 2]),
    ("fcntl", &[0, 1]),
    ("fsconfig", &[0, 1]),
    ("fsopen", &[1]),
    ("futex", &[1]),
    ("getsockopt", &[0, 1, 2]),
    ("io_uring_register", &[0, 1]),
    ("io_uring_setup", &[0]),
    ("ioctl", &[0, 1]),
    ("ioprio_set", &[0, 1, 2]),
    ("ipc", &[0]),
    ("kcmp", &[2]),
    ("keyctl", &[0]),
    ("kill", &[0, 1]),
    ("madvise", &[2]),
    ("memfd_create", &[1]),
    ("modify_ldt", &[0]),
    ("move_mount", &[0, 2, 4]),
    ("open", &[1]),
    ("open_tree", &[0, 2]),
    ("openat", &[0, 2]),
    ("personality", &[0]),
    ("pidfd_open", &[0, 1]),
    ("prctl", &[0]),
    ("quotactl", &[0]),
    ("reboot", &[0, 1, 2]),
    ("sched_setscheduler", &[0, 1]),
    ("seccomp", &[0, 1]),
    ("setns", &[0, 1]),
    ("setsockopt", &[0, 1, 2]),
    ("socket", &[0, 1, 2]),
    ("socketcall", &[0]),
    ("socketpair", &[0, 1, 2]),
    ("syslog", &[0]),
    ("umount2", &[1]),
];

/// linux/errno.h.
const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
/// Calls that are newer than clone3: of one that is newer than all of its names, a filter says ENOSYS by itself.
const NEWER_THAN_CLONE3: [&str; 12] = [
    "close_range",
    "epoll_pwait2",
    "faccessat2",
    "fchmodat2",
    "futex_waitv",
    "landlock_create_ruleset",
    "memfd_secret",
    "mount_setattr",
    "openat2",
    "pidfd_getfd",
    "process_madvise",
    "process_mrelease",
];

pub(super) fn rules(profile: &LinuxSeccomp, found: &mut Vec<Finding>) {
    let list = profile.syscalls().as_deref().unwrap_or_default();
    for (index, rule) in list.iter().enumerate() {
        ints(index, rule, profile, found);
    }
    two_not_equal(profile, found);
    socketcall(profile, found);
    x32(profile, found);
    clone3(profile, found);
}

/// Whether the call goes on.
fn lets_through(action: Action) -> bool {
    matches!(action, Action::ScmpActAllow | Action::ScmpActLog | Action::ScmpActTrace | Action::ScmpActNotify)
}

fn args(rule: &LinuxSyscall) -> &[LinuxSeccompArg] {
    rule.args().as_deref().unwrap_or_default()
}

/// The rules for a call, with their places.
fn rules_for<'a>(profile: &'a LinuxSeccomp, name: &'a str) -> impl Iterator<Item = (usize, &'a LinuxSyscall)> {
    let list = profile.syscalls().iter().flatten().enumerate();
    list.filter(move |(_, rule)| rule.names().iter().any(|other| other == name))
}

/// Whether a value with bits above the lower 32 passes where one without them would not.
fn is_passed_by(arg: &LinuxSeccompArg, allows: bool) -> bool {
    let matches_large = match arg.op() {
        Operator::ScmpCmpNe | Operator::ScmpCmpGe | Operator::ScmpCmpGt => true,
        Operator::ScmpCmpEq | Operator::ScmpCmpLe | Operator::ScmpCmpLt => false,
        // Only what is in the mask counts: a mask of 32 bits sees what the kernel sees.
        Operator::ScmpCmpMaskedEq if arg.value() <= u64::from(u32::MAX) => return false,
        Operator::ScmpCmpMaskedEq => false,
    };
    matches_large == allows
}

fn ints(index: usize, rule: &LinuxSyscall, profile: &LinuxSeccomp, found: &mut Vec<Finding>) {
    let allows = lets_through(rule.action());
    if allows == lets_through(profile.default_action()) {
        return;
    }
    for name in rule.names() {
        let Some((_, ints)) = INTS.iter().find(|(call, _)| call == name) else { continue };
        let mut passed = args(rule).iter().enumerate().filter(|(_, arg)| ints.contains(&arg.index()));
        if let Some((place, arg)) = passed.find(|(_, arg)| is_passed_by(arg, allows)) {
            let why = format!(
                "argument {} of {name} is an int, of which the kernel takes 32 bits, and is compared in all 64: with a bit \
                 above them set, the rule is passed by",
                arg.index()
            );
            let field = format!("linux.seccomp.syscalls[{index}].args[{place}]");
            found.push(Finding::new(Code::SeccompIntAs64Bits, field, why));
            return;
        }
    }
}

/// Each of them allows what the other is about.
fn two_not_equal(profile: &LinuxSeccomp, found: &mut Vec<Finding>) {
    if lets_through(profile.default_action()) {
        return;
    }
    let is_not_equal = |arg: &&LinuxSeccompArg| arg.op() == Operator::ScmpCmpNe;
    let mut seen: Vec<(&str, usize, u64)> = Vec::new();
    for (index, rule) in profile.syscalls().iter().flatten().enumerate().filter(|(_, rule)| lets_through(rule.action()))
    {
        let conditions = args(rule);
        // Conditions on different arguments hold together.
        let alternatives = conditions.len() == 1
            || conditions.iter().any(|arg| conditions.iter().filter(|other| other.index() == arg.index()).count() > 1);
        if !alternatives {
            continue;
        }
        for name in rule.names() {
            for arg in conditions.iter().filter(is_not_equal) {
                let is_other = |(call, at, value): &&(&str, usize, u64)| {
                    call == name && *at == arg.index() && *value != arg.value()
                };
                if let Some((_, _, other)) = seen.iter().find(is_other) {
                    let why = format!(
                        "{name} is allowed where argument {} is not {}, and where it is not {other}: that is always",
                        arg.index(),
                        arg.value()
                    );
                    let field = format!("linux.seccomp.syscalls[{index}].args");
                    found.push(Finding::new(Code::SeccompTwoNotEqual, field, why));
                    return;
                }
                seen.push((name, arg.index(), arg.value()));
            }
        }
    }
}

/// What becomes of a call without a look at its arguments: whether it goes on, may go on, or does not.
fn is_open(profile: &LinuxSeccomp, name: &str) -> bool {
    let mut rules = rules_for(profile, name).peekable();
    if rules.peek().is_none() {
        return lets_through(profile.default_action());
    }
    rules.all(|(_, rule)| lets_through(rule.action()) && args(rule).is_empty())
}

/// Whether the profile has something against some uses of a call.
fn is_filtered(profile: &LinuxSeccomp, name: &str) -> bool {
    !is_open(profile, name)
}

/// Its arguments are in memory, where no filter looks.
fn socketcall(profile: &LinuxSeccomp, found: &mut Vec<Finding>) {
    let has_it = |arch: &Arch| matches!(arch, Arch::ScmpArchX86 | Arch::ScmpArchS390 | Arch::ScmpArchS390x);
    let siblings = ["socket", "socketpair", "setsockopt", "connect", "bind", "accept4"];
    let filtered = siblings.into_iter().find(|name| is_filtered(profile, name));
    if let Some(name) = filtered.filter(|_| profile.architectures().iter().flatten().any(has_it))
        && is_open(profile, "socketcall")
    {
        let why = format!("{name} is filtered, and socketcall, by which programs of 32 bits do the same, is not");
        found.push(Finding::new(Code::SeccompSocketcallOpen, "linux.seccomp.syscalls", why));
    }
}

fn x32(profile: &LinuxSeccomp, found: &mut Vec<Finding>) {
    let place = profile.architectures().iter().flatten().position(|arch| *arch == Arch::ScmpArchX32);
    let denies = |rule: &LinuxSyscall| !lets_through(rule.action());
    let is_list_of_denials = lets_through(profile.default_action()) && profile.syscalls().iter().flatten().any(denies);
    if let Some(place) = place.filter(|_| is_list_of_denials) {
        let why = "the profile denies calls by name, and opens a second set of calls, of which those are left that it \
                   does not name";
        found.push(Finding::new(Code::SeccompX32Open, format!("linux.seccomp.architectures[{place}]"), why));
    }
}

/// Its flags are in memory, too. And the C library goes on to clone only for ENOSYS.
fn clone3(profile: &LinuxSeccomp, found: &mut Vec<Finding>) {
    let field = rules_for(profile, "clone3").next().map(|(index, _)| format!("linux.seccomp.syscalls[{index}]"));
    let field = field.unwrap_or_else(|| "linux.seccomp.syscalls".to_owned());
    if is_open(profile, "clone3") {
        if is_filtered(profile, "clone") {
            let why = "clone is filtered, and clone3, which does the same and more, is not";
            found.push(Finding::new(Code::SeccompClone3Open, field, why));
        }
        return;
    }
    let of_rule =
        |rule: &LinuxSyscall| (rule.action() == Action::ScmpActErrno).then(|| rule.errno_ret().unwrap_or(EPERM));
    let rules: Vec<_> = rules_for(profile, "clone3").map(|(_, rule)| rule).collect();
    let knows_it = || NEWER_THAN_CLONE3.iter().any(|name| rules_for(profile, name).next().is_some());
    let errno = match rules.as_slice() {
        [] if profile.default_action() == Action::ScmpActErrno && knows_it() => {
            Some(profile.default_errno_ret().unwrap_or(EPERM))
        }
        [] => None,
        rules => rules.iter().find_map(|rule| of_rule(rule)),
    };
    if let Some(errno) = errno.filter(|errno| *errno != ENOSYS) {
        let why = format!(
            "clone3 returns errno {errno}: the C library takes only ENOSYS for a kernel without it, and starts no thread"
        );
        found.push(Finding::new(Code::SeccompClone3Eperm, field, why));
    }
}
