//! The foundations of `containerd-shim-ocirt-v2`, a shim for containerd, Docker and Kubernetes: what it decides, as
//! functions without a system call.
//!
//! What is here: ttrpc's frames ([`wire`]), containerd's messages ([`api`]), what the command line, the environment and
//! the options mean ([`call`]), and the life of containers, processes and events ([`task`]). docs/architecture.md has
//! the map.
//!
//! What is not here yet: the event loop with its sockets, processes, pipes, mounts and cgroups, and the program itself.
//! Until then this is a library that only its tests use; nothing is built or installed under the shim's name.
#![forbid(unsafe_code)]

pub mod api;
pub mod call;
pub mod task;
#[cfg(test)]
mod testing;
pub mod wire;
