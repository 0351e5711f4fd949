//! The program as it is, called as containerd calls it, with a runtime that has no containers: what goes wrong around a
//! container can be made to go wrong, and root is not needed but where it is said.

#![allow(clippy::disallowed_methods, reason = "rules of the runtime; a test has threads")]

mod checkpoint;
mod contract;
mod crowds;
mod ends;
mod fifos;
mod hangs;
mod mounts;
mod stdio;
mod surroundings;
mod terminal;
mod world;
