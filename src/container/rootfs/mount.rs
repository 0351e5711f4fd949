//! `mounts[]`: each entry becomes a bind mount, a filesystem, a change of an existing mount, or the container's
//! cgroups. runtime-spec config.md, "Mounts".

use std::fmt;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::rc::Rc;

use anyhow::{bail, ensure};
use oci_spec::runtime;

use super::bind::Bind;
use super::cgroup::CgroupMount;
use super::context::Context;
use super::filesystem::Filesystem;
use super::held::{Earlier, Held};
use super::idmap::{self, Mappings, UserNamespaces};
use super::mask::LateReadonly;
use super::options::{Options, Symlinks};
use super::prepared::Prepared;
use super::remount::Remount;
use super::request::MountRequest;
use super::target::{Target, clean};
use crate::sys::mount::attr;
use crate::sys::path::RootFd;
use crate::sys::{Errno, Fault};

/// What an entry of `mounts` comes to.
pub struct Compiled {
    pub mount: Mount,
    /// What is made of it, for later steps.
    pub held: Rc<Held>,
    /// For the entries that follow; a remount makes no mount.
    pub earlier: Option<Earlier>,
    /// To be applied when all mount points, devices and links are made.
    pub late: Option<LateReadonly>,
    /// The mappings of the user namespace that is to be made for this mount.
    pub mappings: Option<Mappings>,
    pub warnings: Vec<String>,
}

/// One entry of `mounts`, ready to be mounted.
#[derive(Debug)]
pub enum Mount {
    Bind(Bind),
    Filesystem(Filesystem),
    Remount(Remount),
    Cgroup(Box<CgroupMount>),
    /// A new sysfs, or the host's where the network namespace is of another user namespace than ours.
    Sysfs(Box<(Filesystem, Bind)>),
}

impl Mount {
    /// The entry `mount`; a user namespace that it needs made for its mapping will have the number `next`. `earlier` are
    /// the entries before it.
    pub fn compile(
        mount: &runtime::Mount,
        context: &Context,
        next: usize,
        earlier: &[Earlier],
    ) -> anyhow::Result<Compiled> {
        let mut warnings = Vec::new();
        let options = mount.options().as_deref().unwrap_or_default();
        let parsed = Options::parse(options);
        let (id_map, mappings) = idmap::compile(mount, parsed.id_map.as_ref(), context, next)?.unzip();
        let unwritten = if id_map.is_some() && parsed.id_map.is_none() { "idmap" } else { "" };
        let request = MountRequest {
            target: Target::compile(mount.destination(), &mut warnings)?,
            kind: mount.typ().as_deref().unwrap_or_default(),
            source: mount.source().as_deref(),
            text: options
                .iter()
                .map(String::as_str)
                .chain(Some(unwritten).filter(|word| !word.is_empty()))
                .collect::<Vec<_>>()
                .join(","),
            options: parsed,
            id_map,
        };
        let is_bind = request.options.bind.is_some() || request.kind == "bind";
        let follows = request.options.symlinks == Symlinks::default();
        ensure!(
            follows || is_bind && !request.options.remount,
            "options: copy-symlink, src-nofollow and dest-nofollow are for bind mounts"
        );
        let (mut late, held) = (None, Rc::new(Held::default()));
        let path = request.target.path.clone();
        let mount = match request.kind {
            _ if request.options.remount => Self::Remount(Remount::compile(request, earlier)?),
            _ if is_bind => Self::Bind(Bind::compile(request, context, &mut warnings)?),
            "" => bail!("type: missing (only bind mounts do without)"),
            "cgroup" => Self::Cgroup(Box::new(CgroupMount::compile(request, context)?)),
            "sysfs" if !context.network_namespace => {
                let bind = Bind::of_host_sysfs(&request, context)?;
                Self::Sysfs(Box::new((Filesystem::compile(request, context.label)?, bind)))
            }
            _ => {
                late = late_readonly(&request, &held);
                Self::Filesystem(Filesystem::compile(request, context.label)?)
            }
        };
        let is_made = !matches!(mount, Self::Remount(_));
        let earlier = is_made.then(|| Earlier { path, mount: held.clone() });
        Ok(Compiled { mount, held, earlier, late, mappings: mappings.flatten(), warnings })
    }

    /// Whether it is a new procfs.
    pub fn is_procfs(&self) -> bool {
        matches!(self, Self::Filesystem(filesystem) if filesystem.is_procfs())
    }

    /// The detached mount of a new filesystem, made with the namespaces of the caller.
    pub fn make(&self) -> Result<OwnedFd, Fault> {
        match self {
            Self::Filesystem(filesystem) => filesystem.make(),
            _ => Err(Fault::new("fsopen", Errno::EINVAL, "no filesystem of its own")),
        }
    }

    /// Whether the owners of its files are mapped.
    pub fn is_id_mapped(&self) -> bool {
        match self {
            Self::Bind(bind) => bind.id_map.is_some(),
            Self::Filesystem(filesystem) => filesystem.id_map.is_some(),
            Self::Sysfs(sysfs) => sysfs.0.id_map.is_some(),
            Self::Remount(_) | Self::Cgroup(_) => false,
        }
    }

    /// Whether it can be opened before the entries that come earlier are mounted: a source in `rootfs` may lie on one.
    pub fn opens_early(&self, rootfs: &Path) -> bool {
        match self {
            Self::Bind(bind) => !bind.is_below(rootfs),
            _ => self.is_id_mapped(),
        }
    }

    /// The detached mount, of what is opened by a path of the host or mapped to other ids: the part that may need
    /// rights which the container has not. None: there is no such part.
    pub fn open(&self, namespaces: UserNamespaces) -> Result<Option<OwnedFd>, Fault> {
        match self {
            Self::Bind(bind) => bind.open(namespaces).map(Some),
            Self::Filesystem(filesystem) => filesystem.open(namespaces),
            Self::Sysfs(sysfs) => sysfs.0.open(namespaces),
            Self::Remount(_) | Self::Cgroup(_) => Ok(None),
        }
    }

    /// Mounts it below `root` and returns the mount, if it is one; what is missing of the mount point is made. `opened` is
    /// what [`Mount::open`] returned.
    pub fn apply(&self, root: &RootFd, opened: Option<OwnedFd>) -> Result<Option<OwnedFd>, Fault> {
        match self {
            Self::Remount(remount) => remount.apply(root).map(|()| None),
            Self::Cgroup(cgroup) => cgroup.apply(root).map(Some),
            _ => match self.prepare(root, opened)? {
                Some(prepared) => {
                    prepared.copy_up()?;
                    prepared.attach()?;
                    self.settle(root, &prepared)?;
                    Ok(Some(prepared.mount))
                }
                None => Ok(None),
            },
        }
    }

    /// All that comes before the mount is attached. None: it is no mount, and done.
    pub(super) fn prepare(&self, root: &RootFd, opened: Option<OwnedFd>) -> Result<Option<Prepared<'_>>, Fault> {
        match self {
            Self::Bind(bind) => bind.prepare(root, opened),
            Self::Filesystem(filesystem) => filesystem.prepare(root, opened).map(Some),
            Self::Sysfs(sysfs) => match sysfs.0.prepare(root, opened) {
                Err(fault) if fault.errno == Errno::EPERM => sysfs.1.prepare(root, None),
                done => done.map(Some),
            },
            Self::Remount(_) | Self::Cgroup(_) => Err(Fault::new("move_mount", Errno::EINVAL, "no mount of its own")),
        }
    }

    /// All that can be done only once it is attached.
    pub(super) fn settle(&self, root: &RootFd, prepared: &Prepared) -> Result<(), Fault> {
        match self {
            Self::Bind(bind) => bind.settle(root, prepared),
            Self::Filesystem(filesystem) => filesystem.settle(root, prepared),
            // Both have the same options and the same place.
            Self::Sysfs(sysfs) => sysfs.1.settle(root, prepared),
            Self::Remount(_) | Self::Cgroup(_) => Ok(()),
        }
    }
}

/// Whether the runtime makes the devices and links of `/dev`: not where the host's, or another, is bound there.
pub fn makes_devices(mounts: &[runtime::Mount]) -> bool {
    let is_bound = |mount: &runtime::Mount| {
        let options = mount.options().as_deref().unwrap_or_default();
        let bound = options.iter().any(|option| option == "bind" || option == "rbind");
        (bound || mount.typ().as_deref() == Some("bind")) && clean(mount.destination()) == Path::new("/dev")
    };
    !mounts.iter().any(is_bound)
}

/// A read-only tmpfs, or `/dev`, stays writable until mount points, devices and links are made in it.
fn late_readonly(request: &MountRequest, held: &Rc<Held>) -> Option<LateReadonly> {
    let read_only = request.options.flags.mount.set & attr::RDONLY != 0;
    let is_late = request.kind == "tmpfs" || request.target.path.as_bytes() == b"/dev";
    (read_only && is_late).then(|| {
        held.want();
        LateReadonly { path: request.target.path.clone(), mount: held.clone() }
    })
}

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(bind) => bind.fmt(f),
            Self::Filesystem(filesystem) => filesystem.fmt(f),
            Self::Remount(remount) => remount.fmt(f),
            Self::Cgroup(cgroup) => cgroup.fmt(f),
            Self::Sysfs(sysfs) => sysfs.0.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests;
