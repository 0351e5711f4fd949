//! Runs the tests: one process each, several at once, and what fails once more, alone. [`crate::report`] sorts the verdicts.
//!
//! `OCIRT_KEEP=1` keeps the directories of the tests: bundles, outputs of calls, traces. `OCIRT_RESULTS` is a file for what ran.

use crate::expected::Release;
use crate::report::{Report, Verdict};
use crate::selection::Selection;
use crate::snapshot::Snapshot;
use crate::{corner, evidence, host, needs, races, runtime};
use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// `(module::name, body)`; the body panics if its claim is false.
pub type Tests = &'static [(&'static str, fn())];

const FAILED: i32 = 101;
/// Longer than any runtime call's deadline, so that the call is named first.
const TEST_DEADLINE: Duration = Duration::from_secs(90);

/// The tests that the command line chooses ([`Selection`]); exit status 2 for a command line that makes no sense.
pub fn main(groups: &[Tests]) -> ExitCode {
    let tests: Vec<_> = groups.iter().copied().flatten().map(|(name, body)| (short(name), *body)).collect();
    match run(&tests) {
        Ok(status) => status,
        Err(error) => {
            eprintln!("suite: {error}");
            ExitCode::from(2)
        }
    }
}

fn run(tests: &[(&'static str, fn())]) -> Result<ExitCode, String> {
    let selection = Selection::parse(std::env::args().skip(1))?;
    if let Some(name) = &selection.one {
        let body = tests.iter().find(|(test, _)| test == name).map(|(_, body)| *body);
        run_here(name, body.ok_or(format!("no test {name}"))?);
    }
    let chosen = selection.of(tests.iter().map(|(name, _)| *name))?;
    if selection.list {
        chosen.iter().for_each(|name| println!("{name}: test"));
        return Ok(ExitCode::SUCCESS);
    }
    Suite::new()?.run_all(chosen, selection.threads)
}

/// `lifecycle::x` for `suite::lifecycle::x`.
fn short(name: &'static str) -> &'static str {
    name.split_once("::").map_or(name, |(_, rest)| rest)
}

/// The life of one test process: isolate, run the body, undo, prove that nothing is left. A panic anywhere is the verdict.
fn run_here(name: &str, body: fn()) -> ! {
    corner::isolate(name);
    std::panic::set_hook(Box::new(|info| {
        eprintln!("{info}");
        evidence::print();
        corner::undo();
        corner::sweep();
        std::process::exit(FAILED);
    }));
    body();
    corner::finish();
    std::process::exit(0)
}

/// One run of the suite.
struct Suite {
    runtime: PathBuf,
    kind: String,
    release: Release,
    /// Its name, which is in those of all that its tests make.
    name: String,
    place: PathBuf,
}

impl Suite {
    fn new() -> Result<Self, String> {
        let runtime = runtime::path();
        let (kind, release) = runtime::ask_kind(&runtime);
        let name = host::new_run();
        let place = PathBuf::from(format!("/tmp/{name}"));
        std::fs::create_dir(&place).map_err(|error| format!("{}: {error}", place.display()))?;
        std::fs::copy(probe_path(), place.join("probe")).map_err(|error| format!("copy of the probe: {error}"))?;
        Ok(Self { runtime, kind, release, name, place })
    }

    fn run_all(&self, chosen: VecDeque<&str>, threads: Option<usize>) -> Result<ExitCode, String> {
        let report = Mutex::new(Report::new(&self.kind, self.release)?);
        let before = Snapshot::take(&self.name);
        println!("runtime {} ({}), {} tests", self.runtime.display(), self.kind, chosen.len());
        let started = Instant::now();
        let queue = Mutex::new(chosen);
        let workers =
            threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(2, |count| count.get() * 2));
        std::thread::scope(|scope| {
            for _ in 0..workers {
                scope.spawn(|| {
                    loop {
                        let Some(name) = queue.lock().expect("queue").pop_front() else { break };
                        let begun = Instant::now();
                        let verdict = self.run_apart(name);
                        let mut report = report.lock().expect("report");
                        report.took(name, begun.elapsed());
                        report.add(name, verdict);
                    }
                });
            }
        });
        let mut report = report.into_inner().expect("report");
        for name in report.again() {
            report.add_again(&name, self.run_apart(&name));
        }
        report.host(&before.differences(&Snapshot::take(&self.name)));
        self.leave(&report);
        if let Some(path) = std::env::var_os("OCIRT_RESULTS") {
            std::fs::write(&path, report.results()).map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(report.finish(&self.kind, started.elapsed()))
    }

    /// Runs one test in a process of its own; past the deadline, kills it and everything it started.
    fn run_apart(&self, name: &str) -> Verdict {
        let log = self.place.join(format!("{}.log", name.replace("::", ".")));
        let output = File::create(&log).expect("log");
        let mut child = Command::new("/proc/self/exe")
            .args(["--one", name])
            .env("RUNTIME", &self.runtime)
            .env("OCIRT_SUITE_KIND", &self.kind)
            .env(host::RUN, &self.name)
            .env("OCIRT_SUITE_PLACE", &self.place)
            // Not the host's /dev/null, which a runtime may give away.
            .stdin(File::open(&log).expect("log"))
            .stdout(output.try_clone().expect("log"))
            .stderr(output)
            .spawn()
            .expect("test process");
        let status = match runtime::wait(&mut child, deadline()) {
            Some(status) => status,
            None => {
                host::kill_tree(child.id());
                child.wait().expect("test process")
            }
        };
        verdict(status, &std::fs::read_to_string(&log).unwrap_or_default())
    }

    fn leave(&self, report: &Report) {
        if corner::keeps() {
            println!("kept: {}", self.place.display());
            return;
        }
        let _ = std::fs::remove_dir_all(&self.place);
        if !report.is_good() {
            println!("OCIRT_KEEP=1 keeps the bundles and the outputs of the calls");
        }
    }
}

/// Of one test.
fn deadline() -> Duration {
    TEST_DEADLINE + races::more_time()
}

fn verdict(status: ExitStatus, output: &str) -> Verdict {
    match (status.code(), status.signal()) {
        (Some(0), _) => Verdict::Passed,
        (Some(needs::SKIPPED), _) => {
            let word = output.lines().find_map(|line| line.strip_prefix("skipped: "));
            Verdict::Skipped(word.unwrap_or("no reason").to_owned())
        }
        (None, Some(libc::SIGKILL)) => Verdict::Failed(format!("killed after {:?}\n{output}", deadline())),
        _ => Verdict::Failed(output.to_owned()),
    }
}

/// The probe lies beside the directory of the test programs.
fn probe_path() -> PathBuf {
    let own = std::env::current_exe().expect("own path");
    own.ancestors().nth(2).expect("target directory").join("probe")
}
