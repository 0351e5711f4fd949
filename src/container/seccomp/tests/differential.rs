//! libseccomp as a test oracle: both programs must have the same verdict for every system call.
//!
//! The oracle is a C program, built at test time; where there is no compiler or no libseccomp, the tests say so and pass.
//! Left out of the comparison, because runc adds it to what libseccomp makes, is ENOSYS for newer calls: it is checked
//! against its own rule here.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use oci_spec::runtime::{Arch, LinuxSeccomp, LinuxSeccompOperator as Operator};

use super::super::arch::X32_BIT;
use super::super::table::Column;
use super::super::*;
use super::compile;
use super::interpreter::{Data, run};
use super::profiles::{FEW, Kind, NAMES, OPERATORS, Random, allow_list, calls, profile, random_profile};
use super::reference;
use crate::sys::testing::skip;

/// The running oracle.
struct Oracle {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Oracle {
    /// None, with a word on stderr, if it cannot be built here.
    fn start() -> Option<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let unique = format!("ocirt-oracle-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(unique);
        let mut cc = Command::new("cc");
        cc.args(["-O1", "-x", "c", "-", "-lseccomp", "-o"]).arg(&path).stdin(Stdio::piped());
        let built = cc.stderr(Stdio::null()).spawn().and_then(|mut cc| {
            cc.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(include_bytes!("oracle.c")))?;
            cc.wait()
        });
        if !built.is_ok_and(|status| status.success()) {
            skip("libseccomp", "the oracle cannot be built");
            return None;
        }
        let mut child = Command::new(&path).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        std::fs::remove_file(&path).unwrap();
        let (to, from) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Some(Self { child, to, from })
    }

    fn ask(&mut self, question: &str) -> String {
        self.to.write_all(question.as_bytes()).unwrap();
        let mut answer = String::new();
        self.from.read_line(&mut answer).unwrap();
        answer.trim_end().to_string()
    }

    /// A number below 0 stands for a call that this libseccomp knows, and that the architecture does not have.
    fn number(&mut self, arch: Arch, name: &str) -> i32 {
        self.ask(&format!("number {} {name}\n", arch as u32)).parse().unwrap()
    }

    /// libseccomp's program, built with runc's calls.
    fn program(&mut self, spec: &LinuxSeccomp, optimize: u32) -> Result<Vec<Instruction>, String> {
        let default = default_verdict(spec).unwrap();
        let mut text = format!("begin {default} {optimize}\n");
        for arch in spec.architectures().iter().flatten() {
            text += &format!("arch {}\n", *arch as u32);
        }
        for entry in spec.syscalls().iter().flatten() {
            let verdict = verdict(entry.action(), entry.errno_ret()).unwrap();
            if verdict == default {
                continue;
            }
            for (name, clause) in
                entry.names().iter().flat_map(|name| clauses_of(entry).into_iter().map(move |one| (name, one)))
            {
                text += &format!("rule {verdict} {name} {}", clause.0.len());
                for Condition { index, operator, value, mask } in &clause.0 {
                    let (a, b) = if *operator == Operator::ScmpCmpMaskedEq { (mask, value) } else { (value, &0) };
                    text += &format!(" {index} {} {a} {b}", *operator as u32);
                }
                text += "\n";
            }
        }
        let answer = self.ask(&(text + "end\n"));
        if let Some(error) = answer.strip_prefix("error ") {
            return Err(error.to_string());
        }
        let numbers: Vec<u32> = answer.split(' ').skip(1).map(|number| number.parse().unwrap()).collect();
        let instruction =
            |one: &[u32]| Instruction { code: one[0] as u16, jt: one[1] as u8, jf: one[2] as u8, k: one[3] };
        Ok(numbers.chunks(4).map(instruction).collect())
    }
}

impl Drop for Oracle {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn clauses_of(entry: &LinuxSyscall) -> Vec<Clause> {
    clauses("", entry.args().as_deref().unwrap_or_default()).unwrap()
}

/// The profile without names that this libseccomp does not know.
fn known_to(oracle: &mut Oracle, spec: &LinuxSeccomp) -> LinuxSeccomp {
    let mut spec = spec.clone();
    let mut entries = spec.syscalls().clone().unwrap_or_default();
    for entry in &mut entries {
        let known =
            entry.names().iter().filter(|name| oracle.number(Arch::ScmpArchX86_64, name) != -1).cloned().collect();
        entry.set_names(known);
    }
    spec.set_syscalls(Some(entries));
    spec
}

/// How the programs compare: how many calls, and how many of them, of how many profiles, have another verdict.
#[derive(Default)]
struct Comparison {
    profiles: usize,
    refused: usize,
    calls: usize,
    differences: BTreeMap<Difference, (usize, usize)>,
    first: Option<String>,
}

/// Why two verdicts differ, and which way.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Difference {
    /// Rules with different actions hold, and libseccomp takes another one than we do.
    Stricter,
    /// libseccomp's verdict is none of a rule that holds: its program has lost a rule, or has compared one half of an
    /// argument with what the other half should be.
    Wrong,
}

impl Comparison {
    /// Compares the verdicts on one profile. Each of ours must be the profile's: the only one that holds, or of several
    /// none that is looser than libseccomp's, if that is one of them.
    fn add(
        &mut self,
        random: &mut Random,
        spec: &LinuxSeccomp,
        theirs: &[Instruction],
        data: impl Iterator<Item = Data>,
    ) {
        let filter = compile(spec).unwrap();
        let stub = stub(spec.default_action());
        let mut met = BTreeSet::new();
        let chosen = calls(random, spec, &filter, 3);
        for data in chosen.into_iter().chain(data) {
            self.calls += 1;
            let (ours, theirs) = (run(&filter.program, &data).0, run(theirs, &data).0);
            if ours == theirs || Some(ours) == stub {
                continue;
            }
            let right = reference::verdicts(spec, &data);
            let words = || format!("{data:x?}: {ours:#x}, libseccomp {theirs:#x}, right {right:x?}\n{spec:?}");
            let is_wrong = !right.contains(&theirs);
            let strictest = rules::strictness(reference::strictest(&right));
            let limit = if is_wrong { rules::strictness(theirs).max(strictest) } else { rules::strictness(theirs) };
            assert!(right.contains(&ours), "{}", words());
            assert!(rules::strictness(ours) <= limit, "looser: {}", words());
            let difference = if is_wrong { Difference::Wrong } else { Difference::Stricter };
            let count = self.differences.entry(difference).or_default();
            count.0 += usize::from(met.insert(difference));
            count.1 += 1;
            self.first.get_or_insert_with(words);
        }
        self.profiles += 1;
    }
}

/// Every number of every architecture of a profile, without arguments.
fn all_numbers() -> impl Iterator<Item = Data> {
    let tokens = [Arch::ScmpArchX86_64, Arch::ScmpArchX86, Arch::ScmpArchAarch64];
    let numbers = (0..600).chain(X32_BIT..X32_BIT + 600);
    numbers.flat_map(move |number| tokens.map(|token| Data { number, token: token as u32, ..Data::default() }))
}

#[test]
fn the_profiles_of_engines_have_libseccomps_verdicts() {
    let Some(mut oracle) = Oracle::start() else { return };
    let mut profiles = vec![("our own".into(), profile(allow_list()))];
    for (name, config) in crate::fixtures::engines() {
        if let Some(spec) = config.pointer("/linux/seccomp") {
            profiles.push((name, profile(spec.clone())));
        }
    }
    assert!(profiles.len() > 5, "{} of the fixtures have a profile", profiles.len());
    profiles.extend(super::engines::defaults().into_iter().map(|(name, value)| (name, profile(value))));
    for (name, full) in profiles {
        let spec = known_to(&mut oracle, &full);
        let theirs = oracle.program(&spec, 1).unwrap();
        let mut comparison = Comparison::default();
        comparison.add(&mut Random(1), &spec, &theirs, all_numbers());
        assert!(comparison.differences.is_empty(), "{name}: {:.2000}", comparison.first.unwrap());
        let filter = compile(&full).unwrap();
        let tree = oracle.program(&spec, 2).unwrap();
        eprintln!("{name}: {filter} {}", depth(&filter.program));
        eprintln!("    libseccomp {} {}, as a tree {} {}", theirs.len(), depth(&theirs), tree.len(), depth(&tree));
    }
}

/// The average number of steps of the kernel's emulation over the numbers of x86_64 and of x86, as text.
fn depth(program: &[Instruction]) -> String {
    let of = |arch: Arch| {
        let steps = |number| run(program, &Data { number, token: arch as u32, ..Data::default() }).1;
        (0..470).map(steps).sum::<usize>() as f64 / 470.0
    };
    format!("({:.1} steps, x86 {:.1})", of(Arch::ScmpArchX86_64), of(Arch::ScmpArchX86))
}

/// Removes the rules with which libseccomp 2.5.4 does not do what it says. A call that some architecture of the profile
/// does not have is kept as a call with a number below zero, and then the load of the number can be missing (x86_64 with a
/// rule for set_tls, x86 with one for accept). On MIPS, the numbers of socketcall and ipc are 102 and 117, not 4102 and
/// 4117.
fn everywhere(rules: &mut serde_json::Value) {
    let spec = profile(rules.clone());
    let abis = abis(&spec).unwrap();
    let known = |rule: &serde_json::Value| {
        let name = rule["names"][0].as_str().unwrap();
        let call = table::find(name).unwrap();
        let multiplexed = arch::Multiplexed::find(name).is_some();
        abis.iter().all(|listed| {
            call.number(listed.abi.column).is_some() && !(multiplexed && listed.abi.column == Column::Mips)
        })
    };
    rules["syscalls"].as_array_mut().unwrap().retain(known);
}

/// How many random profiles of a kind are compared, unless the environment variable says more.
const PROFILES: u64 = 20;

/// Compares random profiles.
fn compared(oracle: &mut Oracle, kind: &Kind) -> Comparison {
    let count = std::env::var("OCIRT_SECCOMP_PROFILES").map_or(PROFILES, |count| count.parse().unwrap());
    let mut comparison = Comparison::default();
    for seed in 1..=count {
        let mut random = Random(seed);
        let mut value = random_profile(&mut random, kind);
        everywhere(&mut value);
        let spec = profile(value);
        // libseccomp refuses some rules with nearly the same conditions and different actions.
        match oracle.program(&spec, 1) {
            Ok(theirs) => comparison.add(&mut random, &spec, &theirs, std::iter::empty()),
            Err(_) => comparison.refused += 1,
        }
    }
    let Comparison { profiles, refused, calls, differences, .. } = &comparison;
    let Kind { names, operators, conditions, one_action, .. } = kind;
    eprintln!(
        "{profiles} profiles, {refused} refused by libseccomp, {calls} calls, different {differences:?}: \
         {} names, {operators:?}, {conditions:?} conditions, one action: {one_action}",
        names.len()
    );
    comparison
}

const EQUALITY: &[&str] = &["EQ", "NE", "MASKED_EQ"];
const LOWER: &[&str] = &["EQ", "GE", "GT"];

/// Where libseccomp keeps to an order, or rules with different actions never hold at once, its verdict is ours.
#[test]
fn random_profiles_have_libseccomps_verdicts() {
    let Some(mut oracle) = Oracle::start() else { return };
    for (names, operators, conditions, several, one_action) in [
        (NAMES, OPERATORS, [0, 1], false, true),
        (NAMES, LOWER, [0, 1], true, true),
        (NAMES, EQUALITY, [0, 1], true, true),
        (NAMES, &["EQ"], [1, 3], true, false),
        (FEW, &["EQ"], [1, 1], true, false),
    ] {
        let comparison = compared(&mut oracle, &Kind { names, operators, conditions, several, one_action });
        assert!(comparison.differences.is_empty(), "{:.3000}", comparison.first.unwrap_or_default());
    }
}

/// Otherwise ours is the strictest of those that hold: `Comparison::add` looks at every call.
#[test]
fn of_rules_that_overlap_none_is_looser_than_libseccomps() {
    let Some(mut oracle) = Oracle::start() else { return };
    let (mut stricter, mut wrong) = (0, 0);
    for names in [NAMES, FEW] {
        for operators in [&["EQ"][..], &["NE"], &["MASKED_EQ"], EQUALITY, LOWER, &["LT", "LE"], OPERATORS] {
            for (conditions, one_action) in [([0, 1], false), ([0, 3], false), ([0, 1], true), ([0, 3], true)] {
                let kind = Kind { names, operators, conditions, several: true, one_action };
                let comparison = compared(&mut oracle, &kind);
                let of = |difference| comparison.differences.get(&difference).map_or(0, |(profiles, _)| *profiles);
                assert!(!one_action || of(Difference::Stricter) == 0, "{:.3000}", comparison.first.unwrap_or_default());
                stricter += of(Difference::Stricter);
                wrong += of(Difference::Wrong);
            }
        }
    }
    eprintln!("{stricter} profiles with a stricter verdict, {wrong} with a wrong one of libseccomp");
    // Both are what the decision says of overlapping rules: without any, this test has compared nothing of them.
    assert!(stricter > 0 && wrong > 0);
}

#[test]
fn the_table_has_libseccomps_numbers() {
    let Some(mut oracle) = Oracle::start() else { return };
    use Column as C;
    for (arch, column) in [
        (Arch::ScmpArchX86, C::X86),
        (Arch::ScmpArchX86_64, C::X86_64),
        (Arch::ScmpArchX32, C::X32),
        (Arch::ScmpArchArm, C::Arm),
        (Arch::ScmpArchAarch64, C::Aarch64),
        (Arch::ScmpArchMipsel, C::Mips),
        (Arch::ScmpArchMipsel64, C::Mips64),
        (Arch::ScmpArchMipsel64n32, C::Mips64n32),
        (Arch::ScmpArchPpc, C::Ppc),
        (Arch::ScmpArchPpc64le, C::Ppc64),
        (Arch::ScmpArchRiscv64, C::Riscv64),
        (Arch::ScmpArchS390, C::S390),
        (Arch::ScmpArchS390x, C::S390x),
    ] {
        for (name, _) in &table::CALLS {
            let base = if column == C::X32 { X32_BIT } else { 0 };
            let ours = table::find(name).and_then(|call| call.number(column)).map(|number| (number + base) as i32);
            let theirs = oracle.number(arch, name);
            // Newer than this libseccomp (-1), or a pseudo number, which multiplexed calls have even where they exist.
            if theirs >= 0 {
                assert_eq!(ours, Some(theirs), "{arch} {name}");
            } else if ours.is_some() && theirs < -1 {
                let newer = ["cachestat", "fchmodat2", "map_shadow_stack", "riscv_hwprobe"].contains(name);
                let multiplexed = arch::Multiplexed::find(name).is_some();
                assert!(multiplexed || newer, "{arch} {name}: {ours:?}, libseccomp {theirs}");
            }
        }
    }
}
