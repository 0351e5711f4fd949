//! A machine for classic BPF, for tests: what the kernel would make of a program and a system call.

use crate::sys::seccomp::Instruction;

/// `struct seccomp_data`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Data {
    pub number: u32,
    pub token: u32,
    pub ip: u64,
    pub args: [u64; 6],
}

impl Data {
    fn word(&self, offset: u32) -> u32 {
        let half = |value: u64, upper: bool| if upper { (value >> 32) as u32 } else { value as u32 };
        let upper = (offset % 8 == 4) == cfg!(target_endian = "little");
        match offset {
            0 => self.number,
            4 => self.token,
            8 | 12 => half(self.ip, upper),
            16..64 if offset.is_multiple_of(4) => half(self.args[(offset as usize - 16) / 8], upper),
            _ => panic!("load of {offset}"),
        }
    }
}

/// The verdict, and how many instructions it took.
pub(super) fn run(program: &[Instruction], data: &Data) -> (u32, usize) {
    let (mut at, mut accumulator, mut steps) = (0, 0, 0);
    loop {
        let Instruction { code, jt, jf, k } = program[at];
        steps += 1;
        at += 1;
        let mut branch = |taken: bool| at += usize::from(if taken { jt } else { jf });
        match code {
            0x20 => accumulator = data.word(k),
            0x54 => accumulator &= k,
            0x05 => at += k as usize,
            0x06 => return (k, steps),
            0x15 => branch(accumulator == k),
            0x25 => branch(accumulator > k),
            0x35 => branch(accumulator >= k),
            0x45 => branch(accumulator & k != 0),
            _ => panic!("instruction {code:#x} is not one the kernel's filter cache knows"),
        }
    }
}
