//! The foundations of `containerd-shim-ocirt-v2`, a shim for containerd, Docker and Kubernetes: what it decides, as functions
//! without a system call.
//!
//! What is here: ttrpc's frames ([`wire`]), containerd's messages ([`api`]), and what the command line, the environment and
//! the options mean ([`call`]).
//!
//! What is not here yet: the life of containers, processes and events; then the event loop with its sockets, processes, pipes,
//! mounts and cgroups, and the program itself. Until then this is a library that only its tests use; nothing is built or
//! installed under the shim's name.
#![forbid(unsafe_code)]

pub mod api;
pub mod call;
#[cfg(test)]
mod testing;
pub mod wire;
