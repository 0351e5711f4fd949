//! What a text is that is read, for its errors.

use anyhow::{Error, anyhow};

use crate::error::Field;

/// What a text is, so that its places are fields of config.json or not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Document {
    Config,
    /// A part that comes alone.
    Part,
}

impl Document {
    pub fn error(self, place: String, what: &str) -> Error {
        let error = anyhow!("{what}");
        match self {
            Self::Config => error.context(Field::new(place)),
            Self::Part => error.context(place),
        }
    }
}
