//! Mounts of type `cgroup`: what the container sees of its cgroups. runtime-spec config-linux.md, "Default
//! Filesystems" and "Control groups"; cgroup_namespaces(7).

use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context as _, ensure};

use super::bind::Bind;
use super::context::{CgroupView, Context, V1Hierarchy};
use super::filesystem::Filesystem;
use super::prepared::propagate;
use super::request::MountRequest;
use super::target::Target;
use crate::sys::mount::{Attributes, Depth, Sharing, attr, set_attributes};
use crate::sys::path::RootFd;
use crate::sys::{Errno, Fault, file};

/// The container's cgroups, mounted where programs look for them.
#[derive(PartialEq, Debug)]
#[expect(clippy::large_enum_variant, reason = "a plan has one or two of them")]
pub enum CgroupMount {
    V1(V1),
    V2(V2),
}

/// A tmpfs with a directory for each hierarchy.
#[derive(PartialEq, Debug)]
pub struct V1 {
    tmpfs: Filesystem,
    hierarchies: Vec<HierarchyMount>,
    /// Where each symlink leads, and its name.
    links: Vec<(CString, CString)>,
    read_only: bool,
    /// Whether the tmpfs is seen by nobody else before the container runs.
    unseen: bool,
    propagation: Vec<(Sharing, Depth)>,
    target: Target,
    text: String,
}

/// One hierarchy: mounted where the container has a cgroup namespace, else bound from its own directory.
#[derive(PartialEq, Debug)]
enum HierarchyMount {
    Mounted(Filesystem),
    Bound(Bind),
}

/// The one hierarchy of cgroup v2.
#[derive(PartialEq, Debug)]
pub struct V2 {
    filesystem: Filesystem,
    /// Without one, a new mount would show the host's whole hierarchy, and set the host's mount options anew.
    namespaced: bool,
    own: Option<Bind>,
    /// Covers the mount point, if not even the own directory is there.
    cover: Filesystem,
}

impl CgroupMount {
    pub(super) fn compile(request: MountRequest, context: &Context) -> anyhow::Result<Self> {
        let view = context.cgroup.context("type: cgroup: the container has no cgroup")?;
        if view.hierarchies.is_empty() {
            return V2::compile(request, view).map(Self::V2);
        }
        let options = &request.options.data;
        ensure!(options.is_empty(), "options: {}: cgroup v1 takes none here", options.join(","));
        V1::compile(request, context, view).map(Self::V1)
    }

    /// Mounts it and returns the mount.
    pub(super) fn apply(&self, root: &RootFd) -> Result<OwnedFd, Fault> {
        match self {
            Self::V1(v1) => v1.apply(root),
            Self::V2(v2) => v2.apply(root),
        }
    }
}

impl V1 {
    fn compile(request: MountRequest, context: &Context, view: &CgroupView) -> anyhow::Result<Self> {
        let asked = request.options.flags;
        let flags = asked.mount.set | attr::NOSUID | attr::NODEV | attr::NOEXEC;
        // `ro` means the hierarchies, as in runc; `rro,rw` leaves them read-only.
        let below = flags | asked.below.set;
        let label = context.label.map(|label| format!("{}={}", label.option, label.text));
        let data: Vec<_> = ["source=tmpfs".to_owned(), "mode=755".to_owned()].into_iter().chain(label).collect();
        let part = |hierarchy: &V1Hierarchy| {
            let target = Target::plain(&hierarchy.name)?;
            anyhow::Ok(if view.namespaced {
                let source = std::iter::once("source=cgroup".to_owned());
                let options: Vec<_> = source.chain(hierarchy.options.iter().cloned()).collect();
                HierarchyMount::Mounted(Filesystem::internal("cgroup", target, &options, below)?)
            } else {
                HierarchyMount::Bound(Bind::of_cgroup(&hierarchy.directory, target, below)?)
            })
        };
        let links = view.hierarchies.iter().flat_map(|hierarchy| {
            let others = hierarchy.links.iter().filter(|link| **link != hierarchy.name);
            others.map(|link| Ok((CString::new(hierarchy.name.as_str())?, CString::new(link.as_str())?)))
        });
        Ok(Self {
            tmpfs: Filesystem::internal("tmpfs", request.target.clone(), &data, flags & !attr::RDONLY)?,
            hierarchies: view.hierarchies.iter().map(part).collect::<anyhow::Result<_>>().context("cgroup")?,
            links: links.collect::<anyhow::Result<_>>().context("cgroup")?,
            read_only: asked.mount.set & attr::RDONLY != 0,
            unseen: context.unseen,
            propagation: request.options.propagation,
            target: request.target,
            text: request.text,
        })
    }

    fn apply(&self, root: &RootFd) -> Result<OwnedFd, Fault> {
        // All mount points are in the tmpfs that was just made: nothing of the container is on the way.
        let inside = RootFd::new(self.tmpfs.apply(root)?);
        for part in &self.hierarchies {
            match part {
                HierarchyMount::Mounted(filesystem) if self.unseen => filesystem.mount_in(inside.as_fd())?,
                HierarchyMount::Mounted(filesystem) => drop(filesystem.apply(&inside)?),
                // Without a right to make cgroups the container has none, and sees none; the host's stay hidden.
                HierarchyMount::Bound(bind) => match bind.apply(&inside) {
                    Err(fault) if fault.errno == Errno::ENOENT => {}
                    done => drop(done?),
                },
            }
        }
        for (target, name) in &self.links {
            file::symlink_at(target, inside.as_fd(), name).map_err(|error| error.about(name))?;
        }
        if self.read_only {
            set_attributes(inside.as_fd(), Attributes { set: attr::RDONLY, clear: 0 }, Depth::One)?;
        }
        propagate(inside.as_fd(), &self.propagation)?;
        Ok(inside.into_fd())
    }
}

impl V2 {
    fn compile(request: MountRequest, view: &CgroupView) -> anyhow::Result<Self> {
        let flags = request.options.flags.mount.set;
        let own = view.unified.as_deref().map(|own| Bind::of_cgroup(own, request.target.clone(), flags));
        let data = ["source=tmpfs".to_owned(), "mode=755".to_owned()];
        Ok(Self {
            namespaced: view.namespaced,
            own: own.transpose().context("cgroup")?,
            cover: Filesystem::internal("tmpfs", request.target.clone(), &data, flags | attr::RDONLY)?,
            filesystem: Filesystem::compile(MountRequest { kind: "cgroup2", ..request }, None)?,
        })
    }

    /// Without a cgroup namespace, and where mounting is refused (EPERM, EBUSY), the own directory is bound; where there
    /// is none, the host's stay hidden (CVE-2023-25809).
    fn apply(&self, root: &RootFd) -> Result<OwnedFd, Fault> {
        if self.namespaced {
            match self.filesystem.apply(root) {
                Err(fault) if matches!(fault.errno, Errno::EPERM | Errno::EBUSY) => {}
                done => return done,
            }
        }
        let Some(own) = &self.own else { return self.cover.apply(root) };
        match own.apply(root) {
            // No symlink is made anew here, so that there always is a mount.
            Ok(Some(mount)) => Ok(mount),
            Err(fault) if fault.errno != Errno::ENOENT => Err(fault),
            _ => self.cover.apply(root),
        }
    }
}

impl fmt::Display for CgroupMount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::V1(v1) => v1.target.describe(f, format_args!("mount cgroup"), &v1.text),
            Self::V2(v2) => v2.filesystem.fmt(f),
        }
    }
}
