//! The types that protobuf itself brings: `google/protobuf/{any,empty,timestamp}.proto`. They are here, and not those
//! of the crate prost-types, since these three are all that is needed.

use prost::{Message, Name};

/// Any message, with the name of its type. containerd's names have no `type.googleapis.com/` before them.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Any {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(bytes = "vec", tag = "2")]
    pub value: Vec<u8>,
}

impl Any {
    /// Packs a message under the name of its type.
    pub fn pack<M: Message + Name>(message: &M) -> Self {
        Self { type_url: M::full_name(), value: message.encode_to_vec() }
    }

    /// The name of the type, without what may be before it.
    pub fn type_name(&self) -> &str {
        self.type_url.rsplit_once('/').map_or(self.type_url.as_str(), |(_, name)| name)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct Empty {}

/// Seconds since 1970, and nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Message)]
pub struct Timestamp {
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}

/// Gives messages the names that containerd looks for in an [`Any`].
macro_rules! names {
    ($package:literal: $($name:ident),+) => {
        $(impl prost::Name for $name {
            const NAME: &'static str = stringify!($name);
            const PACKAGE: &'static str = $package;
        })+
    };
}
pub(crate) use names;
