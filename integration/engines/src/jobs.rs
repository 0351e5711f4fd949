//! Walks at the same time: each is a process of its own, since a box is made by a process that has one thread. What it
//! prints is shown when it has ended.

use std::collections::VecDeque;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::Mutex;

use ocirt_integration::{flaky, host};

use crate::walk::Tally;

/// Makes a process one of the jobs.
pub const FLAG: &str = "--job";
/// Before the numbers in a job's last line.
const ANSWER: &str = "tally:";
/// More at the same time only make steps miss their moment.
const AT_MOST: usize = 4;

/// One walk with one runtime.
pub struct Job {
    pub walk: String,
    pub runtime: PathBuf,
    pub root: Option<PathBuf>,
    pub walks: PathBuf,
}

/// Runs the jobs, `at_once` at the same time, and each that fails once more, alone. A walk that passes then is flaky: that fails
/// too, unless `engines::WALK` is in integration/flaky.txt. All of them are parts of `run`.
pub fn run_all(jobs: Vec<Job>, at_once: Option<usize>, run: &str) -> Tally {
    let processors = || std::thread::available_parallelism().map_or(1, |number| number.get().min(AT_MOST));
    let jobs = Mutex::new(VecDeque::from(jobs));
    let total = Mutex::new(Tally::default());
    let again = Mutex::new(Vec::new());
    let work = || {
        loop {
            let Some(job) = jobs.lock().expect("jobs").pop_front() else { return };
            let (text, tally) = job.run(run);
            let mut total = total.lock().expect("total");
            print!("{text}");
            if tally.failed > 0 {
                again.lock().expect("again").push((job, tally));
            } else {
                total.add(&tally);
            }
        }
    };
    std::thread::scope(|scope| (0..at_once.unwrap_or_else(processors).max(1)).for_each(|_| drop(scope.spawn(work))));
    let mut total = total.into_inner().expect("total");
    for (job, first) in again.into_inner().expect("again") {
        total.add(&job.run_again(first, run));
    }
    total
}

/// Tells the process that waits for this job how it went.
pub fn answer(tally: &Tally) {
    println!("{ANSWER} {} {} {}", tally.passed, tally.failed, tally.skipped);
}

impl Job {
    /// The tally of a second run, or of the first where the walk is flaky and not known to be.
    fn run_again(&self, first: Tally, run: &str) -> Tally {
        println!("\n==== once more, alone: {}", self.walk);
        let (text, tally) = self.run(run);
        print!("{text}");
        if tally.failed > 0 {
            return tally;
        }
        let name = format!("engines::{}", self.walk);
        let listed = flaky::listed().expect("the list of flaky tests");
        match listed.iter().find(|entry| entry.name == name) {
            Some(entry) => println!("FLAKY {name}, known since {}: {}", entry.since, entry.reason),
            None => println!("FLAKY {name}, which is not in integration/flaky.txt"),
        }
        if listed.iter().any(|entry| entry.name == name) { tally } else { first }
    }

    /// What it printed, and its tally; one without an answer has failed.
    fn run(&self, run: &str) -> (String, Tally) {
        let mut command = Command::new(std::env::current_exe().expect("own path"));
        command.arg(FLAG).arg(&self.walk).arg("--runtime").arg(&self.runtime).arg("--walks").arg(&self.walks);
        command.args(self.root.iter().flat_map(|root| ["--root".as_ref(), root.as_os_str()]));
        command.env(host::RUN, run).stdin(Stdio::null()).stdout(Stdio::piped());
        // SAFETY: between fork and exec, prctl allocates nothing. The job ends with this thread.
        unsafe {
            command.pre_exec(|| {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                Ok(())
            });
        }
        let mut text = Vec::new();
        let mut child = command.spawn().expect("a job");
        child.stdout.take().expect("a pipe").read_to_end(&mut text).expect("what a job prints");
        child.wait().expect("wait");
        let text = String::from_utf8_lossy(&text);
        match text.rsplit_once(ANSWER).and_then(|(before, numbers)| Some((before, Tally::read(numbers)?))) {
            Some((before, tally)) => (before.to_owned(), tally),
            None => (format!("{text}   FAILED  {} ended early\n", self.walk), Tally { failed: 1, ..Tally::default() }),
        }
    }
}
