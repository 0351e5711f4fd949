//! The container's filesystem: `root`, `mounts`, `linux.rootfsPropagation`, `linux.maskedPaths` and
//! `linux.readonlyPaths` of config.json, in the order in which init applies them.
//!
//! ```text
//! Propagation · EnterRootfs → RootFd · Mount… · (devices, console) · PivotRoot · RootPropagation
//!             · LateReadonly… · ReadonlyPath… · MaskPath… · ReadonlyRoot
//! ```

pub mod bind;
pub mod cgroup;
pub mod context;
pub mod copy_up;
pub mod enter;
pub mod filesystem;
pub mod held;
pub mod hot;
pub mod idmap;
pub mod mask;
pub mod mount;
pub mod notify;
pub mod options;
pub mod pivot;
mod prepared;
pub mod propagation;
pub mod remount;
mod request;
pub mod target;

#[cfg(test)]
mod tests;
