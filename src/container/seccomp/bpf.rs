//! An assembler of classic BPF that works from the end to the start.
//!
//! BPF jumps only forwards, so whoever emits the last instruction first knows every target when a jump is emitted. A
//! conditional jump reaches 255 instructions; a target further off is reached through a copy of it, if it is a return,
//! or through an unconditional jump.

#![expect(clippy::indexing_slicing, reason = "compiled in the runtime, where a panic would only end a command")]

use std::fmt;

use crate::sys::seccomp::Instruction;

/// Opcodes of linux/bpf_common.h. Of arithmetic only AND appears: the kernel's filter cache (since Linux 5.11) gives up
/// on a program in which it meets anything else on the way to a verdict.
pub(super) const LOAD: u16 = 0x20;
pub(super) const AND: u16 = 0x54;
pub(super) const RETURN: u16 = 0x06;
pub(super) const JUMP: u16 = 0x05;

/// A conditional jump's comparison of the accumulator with a constant.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u16)]
pub(super) enum If {
    Equal = 0x15,
    Greater = 0x25,
    GreaterOrEqual = 0x35,
    AnyBit = 0x45,
}

/// The longest distance that `reach` leaves: two trampolines may still come between a jump and its targets.
const REACH: usize = 253;

/// An instruction already emitted, by its distance from the end.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct JumpLabel(usize);

#[derive(Default)]
pub(super) struct Assembler {
    /// The last instruction first.
    reversed: Vec<Instruction>,
    /// The nearest return of each value.
    returns: Vec<(u32, JumpLabel)>,
}

impl Assembler {
    /// The program, in the kernel's order.
    pub(super) fn finish(mut self) -> Vec<Instruction> {
        self.reversed.reverse();
        self.reversed
    }

    /// A return of `value`: a near one if there is any.
    pub(super) fn ret(&mut self, value: u32) -> JumpLabel {
        match self.returns.iter().find(|(known, _)| *known == value) {
            Some(&(_, label)) if self.distance(label) <= REACH => label,
            _ => self.push_return(value),
        }
    }

    /// Loads a word of `struct seccomp_data`, then goes on at `next`.
    pub(super) fn load(&mut self, offset: u32, next: JumpLabel) -> JumpLabel {
        self.fall_through(next);
        self.push(LOAD, 0, 0, offset)
    }

    /// Masks the accumulator, then goes on at `next`.
    pub(super) fn and(&mut self, mask: u32, next: JumpLabel) -> JumpLabel {
        self.fall_through(next);
        self.push(AND, 0, 0, mask)
    }

    /// A comparison; there is none if both of its outcomes are the same.
    pub(super) fn branch(&mut self, condition: If, k: u32, yes: JumpLabel, no: JumpLabel) -> JumpLabel {
        if yes == no {
            return yes;
        }
        let yes = self.reach(yes);
        let no = self.reach(no);
        let (jt, jf) = (self.distance(yes), self.distance(no));
        debug_assert!(jt <= 255 && jf <= 255);
        self.push(condition as u16, jt as u8, jf as u8, k)
    }

    /// Makes `target` what the next instruction is followed by.
    fn fall_through(&mut self, target: JumpLabel) {
        if self.distance(target) > 0 {
            self.jump(target);
        }
    }

    fn reach(&mut self, target: JumpLabel) -> JumpLabel {
        if self.distance(target) <= REACH {
            return target;
        }
        match self.reversed[target.0] {
            Instruction { code: RETURN, k, .. } => self.ret(k),
            _ => self.jump(target),
        }
    }

    fn jump(&mut self, target: JumpLabel) -> JumpLabel {
        let distance = self.distance(target) as u32;
        self.push(JUMP, 0, 0, distance)
    }

    fn push_return(&mut self, value: u32) -> JumpLabel {
        let label = self.push(RETURN, 0, 0, value);
        self.returns.retain(|(known, _)| *known != value);
        self.returns.push((value, label));
        label
    }

    /// How many instructions the next one would jump over to get to `target`.
    fn distance(&self, target: JumpLabel) -> usize {
        self.reversed.len() - target.0 - 1
    }

    fn push(&mut self, code: u16, jt: u8, jf: u8, k: u32) -> JumpLabel {
        self.reversed.push(Instruction { code, jt, jf, k });
        JumpLabel(self.reversed.len() - 1)
    }
}

/// An instruction as text, with its address.
pub(super) struct Listing<'a>(pub usize, pub &'a Instruction);

impl fmt::Display for Listing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(at, Instruction { code, jt, jf, k }) = self;
        let to = |jump: u8| at + 1 + usize::from(jump);
        match *code {
            LOAD => write!(f, "load [{k}]"),
            AND => write!(f, "and {k:#x}"),
            RETURN => write!(f, "return {k:#010x}"),
            JUMP => write!(f, "jump {}", at + 1 + *k as usize),
            code => {
                let sign = match code {
                    code if code == If::Equal as u16 => "==",
                    code if code == If::Greater as u16 => ">",
                    code if code == If::GreaterOrEqual as u16 => ">=",
                    _ => "&",
                };
                write!(f, "if {sign} {k:#x} {} else {}", to(*jt), to(*jf))
            }
        }
    }
}
