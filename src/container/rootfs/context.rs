//! What a mount depends on besides its own entry: the bundle, labels, namespaces, and what the host has of the container's
//! cgroups.

use std::path::{Path, PathBuf};

use oci_spec::runtime::LinuxIdMapping;

use crate::sys::ids;

/// An SELinux label for filesystems.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct MountLabel<'a> {
    /// Which mount option says it: `context`, `rootcontext`, ….
    pub option: &'static str,
    pub text: &'a str,
}

/// What a mount depends on besides its own entry.
pub struct Context<'a> {
    /// Where relative sources of bind mounts start: absolute.
    pub bundle: &'a Path,
    /// linux.mountLabel, where SELinux is enabled.
    pub label: Option<MountLabel<'a>>,
    /// Whether the container has a user namespace other than the runtime's.
    pub user_namespace: bool,
    /// Whether the container has a network namespace that belongs to its user namespace.
    pub network_namespace: bool,
    /// What a mount of type `cgroup` shows; without it, such a mount is an error.
    pub cgroup: Option<&'a CgroupView>,
    /// Whether nobody else sees what is mounted before the container runs: its mount namespace is new, and its mounts
    /// are no peers of the host's.
    pub unseen: bool,
    /// linux.uidMappings and gidMappings.
    pub id_mappings: (&'a [LinuxIdMapping], &'a [LinuxIdMapping]),
}

impl Context<'_> {
    /// Whether the container's root is not the host's. Asked only by the mounts that it matters to.
    pub(super) fn is_rootless(&self) -> bool {
        self.user_namespace || ids::effective_uid() != 0 || ids::in_a_user_namespace()
    }
}

/// The container's cgroups as the host has them.
#[derive(Clone, Default, PartialEq, Eq, Debug)]
pub struct CgroupView {
    /// Whether the container has a cgroup namespace of its own.
    pub namespaced: bool,
    /// The hierarchies of cgroup v1, also on a hybrid host; none means cgroup v2.
    pub hierarchies: Vec<V1Hierarchy>,
    /// The container's own directory of cgroup v2.
    pub unified: Option<PathBuf>,
}

/// One v1 hierarchy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct V1Hierarchy {
    /// The name of its mount point: `cpu,cpuacct`, `memory`, `systemd`.
    pub name: String,
    /// Names that are symlinks to it.
    pub links: Vec<String>,
    /// The container's own directory.
    pub directory: PathBuf,
    /// Options with which the kernel mounts it: `cpu` and `cpuacct`, or `none` and `name=systemd`.
    pub options: Vec<String>,
}
