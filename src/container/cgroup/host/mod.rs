//! Where this host has its cgroups: the [`layout`], the [`path`] of one in a hierarchy, its control [`file`]s, and the
//! [`tree`] of those below it.

pub mod file;
pub mod layout;
pub mod path;
pub mod tree;
