//! Runs the tests: one process each, several at once, each verdict compared with what is expected of this runtime.
//!
//! `expected/<runtime>.txt` names the tests in which that runtime differs, with a reason each; a listed test that passes
//! is a failure of the suite, unless the reason starts with `sometimes: `. Skips carry one of a few reasons ([`Need`]), each with a bound. The module `deliberate` must
//! fail, or the harness could not.

use crate::host;
use std::collections::{BTreeMap, VecDeque};
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// `(module::name, body)`; the body panics if its claim is false.
pub type Tests = &'static [(&'static str, fn())];

/// What a machine may lack, how many tests may be skipped for it, and the words of the skip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    CgroupV1,
    CgroupV2,
    /// The cgroupfs driver: the test is about its form of cgroupsPath.
    Cgroupfs,
    /// A host that systemd runs.
    Systemd,
    CapSysResource,
    KernelFeature,
    Ocirt,
    /// Files of engines that are not part of the project.
    EngineConfigs,
    /// ip(8) and a kernel with veth devices.
    NetDevices,
    /// strace(1), which injects failures.
    Strace,
    /// A CRIU that works here (scripts/criu fetches one), and a runtime that calls it.
    Criu,
    /// A user without a cgroup of his own.
    NoDelegation,
    /// AppArmor in the kernel, and apparmor_parser(8).
    Apparmor,
    /// A systemd of the tests' user.
    UserManager,
    /// A runtime that root calls: the kernel lets nobody else do what the test is about ([`need_root`]).
    Root,
}

const SKIP_BOUNDS: &[(&str, usize)] = &[
    ("CgroupV1", 20),
    ("CgroupV2", 20),
    ("Cgroupfs", 16),
    ("Systemd", 26),
    ("CapSysResource", 6),
    ("KernelFeature", 8),
    ("Ocirt", 178),
    ("EngineConfigs", 4),
    ("NetDevices", 7),
    ("Strace", 4),
    ("Criu", 60),
    ("NoDelegation", 4),
    ("Apparmor", 4),
    ("UserManager", 8),
    ("Root", 80),
];

const SKIPPED: i32 = 77;
const FAILED: i32 = 101;
/// Longer than any runtime call's deadline, so that the call is named first.
const TEST_DEADLINE: Duration = Duration::from_secs(90);

/// Ends this test, visibly, unless `met`.
pub fn need(what: Need, met: bool) {
    if !met {
        eprintln!("skipped: {what:?}");
        host::finish();
        std::process::exit(SKIPPED);
    }
}

/// Ends this test, visibly, unless the runtime is ocirt: for what only ocirt promises.
pub fn need_ocirt() {
    need(Need::Ocirt, crate::runtime::kind() == "ocirt");
}

/// Ends this test, visibly, if the suite is the ordinary user's: for what the kernel gives to root alone.
pub fn need_root() {
    need(Need::Root, !crate::user::has_suite());
}

#[derive(Clone, PartialEq)]
enum Verdict {
    Passed,
    Failed(String),
    Skipped(String),
}

/// The whole suite, or with `--one NAME` the one test, or with words only the tests whose name contains one of them.
pub fn main(groups: &[Tests]) -> ExitCode {
    let tests: Vec<_> = groups.iter().copied().flatten().map(|(name, body)| (short(name), *body)).collect();
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some([_, name]) = arguments.windows(2).find(|pair| pair[0] == "--one") {
        let body = tests.iter().find(|(test, _)| test == name).map(|(_, body)| *body);
        run_here(name, body.unwrap_or_else(|| panic!("no test {name}")));
    }
    let filters: Vec<&String> = arguments.iter().filter(|word| !word.starts_with('-')).collect();
    let chosen: VecDeque<&str> = tests
        .iter()
        .map(|(name, _)| *name)
        .filter(|name| filters.is_empty() || filters.iter().any(|filter| name.contains(filter.as_str())))
        .collect();
    if arguments.iter().any(|word| word == "--list") {
        chosen.iter().for_each(|name| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    run_all(chosen)
}

/// `lifecycle::x` for `suite::lifecycle::x`.
fn short(name: &'static str) -> &'static str {
    name.split_once("::").map_or(name, |(_, rest)| rest)
}

/// The life of one test process: isolate, run the body, undo, prove that nothing is left. A panic anywhere is the verdict.
fn run_here(name: &str, body: fn()) -> ! {
    host::isolate(name);
    std::panic::set_hook(Box::new(|info| {
        eprintln!("{info}");
        host::undo();
        host::sweep();
        std::process::exit(FAILED);
    }));
    body();
    host::finish();
    std::process::exit(0)
}

fn run_all(chosen: VecDeque<&str>) -> ExitCode {
    let runtime = crate::runtime::path();
    let kind = crate::runtime::ask_kind(&runtime);
    let expected = expected(&kind);
    let place = PathBuf::from(format!("/tmp/ocirt-suite-{}", std::process::id()));
    std::fs::create_dir_all(&place).expect("suite directory");
    std::fs::copy(probe_path(), place.join("probe")).expect("copy of the probe");
    let before = host::Snapshot::take();
    println!("runtime {} ({kind}), {} tests", runtime.display(), chosen.len());

    let started = Instant::now();
    let queue = Mutex::new(chosen);
    let report = Mutex::new(Report::default());
    let workers = std::thread::available_parallelism().map_or(2, |count| count.get() * 2);
    std::thread::scope(|scope| {
        for _ in 0..workers {
            scope.spawn(|| {
                loop {
                    let Some(name) = queue.lock().expect("queue").pop_front() else { break };
                    let verdict = run_apart(name, &place, &runtime, &kind);
                    report.lock().expect("report").add(name, verdict, expected.get(name));
                }
            });
        }
    });
    let mut report = report.into_inner().expect("report");
    report.host(&before.differences(&host::Snapshot::take()), &expected);
    let _ = std::fs::remove_dir_all(&place);
    report.finish(&kind, started.elapsed())
}

/// Runs one test in a process of its own; past the deadline, kills it and everything it started.
fn run_apart(name: &str, place: &Path, runtime: &Path, kind: &str) -> Verdict {
    let log = place.join(format!("{}.log", name.replace("::", ".")));
    let output = File::create(&log).expect("log");
    let mut child = Command::new("/proc/self/exe")
        .args(["--one", name])
        .env("RUNTIME", runtime)
        .env("OCIRT_SUITE_KIND", kind)
        .env("OCIRT_SUITE_PLACE", place)
        // Not the host's /dev/null, which a runtime may give away.
        .stdin(File::open(&log).expect("log"))
        .stdout(output.try_clone().expect("log"))
        .stderr(output)
        .spawn()
        .expect("test process");
    let status = match crate::runtime::wait(&mut child, TEST_DEADLINE) {
        Some(status) => status,
        None => {
            host::kill_tree(child.id());
            child.wait().expect("test process")
        }
    };
    verdict(status, &std::fs::read_to_string(&log).unwrap_or_default())
}

fn verdict(status: ExitStatus, output: &str) -> Verdict {
    match (status.code(), status.signal()) {
        (Some(0), _) => Verdict::Passed,
        (Some(SKIPPED), _) => {
            let reason = output.lines().find_map(|line| line.strip_prefix("skipped: "));
            Verdict::Skipped(reason.unwrap_or("no reason").to_owned())
        }
        (None, Some(libc::SIGKILL)) => Verdict::Failed(format!("killed after {TEST_DEADLINE:?}\n{output}")),
        _ => Verdict::Failed(output.to_owned()),
    }
}

/// `name → reason` of expected/<kind>.txt; lines are `name: reason`, `#` starts a comment.
fn expected(kind: &str) -> BTreeMap<String, String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("expected").join(format!("{kind}.txt"));
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.filter_map(|line| line.split_once(": ")).map(|(name, why)| (name.to_owned(), why.to_owned())).collect()
}

#[derive(Default)]
struct Report {
    passed: usize,
    differs: Vec<(String, String)>,
    skipped: Vec<(String, String)>,
    surprises: Vec<(String, String)>,
}

impl Report {
    /// Sorts a verdict under what was expected, and prints its line.
    fn add(&mut self, name: &str, verdict: Verdict, expected: Option<&String>) {
        let deliberate = name.starts_with("deliberate::");
        match verdict {
            Verdict::Passed if deliberate => self.surprise(name, "a false claim passed: the harness cannot fail"),
            Verdict::Failed(_) if deliberate => self.passed += 1,
            // A race, or a difference that only some releases or cgroup versions show.
            Verdict::Passed if expected.is_some_and(|why| why.starts_with("sometimes: ")) => self.passed += 1,
            Verdict::Passed if expected.is_some() => self.surprise(name, "an expected failure passed"),
            Verdict::Passed => self.passed += 1,
            Verdict::Failed(_) if expected.is_some() => {
                let why = expected.cloned().unwrap_or_default();
                println!("differs {name}: {why}");
                self.differs.push((name.to_owned(), why));
            }
            Verdict::Failed(output) => self.surprise(name, &output),
            Verdict::Skipped(reason) if !SKIP_BOUNDS.iter().any(|(known, _)| *known == reason) => {
                self.surprise(name, &format!("skipped for an unknown reason: {reason}"));
            }
            Verdict::Skipped(reason) => {
                println!("skipped: {name}: {reason}");
                self.skipped.push((name.to_owned(), reason));
            }
        }
    }

    fn surprise(&mut self, name: &str, output: &str) {
        println!("FAILED  {name}\n{}", output.trim_end().replace('\n', "\n        "));
        self.surprises.push((name.to_owned(), output.lines().next().unwrap_or("").to_owned()));
    }

    /// A host that is not as before fails the suite, as does a reason that skipped more tests than it may.
    fn host(&mut self, differences: &[(&str, String)], expected: &BTreeMap<String, String>) {
        for (what, line) in differences {
            let name = format!("host::{what}");
            self.add(&name, Verdict::Failed(line.clone()), expected.get(&name));
        }
        for (reason, bound) in SKIP_BOUNDS {
            let count = self.skipped.iter().filter(|(_, why)| why == reason).count();
            if count > *bound {
                self.surprise("skips::are_bounded", &format!("{count} tests skipped for {reason}, at most {bound}"));
            }
        }
    }

    fn finish(&self, kind: &str, took: Duration) -> ExitCode {
        println!(
            "\n{kind}: {} passed, {} differ as documented, {} skipped, {} FAILED, {:.1} s",
            self.passed,
            self.differs.len(),
            self.skipped.len(),
            self.surprises.len(),
            took.as_secs_f64()
        );
        for (name, first_line) in &self.surprises {
            println!("  {name}: {first_line}");
        }
        ExitCode::from(u8::from(!self.surprises.is_empty()))
    }
}

/// The probe lies beside the directory of the test programs.
fn probe_path() -> PathBuf {
    let own = std::env::current_exe().expect("own path");
    own.ancestors().nth(2).expect("target directory").join("probe")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn surprises(name: &str, verdict: Verdict, expected: Option<&str>) -> usize {
        let mut report = Report::default();
        report.add(name, verdict, expected.map(str::to_owned).as_ref());
        report.surprises.len()
    }

    #[test]
    fn a_surprise_in_either_direction_fails_the_suite() {
        let failed = || Verdict::Failed("no".into());
        assert_eq!(surprises("a::b", failed(), None), 1);
        assert_eq!(surprises("a::b", failed(), Some("why")), 0);
        assert_eq!(surprises("a::b", Verdict::Passed, Some("why")), 1);
        assert_eq!(surprises("a::b", Verdict::Passed, Some("sometimes: why")), 0);
        assert_eq!(surprises("deliberate::b", Verdict::Passed, None), 1);
        assert_eq!(surprises("deliberate::b", failed(), None), 0);
    }

    #[test]
    fn skips_past_their_bound_fail_the_suite() {
        let mut report = Report::default();
        let (reason, bound) = SKIP_BOUNDS[0];
        for _ in 0..=bound {
            report.add("a::b", Verdict::Skipped(reason.into()), None);
        }
        report.host(&[], &BTreeMap::new());
        assert_eq!(report.surprises.len(), 1);
    }

    #[test]
    fn an_unknown_reason_to_skip_fails_the_suite() {
        let mut report = Report::default();
        report.add("a::b", Verdict::Skipped("no reason".into()), None);
        report.host(&[], &BTreeMap::new());
        assert_eq!(report.surprises.len(), 1);
    }
}
