//! The answer to `-info`: `containerd.types.RuntimeInfo` (api/types/introspection.proto). It goes to stdout as it is;
//! wrapped in another `Any`, containerd reads nonsense.

use std::collections::BTreeMap;

use prost::Message;

use super::known::Any;

/// The type of `features`: the value is what the runtime's command `features` prints.
pub const FEATURES: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

#[derive(Clone, PartialEq, Eq, Message)]
pub struct RuntimeInfo {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(message, optional, tag = "2")]
    pub version: Option<RuntimeVersion>,
    /// Those of the request.
    #[prost(message, optional, tag = "3")]
    pub options: Option<Any>,
    #[prost(message, optional, tag = "4")]
    pub features: Option<Any>,
    #[prost(btree_map = "string, string", tag = "5")]
    pub annotations: BTreeMap<String, String>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct RuntimeVersion {
    #[prost(string, tag = "1")]
    pub version: String,
    #[prost(string, tag = "2")]
    pub revision: String,
}

impl RuntimeInfo {
    /// What is known without asking the runtime, and the JSON of its `features`.
    pub fn new(name: &str, version: RuntimeVersion, options: Option<Any>, features: Vec<u8>) -> Self {
        Self {
            name: name.to_owned(),
            version: Some(version),
            options,
            features: Some(Any { type_url: FEATURES.to_owned(), value: features }),
            annotations: BTreeMap::new(),
        }
    }
}
