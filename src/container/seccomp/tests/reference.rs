//! What a profile means, computed the slow way, for tests: straight from the profile, for one system call.

use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompArg, LinuxSeccompOperator as Operator};

use super::super::arch::{Abi, Multiplexed, X32_BIT};
use super::super::table;
use super::super::verdict::{
    RET_ALLOW, RET_ERRNO, RET_KILL_PROCESS, RET_KILL_THREAD, RET_LOG, RET_TRACE, RET_TRAP, RET_USER_NOTIF,
    default_verdict, stub, verdict,
};
use super::interpreter::Data;

/// All verdicts that are right for `data`: several, where rules with different actions contradict each other.
pub(super) fn verdicts(spec: &LinuxSeccomp, data: &Data) -> Vec<u32> {
    let default = default_verdict(spec).unwrap();
    let listed: Vec<Abi> = spec.architectures().iter().flatten().map(|arch| Abi::of(*arch).unwrap()).collect();
    let native = Abi::native().unwrap();
    let x32 = data.token == Arch::ScmpArchX86_64 as u32 && data.number >= X32_BIT;
    let of_call = |abi: &&Abi| abi.token == data.token && (abi.base == X32_BIT) == x32;
    let Some(abi) = listed.iter().chain([&native]).find(of_call) else {
        return vec![if x32 && data.number == u32::MAX { default } else { RET_KILL_THREAD }];
    };
    let newest = names(spec).filter_map(|name| numbers(abi, name).into_iter().map(|(number, _)| number).max()).max();
    if let (Some(stub), Some(newest)) = (stub(spec.default_action()), newest)
        && listed.contains(abi)
        && data.number > newest
        && newest > abi.base
    {
        return vec![stub];
    }
    let (mut plain, mut conditional) = (None, Vec::new());
    for entry in spec.syscalls().iter().flatten() {
        let verdict = verdict(entry.action(), entry.errno_ret()).unwrap();
        for (number, selector) in entry.names().iter().flat_map(|name| numbers(abi, name)) {
            if number != data.number || verdict == default {
                continue;
            }
            let args = entry.args().as_deref().unwrap_or_default();
            let twice = (0..6).any(|index| args.iter().filter(|arg| arg.index() == index).count() > 1);
            let clauses: Vec<&[LinuxSeccompArg]> = if twice { args.chunks(1).collect() } else { vec![args] };
            for clause in clauses {
                let own: Vec<_> = clause.iter().filter(|arg| selector.is_none() || arg.index() != 0).collect();
                if selector.is_none() && own.iter().all(|arg| always(arg, abi.wide)) {
                    // Without conditions: nothing else counts, the first one is it.
                    plain.get_or_insert(verdict);
                    continue;
                }
                let selected = selector.is_none_or(|call| word(data.args[0], abi.wide) == call);
                if selected && own.iter().all(|arg| holds(arg, data, abi.wide)) {
                    conditional.push(verdict);
                }
            }
        }
    }
    match plain {
        Some(verdict) => vec![verdict],
        None if conditional.is_empty() => vec![default],
        None => conditional,
    }
}

/// The first of those that let least through, in the words of seccomp(2), "Seccomp return actions".
pub(super) fn strictest(verdicts: &[u32]) -> u32 {
    const ORDER: [u32; 8] =
        [RET_KILL_PROCESS, RET_KILL_THREAD, RET_TRAP, RET_ERRNO, RET_USER_NOTIF, RET_TRACE, RET_LOG, RET_ALLOW];
    let place = |verdict: &u32| ORDER.iter().position(|action| *action == verdict & 0xffff_0000).unwrap();
    *verdicts.iter().min_by_key(|verdict| place(verdict)).unwrap()
}

fn names(spec: &LinuxSeccomp) -> impl Iterator<Item = &String> {
    spec.syscalls().iter().flatten().flat_map(|entry| entry.names())
}

/// The number of a call, and its multiplexer's with what selects it.
fn numbers(abi: &Abi, name: &str) -> Vec<(u32, Option<u64>)> {
    let direct = table::find(name).and_then(|call| call.number(abi.column)).map(|number| (number + abi.base, None));
    let multiplexed = abi.multiplexers.zip(Multiplexed::find(name)).map(|(through, call)| match call {
        Multiplexed::Socketcall(call) => (through.socketcall, Some(call.into())),
        Multiplexed::Ipc(call) => (through.ipc, Some(call.into())),
    });
    direct.into_iter().chain(multiplexed).collect()
}

fn word(value: u64, wide: bool) -> u64 {
    if wide { value } else { value & 0xffff_ffff }
}

fn always(arg: &LinuxSeccompArg, wide: bool) -> bool {
    arg.op() == Operator::ScmpCmpMaskedEq && word(arg.value(), wide) == 0
}

fn holds(arg: &LinuxSeccompArg, data: &Data, wide: bool) -> bool {
    let actual = word(data.args[arg.index()], wide);
    let value = word(arg.value(), wide);
    match arg.op() {
        Operator::ScmpCmpNe => actual != value,
        Operator::ScmpCmpLt => actual < value,
        Operator::ScmpCmpLe => actual <= value,
        Operator::ScmpCmpEq => actual == value,
        Operator::ScmpCmpGe => actual >= value,
        Operator::ScmpCmpGt => actual > value,
        Operator::ScmpCmpMaskedEq => actual & value == arg.value_two().unwrap_or(0) & value,
    }
}
