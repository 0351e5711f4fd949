//! An entry of `mounts` as each kind of mount takes it.

use std::path::Path;

use super::idmap::IdMap;
use super::options::Options;
use super::target::Target;

/// An entry of `mounts`, its options and destination understood.
pub(super) struct MountRequest<'a> {
    pub target: Target,
    pub kind: &'a str,
    pub source: Option<&'a Path>,
    pub options: Options,
    pub id_map: Option<IdMap>,
    /// The options as they are written.
    pub text: String,
}
