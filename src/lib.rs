//! ocirt, an OCI low-level runtime. The modules in reading order:
//!
//! ```text
//! cli → lifecycle → plan → init → container → sys            log: used by cli and lifecycle
//! ```

#![deny(unsafe_op_in_unsafe_fn)]

pub mod cli;

pub mod lifecycle;

pub mod plan;

pub mod init;

pub mod container;

pub mod sys;

pub mod log;
