//! The two messages of ttrpc: what the bodies of frames are (containerd/ttrpc, request.proto; google/rpc/status.proto).

use prost::Message;

use super::status::Status;

/// The key of the metadata in which a call names its namespace.
pub const NAMESPACE: &str = "containerd-namespace-ttrpc";

#[derive(Clone, PartialEq, Message)]
pub struct Request {
    #[prost(string, tag = "1")]
    pub service: String,
    #[prost(string, tag = "2")]
    pub method: String,
    #[prost(bytes = "vec", tag = "3")]
    pub payload: Vec<u8>,
    /// How long the client waits; 0 is for ever.
    #[prost(int64, tag = "4")]
    pub timeout_nano: i64,
    #[prost(message, repeated, tag = "5")]
    pub metadata: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, Message)]
pub struct KeyValue {
    #[prost(string, tag = "1")]
    pub key: String,
    #[prost(string, tag = "2")]
    pub value: String,
}

#[derive(Clone, PartialEq, Message)]
pub struct Response {
    /// None, or one with the code 0, is success.
    #[prost(message, optional, tag = "1")]
    pub status: Option<RpcStatus>,
    #[prost(bytes = "vec", tag = "2")]
    pub payload: Vec<u8>,
}

/// `google.rpc.Status`, without its details.
#[derive(Clone, PartialEq, Message)]
pub struct RpcStatus {
    #[prost(int32, tag = "1")]
    pub code: i32,
    #[prost(string, tag = "2")]
    pub message: String,
}

impl Response {
    pub fn new(answer: Result<Vec<u8>, Status>) -> Self {
        match answer {
            Ok(payload) => Self { status: None, payload },
            Err(Status { code, message }) => Self { status: Some(RpcStatus { code, message }), payload: Vec::new() },
        }
    }

    pub fn answer(self) -> Result<Vec<u8>, Status> {
        match self.status {
            Some(RpcStatus { code, message }) if code != 0 => Err(Status { code, message }),
            _ => Ok(self.payload),
        }
    }
}
