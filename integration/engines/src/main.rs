//! Walks through container engines: each starts an engine's daemon in a private box, with a runtime below it, and types
//! the commands that the engine's users type. What they print is compared with the walk's text.
//!
//!     engines [--runtime FILE]... [--root DIRECTORY] [--walks DIRECTORY] [WALK]...
//!
//! With two runtimes each walk runs with both. DIRECTORY holds another Debian's files; then its engines are driven, and
//! not the machine's. docs/engines.md has more.

#![allow(
    clippy::disallowed_methods,
    reason = "rules of the runtime; a test process and its guest exit and spawn as they like"
)]

mod engine;
mod image;
mod readme;
mod sandbox;
mod walk;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use ocirt_integration::host::Snapshot;
use ocirt_integration::runtime;

use engine::Engine;
use sandbox::Sandbox;
use walk::{Tally, Walk};

fn main() -> ExitCode {
    let mut runtimes = Vec::new();
    let mut names = Vec::new();
    let mut root = None;
    let mut walks = Path::new(env!("CARGO_MANIFEST_DIR")).join("walks");
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--runtime" => runtimes.extend(arguments.next().map(PathBuf::from)),
            "--root" => root = arguments.next().map(PathBuf::from),
            "--walks" => walks = arguments.next().map(PathBuf::from).unwrap_or_default(),
            _ => names.push(argument),
        }
    }
    if runtimes.is_empty() {
        runtimes.push(runtime::path());
    }
    let walks: Vec<Walk> = Walk::all(&walks).into_iter().filter(|walk| walk.is_named(&names)).collect();
    if walks.is_empty() {
        eprintln!("engines: no such walk: {}", names.join(" "));
        return ExitCode::from(2);
    }
    let before = Snapshot::take();
    let mut total = Tally::default();
    for runtime in &runtimes {
        let runtime = runtime.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", runtime.display()));
        for walk in &walks {
            total.add(&travel(walk, &runtime, root.as_deref()));
        }
    }
    let mut differences = before.differences(&Snapshot::take());
    // Those of another suite, which may run at the same time, are its own.
    differences.retain(|(what, line)| *what != "cgroups" || line.contains(sandbox::TAG));
    for (what, line) in &differences {
        println!("the host's {what} changed: {line}");
    }
    println!("\n{} passed, {} failed, {} skipped", total.passed, total.failed, total.skipped);
    if total.failed == 0 && differences.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// One walk with one runtime, in a box of its own.
fn travel(walk: &Walk, runtime: &Path, root: Option<&Path>) -> Tally {
    let kind = runtime::ask_kind(runtime);
    println!("\n==== {} with {kind}", walk.name);
    let begin = Instant::now();
    // The root may be another one by then.
    let copy = std::fs::read(runtime).unwrap_or_else(|error| panic!("{}: {error}", runtime.display()));
    let tally = Sandbox::run(&walk.name, root, |place| {
        let engine = Engine::start(&walk.engine, &copy, place)?;
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
