//! systemd's no to a call, and a process for which it comes too late.

use std::fmt;

/// Where the names of errors begin that are systemd's own.
pub const SYSTEMD: &str = "org.freedesktop.systemd1";

/// The error's name, and systemd's words.
#[derive(Debug)]
pub struct Refused {
    pub name: String,
    pub words: String,
}

impl Refused {
    /// Whether it is systemd's own error of this name, `.NoSuchUnit`.
    pub fn is(&self, wanted: &str) -> bool {
        self.name.strip_prefix(SYSTEMD).is_some_and(|rest| rest == wanted)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "systemd: {}", self.words)
    }
}

impl std::error::Error for Refused {}

/// The process that a unit was to be for had ended before anything was refused, and before it was killed for that: why it has
/// is the reason.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct HadEnded;

impl fmt::Display for HadEnded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("its process had ended")
    }
}

impl std::error::Error for HadEnded {}
