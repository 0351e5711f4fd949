//! ocirt, an OCI low-level runtime. The modules in reading order:
//!
//! ```text
//! cli → lifecycle → plan → init → container → sys            log: used by cli and lifecycle
//!                                                            error: used by all but init
//! ```

// Bytes from init and files of the host are parsed, never trusted; and init has nobody to panic to.
#![deny(clippy::unwrap_used, clippy::expect_used)]

pub mod cli;

pub mod lifecycle;

pub mod plan;

pub mod init;

pub mod container;

pub mod error;

pub mod sys;

pub mod log;

#[cfg(test)]
#[path = "../tests/fixtures/mod.rs"]
mod fixtures;
