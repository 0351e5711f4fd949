//! What a profile says that its author may not have meant.

use oci_spec::runtime::{LinuxSeccomp, LinuxSeccompArg, LinuxSeccompOperator as Operator};

use super::rules::strictness;
use super::verdict::{default_verdict, verdict};

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
