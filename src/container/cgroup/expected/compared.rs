//! What a control file is to say, and what it says.

/// One comparison.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Compared {
    pub field: String,
    pub wanted: String,
    /// An error: why it cannot be looked at.
    pub found: Result<String, String>,
    pub holds: bool,
}
