//! The device rules as an eBPF program for cgroup v2 (BPF_PROG_TYPE_CGROUP_DEVICE): 1 allows, 0 refuses.
//!
//! A request is for one device and one or more of read, write and mknod. Since for each of the three the last matching
//! rule decides, the program looks at the rules from the last to the first and keeps, in r3, what is still undecided:
//! a matching rule that allows clears its bits, one that denies any bit left refuses. Rules for character and for block
//! devices never meet, so each kind has its own half.

use anyhow::{Result, bail};

use super::device_rules::{Access, DeviceKind, Rule, Rules};
use crate::error::field;
use crate::sys::bpf::EbpfInstruction;

/// `struct bpf_cgroup_dev_ctx` at r1: access type (kind in the low half, access in the high), major, minor.
const CONTEXT: u8 = 1;
const KIND: u8 = 2;
const ACCESS: u8 = 3;
const MAJOR: u8 = 4;
const MINOR: u8 = 5;
const RESULT: u8 = 0;

// Codes of linux/bpf.h and bpf_common.h: class, operation and operand in one byte. All arithmetic and all jumps are on
// 32 bits (the jumps since Linux 5.1), so that no immediate is sign-extended.
const LOAD_WORD: u8 = 0x61;
const MOVE: u8 = 0xb4;
const COPY: u8 = 0xbc;
const AND: u8 = 0x54;
const SHIFT_RIGHT: u8 = 0x74;
const JUMP: u8 = 0x05;
const JUMP_EQUAL: u8 = 0x16;
const JUMP_UNEQUAL: u8 = 0x56;
const JUMP_ANY_BIT: u8 = 0x46;
const EXIT: u8 = 0x95;

/// The program for these rules; empty if they allow everything, which needs none. It ends in what the rules jump to:
/// "allow; exit", "deny; exit". Nothing in it is unreachable, which the kernel would refuse (EINVAL).
pub fn compile(rules: &Rules) -> Vec<EbpfInstruction> {
    if rules.default_allow && rules.list.is_empty() {
        return Vec::new();
    }
    let mut program = FilterCode::default();
    program.load_context();
    let halves = program.jump(JUMP_EQUAL, KIND, DeviceKind::Char as i32);
    program.half(rules, DeviceKind::Block);
    program.land(halves);
    program.half(rules, DeviceKind::Char);
    program.finish()
}

/// Where a jump goes once the end of the program is known.
#[derive(Clone, Copy, PartialEq)]
enum JumpTo {
    Allow,
    Deny,
}

impl From<bool> for JumpTo {
    fn from(allow: bool) -> Self {
        if allow { Self::Allow } else { Self::Deny }
    }
}

#[derive(Default)]
struct FilterCode {
    code: Vec<EbpfInstruction>,
    /// Jumps to the end: index of the instruction, and which end.
    open: Vec<(usize, JumpTo)>,
}

impl FilterCode {
    fn load_context(&mut self) {
        let load = |to, offset| EbpfInstruction { code: LOAD_WORD, registers: to | CONTEXT << 4, offset, immediate: 0 };
        self.code.push(load(KIND, 0));
        self.code.push(EbpfInstruction { code: COPY, registers: ACCESS | KIND << 4, offset: 0, immediate: 0 });
        self.push(AND, KIND, 0xffff);
        self.push(SHIFT_RIGHT, ACCESS, 16);
        self.code.push(load(MAJOR, 4));
        self.code.push(load(MINOR, 8));
    }

    fn half(&mut self, rules: &Rules, kind: DeviceKind) {
        for rule in rules.list.iter().rev().filter(|rule| rule.kind == kind) {
            self.rule(rule);
            if rule.is_for_all() {
                return;
            }
        }
        self.jump_to(JumpTo::from(rules.default_allow), JUMP, 0, 0);
    }

    fn rule(&mut self, rule: &Rule) {
        let numbers = [(MAJOR, rule.major), (MINOR, rule.minor)];
        let skips: Vec<usize> = numbers
            .iter()
            .filter_map(|(register, number)| number.map(|number| self.jump(JUMP_UNEQUAL, *register, number as i32)))
            .collect();
        let bits = i32::from(rule.access.bits());
        match (rule.allow, rule.access == Access::ALL) {
            (allow, true) => self.jump_to(JumpTo::from(allow), JUMP, 0, 0),
            (false, false) => self.jump_to(JumpTo::Deny, JUMP_ANY_BIT, ACCESS, bits),
            (true, false) => {
                self.push(AND, ACCESS, !bits);
                self.jump_to(JumpTo::Allow, JUMP_EQUAL, ACCESS, 0);
            }
        }
        for skip in skips {
            self.land(skip);
        }
    }

    fn finish(mut self) -> Vec<EbpfInstruction> {
        for (verdict, value) in [(JumpTo::Allow, 1), (JumpTo::Deny, 0)] {
            let end = self.code.len();
            let (here, rest): (Vec<_>, Vec<_>) = self.open.drain(..).partition(|(_, wanted)| *wanted == verdict);
            self.open = rest;
            if !here.is_empty() {
                self.push(MOVE, RESULT, value);
                self.push(EXIT, 0, 0);
            }
            for (from, _) in here {
                self.aim(from, end);
            }
        }
        self.code
    }

    fn push(&mut self, code: u8, register: u8, immediate: i32) {
        self.code.push(EbpfInstruction { code, registers: register, offset: 0, immediate });
    }

    /// A jump whose target comes later; returns its place for [`Self::land`].
    fn jump(&mut self, code: u8, register: u8, immediate: i32) -> usize {
        self.push(code, register, immediate);
        self.code.len() - 1
    }

    fn jump_to(&mut self, verdict: JumpTo, code: u8, register: u8, immediate: i32) {
        let from = self.jump(code, register, immediate);
        self.open.push((from, verdict));
    }

    /// Lets the jump at `from` go to the next instruction.
    fn land(&mut self, from: usize) {
        self.aim(from, self.code.len());
    }

    fn aim(&mut self, from: usize, to: usize) {
        if let Some(instruction) = self.code.get_mut(from) {
            instruction.offset = i16::try_from(to - from - 1).unwrap_or(i16::MAX);
        }
    }
}

/// The most rules a program can have so that every jump reaches its end (16 bits, at most five instructions a rule).
const MOST_RULES: usize = 6000;

/// The field that asks for it.
pub const DEVICES: &str = "linux.resources.devices";

/// The device rules as a program, unless there are more than it can have.
pub fn limited(rules: &Rules) -> Result<Vec<EbpfInstruction>> {
    if rules.list.len() > MOST_RULES {
        bail!(field!("{DEVICES}"; "more than {MOST_RULES} rules"));
    }
    Ok(compile(rules))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::cgroup::wanted::device_rules::tests::parse;

    /// What the kernel would do with the program.
    fn run(program: &[EbpfInstruction], kind: DeviceKind, access: u8, major: u32, minor: u32) -> bool {
        if program.is_empty() {
            return true;
        }
        let context = [kind as u32 | u32::from(access) << 16, major, minor];
        let mut registers = [0u32; 6];
        let mut at = 0usize;
        loop {
            let EbpfInstruction { code, registers: pair, offset, immediate } = program[at];
            let (to, from, value) = (usize::from(pair & 15), usize::from(pair >> 4), immediate as u32);
            at += 1;
            let jump = match code {
                LOAD_WORD => {
                    registers[to] = context[offset as usize / 4];
                    false
                }
                MOVE => {
                    registers[to] = value;
                    false
                }
                COPY => {
                    registers[to] = registers[from];
                    false
                }
                AND => {
                    registers[to] &= value;
                    false
                }
                SHIFT_RIGHT => {
                    registers[to] >>= value;
                    false
                }
                JUMP => true,
                JUMP_EQUAL => registers[to] == value,
                JUMP_UNEQUAL => registers[to] != value,
                JUMP_ANY_BIT => registers[to] & value != 0,
                EXIT => return registers[0] == 1,
                other => panic!("code {other:#x}"),
            };
            if jump {
                at += offset as usize;
            }
        }
    }

    /// What the specification says, from the rules as written: for each access the last match decides.
    fn expected(text: &[&str], kind: DeviceKind, access: u8, major: u32, minor: u32) -> bool {
        let always = [
            "+c *:* m",
            "+b *:* m",
            "+c 1:3 rwm",
            "+c 1:8 rwm",
            "+c 1:7 rwm",
            "+c 5:0 rwm",
            "+c 1:5 rwm",
            "+c 1:9 rwm",
            "+c 5:1 rwm",
            "+c 136:* rwm",
            "+c 5:2 rwm",
            "+c 10:200 rwm",
        ];
        [(1, 'm'), (2, 'r'), (4, 'w')].iter().filter(|(bit, _)| access & bit != 0).all(|(_, letter)| {
            let all: Vec<&str> = text.iter().chain(&always).copied().collect();
            all.iter()
                .rev()
                .find_map(|line| {
                    let fields: Vec<&str> = line[1..].split([' ', ':']).collect();
                    let kinds = fields[0] == "a" || fields[0] == if kind == DeviceKind::Char { "c" } else { "b" };
                    let number = |field: &str, number: u32| field == "*" || field.parse() == Ok(number);
                    let matches =
                        kinds && number(fields[1], major) && number(fields[2], minor) && fields[3].contains(*letter);
                    matches.then(|| line.starts_with('+'))
                })
                .unwrap_or(false)
        })
    }

    /// Instructions that no path leads to: the kernel refuses a program with any.
    fn unreachable(program: &[EbpfInstruction]) -> usize {
        let mut reached = vec![false; program.len()];
        let mut todo: Vec<usize> = (0..program.len().min(1)).collect();
        while let Some(at) = todo.pop() {
            if std::mem::replace(&mut reached[at], true) {
                continue;
            }
            let target = at + 1 + program[at].offset as usize;
            match program[at].code {
                EXIT => {}
                JUMP => todo.push(target),
                JUMP_EQUAL | JUMP_UNEQUAL | JUMP_ANY_BIT => todo.extend([at + 1, target]),
                _ => todo.push(at + 1),
            }
        }
        reached.iter().filter(|reached| !**reached).count()
    }

    fn agrees(text: &[&str]) {
        let program = compile(&Rules::compile(&parse(text)).unwrap());
        assert_eq!(unreachable(&program), 0, "{text:?}");
        for kind in [DeviceKind::Block, DeviceKind::Char] {
            for access in 1..=7 {
                for major in [0, 1, 5, 7, 8, 10, 136, 4095, u32::MAX] {
                    for minor in [0, 1, 2, 3, 5, 8, 16, 200, 229, 1_048_575] {
                        let (is, should) =
                            (run(&program, kind, access, major, minor), expected(text, kind, access, major, minor));
                        assert_eq!(is, should, "{text:?}: {kind:?} {major}:{minor} access {access}");
                    }
                }
            }
        }
    }

    #[test]
    fn the_program_decides_as_the_rules_say() {
        agrees(&[]);
        agrees(&["-a *:* rwm"]);
        agrees(&["-a *:* rwm", "+a *:* rwm"]);
        agrees(&["-a *:* rwm", "+c 10:229 rw", "+b 8:* r", "-b 8:16 r", "+b 7:0 rwm"]);
        agrees(&["+a *:* rwm", "-c 10:* rwm", "+c 10:229 r", "-b *:* w"]);
        agrees(&["+c *:* rw", "-c 10:229 w", "-c 5:* r", "+a 8:* rm", "-a *:16 m"]);
        agrees(&["+c *:* rwm"]);
        agrees(&["+a *:* rwm", "-c *:* rwm", "+c 8:* r"]);
        agrees(&["+a *:* rwm", "-a 8:1 rwm"]);
        agrees(&["+c 4095:1048575 rwm", "-a *:* w", "+b 8:1 w"]);
    }

    #[test]
    fn a_great_many_random_lists_decide_as_the_rules_say() {
        // xorshift: the same lists every time.
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut pick = |from: &[&str]| -> String {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            from[(state >> 33) as usize % from.len()].to_owned()
        };
        for _ in 0..100 {
            let lines: Vec<String> = (0..6)
                .map(|_| {
                    let (sign, kind) = (pick(&["+", "-"]), pick(&["a", "b", "c", "c"]));
                    let (major, minor) = (pick(&["*", "1", "8", "10"]), pick(&["*", "3", "16", "200"]));
                    format!("{sign}{kind} {major}:{minor} {}", pick(&["r", "w", "m", "rw", "rwm", "rm"]))
                })
                .collect();
            agrees(&lines.iter().map(String::as_str).collect::<Vec<_>>());
        }
    }

    #[test]
    fn dockers_rules_need_few_instructions() {
        let program = compile(&Rules::compile(&parse(&["-a *:* rwm"])).unwrap());
        assert!(program.len() <= 48, "{}", program.len());
    }
}
