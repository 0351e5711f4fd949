//! What is measured when: rounds of every operation, then what takes more than a median.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::Result;

use crate::arguments::Arguments;
use crate::bundle::{self, SLEEP, Shape};
use crate::extras;
use crate::host::Host;
use crate::operations::{self, LIFECYCLE};
use crate::parallel;
use crate::peer::{Cost, Peer};
use crate::results::{Fact, Results};

/// The bundles of one config: of a container that prints and ends, and of one that lives.
struct Bundles {
    seccomp: bool,
    greeter: PathBuf,
    sleeper: PathBuf,
}

impl Bundles {
    fn write(host: &Host, seccomp: bool) -> Result<Self> {
        let [greeter, sleeper] = if seccomp { ["run-seccomp", "live-seccomp"] } else { ["run", "live"] };
        Ok(Bundles {
            seccomp,
            greeter: bundle::write(host, &Shape { name: greeter, seccomp, ..Shape::default() })?,
            sleeper: bundle::write(host, &Shape { name: sleeper, args: SLEEP, seccomp, ..Shape::default() })?,
        })
    }
}

/// Every operation of every runtime in turn, round after round; the first round warms up and is not counted.
pub fn measure(arguments: &Arguments, host: &Host, peers: &[Peer], results: &mut Results) -> Result<()> {
    let configs = [Bundles::write(host, false)?, Bundles::write(host, true)?];
    for round in 0..=arguments.rounds() {
        progress(&format!("round {round} of {}", arguments.rounds()));
        for turn in 0..peers.len() {
            // Another order each round, so that nobody always follows the same neighbour.
            let peer = &peers[(turn + round) % peers.len()];
            let mut turn = Turn { host, peer, results, round };
            if arguments.wants("version") {
                turn.version();
            }
            for bundles in &configs {
                if arguments.wants("run") {
                    turn.run(bundles);
                }
                if LIFECYCLE.iter().any(|operation| arguments.wants(operation)) {
                    turn.lifecycle(bundles, arguments);
                }
            }
        }
    }
    progress("");
    Ok(())
}

/// One line that the next one overwrites, for who watches.
fn progress(what: &str) {
    if std::io::stderr().is_terminal() {
        eprint!("\r{what:<50}\r");
    }
}

/// One runtime's turn in one round.
struct Turn<'a> {
    host: &'a Host,
    peer: &'a Peer,
    results: &'a mut Results,
    round: usize,
}

impl Turn<'_> {
    fn note(&mut self, operation: &str, seccomp: bool, cost: Cost) {
        let series = self.results.series(operation, seccomp, &self.peer.name);
        if self.round > 0 {
            series.costs.insert(self.round, cost);
        }
    }

    fn fail(&mut self, operation: &str, seccomp: bool, error: &anyhow::Error) {
        self.results.series(operation, seccomp, &self.peer.name).failures.push(format!("{error:#}"));
    }

    fn is_hopeless(&mut self, operation: &str, seccomp: bool) -> bool {
        self.results.series(operation, seccomp, &self.peer.name).is_hopeless()
    }

    fn clean_up(&self, bundle: &Path) {
        let name = bundle.file_name().unwrap_or_default().to_string_lossy();
        self.peer.clean_up(self.host, &name, &format!("{}/{name}", self.host.parent));
    }

    fn version(&mut self) {
        match operations::version(self.peer) {
            Ok(cost) => self.note("version", false, cost),
            Err(error) => self.fail("version", false, &error),
        }
    }

    fn run(&mut self, bundles: &Bundles) {
        if self.is_hopeless("run", bundles.seccomp) {
            return;
        }
        let id = bundles.greeter.file_name().unwrap_or_default().to_string_lossy();
        match operations::run(self.peer, &bundles.greeter, &id) {
            Ok(cost) => self.note("run", bundles.seccomp, cost),
            Err(error) => {
                self.fail("run", bundles.seccomp, &error);
                self.clean_up(&bundles.greeter);
            }
        }
    }

    fn lifecycle(&mut self, bundles: &Bundles, arguments: &Arguments) {
        if self.is_hopeless("create", bundles.seccomp) {
            return;
        }
        let id = bundles.sleeper.file_name().unwrap_or_default().to_string_lossy();
        match operations::lifecycle(self.peer, self.host, &bundles.sleeper, &id) {
            Ok(costs) => {
                for (operation, cost) in costs.into_iter().filter(|(operation, _)| arguments.wants(operation)) {
                    self.note(operation, bundles.seccomp, cost);
                }
            }
            Err(error) => {
                self.fail("create", bundles.seccomp, &error);
                self.clean_up(&bundles.sleeper);
            }
        }
    }
}

/// The facts, and the count of system calls, one runtime after the other.
pub fn measure_extras(arguments: &Arguments, host: &Host, peers: &[Peer], results: &mut Results) -> Result<()> {
    if arguments.wants("syscalls") {
        for peer in peers {
            progress(&format!("system calls of {}", peer.name));
            count_syscalls(host, peer, results)?;
        }
    }
    for peer in peers {
        let mut fact = |name: &str, value: Result<f64>| {
            let value = value.map_err(|error| format!("{error:#}"));
            results.facts.push(Fact { name: name.to_owned(), peer: peer.name.clone(), value });
        };
        if arguments.wants("memory") {
            progress(&format!("smallest memory limit of {}", peer.name));
            fact("smallest memory limit, KiB", extras::smallest_memory(peer, host).map(|kib| kib as f64));
        }
        if arguments.wants("binds") {
            progress(&format!("bind mounts of {}", peer.name));
            match extras::per_bind(peer, host, arguments.rounds().min(15)) {
                Ok((wall, cpu)) => {
                    fact("one bind mount more, µs wall", Ok(wall));
                    fact("one bind mount more, µs CPU", Ok(cpu));
                }
                Err(error) => fact("one bind mount more, µs wall", Err(error)),
            }
        }
        if arguments.callgrind {
            fact(
                "instructions of --version",
                extras::instructions(peer, host, &["--version"]).map(|count| count as f64),
            );
            fact("instructions of list", extras::instructions(peer, host, &["list"]).map(|count| count as f64));
        }
    }
    if arguments.wants("throughput") {
        progress("many at a time");
        results.facts.extend(parallel::measure(host, peers, if arguments.quick { 2 } else { 6 })?);
    }
    progress("");
    Ok(())
}

fn count_syscalls(host: &Host, peer: &Peer, results: &mut Results) -> Result<()> {
    let [plain, filtered, live] = ["count-run", "count-run-seccomp", "count-live"];
    let greeter = bundle::write(host, &Shape { name: plain, ..Shape::default() })?;
    let greeter_filtered = bundle::write(host, &Shape { name: filtered, seccomp: true, ..Shape::default() })?;
    let sleeper = bundle::write(host, &Shape { name: live, args: SLEEP, ..Shape::default() })?;
    let [greeter, greeter_filtered, sleeper] =
        [&greeter, &greeter_filtered, &sleeper].map(|path| path.to_string_lossy());
    let counted: [(&str, bool, &[&str]); 4] = [
        ("run", false, &["run", "--bundle", &greeter, plain]),
        ("run", true, &["run", "--bundle", &greeter_filtered, filtered]),
        ("version", false, &["--version"]),
        ("list", false, &["list"]),
    ];
    for (operation, seccomp, words) in counted {
        note_syscalls(results, peer, operation, seccomp, extras::syscalls(peer, host, words));
    }
    // strace would follow a container that lives on; so only commands on one that was made without it.
    let created = peer.measure(&["create", "--bundle", &sleeper, live], 0).and_then(|outcome| outcome.expect_success());
    if let Err(error) = created {
        results.series("state", false, &peer.name).failures.push(format!("{error:#}"));
    } else {
        for (operation, words) in [
            ("state", &["state", live][..]),
            ("start", &["start", live]),
            ("exec", &["exec", live, "/bin/true"]),
            ("kill", &["kill", live, "KILL"]),
        ] {
            note_syscalls(results, peer, operation, false, extras::syscalls(peer, host, words));
        }
        crate::peer::end_descendants();
        note_syscalls(results, peer, "delete", false, extras::syscalls(peer, host, &["delete", live]));
    }
    peer.clean_up(host, live, &format!("{}/{live}", host.parent));
    Ok(())
}

fn note_syscalls(results: &mut Results, peer: &Peer, operation: &str, seccomp: bool, count: Result<u64>) {
    let series = results.series(operation, seccomp, &peer.name);
    match count {
        Ok(count) => series.syscalls = Some(count),
        Err(error) => series.failures.push(format!("strace: {error:#}")),
    }
}
