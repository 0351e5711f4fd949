//! Mounts as CRIU's images have them.
//!
//! Field numbers of images/mnt.proto.

use prost::Message;

/// `mnt_entry`.
#[derive(Clone, PartialEq, Message)]
pub struct MountEntry {
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    #[prost(uint32, tag = "2")]
    pub id: u32,
    #[prost(uint32, tag = "3")]
    pub device: u32,
    #[prost(uint32, tag = "4")]
    pub parent: u32,
    /// Of mount(2).
    #[prost(uint32, tag = "5")]
    pub flags: u32,
    #[prost(string, tag = "6")]
    pub root: String,
    #[prost(string, tag = "7")]
    pub at: String,
    #[prost(string, tag = "9")]
    pub options: String,
    #[prost(bool, tag = "12")]
    pub with_plugin: bool,
    #[prost(bool, tag = "13")]
    pub is_old_external: bool,
    #[prost(string, optional, tag = "14")]
    pub fsname: Option<String>,
    /// Whether its mount point was removed: CRIU would make it anew by its path.
    #[prost(bool, tag = "16")]
    pub deleted: bool,
    /// Of mount(2), too.
    #[prost(uint32, tag = "17")]
    pub superblock_flags: u32,
    #[prost(string, optional, tag = "18")]
    pub ext_key: Option<String>,
}

/// Whether none of `mounts` is the one that it is mounted on.
pub fn is_root(mount: &MountEntry, mounts: &[MountEntry]) -> bool {
    mounts.iter().all(|parent| parent.id != mount.parent)
}
