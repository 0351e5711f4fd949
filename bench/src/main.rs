//! `make bench`: what a container costs with ocirt, with every other runtime installed, and with the floor program.
//!
//! All runtimes run the same bundle in turn, round after round, so that what disturbs the machine disturbs them alike.
//! Every run is checked: a runtime that fails is reported as failing, not as fast.

#![forbid(unsafe_code)]

mod arguments;
mod bundle;
mod chart;
mod extras;
mod host;
mod machine;
mod operations;
mod page;
mod parallel;
mod peer;
mod probe;
mod profile;
mod results;
mod rounds;
mod stats;
mod table;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use clap::Parser;
use serde_json::json;

use crate::arguments::Arguments;
use crate::host::Host;
use crate::machine::Machine;
use crate::peer::Peer;
use crate::results::Results;
use crate::table::{Bases, OPERATIONS};

const EXTRAS: [&str; 4] = ["memory", "binds", "throughput", "syscalls"];
const FLOOR: &str = "floor";

fn main() -> ExitCode {
    match bench(&Arguments::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("ocirt-bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Measures and prints everything; false if something failed or was left behind.
fn bench(arguments: &Arguments) -> Result<bool> {
    for name in &arguments.only {
        ensure!(
            OPERATIONS.contains(&name.as_str()) || EXTRAS.contains(&name.as_str()),
            "--only {name}: no such operation"
        );
    }
    let named = find_peers(arguments)?;
    let host = Host::enter()?;
    let measured = measure_all(arguments, &host, &named);
    peer::end_descendants();
    let left = host.leave();
    let (machine, results) = measured?;
    let names: Vec<String> = named.iter().map(|(name, _)| name.clone()).chain([FLOOR.to_owned()]).collect();
    let other = names.iter().find(|name| name.starts_with("crun")).or(names.first()).map_or(FLOOR, String::as_str);
    let bases = Bases { peer: other, floor: FLOOR };
    table::print(&results, &names, &bases);
    println!("\n{}", machine.verdict());
    if let Some(path) = &arguments.json {
        let json = json!({"machine": machine.to_json(), "results": results.to_json()});
        std::fs::write(path, serde_json::to_vec_pretty(&json)?).with_context(|| format!("write {path:?}"))?;
    }
    if let Some(directory) = &arguments.page {
        page::write(directory, &machine, &results, &names, &bases)?;
    }
    left.iter().for_each(|what| eprintln!("ocirt-bench: left behind: {what}"));
    Ok(left.is_empty() && !results.any_failure())
}

/// ocirt and its rivals, by name.
fn find_peers(arguments: &Arguments) -> Result<Vec<(String, PathBuf)>> {
    let mut peers = Vec::new();
    if !arguments.no_ocirt {
        let path = std::env::var_os("OCIRT").map(PathBuf::from).or_else(newest_release);
        peers.push(("ocirt".to_owned(), path.context("no release build of ocirt (make build, or OCIRT=/path)")?));
    }
    match std::env::var("PEERS") {
        Ok(list) => {
            for entry in list.split_whitespace() {
                let (name, path) =
                    entry.split_once('=').with_context(|| format!("PEERS: {entry:?} is not name=path"))?;
                peers.push((name.to_owned(), PathBuf::from(path)));
            }
        }
        Err(_) => {
            peers.extend(["crun", "runc", "youki"].iter().filter_map(|name| Some(((*name).to_owned(), in_path(name)?))))
        }
    }
    Ok(peers)
}

/// The release build that was made last, whatever it was made for.
fn newest_release() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let directories = target.read_dir().ok()?.flatten().map(|entry| entry.path().join("release/ocirt"));
    directories
        .filter(|program| program.is_file())
        .max_by_key(|program| program.metadata().and_then(|metadata| metadata.modified()).ok())
}

fn in_path(name: &str) -> Option<PathBuf> {
    let places = ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin"];
    places.iter().map(|place| Path::new(place).join(name)).find(|path| path.is_file())
}

/// Compiles one of the C programs beside this crate, unless that was done since it changed.
///
/// The result lies beside this program, so that the bench also runs where there is no compiler.
fn compile(name: &str, compiler: &str, flags: &[&str]) -> Result<PathBuf> {
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("floor");
    let source = sources.join(format!("{name}.c"));
    let program = std::env::current_exe()?.with_file_name(format!("ocirt-bench-{name}"));
    let changed = |path: &Path| path.metadata().and_then(|metadata| metadata.modified());
    let mut last = changed(&source)?;
    for entry in std::fs::read_dir(&sources)? {
        last = last.max(changed(&entry?.path())?);
    }
    let is_current = changed(&program).is_ok_and(|built| built > last);
    if !is_current {
        let mut command = Command::new(compiler);
        command.args(["-O2", "-static"]).args(flags).arg("-o").arg(&program).arg(&source);
        let status = command.status().with_context(|| format!("{compiler} (install musl-tools, gcc and libc6-dev)"))?;
        ensure!(status.success(), "{compiler} {}: {status}", source.display());
    }
    Ok(program)
}

/// The floor has musl, whose start is two system calls: glibc's would be a part of what it costs. Debian's musl-gcc
/// finds no headers of the kernel by itself.
fn compile_floor() -> Result<PathBuf> {
    let of_machine = format!("/usr/include/{}-linux-gnu", std::env::consts::ARCH);
    compile(FLOOR, "musl-gcc", &["-idirafter", "/usr/include", "-idirafter", &of_machine])
}

fn measure_all(arguments: &Arguments, host: &Host, named: &[(String, PathBuf)]) -> Result<(Machine, Results)> {
    bundle::make_rootfs(host)?;
    let (meter, floor) = (compile("meter", "cc", &[])?, compile_floor()?);
    let mut peers = Vec::new();
    for (name, path) in named.iter().map(|(name, path)| (name.as_str(), path)).chain([(FLOOR, &floor)]) {
        peers.push(Peer::new(host, name, path, &meter)?);
    }
    let mut results = Results::default();
    peers.retain(|peer| match probe::check(peer, host) {
        Ok(()) => true,
        Err(error) => {
            eprintln!("ocirt-bench: {}: {error:#}", peer.name);
            peer.clean_up(host, "probe", &format!("{}/probe", host.parent));
            results.series("run", true, &peer.name).failures.push(format!("{error:#}"));
            false
        }
    });
    if peers.is_empty() {
        bail!("no runtime works here");
    }
    let mut machine = Machine::look(host, &peers)?;
    println!("{machine}");
    rounds::measure(arguments, host, &peers, &mut results)?;
    rounds::measure_extras(arguments, host, &peers, &mut results)?;
    machine.look_again()?;
    Ok((machine, results))
}
