//! The filter of the node's floor: what no container of the host may call, whatever its profile says.
//!
//! It stands before the container's own, covers every ABI whose programs the kernel may run, and cannot be evaded by what the
//! kernel ignores: of an argument that is compared for equality, only the lower 32 bits count where the value has no others
//! (CVE-2026-123876), and what goes through socketcall(2) or ipc(2), where a filter sees no argument, is denied whole.

use anyhow::{Context, Result, ensure};
use oci_spec::runtime::{LinuxSeccompAction as Action, LinuxSeccompOperator as Operator, LinuxSyscall};

use super::arch::{Abi, COMPATIBLE, Multiplexed};
use super::rules::{Clause, Condition, SyscallRule, SystemCall};
use super::verdict::{RET_ALLOW, verdict};
use super::{Filter, Listed, Unknown, assemble, rule};
use crate::error::{Field, field};

/// The field of the floor that has the rules.
const FIELD: &str = "seccomp";

/// The filter of `rules`, each of which has to deny. Errors name the rule.
pub fn compile(rules: &[LinuxSyscall]) -> Result<Filter> {
    let mut all = Vec::new();
    for (i, entry) in rules.iter().enumerate() {
        add(&format!("{FIELD}[{i}]"), entry, &mut all)?;
    }
    let mut abis = vec![Listed { abi: Abi::native().context(field!("seccomp"))?, listed: false }];
    for arch in COMPATIBLE {
        abis.push(Listed { abi: Abi::of(*arch).context(field!("seccomp"))?, listed: false });
    }
    let filter = assemble(FIELD, &abis, &all, RET_ALLOW, None)?;
    ensure!(
        filter.warnings.is_empty(),
        Field::new(FIELD).is("without execve and exit_group no program can be started, nor end by itself")
    );
    Ok(filter)
}

/// What an entry comes to.
fn add(field: &str, entry: &LinuxSyscall, all: &mut Vec<SyscallRule>) -> Result<()> {
    let denies = matches!(
        entry.action(),
        Action::ScmpActErrno | Action::ScmpActKill | Action::ScmpActKillThread | Action::ScmpActKillProcess
    );
    ensure!(
        denies,
        Field::new(format!("{field}.action")).is(format!("{} denies nothing, and a floor only denies", entry.action()))
    );
    ensure!(!entry.names().is_empty(), Field::new(format!("{field}.names")).is("empty"));
    let mut own = rule(field, entry, Unknown::Refused)?;
    for (i, arg) in entry.args().iter().flatten().enumerate() {
        ensure!(
            !matches!(arg.op(), Operator::ScmpCmpLt | Operator::ScmpCmpLe),
            Field::new(format!("{field}.args[{i}].op"))
                .is("who sets bits that the kernel ignores is above any number: not <, nor <=")
        );
    }
    let conditions = own.clauses.iter_mut().flat_map(|clause| &mut clause.0);
    conditions.for_each(ignore_upper_half);
    let verdict = verdict(entry.action(), entry.errno_ret())?;
    if !entry.args().as_deref().unwrap_or_default().is_empty() {
        all.extend(entry.names().iter().filter_map(|name| multiplexed(name, verdict)));
    }
    all.push(own);
    Ok(())
}

/// Equality of a number that fits 32 bits is that of the lower half.
fn ignore_upper_half(condition: &mut Condition) {
    if condition.operator == Operator::ScmpCmpEq && condition.value <= u64::from(u32::MAX) {
        condition.operator = Operator::ScmpCmpMaskedEq;
        condition.mask = u64::from(u32::MAX);
    }
}

/// The call of that name by way of a multiplexer, with any arguments.
fn multiplexed(name: &str, verdict: u32) -> Option<SyscallRule> {
    let (multiplexer, value, mask) = match Multiplexed::find(name)? {
        Multiplexed::Socketcall(call) => ("socketcall", call, u64::from(u32::MAX)),
        // The upper half of ipc's first argument is a version.
        Multiplexed::Ipc(call) => ("ipc", call, u64::from(u16::MAX)),
    };
    let selected = Condition { index: 0, operator: Operator::ScmpCmpMaskedEq, value: value.into(), mask };
    Some(SyscallRule {
        calls: SystemCall::all(&[multiplexer.to_owned()]),
        clauses: vec![Clause(vec![selected])],
        verdict,
    })
}
