//! Checkpoint and restore through CRIU: what is asked of it, decided from the container's configuration, the flags and
//! the mounts that the container has. `lifecycle` has the conversation.
//!
//! A mount that shows something of the host is *external*: CRIU saves only a name of it, and at a restore is told what
//! the name stands for. The names are numbers; which mount is which entry of config.json is decided by what the mount
//! shows, not by where it lies, since the container's symlinks decide that (CVE-2026-119101).

pub mod deleted;
pub mod descriptors;
pub mod devices;
pub mod entries;
pub mod firewall;
pub mod flags;
pub mod ids;
pub mod image;
pub mod leftovers;
pub mod log;
pub mod mount_call;
pub mod mount_entry;
pub mod mounts;
pub mod names;
pub mod netlink;
pub mod network;
pub mod numbers;
pub mod outside;
pub mod owners;
pub mod paths;
pub mod request;
pub mod restartable;
pub mod root;
pub mod rpc;
pub mod targets;
pub mod wire;
