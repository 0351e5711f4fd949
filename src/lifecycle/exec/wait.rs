//! The waits of an exec for its process. The container may stop that process or be paused, and an agent may not answer: each
//! wait ends, but for that of a paused container, which ends when the container goes on or somebody sends a signal.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::container::cgroup::Paths;
use crate::container::seccomp::Agent;
use crate::lifecycle::process::agent;
use crate::lifecycle::refusal::Refusal;
use crate::sys::process::{self, Ready};
use crate::sys::signal::{self, Signals};

/// How long the process may take from one report to the next, not counting the time in which the container is paused: its
/// memory may be scarce and its CPU time short, and the container's processes may stop it.
const REPORT_TIMEOUT: Duration = Duration::from_secs(60);
/// How long it may still take to become its program, which the signal is for, once a signal asks for its end.
const END_TIMEOUT: Duration = Duration::from_secs(1);
/// How often a process that does not report is looked at, whether it is paused.
const LOOK: Duration = Duration::from_secs(1);

/// What ends a wait for the process, besides the process itself.
pub struct ProcessWait<'a> {
    /// The container's first process.
    init: BorrowedFd<'a>,
    /// The caller's, of an exec in the foreground.
    signals: Option<&'a Signals>,
    /// The container's, which may be frozen.
    cgroup: &'a Paths,
    report_timeout: Duration,
    heard: Vec<i32>,
    /// Since when somebody wants an end, and the signal that says so.
    asked: Option<(Instant, i32)>,
}

impl<'a> ProcessWait<'a> {
    pub fn new(init: BorrowedFd<'a>, signals: Option<&'a Signals>, cgroup: &'a Paths) -> Self {
        Self { init, signals, cgroup, report_timeout: REPORT_TIMEOUT, heard: Vec::new(), asked: None }
    }

    /// The signals that came meanwhile.
    pub fn heard(self) -> Vec<i32> {
        self.heard
    }

    /// Waits until there is something to read from `fd`, or to reap. The end of the container ends the wait, and so does a
    /// signal. `agent` is the one on whose answers the process depends.
    pub fn until_ready(&mut self, fd: BorrowedFd, agent: Option<&Agent>) -> Result<()> {
        let agents = Duration::from_millis(u64::from(agent::ANSWER_TIMEOUT));
        let timeout = agent.map_or(self.report_timeout, |_| agents);
        let mut begun = Instant::now();
        loop {
            let signals = self.signals.map(|signals| (signals.as_fd(), Ready::Read));
            let watched = [Some((fd, Ready::Read)), Some((self.init, Ready::Read)), signals];
            let slice = u32::try_from(self.left(begun, timeout).min(LOOK).as_millis()).unwrap_or(u32::MAX);
            let [is_there, has_ended, is_called] =
                process::poll_for(watched, Some(slice.saturating_add(1))).context("report of the process")?;
            if is_there {
                return Ok(());
            }
            ensure!(!has_ended, Refusal::EndedMeanwhile);
            if is_called {
                self.hear()?;
            } else if self.asked.is_none() && self.cgroup.is_frozen().unwrap_or(false) {
                // A process that stands still like all others of the container is not late: it goes on with them, as runc's
                // does. How long that may take is for the one to say who has paused the container.
                begun = Instant::now();
            }
            if self.left(begun, timeout).is_zero() {
                return self.give_up(agent);
            }
        }
    }

    fn left(&self, begun: Instant, timeout: Duration) -> Duration {
        let (since, timeout) = self.asked.map_or((begun, timeout), |(asked, _)| (asked, END_TIMEOUT));
        timeout.saturating_sub(since.elapsed())
    }

    fn give_up(&self, agent: Option<&Agent>) -> Result<()> {
        match (self.asked, agent) {
            (Some((_, number)), _) => {
                bail!("signal {number} came while the process was set up, and it did not go on")
            }
            (None, Some(agent)) => bail!(agent::no_answer(&agent.path)),
            (None, None) => {
                let seconds = REPORT_TIMEOUT.as_secs();
                bail!("the process did not go on for {seconds} s while it was set up (did the container stop it?)")
            }
        }
    }

    /// Keeps the signals for the program, which they are meant for.
    fn hear(&mut self) -> Result<()> {
        while let Some(number) = self.signals.map(Signals::next).transpose()?.flatten() {
            if number != signal::CHLD {
                self.heard.push(number);
            }
            if self.asked.is_none() && signal::asks_to_end(number) {
                self.asked = Some((Instant::now(), number));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::container::cgroup::Layout;
    use crate::sys::scratch::Directory;
    use crate::sys::socket;
    use std::fs;
    use std::os::fd::OwnedFd;
    use std::thread::sleep;

    const SHORT: Duration = Duration::from_millis(200);

    /// A container that lives, a process that does not report, and a directory that stands for the freezer's.
    struct Case {
        freezer: Directory,
        cgroup: Paths,
        init: (OwnedFd, OwnedFd),
        link: (OwnedFd, OwnedFd),
    }

    impl Case {
        fn new() -> Self {
            let freezer = Directory::new();
            let path = freezer.path().to_str().unwrap().to_owned();
            let cgroup = Paths { layout: Layout::V1, directories: [("freezer".to_owned(), path)].into(), unit: None };
            let case = Self { freezer, cgroup, init: socket::pair().unwrap(), link: socket::pair().unwrap() };
            case.freeze(false);
            case
        }

        fn freeze(&self, is_frozen: bool) {
            // In one step: an empty file is none that is frozen.
            let next = self.freezer.join("next");
            fs::write(&next, if is_frozen { "1\n" } else { "0\n" }).unwrap();
            fs::rename(next, self.freezer.join("freezer.self_freezing")).unwrap();
        }

        #[expect(clippy::disallowed_methods, reason = "a test that clones no process")]
        fn wait(&self) -> Result<()> {
            let mut wait = ProcessWait::new(self.init.0.as_fd(), None, &self.cgroup);
            assert_eq!(wait.report_timeout, REPORT_TIMEOUT);
            wait.report_timeout = SHORT;
            // A wait without an end is a failure of the test, not a test without an end.
            let late = self.link.1.try_clone().unwrap();
            std::thread::spawn(move || {
                sleep(100 * SHORT);
                let _ = socket::send(late.as_fd(), b"late", &[]);
            });
            wait.until_ready(self.link.0.as_fd(), None)
        }
    }

    #[test]
    fn a_process_that_does_not_report_is_given_up() {
        let case = Case::new();
        let begun = Instant::now();
        let error = case.wait().unwrap_err().to_string();
        assert_eq!(error, "the process did not go on for 60 s while it was set up (did the container stop it?)");
        assert!(begun.elapsed() >= SHORT && begun.elapsed() < 50 * SHORT, "{:?}", begun.elapsed());
    }

    #[test]
    fn the_time_of_a_pause_does_not_count() {
        let case = Case::new();
        case.freeze(true);
        std::thread::scope(|scope| {
            let wait = scope.spawn(|| case.wait());
            sleep(5 * SHORT);
            assert!(!wait.is_finished(), "{:?}", wait.join().unwrap());
            socket::send(case.link.1.as_fd(), b"x", &[]).unwrap();
            wait.join().unwrap().unwrap();
        });
    }

    #[test]
    fn behind_a_pause_the_wait_has_an_end_again() {
        let case = Case::new();
        case.freeze(true);
        std::thread::scope(|scope| {
            let wait = scope.spawn(|| case.wait());
            sleep(3 * SHORT);
            assert!(!wait.is_finished());
            case.freeze(false);
            assert!(wait.join().unwrap().unwrap_err().to_string().contains("did not go on for 60 s"));
        });
    }

    #[test]
    fn the_end_of_the_container_ends_the_wait_of_a_paused_one() {
        let case = Case::new();
        case.freeze(true);
        std::thread::scope(|scope| {
            let wait = scope.spawn(|| case.wait());
            sleep(2 * SHORT);
            // A pidfd is readable, too, once its process has ended.
            socket::send(case.init.1.as_fd(), b"x", &[]).unwrap();
            assert_eq!(wait.join().unwrap().unwrap_err().downcast_ref(), Some(&Refusal::EndedMeanwhile));
        });
    }
}
