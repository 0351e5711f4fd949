//! `process` of config.json (config.md, "Process"), and the process settings that `linux` holds: who the container's
//! first process is, what limits it, where it starts and which program it becomes.

pub mod capabilities;
pub mod cpu_affinity;
pub mod cwd;
pub mod descriptors;
pub mod env;
pub mod executable;
pub mod io_priority;
pub mod memory_policy;
mod number_list;
pub mod oom;
pub mod personality;
pub mod rlimits;
pub mod scheduler;
pub mod user;
