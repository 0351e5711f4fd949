//! A reader of the kernel's truth about a container: what config.json says and `compile()` has prepared ([`Wanted`]) is
//! compared with what /proc says of each process and each mount. It changes nothing, and believes nobody inside.
//!
//! `restore` looks with it at what CRIU has made of images that may be forged, before a process runs; `verify` at a
//! container that runs ([`life::Life`]). That one can change what is looked at, so that its rows are read again where they
//! differ; and it may have mounted file systems that never answer, so that nothing of theirs is asked ([`place`]).

pub mod bounds;
pub mod copies;
pub mod credentials;
pub mod files;
pub mod id_maps;
pub mod life;
pub mod masks;
pub mod mounts;
pub mod nested;
pub mod opener;
pub mod place;
pub mod processes;
pub mod row;
pub mod scheduler;
pub mod status;
pub mod strangers;
pub mod sysctls;
pub mod table;

use std::collections::BTreeMap;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use anyhow::{Result, ensure};
use caps::Capability;
use serde::{Deserialize, Serialize};

use crate::error::field;
use crate::sys::file_rights::FileRights;
use id_maps::IdRanges;

/// What a container must be like.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Wanted {
    /// By the names of /proc/PID/ns.
    pub namespaces: BTreeMap<String, Namespace>,
    pub capabilities: Capabilities,
    pub no_new_privileges: bool,
    pub user: User,
    /// The program of the filter, as the kernel has it; empty where only that there is one is known.
    pub seccomp: Option<Vec<Instruction>>,
    /// SECCOMP_FILTER_FLAG_*.
    pub seccomp_flags: u32,
    /// The most that a thread without CAP_SYS_NICE can have.
    pub share: Share,
    /// Hard limits, by their numbers.
    pub limits: BTreeMap<u32, u64>,
    /// Whether no process is in the session of whoever makes the container.
    pub own_session: bool,
    pub hostname: Option<String>,
    pub domainname: Option<String>,
    pub apparmor: Option<String>,
    pub selinux: Option<String>,
    pub oom_score_adj: Option<i32>,
    pub terminal: bool,
    /// The path on the host.
    pub rootfs: PathBuf,
    pub read_only_root: bool,
    /// Whether linux.rootfsPropagation shares the root with the host.
    pub shared_root: bool,
    pub mounts: Vec<Mount>,
    pub masked: Vec<PathBuf>,
    pub read_only: Vec<PathBuf>,
    /// Where the host's device nodes may be mounted.
    #[serde(default)]
    pub devices: Vec<PathBuf>,
    #[serde(default)]
    pub id_maps: IdRanges,
    /// By their paths below the root of a procfs.
    #[serde(default)]
    pub sysctls: BTreeMap<String, String>,
}

/// Which namespace of a kind.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub enum Namespace {
    /// One of the container's own.
    New,
    /// The one that the runtime is in.
    Runtime,
    /// The one at this path.
    Path(PathBuf),
}

/// One bit a capability.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug, Default)]
#[serde(rename_all = "camelCase")]
pub struct Capabilities {
    pub bounding: u64,
    pub permitted: u64,
    pub inheritable: u64,
}

#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug, Default)]
#[serde(rename_all = "camelCase")]
pub struct User {
    pub uid: u32,
    pub gid: u32,
    /// None, if they are those of whoever makes the container.
    pub groups: Option<Vec<u32>>,
}

/// What a thread has of the scheduler, or the most that it may have.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
pub struct Share {
    pub policy: u32,
    pub nice: i32,
    /// Of the real-time policies.
    pub priority: u32,
}

/// An instruction of classic BPF: code, the two jumps, operand.
pub type Instruction = (u16, u8, u8, u32);

/// An entry of `mounts`.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Mount {
    pub destination: PathBuf,
    pub kind: MountKind,
    /// Of `ro`, `nosuid`, `nodev`, `noexec`.
    pub restrictions: Vec<String>,
    pub propagation: Option<Propagation>,
}

/// Filesystems of which each container has its own, and whose options name no path, device or cgroup of the host.
pub const OWN_KINDS: [&str; 5] = ["proc", "sysfs", "tmpfs", "mqueue", "devpts"];

#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub enum MountKind {
    /// This path of the host.
    Bind(PathBuf),
    /// The container's cgroups.
    Cgroup,
    /// A filesystem of the container's own.
    Filesystem(String),
    /// No mount, but other flags for the one that is there.
    Remount,
    /// No mount, but a copy of a symlink.
    Link,
}

#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub enum Propagation {
    Shared,
    Slave,
    Private,
}

impl Wanted {
    /// Refuses mounts of config.json that CRIU would make with the options of the image.
    pub fn check_restorable(&self) -> Result<()> {
        for (index, mount) in self.mounts.iter().enumerate() {
            let MountKind::Filesystem(kind) = &mount.kind else { continue };
            ensure!(
                OWN_KINDS.contains(&kind.as_str()),
                field!("mounts[{index}].type"; "a mount of type {kind} cannot be restored: what of the host it shows, CRIU takes from the image")
            );
        }
        Ok(())
    }

    /// Whether the container has a namespace of this kind of its own.
    pub fn has_new(&self, kind: &str) -> bool {
        self.namespaces.get(kind) == Some(&Namespace::New)
    }

    /// Whether its namespace of this kind is not the runtime's. One that cannot be looked at is found out when it is joined.
    pub fn is_private(&self, kind: &str) -> bool {
        let own = std::fs::metadata(format!("/proc/thread-self/ns/{kind}"));
        match self.namespaces.get(kind) {
            None | Some(Namespace::Runtime) => false,
            Some(Namespace::New) => true,
            Some(Namespace::Path(path)) => match (std::fs::metadata(path), own) {
                (Ok(path), Ok(own)) => (path.dev(), path.ino()) != (own.dev(), own.ino()),
                _ => true,
            },
        }
    }

    /// `--lsm-profile`: `apparmor:NAME` or `selinux:LABEL` in place of config.json's.
    pub fn relabel(&mut self, profile: Option<&str>) {
        match profile.and_then(|profile| profile.split_once(':')) {
            Some(("apparmor", name)) => self.apparmor = Some(name.to_owned()),
            Some(("selinux", label)) => self.selinux = Some(label.to_owned()),
            _ => {}
        }
    }

    /// Whether no process can come to be of another user.
    pub fn keeps_user(&self) -> bool {
        self.no_new_privileges && !self.can_have(Capability::CAP_SETUID)
    }

    /// What no process can do more with files than; None, where it can come to have other ids.
    pub fn file_rights(&self) -> Option<FileRights> {
        let is_fixed = self.keeps_user() && !self.can_have(Capability::CAP_SETGID);
        let groups = self.user.groups.clone().filter(|_| is_fixed)?;
        let User { uid, gid, .. } = self.user;
        Some(FileRights { uid, gid, groups, capabilities: self.reachable() })
    }

    /// What no capability set of a process may exceed: what execve(2) can still give it (capabilities(7)).
    pub fn reachable(&self) -> u64 {
        let Capabilities { bounding, permitted, .. } = self.capabilities;
        if self.no_new_privileges { permitted } else { bounding | permitted }
    }

    /// Whether a process can come to have it.
    fn can_have(&self, capability: Capability) -> bool {
        self.reachable() & capability.bitmask() != 0
    }
}
