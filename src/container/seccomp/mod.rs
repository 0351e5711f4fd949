//! `linux.seccomp`: a profile becomes one program of classic BPF, built on the host's side and installed by init.
//!
//! Terminology: a *profile* is `linux.seccomp` of config.json; it has *rules* (its `syscalls`), each with *clauses*
//! (conditions that hold together); a *verdict* is what the kernel gets back (SECCOMP_RET_*); a *token* is what
//! `seccomp_data.arch` holds; a program has one *section* for each token.
//!
//! What a profile means is what runc with libseccomp makes of it; where we differ is said where we differ, and in
//! `docs/decisions/0002-seccomp-compiler.md`.

mod arch;
mod bpf;
pub mod floor;
pub mod known;
mod lint;
mod notify;
mod program;
mod raw;
mod rules;
mod saved;
mod section;
mod table;
#[cfg(test)]
mod tests;
mod verdict;

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime::{
    LinuxSeccomp, LinuxSeccompArg, LinuxSeccompFilterFlag as Flag, LinuxSeccompOperator, LinuxSyscall,
};
use serde::{Deserialize, Serialize};

use crate::error::{Faults, Field, field};
use crate::sys::seccomp::{Instruction, seccomp_new_listener, seccomp_set_mode_filter};
use crate::sys::{Errno, Fault, SysError};
use arch::Abi;
use rules::{Clause, Condition, SyscallRule, SystemCall};
use section::Coverage;
use verdict::{MAX_INSTRUCTIONS, RET_KILL_THREAD, default_verdict, stub, verdict};

pub use notify::{Agent, Handover};

/// A program ready for the kernel. Displays as its size, debugs as its instructions. It is saved for exec processes.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq)]
pub struct Filter {
    #[serde(with = "saved")]
    program: Vec<Instruction>,
    /// SECCOMP_FILTER_FLAG_*.
    flags: u32,
    /// How many of the native system calls have a verdict of their own.
    calls: usize,
    /// Who answers the calls that are notified, if any are.
    agent: Option<Agent>,
    handover: Handover,
    /// What the profile forbids that every program needs. Of no use to exec, which `create` came before.
    #[serde(skip)]
    warnings: Vec<String>,
    #[serde(skip)]
    kills_for_execve: bool,
}

/// Values of linux/seccomp.h.
const FLAG_TSYNC: u32 = 1;
const FLAG_LOG: u32 = 1 << 1;
const FLAG_SPEC_ALLOW: u32 = 1 << 2;
const FLAG_WAIT_KILLABLE_RECV: u32 = 1 << 5;

/// A system call has six arguments.
const ARGUMENTS: usize = 6;

/// What annotations say beside the profile.
#[derive(Clone, Copy, Default)]
pub struct Extra<'a> {
    /// The agent of a profile without listenerPath.
    pub receiver: Option<&'a Path>,
    pub unknown: Unknown,
}

/// What becomes of names that no architecture has.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Unknown {
    /// They are skipped, as runc skips them.
    #[default]
    Skipped,
    Refused,
}

/// A filter that is compiled already, as base64, with the flags of `spec`. Whether it notifies `sendmsg` nobody knows.
pub fn compile_raw(program: &str, spec: Option<&LinuxSeccomp>, receiver: Option<&Path>) -> Result<Filter> {
    let program = raw::program(program)?;
    let notifies = raw::notifies(&program);
    let agent = if notifies { Some(notify::of_raw(spec, receiver)?) } else { None };
    let flags = spec.map_or(Ok(FLAG_SPEC_ALLOW), |spec| flags(spec, notifies))?;
    let (handover, warnings, kills_for_execve) = (Handover::Taken, Vec::new(), false);
    Ok(Filter { program, flags, calls: 0, agent, handover, warnings, kills_for_execve })
}

/// What a profile that compiles says, but its author may not have meant.
pub fn warnings(spec: &LinuxSeccomp) -> Vec<String> {
    lint::warnings(spec)
}

/// The program of a profile; errors name the field.
///
/// A system call of an architecture that the profile does not list kills the thread, as libseccomp has it. The native
/// architecture is always covered. Names that no architecture has are skipped, as runc skips them.
pub fn compile(spec: &LinuxSeccomp, extra: &Extra, faults: &mut Faults) -> Result<Filter> {
    let agent = notify::agent(spec, extra.receiver)?;
    let flags = flags(spec, agent.is_some())?;
    let default = default_verdict(spec)?;
    let abis = abis(spec)?;
    let rules = rules(spec, extra.unknown, faults)?;
    let filter = assemble("linux.seccomp", &abis, &rules, default, stub(spec.default_action()))?;
    Ok(Filter { flags, agent, ..filter })
}

/// The filter of the rules of `field`, without an agent. `stub`: what a call of a listed ABI gets that is newer than all that
/// the rules name.
fn assemble(
    field: &'static str,
    abis: &[Listed],
    rules: &[SyscallRule],
    default: u32,
    stub: Option<u32>,
) -> Result<Filter> {
    let mut chains = Vec::new();
    let covered = |listed: &Listed| Coverage {
        abi: listed.abi,
        verdicts: rules::verdicts(&listed.abi, rules, default, &mut chains),
        stub: stub.filter(|_| listed.listed),
    };
    let coverages: Vec<Coverage> = abis.iter().map(covered).collect();
    let native = coverages.first().context(field!("linux.seccomp"; "no architecture"))?;
    let calls = native.verdicts.calls.len();
    let (warnings, kills_for_execve) = (lint::missing(native, default), lint::kills_for_execve(native, default));
    let handover = notify::handover(&native.abi, &native.verdicts, &chains);
    let sections = section::sections(&coverages, default, RET_KILL_THREAD);
    let program = program::emit(&sections, &chains, default, RET_KILL_THREAD);
    let length = program.len();
    ensure!(
        length <= MAX_INSTRUCTIONS,
        Field::new(field).is(format!("{length} instructions, the kernel takes {MAX_INSTRUCTIONS}"))
    );
    Ok(Filter { program, flags: FLAG_SPEC_ALLOW, calls, agent: None, handover, warnings, kills_for_execve })
}

impl Filter {
    /// The program, an instruction as code, two jumps and operand: what a tracer reads of it.
    pub fn instructions(&self) -> impl Iterator<Item = (u16, u8, u8, u32)> {
        self.program.iter().map(|one| (one.code, one.jt, one.jf, one.k))
    }

    /// Installs the program for the calling thread.
    ///
    /// Needs no_new_privs or CAP_SYS_ADMIN in the user namespace, and sets neither. Every system call after it, up to the
    /// execve of the container's process, is subject to the profile.
    pub fn apply(&self) -> Result<(), Fault> {
        seccomp_set_mode_filter(self.flags, &self.program).map_err(explain)
    }

    /// As [`Filter::apply`], for a filter with an [`Agent`]: its listener, close-on-exec, which the agent must have before
    /// the caller makes a call that is notified.
    pub fn apply_with_listener(&self) -> Result<OwnedFd, Fault> {
        seccomp_new_listener(self.flags, &self.program).map_err(explain)
    }

    /// Who gets the listener; None: there is none.
    pub fn agent(&self) -> Option<&Agent> {
        self.agent.as_ref()
    }

    /// What the profile forbids that every program needs.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }

    /// Whether init ends where it is to become the program: nobody could tell that from a program that has begun.
    pub fn kills_for_execve(&self) -> bool {
        self.kills_for_execve
    }

    pub fn handover(&self) -> Handover {
        self.handover
    }

    /// SECCOMP_FILTER_FLAG_*.
    pub fn flags(&self) -> u32 {
        self.flags
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} syscalls, {} instructions", self.calls, self.program.len())?;
        match (&self.agent, self.handover) {
            (None, _) => Ok(()),
            (Some(agent), Handover::Sent) => write!(f, ", send the listener for {}", agent.path.display()),
            (Some(agent), Handover::Taken) => write!(f, ", leave the listener for {}", agent.path.display()),
        }
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{self}, flags {:#x}", self.flags)?;
        self.program.iter().enumerate().try_for_each(|(at, one)| writeln!(f, "{at:4} {}", bpf::Listing(at, one)))
    }
}

fn explain(error: SysError) -> Fault {
    error.about(match error.errno {
        Errno::EACCES => c"neither no_new_privs nor CAP_SYS_ADMIN",
        Errno::EINVAL => c"this kernel does not know some of linux.seccomp.flags",
        Errno::ESRCH => c"SECCOMP_FILTER_FLAG_TSYNC: a thread with filters of its own",
        _ => c"linux.seccomp",
    })
}

/// SECCOMP_FILTER_FLAG_*. Without `flags`, not with an empty list, it is SPEC_ALLOW, as with runc and crun: a container
/// is no slower for having a filter.
fn flags(spec: &LinuxSeccomp, notifies: bool) -> Result<u32> {
    let Some(list) = spec.flags() else { return Ok(FLAG_SPEC_ALLOW) };
    let mut bits = list.iter().enumerate().map(|(i, flag)| match flag {
        Flag::SeccompFilterFlagTsync => Ok(FLAG_TSYNC),
        Flag::SeccompFilterFlagLog => Ok(FLAG_LOG),
        Flag::SeccompFilterFlagSpecAllow => Ok(FLAG_SPEC_ALLOW),
        Flag::SeccompFilterFlagWaitKillableRecv if notifies => Ok(FLAG_WAIT_KILLABLE_RECV),
        // The kernel refuses it without a listener.
        Flag::SeccompFilterFlagWaitKillableRecv => {
            bail!(field!("linux.seccomp.flags[{i}]"; "{flag} needs SCMP_ACT_NOTIFY"))
        }
    });
    bits.try_fold(0, |all, bit: Result<u32>| Ok(all | bit?))
}

/// An ABI the filter covers, and whether the profile lists it: as with runc, only then newer calls get ENOSYS.
struct Listed {
    abi: Abi,
    listed: bool,
}

/// The native ABI first, then the profile's others, each once.
fn abis(spec: &LinuxSeccomp) -> Result<Vec<Listed>> {
    let mut abis = vec![Listed { abi: Abi::native().context(field!("linux.seccomp"))?, listed: false }];
    for (i, arch) in spec.architectures().iter().flatten().enumerate() {
        let abi = Abi::of(*arch).with_context(|| field!("linux.seccomp.architectures[{i}]"))?;
        match abis.iter_mut().find(|known| known.abi == abi) {
            Some(known) => known.listed = true,
            None => abis.push(Listed { abi, listed: true }),
        }
    }
    Ok(abis)
}

/// The profile's rules with their names looked up.
fn rules(spec: &LinuxSeccomp, unknown: Unknown, faults: &mut Faults) -> Result<Vec<SyscallRule>> {
    let entries = spec.syscalls().iter().flatten().enumerate();
    faults.keep_each(entries.map(|(i, entry)| rule(&format!("linux.seccomp.syscalls[{i}]"), entry, unknown)))
}

fn rule(field: &str, entry: &LinuxSyscall, unknown: Unknown) -> Result<SyscallRule> {
    if let Some(empty) = entry.names().iter().position(String::is_empty) {
        bail!(field!("{field}.names[{empty}]"; "empty"));
    }
    if unknown == Unknown::Refused
        && let Some((i, name)) =
            entry.names().iter().enumerate().find(|(_, name)| SystemCall::all(std::slice::from_ref(*name)).is_empty())
    {
        bail!(field!("{field}.names[{i}]"; "no architecture has a system call {name:?}"));
    }
    let calls = SystemCall::all(entry.names());
    let verdict = verdict(entry.action(), entry.errno_ret()).with_context(|| field!("{field}.errnoRet"))?;
    let clauses = clauses(field, entry.args().as_deref().unwrap_or_default())?;
    Ok(SyscallRule { calls, clauses, verdict })
}

/// The clauses of a rule: one with all conditions, or, when an argument has several, one for each condition. So runc does
/// for profiles older than conditions that hold together.
fn clauses(field: &str, args: &[LinuxSeccompArg]) -> Result<Vec<Clause>> {
    let last = ARGUMENTS - 1;
    if let Some((i, arg)) = args.iter().enumerate().find(|(_, arg)| arg.index() > last) {
        bail!(field!("{field}.args[{i}].index"; "{} is not an argument (0 to {last})", arg.index()));
    }
    let mut conditions: Vec<Condition> = args.iter().map(condition).collect();
    conditions.sort_by_key(|condition| condition.index);
    if conditions.windows(2).any(|pair| matches!(pair, [one, next] if one.index == next.index)) {
        return Ok(conditions.into_iter().map(|condition| Clause(vec![condition])).collect());
    }
    Ok(vec![Clause(conditions)])
}

/// For masked equality, `value` is the mask, and what is compared is `valueTwo`.
fn condition(arg: &LinuxSeccompArg) -> Condition {
    let (value, mask) = match arg.op() {
        LinuxSeccompOperator::ScmpCmpMaskedEq => (arg.value_two().unwrap_or(0), arg.value()),
        _ => (arg.value(), u64::MAX),
    };
    Condition { index: arg.index() as u8, operator: arg.op(), value, mask }
}
