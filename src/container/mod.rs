//! One module per section of the OCI spec, each with `compile()` (spec → prepared) and `apply()` (prepared → kernel).
//! Siblings do not know each other: what two of them must agree on is an argument that `plan` passes.

#![forbid(unsafe_code)]

pub mod bundle;
pub mod default_spec;
pub mod features;
pub mod validate;
