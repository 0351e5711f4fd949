//! One module per section of the OCI spec, each with `compile()` (spec → prepared) and `apply()` (prepared → kernel).
//! Siblings do not know each other: what two of them must agree on is an argument that `plan` passes.

#![forbid(unsafe_code)]

pub mod hooks;
pub mod cgroup;
pub mod bundle;
pub mod validate;
pub mod seccomp;
pub mod id_map;
pub mod keyring;
pub mod namespaces;
pub mod security;
pub mod sysctl;
pub mod uts;
pub mod rootfs;
