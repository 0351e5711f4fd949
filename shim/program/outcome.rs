//! What most of the program returns: why something failed is told, and not looked at.

pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;
