//! What runs after the clone.

#![forbid(unsafe_code)]

pub mod link;
