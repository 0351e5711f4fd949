//! What `containerd-shim-ocirt-v2`, a shim for containerd, Docker and Kubernetes, decides: functions and state machines
//! without a system call.
//!
//! ttrpc's frames are in [`wire`], containerd's messages in [`api`], what the command line, the environment and the
//! options mean in [`call`], the life of containers, processes and events in [`task`], and what a cgroup's files mean
//! in [`stats`]. The program that carries it out is in `shim/program`: one thread, one loop. docs/architecture.md has
//! the map of both, and what the program cannot do yet.
#![forbid(unsafe_code)]
// A panic would end the process that serves, and with it what it knows of its containers.
#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::string_slice, clippy::unwrap_used)]

pub mod api;
pub mod call;
pub mod mount;
pub mod stats;
pub mod task;
#[cfg(test)]
mod testing;
pub mod wire;
