//! The cgroup against the real kernel, and as data.

mod kernel;
mod translation;
mod walk;
