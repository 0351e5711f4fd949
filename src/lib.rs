//! ocirt, an OCI low-level runtime. The modules in reading order:
//!
//! ```text
//! cli → lifecycle → plan → init → container → sys            log, trace: used by cli and lifecycle
//!                                                            error: used by all but init
//! ```

// Bytes from init and files of the host are parsed, never trusted; and init has nobody to panic to.
#![deny(clippy::unwrap_used, clippy::expect_used)]
#![forbid(unsafe_code)]

// A crate of its own, with all the unsafe code.
use ocirt_sys as sys;

// All that the program needs, and what packages and their tests ask of it. What nobody in the crate needs of the rest, the
// compiler reports.
pub mod cli;

mod lifecycle;

mod plan;

mod init;

mod container;

mod error;

mod log;

mod trace;

#[cfg(test)]
#[global_allocator]
static COUNTING: sys::testing::Counting = sys::testing::Counting;

#[cfg(test)]
#[path = "../tests/fixtures/mod.rs"]
mod fixtures;

#[cfg(test)]
mod tests;
