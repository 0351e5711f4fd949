//! What containerd 2.3 and later write to the stdin of `start`, and read from its stdout:
//! api/runtime/bootstrap/v1/bootstrap.proto. It is protobuf, although the file's comment says JSON.

use std::collections::BTreeMap;

use prost::Message;

use super::known::Any;

#[derive(Clone, PartialEq, Eq, Message)]
pub struct BootstrapParams {
    #[prost(string, tag = "1")]
    pub instance_id: String,
    #[prost(string, tag = "2")]
    pub namespace: String,
    /// An open enumeration: -8 trace, -4 debug, 0 info, 4 warn, 8 error, 10 fatal, 12 panic.
    #[prost(int32, tag = "3")]
    pub log_level: i32,
    #[prost(string, tag = "4")]
    pub containerd_version: String,
    #[prost(string, tag = "5")]
    pub containerd_ttrpc_address: String,
    #[prost(string, tag = "6")]
    pub containerd_grpc_address: String,
    #[prost(string, tag = "7")]
    pub containerd_binary: String,
    #[prost(message, repeated, tag = "8")]
    pub extensions: Vec<Extension>,
    #[prost(string, optional, tag = "9")]
    pub socket_dir: Option<String>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct Extension {
    #[prost(message, optional, tag = "1")]
    pub value: Option<Any>,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct BootstrapResult {
    #[prost(int32, tag = "1")]
    pub version: i32,
    #[prost(string, tag = "2")]
    pub address: String,
    #[prost(string, tag = "3")]
    pub protocol: String,
    /// None is defined so far.
    #[prost(int32, repeated, tag = "4")]
    pub capabilities: Vec<i32>,
    #[prost(btree_map = "string, string", tag = "5")]
    pub metadata: BTreeMap<String, String>,
}
