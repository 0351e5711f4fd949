//! systemd's no to a call.

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

    /// Whether the process that was named has ended: not what was asked for is refused then, but for whom.
    fn is_about_the_process(&self) -> bool {
        ["System.Error.ESRCH", "org.freedesktop.DBus.Error.UnixProcessIdUnknown"].contains(&self.name.as_str())
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "systemd: {}", self.words)
    }
}

impl std::error::Error for Refused {}

/// Whether systemd has refused what it was asked for, whatever became of the process meanwhile.
pub fn is_refused_by_systemd(error: &anyhow::Error) -> bool {
    error.downcast_ref::<Refused>().is_some_and(|refused| !refused.is_about_the_process())
}
