//! containerd's messages, written out by hand with the numbers of its proto files (containerd/containerd, api/), so
//! that neither protoc nor a build script is needed. Names are the proto files'. Fields that this shim neither sets nor
//! reads are left out; a decoder skips them.

pub mod bootstrap;
pub mod events;
#[cfg(test)]
mod fuzz;
#[cfg(test)]
mod golden;
pub mod id;
pub mod info;
pub mod known;
pub mod metrics_rdma;
pub mod metrics_v1;
pub mod metrics_v2;
pub mod options;
pub mod service;
pub mod task;
