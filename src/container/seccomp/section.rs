//! From the verdicts of each ABI to ranges of system call numbers, for each token.

use oci_spec::runtime::Arch;

use super::arch::{Abi, X32_BIT};
use super::rules::{Verdict, Verdicts};
use super::table::Column;

/// An ABI the filter covers.
pub(super) struct Coverage {
    pub abi: Abi,
    pub verdicts: Verdicts,
    /// What a call gets that is newer than all the profile names for this ABI; None: the default action.
    pub stub: Option<u32>,
}

/// What a token's system calls have as verdicts.
pub(super) struct Section {
    pub token: u32,
    /// In order, without gaps, from 0 to `u32::MAX`.
    pub ranges: Vec<Range>,
}

/// System call numbers, both ends included.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Range {
    pub start: u32,
    pub last: u32,
    pub verdict: Verdict,
}

/// A section for each token, in the order of the ABIs.
pub(super) fn sections(coverages: &[Coverage], default: u32, foreign: u32) -> Vec<Section> {
    let mut sections: Vec<Section> = Vec::with_capacity(coverages.len());
    for Coverage { abi, .. } in coverages {
        if sections.iter().any(|section| section.token == abi.token) {
            continue;
        }
        let on = |base| coverages.iter().find(|other| other.abi.token == abi.token && other.abi.base == base);
        let mut ranges = Ranges { list: Vec::with_capacity(128), default };
        if abi.token == Arch::ScmpArchX86_64 as u32 {
            ranges.x86_64(on(0), on(X32_BIT), foreign);
        } else if let Some(coverage) = on(0) {
            ranges.fill(coverage, u32::MAX);
        }
        sections.push(Section { token: abi.token, ranges: ranges.list });
    }
    sections
}

struct Ranges {
    list: Vec<Range>,
    default: u32,
}

impl Ranges {
    /// Both ABIs behind the token of x86_64. One that is not covered is foreign; number -1, with which a tracer skips a
    /// call, belongs to x86_64 (libseccomp has it so).
    fn x86_64(&mut self, plain: Option<&Coverage>, x32: Option<&Coverage>, foreign: u32) {
        match plain {
            Some(plain) => self.fill(plain, X32_BIT - 1),
            None => self.cover(X32_BIT - 1, Verdict::Return(foreign)),
        }
        match x32 {
            Some(x32) => self.fill(x32, u32::MAX),
            None => {
                self.cover(u32::MAX - 1, Verdict::Return(foreign));
                self.cover(u32::MAX, Verdict::Return(self.default));
            }
        }
    }

    /// The calls of an ABI and, up to `last`, what is between and above them.
    fn fill(&mut self, coverage: &Coverage, last: u32) {
        let Coverage { abi, verdicts, stub } = coverage;
        let default = Verdict::Return(self.default);
        // A profile that names no call of the ABI knows nothing of newer ones.
        let stub = verdicts.newest.filter(|newest| *newest > abi.base).zip(stub.map(Verdict::Return));
        // s390 reports a call that its kernel does not know as number 0, which no program uses otherwise.
        if let (Some((_, stub)), Column::S390 | Column::S390x) = (stub, abi.column) {
            self.cover(0, stub);
        }
        for (number, verdict) in &verdicts.calls {
            if let Some(before) = number.checked_sub(1) {
                self.cover(before, default);
            }
            self.cover(*number, *verdict);
        }
        if let Some((newest, stub)) = stub {
            self.cover(newest, default);
            self.cover(last, stub);
        } else {
            self.cover(last, default);
        }
    }

    /// Gives `verdict` to all numbers up to `last` that have none.
    fn cover(&mut self, last: u32, verdict: Verdict) {
        let Some(previous) = self.list.last_mut() else {
            return self.list.push(Range { start: 0, last, verdict });
        };
        if last <= previous.last {
            return;
        }
        if previous.verdict == verdict {
            previous.last = last;
        } else {
            let start = previous.last + 1;
            self.list.push(Range { start, last, verdict });
        }
    }
}
