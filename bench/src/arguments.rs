//! The command line.

use std::path::PathBuf;

use clap::Parser;

/// Compares container runtimes: time, memory, page faults, system calls.
#[derive(Parser)]
#[command(after_help = "PEERS=\"crun=/path runc=/path\" replaces the runtimes found in PATH; \
                        OCIRT=/path replaces target/*/release/ocirt.")]
pub struct Arguments {
    /// Rounds; each runs every operation of every runtime once
    #[arg(long, default_value_t = 40)]
    pub runs: usize,
    /// Ten rounds, and no memory limits
    #[arg(long)]
    pub quick: bool,
    /// Only these: run create start state kill delete list version, memory binds throughput syscalls
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<String>,
    /// Writes every sample to this file
    #[arg(long)]
    pub json: Option<PathBuf>,
    /// Writes benchmarks.svg, and the table of benchmarks.md, in this directory
    #[arg(long)]
    pub page: Option<PathBuf>,
    /// Counts the instructions of state and --version with callgrind (slow)
    #[arg(long)]
    pub callgrind: bool,
    /// Leaves ocirt out
    #[arg(long)]
    pub no_ocirt: bool,
}

impl Arguments {
    pub fn rounds(&self) -> usize {
        if self.quick { self.runs.min(10) } else { self.runs }
    }

    pub fn wants(&self, name: &str) -> bool {
        match self.only.is_empty() {
            true => !(self.quick && name == "memory"),
            false => self.only.iter().any(|only| only == name),
        }
    }
}
