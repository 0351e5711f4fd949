//! Parse, call, print one error, choose the exit status: all of it in [`ocirt::cli`].

#![forbid(unsafe_code)]

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(ocirt::cli::main(std::env::args_os().collect()))
}
