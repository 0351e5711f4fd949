//! ttrpc, containerd's remote procedure calls over a local socket (containerd/ttrpc, PROTOCOL.md, version 1.2): bytes
//! in, calls out, and the way back. There is no socket here.

pub mod client;
pub mod elements;
pub mod frame;
#[cfg(test)]
mod fuzz;
pub mod message;
pub mod server;
pub mod status;
