//! The rules of a profile, for one ABI: which system call has which verdict.
//!
//! As libseccomp has it, a rule without conditions decides its call, wherever it stands: the first such rule. Otherwise
//! the call's conditional rules are tried in the order of [`arrange`], and the default action is for the rest
//! (docs/decisions/0002-seccomp-compiler.md).

#![expect(clippy::indexing_slicing, reason = "compiled in the runtime, where a panic would only end a command")]

use std::cmp::Ordering;

use oci_spec::runtime::LinuxSeccompOperator as Operator;

use super::arch::{Abi, Multiplexed};
use super::table::{Call, Search};
use super::verdict::{MAX_INSTRUCTIONS, RET_ACTION};

/// One entry of `linux.seccomp.syscalls`.
pub(super) struct SyscallRule {
    /// The names some architecture has.
    pub calls: Vec<SystemCall>,
    /// Any of them is enough.
    pub clauses: Vec<Clause>,
    /// SECCOMP_RET_* with its data.
    pub verdict: u32,
}

/// A comparison of one argument; `mask` only matters to masked equality.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Condition {
    pub index: u8,
    pub operator: Operator,
    pub value: u64,
    pub mask: u64,
}

/// Conditions that hold together, in the order of their arguments, each argument at most once.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(super) struct Clause(pub Vec<Condition>);

/// The conditional rules of one call on one ABI, in the order of evaluation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Chain {
    pub wide: bool,
    pub arms: Vec<(Clause, u32)>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    Return(u32),
    /// An index into the chains.
    Chain(usize),
}

/// What a profile says of one ABI.
pub(super) struct Verdicts {
    /// The calls with a verdict other than the default, by number, each once.
    pub calls: Vec<(u32, Verdict)>,
    /// The greatest number the profile names, also in rules that only repeat the default action.
    pub newest: Option<u32>,
}

/// The verdicts of `rules` on one ABI; the conditional rules of its calls are added to `chains`.
pub(super) fn verdicts(abi: &Abi, rules: &[SyscallRule], default: u32, chains: &mut Vec<Chain>) -> Verdicts {
    let mut uses: Vec<ClauseUse> = Vec::with_capacity(512);
    let mut newest = None;
    for rule in rules {
        let before = uses.len();
        rule.calls.iter().for_each(|call| call.uses(abi, rule, &mut uses));
        newest = uses[before..].iter().map(|one| one.number).max().max(newest);
        // As with runc, a rule that repeats the default action does not count, not even against other rules.
        if rule.verdict == default {
            uses.truncate(before);
        }
    }
    // Stable: the rules of a call keep their order.
    uses.sort_by_key(|one| one.number);
    let of_call = |uses: &[ClauseUse<'_>]| (uses[0].number, fold(abi, uses, chains));
    Verdicts { calls: uses.chunk_by(|a, b| a.number == b.number).map(of_call).collect(), newest }
}

/// A name of the profile, found in the table.
pub(super) struct SystemCall {
    call: Call,
    multiplexed: Option<Multiplexed>,
}

impl SystemCall {
    /// Those of `names` that some architecture has.
    pub(super) fn all(names: &[String]) -> Vec<Self> {
        let mut search = Search::default();
        let found = |name: &String| Some(Self { call: search.find(name)?, multiplexed: Multiplexed::find(name) });
        names.iter().filter_map(found).collect()
    }

    pub(super) fn number(&self, abi: &Abi) -> Option<u32> {
        self.call.number(abi.column).map(|number| number + abi.base)
    }

    /// Adds what `rule` means for this call: for the call itself, and for its way through socketcall(2) or ipc(2).
    ///
    /// There the first argument selects the call, and the call's own arguments lie in memory, out of a filter's reach. As
    /// libseccomp does, a condition on the first argument is given up for the selection, and the others are kept as they
    /// are, whatever they then compare.
    fn uses<'a>(&self, abi: &Abi, rule: &'a SyscallRule, uses: &mut Vec<ClauseUse<'a>>) {
        if let Some(number) = self.number(abi) {
            uses.extend(rule.clauses.iter().map(|clause| ClauseUse {
                number,
                selector: None,
                clause,
                verdict: rule.verdict,
            }));
        }
        let (Some(multiplexers), Some(multiplexed)) = (abi.multiplexers, self.multiplexed) else { return };
        let (number, selector) = match multiplexed {
            Multiplexed::Socketcall(call) => (multiplexers.socketcall, call),
            Multiplexed::Ipc(call) => (multiplexers.ipc, call),
        };
        let selected = |clause| ClauseUse { number, selector: Some(selector), clause, verdict: rule.verdict };
        uses.extend(rule.clauses.iter().map(selected));
    }
}

/// One clause of one rule for one call.
struct ClauseUse<'a> {
    number: u32,
    /// What a multiplexer's first argument must be.
    selector: Option<u8>,
    clause: &'a Clause,
    verdict: u32,
}

fn fold(abi: &Abi, uses: &[ClauseUse<'_>], chains: &mut Vec<Chain>) -> Verdict {
    // Most calls have one rule, and that has no conditions.
    if let [ClauseUse { selector: None, clause: Clause(conditions), verdict, .. }] = uses
        && conditions.is_empty()
    {
        return Verdict::Return(*verdict);
    }
    let mut arms: Vec<(Clause, u32)> = Vec::new();
    let mut plain: Option<u32> = None;
    for one in uses {
        let clause = one.clause.for_abi(abi, one.selector);
        if clause.0.is_empty() {
            // The profile of Podman allows setns(2) first, and denies it later: it counts on this.
            plain.get_or_insert(one.verdict);
            continue;
        }
        // Each is an instruction at least: with so many the program is too long for the kernel, whatever else there is, and
        // they are not all compared with each other before that is said.
        if arms.len() > MAX_INSTRUCTIONS {
            continue;
        }
        // libseccomp refuses rules with the same conditions and other actions.
        match arms.iter_mut().find(|(known, _)| *known == clause) {
            Some((_, verdict)) => *verdict = stricter(*verdict, one.verdict),
            None => arms.push((clause, one.verdict)),
        }
    }
    if let Some(verdict) = plain {
        return Verdict::Return(verdict);
    }
    arrange(&mut arms);
    let chain = Chain { wide: abi.wide, arms };
    let index = chains.iter().position(|known| *known == chain).unwrap_or_else(|| {
        chains.push(chain);
        chains.len() - 1
    });
    Verdict::Chain(index)
}

/// Puts the conditional rules of one call into the order in which they are tried.
///
/// That only matters where two of them, with different actions, hold for the same arguments. It is libseccomp's order
/// where libseccomp keeps to one, whatever the order of the rules; otherwise the strictest of those that hold decides.
fn arrange(arms: &mut [(Clause, u32)]) {
    arms.sort_by(|(a, _), (b, _)| a.before(b));
    let agree = arms.windows(2).all(|pair| pair[0].1 == pair[1].1);
    if !agree && !is_orderly(arms) {
        arms.sort_by_key(|(_, verdict)| strictness(*verdict));
    }
}

/// Whether libseccomp tries these rules in [`Clause::before`]'s order. Its tree shares nodes between rules: those of
/// inequalities, of upper bounds, of masks, and of lower bounds beside other conditions may keep the action of the rule
/// that came first; and of two rules of which one has the conditions of the other and more, it refuses or forgets the
/// second.
fn is_orderly(arms: &[(Clause, u32)]) -> bool {
    let conditions = || arms.iter().flat_map(|(clause, _)| &clause.0);
    let equal = |condition: &Condition| condition.operator == Operator::ScmpCmpEq;
    let lower = |condition: &Condition| matches!(condition.operator, Operator::ScmpCmpGe | Operator::ScmpCmpGt);
    let single = arms.iter().all(|(clause, _)| clause.0.len() == 1);
    let begins = |a: &Clause, b: &Clause| a.0.iter().zip(&b.0).all(|(a, b)| a.rank() == b.rank());
    let apart = |at: usize| {
        let (clause, verdict) = &arms[at];
        !arms[at + 1..].iter().any(|(other, different)| different != verdict && begins(clause, other))
    };
    conditions().all(|condition| equal(condition) || single && lower(condition)) && (0..arms.len()).all(apart)
}

/// How little a verdict lets through, as the kernel orders them where several filters decide: the strictest is the
/// smallest (seccomp(2); as signed numbers, without their data).
pub(super) fn strictness(verdict: u32) -> i32 {
    (verdict & RET_ACTION) as i32
}

/// The stricter one of two verdicts; of two that are as strict, the first.
fn stricter(first: u32, second: u32) -> u32 {
    if strictness(second) < strictness(first) { second } else { first }
}

impl Clause {
    /// The clause as this ABI compares: cut to its width, without the conditions that always hold.
    fn for_abi(&self, abi: &Abi, selector: Option<u8>) -> Self {
        let equal =
            |call| Condition { index: 0, operator: Operator::ScmpCmpEq, value: u64::from(call), mask: u64::MAX };
        let selected = selector.map(equal);
        let own = self.0.iter().filter(|condition| selector.is_none() || condition.index != 0);
        let cut = if abi.wide { u64::MAX } else { u64::from(u32::MAX) };
        let conditions = selected.iter().chain(own).filter_map(|condition| condition.cut(cut));
        Self(conditions.collect())
    }

    /// libseccomp's order, which is not the profile's: a later argument before an earlier one; for one argument equality,
    /// then upper bounds (the lower first), then lower bounds (the higher first); and what is satisfied by the same
    /// comparisons and fewer of them before what needs more.
    fn before(&self, other: &Self) -> Ordering {
        let pairs = self.0.iter().zip(&other.0);
        let different = pairs.map(|(mine, others)| others.rank().cmp(&mine.rank())).find(|order| order.is_ne());
        different.unwrap_or_else(|| self.0.len().cmp(&other.0.len()))
    }
}

impl Condition {
    /// The condition on arguments of these bits; None if it always holds.
    fn cut(&self, bits: u64) -> Option<Self> {
        let mask = self.mask & bits;
        match self.operator {
            Operator::ScmpCmpMaskedEq if mask == 0 => None,
            Operator::ScmpCmpMaskedEq if mask == bits => {
                Some(Self { operator: Operator::ScmpCmpEq, value: self.value & mask, mask, ..*self })
            }
            _ => Some(Self { value: self.value & mask, mask, ..*self }),
        }
    }

    /// See [`Clause::before`]: what is tried first is the greatest.
    fn rank(&self) -> (u8, u8, u64) {
        let (class, value) = match self.operator {
            Operator::ScmpCmpEq | Operator::ScmpCmpNe | Operator::ScmpCmpMaskedEq => (3, self.value),
            Operator::ScmpCmpLt | Operator::ScmpCmpLe => (2, !self.value),
            Operator::ScmpCmpGt | Operator::ScmpCmpGe => (1, self.value),
        };
        (self.index, class, value)
    }
}
