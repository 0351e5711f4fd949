//! `containerd-shim-ocirt-v2`: which call it is.

// A panic would end the process that serves, and with it what it knows of its containers.
#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::string_slice, clippy::unwrap_used)]
// So would a line for a log that is full, or that nobody reads.
#![cfg_attr(not(test), deny(clippy::print_stderr, clippy::print_stdout))]

mod cgroup;
mod child;
mod console;
mod delete;
mod file;
mod io;
mod log;
mod logger;
mod mounts;
mod outcome;
mod runtime;
mod serve;
mod socket;
mod start;
mod sys;

use std::io::Write;
use std::process::ExitCode;

use containerd_shim_ocirt::call::flags::{self, Call};

// As the runtime has it: docs/decisions/0021-musl.md.
#[cfg(target_env = "musl")]
#[global_allocator]
static HEAP: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

/// What the service manager has told containerd, and nobody else (sd_notify(3), sd_listen_fds(3), sd_watchdog_enabled(3)).
/// A runtime that has it hands it on: a container would speak to the manager as a process of containerd's service, and
/// `start` would wait until it says that it is ready.
const OF_THE_SERVICE: [&str; 7] =
    ["NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID", "LISTEN_PIDFDID", "WATCHDOG_PID", "WATCHDOG_USEC"];

fn main() -> ExitCode {
    // Before anything else: the process that serves, the runtime and the programs that mount inherit what is left.
    sys::remove_variables(&OF_THE_SERVICE);
    let arguments: Vec<String> = std::env::args_os().map(|word| word.to_string_lossy().into_owned()).collect();
    match run(&arguments) {
        Ok(answer) => {
            let done = std::io::stdout().write_all(&answer);
            if done.is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            // Who called may have gone, and a macro that prints would panic.
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::FAILURE
        }
    }
}

/// Does what the command line asks, and returns what goes to standard output.
fn run(arguments: &[String]) -> Result<Vec<u8>, Box<dyn std::error::Error>> {
    let (program, rest) = arguments.split_first().ok_or("no program name")?;
    if let Some((logger::AWAIT, words)) = rest.split_first().map(|(first, words)| (first.as_str(), words)) {
        return logger::wait_and_execute(words).map(|()| Vec::new());
    }
    match flags::parse(rest.iter().map(String::as_str))? {
        Call::Start(caller) => start::run(program, &caller),
        Call::Delete(caller) => delete::run(&caller),
        Call::Info => start::info(),
        Call::Version => Ok(format!("{program} {}\n", env!("CARGO_PKG_VERSION")).into_bytes()),
    }
}
