//! From verdicts to a program: a section for each token, in it a search over ranges of system call numbers.
//!
//! Two costs matter when the kernel loads a program, and the search trades one for the other: each instruction is
//! checked, translated and compiled, and (since Linux 5.11) the program is emulated once for every system call number.

#![expect(clippy::indexing_slicing, reason = "compiled in the runtime, where a panic would only end a command")]

use oci_spec::runtime::LinuxSeccompOperator as Operator;

use super::bpf::{Assembler, If, JumpLabel};
use super::rules::{Chain, Clause, Condition, Verdict};
use super::section::{Range, Section};
use crate::sys::seccomp::Instruction;

/// Offsets in `struct seccomp_data`.
const NUMBER: u32 = 0;
const TOKEN: u32 = 4;
const ARGUMENTS: u32 = 16;

/// What one instruction costs at load, in steps of emulation (measured: 0.26 µs against 3.5 ns).
const INSTRUCTION: usize = 75;

/// System call numbers from here on are not emulated, or do not exist.
const NUMBERS: u32 = 470;

/// The program: `sections` in order, `foreign` for every other token.
pub(super) fn emit(sections: &[Section], chains: &[Chain], default: u32, foreign: u32) -> Vec<Instruction> {
    let mut emitter = Emitter { code: Assembler::default(), chains, places: vec![None; chains.len()], default };
    // From the end to the start: the first section is the nearest.
    let starts: Vec<(u32, JumpLabel)> =
        sections.iter().rev().map(|section| (section.token, emitter.section(section))).collect();
    let mut next = emitter.code.ret(foreign);
    for (token, start) in starts {
        next = emitter.code.branch(If::Equal, token, start, next);
    }
    emitter.code.load(TOKEN, next);
    emitter.code.finish()
}

struct Emitter<'a> {
    code: Assembler,
    chains: &'a [Chain],
    /// Where a chain already is.
    places: Vec<Option<JumpLabel>>,
    default: u32,
}

impl Emitter<'_> {
    fn section(&mut self, section: &Section) -> JumpLabel {
        let start = self.search(&section.ranges);
        self.code.load(NUMBER, start)
    }

    /// Finds the range of the number in the accumulator.
    fn search(&mut self, ranges: &[Range]) -> JumpLabel {
        if let [only] = ranges {
            return self.verdict(only.verdict);
        }
        if let Some(exceptions) = Exceptions::of(ranges) {
            return self.exceptions(ranges, exceptions);
        }
        let middle = middle(ranges);
        let (low, high) = ranges.split_at(middle);
        let above = self.search(high);
        let below = self.search(low);
        self.code.branch(If::GreaterOrEqual, high[0].start, above, below)
    }

    /// One verdict for all of `ranges` but some single numbers.
    fn exceptions(&mut self, ranges: &[Range], exceptions: Exceptions) -> JumpLabel {
        let mut next = self.verdict(ranges[exceptions.rule].verdict);
        for exception in ranges.iter().skip(exceptions.first).step_by(2).rev() {
            let verdict = self.verdict(exception.verdict);
            next = self.code.branch(If::Equal, exception.start, verdict, next);
        }
        next
    }

    fn verdict(&mut self, verdict: Verdict) -> JumpLabel {
        match verdict {
            Verdict::Return(value) => self.code.ret(value),
            Verdict::Chain(index) => match self.places[index] {
                Some(place) => place,
                None => {
                    let place = self.chain(&self.chains[index]);
                    self.places[index] = Some(place);
                    place
                }
            },
        }
    }

    /// The arms in order; the default action if none holds.
    fn chain(&mut self, chain: &Chain) -> JumpLabel {
        let mut next = self.code.ret(self.default);
        for group in chain.arms.chunk_by(|(a, _), (b, _)| same_word(a, b)).rev() {
            next = match group {
                [(clause, verdict)] => {
                    let yes = self.code.ret(*verdict);
                    self.clause(clause, chain.wide, yes, next)
                }
                several => self.values(several, chain.wide, next),
            };
        }
        next
    }

    /// Arms that compare the same argument for equality, with the same upper half: that half is compared once.
    fn values(&mut self, arms: &[(Clause, u32)], wide: bool, no: JumpLabel) -> JumpLabel {
        let Condition { index, value, .. } = arms[0].0.0[0];
        let mut next = no;
        for (clause, verdict) in arms.iter().rev() {
            let yes = self.code.ret(*verdict);
            next = self.code.branch(If::Equal, low(clause.0[0].value), yes, next);
        }
        let start = self.code.load(low_offset(index), next);
        if !wide {
            return start;
        }
        let upper = self.code.branch(If::Equal, high(value), start, no);
        self.code.load(high_offset(index), upper)
    }

    fn clause(&mut self, clause: &Clause, wide: bool, yes: JumpLabel, no: JumpLabel) -> JumpLabel {
        clause.0.iter().rev().fold(yes, |yes, condition| self.condition(condition, wide, yes, no))
    }

    fn condition(&mut self, condition: &Condition, wide: bool, yes: JumpLabel, no: JumpLabel) -> JumpLabel {
        let Condition { index, operator, value, mask } = *condition;
        match operator {
            Operator::ScmpCmpEq => self.equal(index, value, wide, yes, no),
            Operator::ScmpCmpNe => self.equal(index, value, wide, no, yes),
            Operator::ScmpCmpGt => self.greater(If::Greater, index, value, wide, yes, no),
            Operator::ScmpCmpGe => self.greater(If::GreaterOrEqual, index, value, wide, yes, no),
            Operator::ScmpCmpLe => self.greater(If::Greater, index, value, wide, no, yes),
            Operator::ScmpCmpLt => self.greater(If::GreaterOrEqual, index, value, wide, no, yes),
            Operator::ScmpCmpMaskedEq => {
                let lower = self.masked(low_offset(index), low(mask), low(value), yes, no);
                if wide { self.masked(high_offset(index), high(mask), high(value), lower, no) } else { lower }
            }
        }
    }

    fn equal(&mut self, index: u8, value: u64, wide: bool, yes: JumpLabel, no: JumpLabel) -> JumpLabel {
        let lower = self.code.branch(If::Equal, low(value), yes, no);
        let lower = self.code.load(low_offset(index), lower);
        if !wide {
            return lower;
        }
        let upper = self.code.branch(If::Equal, high(value), lower, no);
        self.code.load(high_offset(index), upper)
    }

    fn greater(&mut self, lower: If, index: u8, value: u64, wide: bool, yes: JumpLabel, no: JumpLabel) -> JumpLabel {
        let lower = self.code.branch(lower, low(value), yes, no);
        let lower = self.code.load(low_offset(index), lower);
        if !wide {
            return lower;
        }
        let same = self.code.branch(If::Equal, high(value), lower, no);
        let upper = self.code.branch(If::Greater, high(value), yes, same);
        self.code.load(high_offset(index), upper)
    }

    /// Compares the bits of one word that `mask` selects.
    fn masked(&mut self, offset: u32, mask: u32, value: u32, yes: JumpLabel, no: JumpLabel) -> JumpLabel {
        let test = match (mask, value) {
            (0, _) => return yes,
            (u32::MAX, _) => self.code.branch(If::Equal, value, yes, no),
            (_, 0) => self.code.branch(If::AnyBit, mask, no, yes),
            // One bit, which must be set.
            _ if mask == value && mask.is_power_of_two() => self.code.branch(If::AnyBit, mask, yes, no),
            _ => {
                let equal = self.code.branch(If::Equal, value, yes, no);
                self.code.and(mask, equal)
            }
        };
        self.code.load(offset, test)
    }
}

/// Ranges of which every second one has the same verdict, and the others are single numbers.
struct Exceptions {
    /// A range with the verdict of most.
    rule: usize,
    /// The first single number, from which every second range is one.
    first: usize,
}

impl Exceptions {
    /// None if `ranges` are not like that, or are so many that dividing them is better.
    fn of(ranges: &[Range]) -> Option<Self> {
        // Dividing halves the way through the exceptions for the price of one comparison.
        let worth = |count: usize| count <= 2 || weight(ranges) * (count / 2 - 1) <= INSTRUCTION;
        let like_that = |first: &usize| {
            let mut exceptions = ranges.iter().skip(*first).step_by(2);
            let mut others = ranges.iter().skip(1 - first).step_by(2);
            worth(exceptions.len())
                && exceptions.all(|range| range.start == range.last)
                && others.all(|range| range.verdict == ranges[1 - first].verdict)
        };
        let first = [1, 0].into_iter().find(like_that)?;
        Some(Self { rule: 1 - first, first })
    }
}

/// Where to divide `ranges`: as much on one side as on the other.
fn middle(ranges: &[Range]) -> usize {
    let imbalance = |at: &usize| weight(&ranges[..*at]).abs_diff(weight(&ranges[*at..]));
    (1..ranges.len()).min_by_key(imbalance).unwrap_or(1)
}

/// How many numbers the kernel emulates, and, lest the others make a list instead of a tree, how many ranges there are.
fn weight(ranges: &[Range]) -> usize {
    let (Some(first), Some(last)) = (ranges.first(), ranges.last()) else { return 0 };
    let emulated = last.last.saturating_add(1).min(NUMBERS).saturating_sub(first.start);
    emulated as usize + ranges.len()
}

/// Both arms compare one same argument for equality with values whose upper halves are the same.
fn same_word(a: &Clause, b: &Clause) -> bool {
    match (a.0.as_slice(), b.0.as_slice()) {
        ([a], [b]) => {
            let equality = a.operator == Operator::ScmpCmpEq && b.operator == Operator::ScmpCmpEq;
            equality && a.index == b.index && high(a.value) == high(b.value)
        }
        _ => false,
    }
}

fn low(value: u64) -> u32 {
    value as u32
}

fn high(value: u64) -> u32 {
    (value >> 32) as u32
}

fn low_offset(index: u8) -> u32 {
    ARGUMENTS + 8 * u32::from(index) + if cfg!(target_endian = "big") { 4 } else { 0 }
}

fn high_offset(index: u8) -> u32 {
    ARGUMENTS + 8 * u32::from(index) + if cfg!(target_endian = "big") { 0 } else { 4 }
}
