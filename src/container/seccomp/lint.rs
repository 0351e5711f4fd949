//! What a profile says that its author may not have meant.

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompArg, LinuxSeccompOperator as Operator};

use super::rules::{SystemCall, Verdict, strictness};
use super::section::Coverage;
use super::verdict::{RET_ACTION, RET_ERRNO, RET_KILL_PROCESS, RET_KILL_THREAD, RET_TRAP, default_verdict, verdict};

/// Rules that let more through than they seem to: two conditions on one argument are alternatives, as with runc, and one
/// of `>= 2` and `<= 5` holds for everything. Of several equalities nobody means that all hold.
pub(super) fn warnings(spec: &LinuxSeccomp) -> Vec<String> {
    let Ok(default) = default_verdict(spec) else { return Vec::new() };
    let rules = spec.syscalls().iter().flatten().enumerate();
    let loose = rules.filter_map(|(i, rule)| {
        let verdict = verdict(rule.action(), rule.errno_ret()).ok()?;
        let args = rule.args().as_deref().unwrap_or_default();
        let twice = |arg: &LinuxSeccompArg| {
            let same = || args.iter().filter(|other| other.index() == arg.index());
            same().count() > 1 && same().any(|other| other.op() != Operator::ScmpCmpEq)
        };
        let index = args.iter().find(|arg| twice(arg))?.index();
        (strictness(verdict) > strictness(default)).then(|| {
            format!(
                "linux.seccomp.syscalls[{i}].args: conditions on the same argument ({index}) are alternatives, and let \
                 through what any of them does"
            )
        })
    });
    loose.collect()
}

/// The calls without which no program of the container starts or ends, where the profile lets none of them through: the
/// container is dead as soon as it is started, and nothing else says why.
pub(super) fn missing(native: &Coverage, default: u32) -> Vec<String> {
    let is_forbidden = |verdict: u32| is_fatal(verdict) || verdict & RET_ACTION == RET_ERRNO;
    let words = [("execve", "no program can be started"), ("exit_group", "no program can end by itself")];
    let missing = words.iter().filter(|(name, _)| verdict_of(native, default, name).is_some_and(is_forbidden));
    missing.map(|(name, so)| format!("linux.seccomp: the profile does not allow {name}, so that {so}")).collect()
}

/// Whether the profile ends init where it is to become the program.
pub(super) fn kills_for_execve(native: &Coverage, default: u32) -> bool {
    verdict_of(native, default, "execve").is_some_and(is_fatal)
}

/// Whether it ends the process that made the call; SIGSYS has no handler in init.
fn is_fatal(verdict: u32) -> bool {
    [RET_KILL_PROCESS, RET_KILL_THREAD, RET_TRAP].contains(&(verdict & RET_ACTION))
}

/// What becomes of a native call; nothing that is known where it depends on arguments.
fn verdict_of(native: &Coverage, default: u32, name: &str) -> Option<u32> {
    let found = SystemCall::all(&[name.to_owned()]);
    let number = found.first().and_then(|call| call.number(&native.abi))?;
    let own = native.verdicts.calls.binary_search_by_key(&number, |(number, _)| *number);
    match own.ok().and_then(|place| native.verdicts.calls.get(place)) {
        Some((_, Verdict::Return(verdict))) => Some(*verdict),
        Some((_, Verdict::Chain(_))) => None,
        None => Some(default),
    }
}
