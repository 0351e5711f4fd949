//! CRIU's remote procedure calls: the messages of its images/rpc.proto, as far as they are used. One message is one
//! packet on a SOCK_SEQPACKET socket.

use prost::{Enumeration, Message};

/// What a request asks for, and what a response answers: `criu_req_type`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Enumeration)]
#[repr(i32)]
pub enum CriuReqType {
    Empty = 0,
    Dump = 1,
    Restore = 2,
    Notify = 6,
    FeatureCheck = 9,
    /// A pre-dump that ends by itself (CRIU 3.17).
    SinglePreDump = 13,
}

/// `criu_req`.
#[derive(Clone, PartialEq, Message)]
pub struct CriuReq {
    #[prost(enumeration = "CriuReqType", required, tag = "1")]
    pub kind: i32,
    #[prost(message, optional, tag = "2")]
    pub options: Option<CriuOpts>,
    #[prost(bool, optional, tag = "3")]
    pub notify_success: Option<bool>,
    #[prost(message, optional, tag = "5")]
    pub features: Option<CriuFeatures>,
}

/// `criu_features`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct CriuFeatures {
    #[prost(bool, optional, tag = "1")]
    pub mem_track: Option<bool>,
    #[prost(bool, optional, tag = "2")]
    pub lazy_pages: Option<bool>,
}

/// `criu_opts`. A descriptor is the caller's number: CRIU opens it through /proc/PID/fd.
#[derive(Clone, PartialEq, Message)]
pub struct CriuOpts {
    #[prost(int32, required, tag = "1")]
    pub images_dir_fd: i32,
    #[prost(int32, optional, tag = "2")]
    pub pid: Option<i32>,
    #[prost(bool, optional, tag = "3")]
    pub leave_running: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    pub ext_unix_sk: Option<bool>,
    #[prost(bool, optional, tag = "5")]
    pub tcp_established: Option<bool>,
    #[prost(bool, optional, tag = "6")]
    pub evasive_devices: Option<bool>,
    #[prost(bool, optional, tag = "7")]
    pub shell_job: Option<bool>,
    #[prost(bool, optional, tag = "8")]
    pub file_locks: Option<bool>,
    #[prost(int32, optional, tag = "9")]
    pub log_level: Option<i32>,
    #[prost(string, optional, tag = "10")]
    pub log_file: Option<String>,
    #[prost(message, optional, tag = "11")]
    pub page_server: Option<PageServer>,
    #[prost(bool, optional, tag = "12")]
    pub notify_scripts: Option<bool>,
    #[prost(string, optional, tag = "13")]
    pub root: Option<String>,
    #[prost(string, optional, tag = "14")]
    pub parent_img: Option<String>,
    #[prost(bool, optional, tag = "15")]
    pub track_mem: Option<bool>,
    #[prost(bool, optional, tag = "16")]
    pub auto_dedup: Option<bool>,
    #[prost(int32, optional, tag = "17")]
    pub work_dir_fd: Option<i32>,
    #[prost(bool, optional, tag = "18")]
    pub link_remap: Option<bool>,
    #[prost(message, repeated, tag = "23")]
    pub ext_mnt: Vec<ExternalMount>,
    #[prost(bool, optional, tag = "24")]
    pub manage_cgroups: Option<bool>,
    #[prost(bool, optional, tag = "26")]
    pub rst_sibling: Option<bool>,
    #[prost(message, repeated, tag = "27")]
    pub inherit_fd: Vec<InheritFd>,
    #[prost(int32, optional, tag = "34")]
    pub manage_cgroups_mode: Option<i32>,
    #[prost(string, repeated, tag = "37")]
    pub external: Vec<String>,
    #[prost(uint32, optional, tag = "38")]
    pub empty_ns: Option<u32>,
    #[prost(string, optional, tag = "44")]
    pub freeze_cgroup: Option<String>,
    #[prost(bool, optional, tag = "46")]
    pub tcp_skip_in_flight: Option<bool>,
    #[prost(bool, optional, tag = "48")]
    pub lazy_pages: Option<bool>,
    #[prost(bool, optional, tag = "50")]
    pub orphan_pts_master: Option<bool>,
    #[prost(string, optional, tag = "51")]
    pub config_file: Option<String>,
    #[prost(bool, optional, tag = "52")]
    pub tcp_close: Option<bool>,
    #[prost(string, optional, tag = "53")]
    pub lsm_profile: Option<String>,
    #[prost(string, optional, tag = "63")]
    pub lsm_mount_context: Option<String>,
    #[prost(int32, optional, tag = "64")]
    pub network_lock: Option<i32>,
}

/// `criu_page_server_info`.
#[derive(Clone, PartialEq, Message)]
pub struct PageServer {
    #[prost(string, optional, tag = "1")]
    pub address: Option<String>,
    #[prost(int32, optional, tag = "2")]
    pub port: Option<i32>,
}

/// `ext_mount_map`. Of a dump: mount point, name. Of a restore: name, path on the host.
#[derive(Clone, PartialEq, Message)]
pub struct ExternalMount {
    #[prost(string, required, tag = "1")]
    pub key: String,
    #[prost(string, required, tag = "2")]
    pub val: String,
}

/// `inherit_fd`: what is restored as `key` is CRIU's own descriptor `fd`.
#[derive(Clone, PartialEq, Message)]
pub struct InheritFd {
    #[prost(string, required, tag = "1")]
    pub key: String,
    #[prost(int32, required, tag = "2")]
    pub fd: i32,
}

/// `criu_resp`.
#[derive(Clone, PartialEq, Message)]
pub struct Response {
    #[prost(enumeration = "CriuReqType", required, tag = "1")]
    pub kind: i32,
    #[prost(bool, required, tag = "2")]
    pub success: bool,
    #[prost(message, optional, tag = "4")]
    pub restore: Option<CriuRestoreResp>,
    #[prost(message, optional, tag = "5")]
    pub notify: Option<Notify>,
    #[prost(int32, optional, tag = "7")]
    pub errno: Option<i32>,
    #[prost(message, optional, tag = "8")]
    pub features: Option<CriuFeatures>,
}

/// `criu_restore_resp`.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct CriuRestoreResp {
    #[prost(int32, required, tag = "1")]
    pub pid: i32,
}

/// `criu_notify`: CRIU has come to a point and waits for an answer.
#[derive(Clone, PartialEq, Message)]
pub struct Notify {
    #[prost(string, optional, tag = "1")]
    pub script: Option<String>,
    #[prost(int32, optional, tag = "2")]
    pub pid: Option<i32>,
}

impl CriuReq {
    pub fn new(kind: CriuReqType) -> Self {
        Self { kind: kind as i32, ..Self::default() }
    }

    /// The packet that it is.
    pub fn to_bytes(&self) -> Vec<u8> {
        self.encode_to_vec()
    }

    /// The answer to a notification.
    pub fn answer(success: bool) -> Self {
        Self { notify_success: Some(success), ..Self::new(CriuReqType::Notify) }
    }
}

impl Response {
    /// The response that a packet holds.
    pub fn parse(packet: &[u8]) -> anyhow::Result<Self> {
        Self::decode(packet).map_err(|error| anyhow::anyhow!("criu's answer: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_request_has_the_bytes_of_the_protocol() {
        let options = CriuOpts {
            images_dir_fd: 5,
            leave_running: Some(true),
            ext_mnt: vec![ExternalMount { key: "/a".to_owned(), val: "m0".to_owned() }],
            network_lock: Some(3),
            ..CriuOpts::default()
        };
        let request = CriuReq { options: Some(options), ..CriuReq::new(CriuReqType::Dump) };
        let expected = [
            &[0x08, 1, 0x12, 18][..],
            &[0x08, 5, 0x18, 1],
            &[0xba, 0x01, 8, 0x0a, 2, b'/', b'a', 0x12, 2, b'm', b'0'],
            &[0x80, 0x04, 3],
        ];
        assert_eq!(request.to_bytes(), expected.concat());
    }

    #[test]
    fn a_response_is_read_past_unknown_fields() {
        // type RESTORE, success, restore { pid: 300 }, status 7.
        let bytes = [0x08, 2, 0x10, 1, 0x22, 3, 0x08, 0xac, 0x02, 0x58, 7];
        let response = Response::parse(&bytes).unwrap();
        assert!(response.success && response.restore.unwrap().pid == 300);
        assert!(Response::parse(&[0x22, 200]).is_err());
    }
}
