//! What a call is answered when it did not do what was asked: gRPC's codes.

use std::fmt;

/// The codes that a shim answers. containerd turns them into its own errors (`errdefs`).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(i32)]
pub enum Code {
    Canceled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    /// containerd 2 falls back from version 3 of the task service to version 2 on this very code.
    Unimplemented = 12,
    Unavailable = 14,
}

/// A code, and the words for the user.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Status {
    pub code: i32,
    pub message: String,
}

impl Status {
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code: code as i32, message: message.into() }
    }

    pub fn is(&self, code: Code) -> bool {
        self.code == code as i32
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (code {})", self.message, self.code)
    }
}

impl std::error::Error for Status {}
