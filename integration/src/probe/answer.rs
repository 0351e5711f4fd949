//! What a verb says.

use serde_json::Value;
use std::io;

/// The value to print, or the errno of the call that was refused.
pub type Answer = Result<Value, io::Error>;
