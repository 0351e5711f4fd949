//! One module per section of the OCI spec, each with `compile()` (spec → prepared) and `apply()` (prepared → kernel).
//! Siblings do not know each other: what two of them must agree on is an argument that `plan` passes.

#![deny(clippy::indexing_slicing)]

pub mod annotations;
pub mod bundle;
pub mod cgroup;
pub mod checkpoint;
pub mod console;
pub mod default_spec;
pub mod devices;
pub mod features;
pub mod floor;
pub mod hooks;
pub mod id_map;
pub mod intel_rdt;
pub mod keyring;
pub mod lint;
pub mod namespaces;
pub mod net_devices;
pub mod process;
pub mod rootfs;
pub mod seccomp;
pub mod security;
pub mod sysctl;
pub mod time_namespace;
pub mod uts;
pub mod validate;
pub mod verify;
