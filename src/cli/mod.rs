//! The command line: flags → one call into lifecycle → output. The only user of clap.
//!
//! Flags and output formats are runc's, with crun's additions: engines have both compiled in.

#![forbid(unsafe_code)]

pub mod args;
mod bytes;
mod checkpoint;
mod create;
mod delete;
mod duration;
mod events;
mod exec;
mod features;
mod global;
mod info;
mod json;
mod kill;
mod list;
mod mounts;
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
mod update;
mod usage;
mod version;

use std::ffi::OsString;
use std::io::Write;

use anyhow::{Context, Result};
use clap::{CommandFactory, Parser, Subcommand};

use crate::lifecycle::{self, Host, Id};
use crate::log::{self, Log};
use global::Global;

#[derive(Parser)]
#[command(
    name = "ocirt",
    disable_version_flag = true,
    args_override_self = true,
    subcommand_required = false,
    about = "A command line client for running containers as the Open Container Initiative specifies them",
    long_about = DESCRIPTION,
    override_usage = usage::ALL_COMMANDS
)]
struct Cli {
    #[command(flatten)]
    global: Global,

    #[command(subcommand)]
    command: Option<Command>,
}

/// What `--help` says before the commands.
const DESCRIPTION: &str = "\
A command line client for running containers as the Open Container Initiative specifies them.

ocirt takes a bundle, which is a directory that holds a config.json and a root filesystem, and makes a container of
it. It is a drop-in replacement for runc: container engines such as Docker, containerd, Podman and CRI-O call it the
same way.

To try it by hand:

    mkdir -p bundle/rootfs && cd bundle
    ocirt spec                  # writes config.json
    ocirt run web1              # creates, starts, waits and deletes

or in steps, as engines do: `ocirt create web1`, `ocirt start web1`, `ocirt state web1`, `ocirt kill web1 TERM`,
`ocirt delete web1`.

An error is one line on stderr, and one line in the file that --log names. The exit status is 0, or 1 after an error,
or 3 for an unknown command; `run` exits as the container does.";

#[derive(Subcommand)]
#[command(defer = true)] // a third of the work of `ocirt state`: only the command that is called gets its flags
enum Command {
    Create(create::Create),
    Run(run::Run),
    Start(start::Start),
    State(state::State),
    Exec(exec::Exec),
    Kill(kill::Kill),
    Pause(pause::Pause),
    Resume(resume::Resume),
    Update(Box<update::Update>),
    Events(events::Events),
    Delete(delete::Delete),
    List(list::List),
    Mounts(mounts::Mounts),
    Ps(ps::Ps),
    Checkpoint(checkpoint::Checkpoint),
    Restore(restore::Restore),
    Spec(spec::Spec),
    Features(features::Features),
    Info(info::Info),
    Plan(plan::Plan),
}

/// The commands whose processes enter a container. Only they pay for self-protection: `ocirt state run` does not.
const ENTERING: [&str; 3] = ["create", "run", "exec"];

/// The command line as data, for manual pages and shell completions.
pub fn command() -> clap::Command {
    Cli::command()
}

/// Runs the command that `arguments` spell, and returns the exit status.
pub fn main(arguments: Vec<OsString>) -> u8 {
    let args::Line { words: arguments, command } = match args::normalise(arguments) {
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
    let result = match command {
        Command::Spec(spec) => spec.execute().map(|()| 0),
        Command::Features(features) => features.execute().map(|()| 0),
        Command::Info(info) => info.execute().map(|()| 0),
        command => global.host(log).context(name).and_then(|host| command.execute(&host)),
    };
    match result {
        // A container's status is a byte already, wait(2).
        Ok(status) => u8::try_from(status).unwrap_or(u8::MAX),
        Err(error) => {
            fail(log, name, &error);
            status_of_failure(name)
        }
    }
}

/// The exit status of a command that failed: that of `exec` is told from its process's, as runc has it.
fn status_of_failure(command: &str) -> u8 {
    if command == "exec" { 255 } else { 1 }
}

impl Command {
    fn name(&self) -> &'static str {
        match self {
            Self::Create(_) => "create",
            Self::Run(_) => "run",
            Self::Start(_) => "start",
            Self::State(_) => "state",
            Self::Exec(_) => "exec",
            Self::Kill(_) => "kill",
            Self::Pause(_) => "pause",
            Self::Resume(_) => "resume",
            Self::Update(_) => "update",
            Self::Events(_) => "events",
            Self::Delete(_) => "delete",
            Self::List(_) => "list",
            Self::Mounts(_) => "mounts",
            Self::Ps(_) => "ps",
            Self::Checkpoint(_) => "checkpoint",
            Self::Restore(_) => "restore",
            Self::Spec(_) => "spec",
            Self::Features(_) => "features",
            Self::Info(_) => "info",
            Self::Plan(_) => "plan",
        }
    }

    fn execute(self, host: &Host) -> Result<i32> {
        match self {
            Self::Create(command) => command.execute(host).map(|()| 0),
            Self::Run(command) => command.execute(host),
            Self::Start(command) => command.execute(host).map(|()| 0),
            Self::State(command) => command.execute(host).map(|()| 0),
            Self::Exec(command) => command.execute(host),
            Self::Kill(command) => command.execute(host).map(|()| 0),
            Self::Pause(command) => command.execute(host).map(|()| 0),
            Self::Resume(command) => command.execute(host).map(|()| 0),
            Self::Update(command) => command.execute(host).map(|()| 0),
            Self::Events(command) => command.execute(host).map(|()| 0),
            Self::Delete(command) => command.execute(host).map(|()| 0),
            Self::List(command) => command.execute(host).map(|()| 0),
            Self::Mounts(command) => command.execute(host).map(|()| 0),
            Self::Ps(command) => command.execute(host).map(|()| 0),
            Self::Plan(command) => command.execute(host).map(|()| 0),
            Self::Checkpoint(command) => command.execute(host).map(|()| 0),
            Self::Restore(command) => command.execute(host),
            Self::Spec(command) => command.execute().map(|()| 0),
            Self::Features(command) => command.execute().map(|()| 0),
            Self::Info(command) => command.execute().map(|()| 0),
        }
    }
}

fn finish(log: &Log, phase: &str, result: Result<()>) -> u8 {
    result.map_or_else(|error| fail(log, phase, &error), |()| 0)
}

/// The one place that prints an error.
fn fail(log: &Log, phase: &str, error: &anyhow::Error) -> u8 {
    log.error(phase, lifecycle::code(error), error);
    1
}

/// The id of a command's argument; an error names the command, as nothing else is known yet.
fn id(command: &'static str, text: &str) -> Result<Id> {
    Id::parse(text).context(command)
}

/// Writes to stdout; a reader that went away is an error, not a panic.
fn print(text: &str) -> Result<()> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
    written.map_err(|error| log::words("write", &error)).context("stdout")
}

#[cfg(test)]
mod tests;
