//! Linux, one typed function per call. The only home of `unsafe`, `libc` and `nix`.
//!
//! Every descriptor is opened close-on-exec and returned owned; every path is a `&CStr`, so that what runs after the
//! clone never touches the heap. A function that init or an `apply()` calls uses neither `std` nor the heap.

mod error;
pub mod seccomp;

pub use error::{Errno, Fault, Result, SysError, Text};
