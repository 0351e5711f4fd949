//! Linux, one typed function per call. The only home of `unsafe`, `libc` and `nix`.
//!
//! Every descriptor is opened close-on-exec and returned owned; every path is a `&CStr`, so that what runs after the
//! clone never touches the heap. A function that init or an `apply()` calls uses neither `std` nor the heap.

#![deny(clippy::expect_used, clippy::indexing_slicing, clippy::multiple_unsafe_ops_per_block, clippy::unwrap_used)]

pub mod beneath;
pub mod binary;
pub mod bpf;
pub mod capability;
pub mod cgroup;
pub mod cgroup_tree;
pub mod command_line;
pub mod credentials;
pub mod directory;
mod error;
pub mod exit;
pub mod external;
pub mod file;
pub mod file_rights;
pub mod guard;
pub mod ids;
pub mod kernel;
pub mod keyring;
pub mod mount;
pub mod mountinfo;
pub mod namespace;
pub mod net;
pub mod netlink;
pub mod notify;
pub mod path;
pub mod peer;
pub mod pidfd_info;
pub mod proc_self;
pub mod process;
pub mod procfs;
pub mod program;
pub mod ptrace;
pub mod random;
pub mod regular;
pub mod reopen;
pub mod sched;
#[cfg(any(test, feature = "testing"))]
pub mod scratch;
pub mod seccomp;
pub mod security;
pub mod sibling;
pub mod signal;
pub mod socket;
mod stack_path;
pub mod start;
mod stat;
pub mod stdio;
mod strerror;
pub mod terminal;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
pub mod timed_io;
pub mod timeline;
pub mod tty;

pub use error::{Errno, Fault, Result, SysError, Text, Words};
