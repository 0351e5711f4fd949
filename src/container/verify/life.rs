//! Whether the processes that are looked at have run: one that CRIU has just made is all that its image says, and one that
//! runs has done what it may do to itself.

use std::io::ErrorKind;

use anyhow::Error;

/// ESRCH: a file of /proc whose process has ended since it was opened.
const NO_SUCH_PROCESS: i32 = 3;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Life {
    /// CRIU has made them of an image that may be forged, and they have run nothing.
    Restored,
    /// They run, come and go meanwhile, and may have made namespaces and mounts of their own.
    Running,
}

impl Life {
    /// Whether this failure only tells that a process or a thread of a container that runs is gone.
    pub fn is_over(self, error: &Error) -> bool {
        let is_gone = |error: &std::io::Error| {
            error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(NO_SUCH_PROCESS)
        };
        self == Self::Running && error.chain().any(|cause| cause.downcast_ref().is_some_and(is_gone))
    }
}
