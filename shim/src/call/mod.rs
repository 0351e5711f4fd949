//! How containerd calls the program: its command line, environment and standard input, and what they mean. Nothing here
//! opens or runs anything; what cannot be read is an error in the user's words.

pub mod address;
pub mod answer;
pub mod checkpoint;
pub mod config;
pub mod exit;
pub mod flags;
pub mod log;
pub mod options;
pub mod process;
pub mod stdin;
pub mod stdio;

use std::fmt;

/// What is wrong with a call: an action's error goes to containerd, which shows it to the user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refused(pub String);

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Refused {}

/// `Err(Refused(format!(…)))`, which each check here ends with.
macro_rules! refuse {
    ($($arguments:tt)*) => {
        return Err($crate::call::Refused(format!($($arguments)*)))
    };
}
pub(crate) use refuse;
