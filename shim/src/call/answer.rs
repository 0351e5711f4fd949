//! What `start` prints: where the shim listens, in the form that this containerd reads.
//!
//! | containerd | reads | is known by |
//! |---|---|---|
//! | 1.6 | a bare address | no MAX_SHIM_VERSION |
//! | 1.7, 2.0 to 2.2 | also JSON; 1.7 refuses a version above 2 | MAX_SHIM_VERSION |
//! | 2.3 and later | also BootstrapResult | BootstrapParams on standard input |
//!
//! 1.7 and 2.0 cannot be told apart by what they hand over, and asking the binary costs 20 to 50 ms: so version 3 under
//! these is the administrator's choice, by the name of the program.

use std::collections::BTreeMap;

use prost::Message;
use serde::Serialize;

use super::stdin::Input;
use crate::api::bootstrap::BootstrapResult;

/// The form of an answer, and the version of the task service in it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    Bare,
    Json { version: i32 },
    Protobuf { version: i32 },
}

#[derive(Serialize)]
struct Json<'a> {
    version: i32,
    address: &'a str,
    protocol: &'a str,
}

impl Form {
    /// Chooses by the value of MAX_SHIM_VERSION, standard input, and the name by which the program was started.
    pub fn choose(max_shim_version: Option<&str>, input: &Input, program: &str) -> Self {
        let file = program.rsplit('/').next().unwrap_or(program);
        match (input, max_shim_version) {
            (Input::Bootstrap(_), _) => Self::Protobuf { version: 3 },
            (Input::Options(_), None | Some("")) => Self::Bare,
            (Input::Options(_), Some(_)) => Self::Json { version: if file.ends_with("-v3") { 3 } else { 2 } },
        }
    }

    /// The bytes for standard output; nothing else may be printed.
    pub fn encode(self, address: &str) -> Vec<u8> {
        match self {
            Self::Bare => address.as_bytes().to_vec(),
            Self::Json { version } => {
                // A number and two texts: there is nothing that JSON cannot say.
                serde_json::to_vec(&Json { version, address, protocol: "ttrpc" }).unwrap_or_default()
            }
            Self::Protobuf { version } => BootstrapResult {
                version,
                address: address.to_owned(),
                protocol: "ttrpc".to_owned(),
                capabilities: Vec::new(),
                metadata: BTreeMap::new(),
            }
            .encode_to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::bootstrap::BootstrapParams;

    const V2: &str = "/usr/bin/containerd-shim-ocirt-v2";
    const V3: &str = "/usr/bin/containerd-shim-ocirt-v3";
    const DROP_IN: &str = "containerd-shim-runc-v2";

    #[test]
    fn each_containerd_gets_the_answer_that_it_reads() {
        let none = Input::Options(None);
        let bootstrap = Input::Bootstrap(BootstrapParams::default());
        let table = [
            // containerd 1.6, and under each name.
            (None, &none, V2, Form::Bare),
            (None, &none, V3, Form::Bare),
            (Some(""), &none, V2, Form::Bare),
            // 1.7 to 2.2
            (Some("2"), &none, V2, Form::Json { version: 2 }),
            (Some("2"), &none, DROP_IN, Form::Json { version: 2 }),
            (Some("2"), &none, V3, Form::Json { version: 3 }),
            // 2.3
            (Some("2"), &bootstrap, V2, Form::Protobuf { version: 3 }),
            (None, &bootstrap, DROP_IN, Form::Protobuf { version: 3 }),
        ];
        for (variable, input, name, expected) in table {
            assert_eq!(Form::choose(variable, input, name), expected, "{variable:?} {name}");
        }
    }

    #[test]
    fn answers_are_these_bytes() {
        let address = "unix:///run/s";
        assert_eq!(Form::Bare.encode(address), b"unix:///run/s");
        let json = br#"{"version":2,"address":"unix:///run/s","protocol":"ttrpc"}"#;
        assert_eq!(Form::Json { version: 2 }.encode(address), json);
        let protobuf = b"\x08\x03\x12\x0dunix:///run/s\x1a\x05ttrpc";
        assert_eq!(Form::Protobuf { version: 3 }.encode(address), protobuf);
    }
}
