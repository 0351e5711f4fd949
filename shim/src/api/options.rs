//! Options of the runtime: api/types/runc/options/oci.proto and api/types/runtimeoptions/v1/api.proto. What they mean
//! is in [`crate::call::options`].

use prost::Message;

use super::known::names;

names!("containerd.runc.v1": Options, CheckpointOptions, ProcessDetails);

/// `containerd.runc.v1.Options`. The fields 12 and 13 (an address of a sandbox's tasks, containerd 1.7 and 2.0) are
/// ignored.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Options {
    #[prost(bool, tag = "1")]
    pub no_pivot_root: bool,
    #[prost(bool, tag = "2")]
    pub no_new_keyring: bool,
    #[prost(string, tag = "3")]
    pub shim_cgroup: String,
    #[prost(uint32, tag = "4")]
    pub io_uid: u32,
    #[prost(uint32, tag = "5")]
    pub io_gid: u32,
    #[prost(string, tag = "6")]
    pub binary_name: String,
    #[prost(string, tag = "7")]
    pub root: String,
    #[prost(bool, tag = "9")]
    pub systemd_cgroup: bool,
    #[prost(string, tag = "10")]
    pub criu_image_path: String,
    #[prost(string, tag = "11")]
    pub criu_work_path: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct CheckpointOptions {
    #[prost(bool, tag = "1")]
    pub exit: bool,
    #[prost(bool, tag = "2")]
    pub open_tcp: bool,
    #[prost(bool, tag = "3")]
    pub external_unix_sockets: bool,
    #[prost(bool, tag = "4")]
    pub terminal: bool,
    #[prost(bool, tag = "5")]
    pub file_locks: bool,
    #[prost(string, repeated, tag = "6")]
    pub empty_namespaces: Vec<String>,
    #[prost(string, tag = "7")]
    pub cgroups_mode: String,
    #[prost(string, tag = "8")]
    pub image_path: String,
    #[prost(string, tag = "9")]
    pub work_path: String,
    #[prost(string, tag = "10")]
    pub parent_path: String,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub struct ProcessDetails {
    #[prost(string, tag = "1")]
    pub exec_id: String,
}

/// `runtimeoptions.v1.Options`: what CRI and dockerd send for each runtime type that is not literally
/// `io.containerd.runc.v2`. The TOML is in the file, or else in the body.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct RuntimeOptions {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(string, tag = "2")]
    pub config_path: String,
    #[prost(bytes = "vec", tag = "3")]
    pub config_body: Vec<u8>,
}

impl prost::Name for RuntimeOptions {
    const NAME: &'static str = "Options";
    const PACKAGE: &'static str = "runtimeoptions.v1";
}
