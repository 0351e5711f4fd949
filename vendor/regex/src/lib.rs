//! The name `regex` for regex-lite, which is the same authors' small engine with the same syntax.
//!
//! oci-spec asks `regex` one question (is an execCPUAffinity a list of numbers?) and thereby links its automata and its
//! Unicode tables, which were a third of the whole binary. What is missing here is a compile error there.

#![forbid(unsafe_code)]

pub use regex_lite::{Error, Regex};
