//! The command line: flags → one call into lifecycle → output. The only user of clap.
//!
//! Flags and output formats are runc's, with crun's additions: engines have both compiled in.

pub mod args;
mod bytes;
mod check;
mod checkpoint;
mod commands;
mod create;
mod delete;
mod duration;
mod events;
mod exec;
mod features;
mod gc;
mod global;
mod info;
mod inspect;
mod json;
mod kill;
mod list;
mod mounts;
mod output;
mod pause;
mod plan;
mod ps;
mod restore;
mod resume;
mod run;
mod select;
mod spec;
mod start;
mod state;
mod trace;
mod update;
mod usage;
mod verify;
mod version;
mod wait;

use std::ffi::OsString;
use std::time::Instant;

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser};

use crate::lifecycle;
use crate::log::Log;
use commands::{Cli, Command};
use global::Global;
use output::{fail, finish, print, status_of_failure};

/// The commands whose processes enter a container. Only they pay for self-protection: `ocirt state run` does not.
const ENTERING: [&str; 3] = ["create", "run", "exec"];

/// The command line as data, for manual pages and shell completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command that `arguments` spell, and returns the exit status.
pub fn main(arguments: Vec<OsString>) -> u8 {
    let args::CommandLine { words: arguments, command } = match args::normalise(arguments) {
        Ok(line) => line,
        Err(error) => {
            fail(&Log::console(), "usage", &error);
            return status_of_failure(&error.to_string());
        }
    };
    if command.is_some_and(|command| ENTERING.iter().any(|name| command == *name)) {
        // As early as the command is known, since whatever comes before it is done twice. If it fails, it fails again
        // where the log is open.
        let _ = lifecycle::protect();
    }
    match Cli::try_parse_from(&arguments) {
        Ok(cli) => dispatch(cli, &arguments),
        Err(error) => usage::report(&error, &arguments),
    }
}

fn dispatch(cli: Cli, arguments: &[OsString]) -> u8 {
    if cli.global.version {
        let name = arguments.first().cloned().unwrap_or_default();
        return finish(&Log::console(), "version", print(&version::text(&name)));
    }
    let log = match cli.global.log() {
        Ok(log) => log,
        Err(error) => return fail(&Log::console(), "usage", &error),
    };
    match cli.command {
        None => finish(&log, "help", print(&usage::help())),
        Some(command) => execute(&cli.global, &log, command),
    }
}

fn execute(global: &Global, log: &Log, command: Command) -> u8 {
    let name = command.name();
    let begun = Instant::now();
    let result = match command {
        Command::Spec(spec) => spec.execute().map(|()| 0),
        Command::Features(features) => features.execute().map(|()| 0),
        Command::Info(info) => info.execute().map(|()| 0),
        Command::Trace(trace) => trace.execute().map(|()| 0),
        command => recorded(global, log, name, command),
    };
    log.debug(&format!("{name}: {} us in all", begun.elapsed().as_micros()));
    match result {
        // A container's status is a byte already, wait(2).
        Ok(status) => u8::try_from(status).unwrap_or(u8::MAX),
        Err(error) => {
            fail(log, name, &error);
            status_of_failure(name)
        }
    }
}

/// Runs a command as a span of its own, where spans are recorded.
fn recorded(global: &Global, log: &Log, name: &str, command: Command) -> Result<i32> {
    let recorder = global.recorder().with_context(|| name.to_owned())?;
    recorder.begin_command(name, command.container());
    let result = global.host(log, &recorder).with_context(|| name.to_owned()).and_then(|host| command.execute(&host));
    recorder.end_command(&result);
    result
}

#[cfg(test)]
mod tests;
