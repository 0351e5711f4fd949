//! Why a call failed.

pub type Error = Box<dyn std::error::Error>;
