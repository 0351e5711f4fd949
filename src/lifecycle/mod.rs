//! The operations of runtime.md, each readable top to bottom as the host's side of it: a file for each command, with what it
//! alone needs below it. What they share is what is kept on [`disk`], and a container's [`process`]es.

#![deny(clippy::cast_possible_truncation)]

mod check;
mod checkpoint;
mod create;
mod delete;
mod events;
mod exec;
mod floor;
mod gc;
mod inspect;
mod kill;
pub mod mounts;
mod pause;
mod restore;
mod run;
mod start;
mod update;
mod verify;
mod view;
mod wait;

pub mod disk;
mod process;

mod code;
mod host;
mod id;
mod refusal;
mod status;

pub use crate::container::cgroup::{End, Reclaimed};
pub use crate::container::verify::row::{Row, Verdict};
pub use crate::plan::Deed;
pub use check::{CheckOptions, check, check_process};
pub use checkpoint::{CheckpointOptions, checkpoint};
pub use code::code;
pub use create::{CreateOptions, create, plan};
pub use delete::delete;
pub use disk::state::Ended;
pub use events::events;
pub use exec::process::Changes;
pub use exec::{ExecOptions, exec};
pub use gc::{GcOptions, Leftover, Outcome, gc};
pub use host::{Host, Rootless};
pub use id::Id;
pub use inspect::{Inspected, MountView, NamespaceView, ProcessView, inspect};
pub use kill::{Signal, kill};
pub use pause::{Reclaim, pause, resume};
pub use process::protect::enter as protect;
pub use process::supervisor::Supervision;
pub use restore::{RestoreOptions, restore};
pub use run::{RunOptions, run};
pub use start::start;
#[cfg(test)]
pub use status::Status;
pub use update::{Schemata, update};
pub use verify::{Verified, verify};
pub use view::{StateView, ids, list, list_everywhere, ps, state};
pub use wait::wait;
