//! Walks through container engines: each starts an engine's daemon in a private box, with a runtime below it, and types
//! the commands that the engine's users type. What they print is compared with the walk's text.
//!
//!     engines [--runtime FILE]... [--root DIRECTORY] [--walks DIRECTORY] [--jobs N] [WALK]...
//!
//! With two runtimes each walk runs with both. DIRECTORY holds another Debian's files; then its engines are driven, and
//! not the machine's. N walks run at the same time, each in a process of its own. docs/engines.md has more.

#![allow(
    clippy::disallowed_methods,
    reason = "rules of the runtime; a test process and its guest exit and spawn as they like"
)]

mod engine;
mod image;
mod jobs;
mod readme;
mod sandbox;
mod walk;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use ocirt_integration::snapshot::Snapshot;
use ocirt_integration::{host, runtime};

use engine::Engine;
use jobs::Job;
use sandbox::Sandbox;
use walk::{Tally, Walk};

/// What the command line asks for.
#[derive(Default)]
struct Wishes {
    runtimes: Vec<PathBuf>,
    names: Vec<String>,
    root: Option<PathBuf>,
    walks: PathBuf,
    jobs: Option<usize>,
    /// This process is one of the jobs.
    is_job: bool,
}

impl Wishes {
    fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let walks = Path::new(env!("CARGO_MANIFEST_DIR")).join("walks");
        let mut wishes = Self { walks, ..Self::default() };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--runtime" => wishes.runtimes.push(PathBuf::from(value()?)),
                "--root" => wishes.root = Some(PathBuf::from(value()?)),
                "--walks" => wishes.walks = PathBuf::from(value()?),
                "--jobs" => wishes.jobs = Some(value()?.parse().map_err(|_| "--jobs needs a number")?),
                jobs::FLAG => wishes.is_job = true,
                _ if argument.starts_with('-') => return Err(format!("{argument}: no such flag")),
                _ => wishes.names.push(argument),
            }
        }
        if wishes.runtimes.is_empty() {
            wishes.runtimes.push(runtime::path());
        }
        Ok(wishes)
    }

    /// The walks that are asked for, the longest first.
    fn walks(&self) -> Result<Vec<Walk>, String> {
        let mut walks = Walk::all(&self.walks);
        if let Some(name) = self.names.iter().find(|name| !walks.iter().any(|walk| walk.name == **name)) {
            return Err(format!("no such walk: {name}"));
        }
        walks.retain(|walk| walk.is_named(&self.names));
        walks.sort_by_key(|walk| std::cmp::Reverse(walk.length()));
        Ok(walks)
    }
}

fn main() -> ExitCode {
    match Wishes::read(std::env::args().skip(1)).and_then(|wishes| run(&wishes)) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("engines: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether all went well.
fn run(wishes: &Wishes) -> Result<bool, String> {
    let walks = wishes.walks()?;
    if wishes.is_job {
        let tally = travel(&walks[0], &wishes.runtimes[0], wishes.root.as_deref());
        jobs::answer(&tally);
        return Ok(true);
    }
    let mut jobs = Vec::new();
    for runtime in &wishes.runtimes {
        let runtime = runtime.canonicalize().map_err(|error| format!("{}: {error}", runtime.display()))?;
        jobs.extend(walks.iter().map(|walk| Job {
            walk: walk.name.clone(),
            runtime: runtime.clone(),
            root: wishes.root.clone(),
            walks: wishes.walks.clone(),
        }));
    }
    let name = host::new_run();
    let before = Snapshot::take(&name);
    let total = jobs::run_all(jobs, wishes.jobs, &name);
    let differences = before.differences(&Snapshot::take(&name));
    for (what, line) in &differences {
        println!("the host's {what} changed: {line}");
    }
    println!("\n{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
    Ok(total.failed == 0 && differences.is_empty())
}

/// One walk with one runtime, in a box of its own.
fn travel(walk: &Walk, runtime: &Path, root: Option<&Path>) -> Tally {
    let (kind, _) = runtime::ask_kind(runtime);
    println!("\n==== {} with {kind}", walk.name);
    let begin = Instant::now();
    // The root may be another one by then.
    let copy = std::fs::read(runtime).unwrap_or_else(|error| panic!("{}: {error}", runtime.display()));
    let shim = std::env::var_os("OCIRT_SHIM").map(|shim| std::fs::read(shim).expect("the shim"));
    let tally = Sandbox::run(&walk.name, root, |place| {
        let engine = Engine::start(&walk.engine, &copy, shim.as_deref(), place)?;
        let tally = walk.run(&kind, &engine.environment, place);
        if tally.failed > 0 {
            engine.show_log();
        }
        Ok(tally)
    });
    let Tally { passed, failed, skipped } = tally;
    println!(
        "{} with {kind}: {passed} steps passed, {failed} failed, {skipped} skipped, {:.1} s",
        walk.name,
        begin.elapsed().as_secs_f32()
    );
    tally
}
