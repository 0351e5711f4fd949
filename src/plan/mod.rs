//! From a validated config.json to the plan: which steps init takes, and THE ORDER of everything. Nothing is done here.

#![deny(clippy::cast_possible_truncation)]

mod birth;
mod create;
mod decided;
mod exec;
mod files;
mod label;
pub mod mounts;
mod outline;
mod process;
mod request;
mod sections;
mod supplied;
#[cfg(test)]
mod tests;
mod wanted;

pub use create::{create, examine};
pub use decided::{Entrance, Plan};
pub use exec::{ExecPlan, ExecRequest, Saved, exec};
pub use label::{Deed, Label, StepError};
pub use outline::Outline;
pub use process::{Birth, examine_process};
pub use request::{Gate, Listening, Request};
