//! Bind mounts: a detached copy of the source gets its flags, then its place. mount(8), "BIND MOUNT OPERATION".

use core::ffi::CStr;
use std::ffi::{CString, OsStr};
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context as _, ensure};

use super::context::Context;
use super::idmap::{IdMap, UserNamespaces};
use super::options::{Flags, Symlinks};
use super::prepared::{Prepared, propagate};
use super::request::MountRequest;
use super::target::{Target, c_path};
use crate::sys::file::{self, magic};
use crate::sys::mount::{Attributes, Depth, Sharing, attr, copy_itself, copy_path};
use crate::sys::path::{Links, RootFd};
use crate::sys::{Errno, Fault};

/// A file or directory of the host, shown in the container. Flags that no option names stay as the source has them.
#[derive(PartialEq, Debug)]
pub struct Bind {
    source: CString,
    depth: Depth,
    target: Target,
    flags: Flags,
    propagation: Vec<(Sharing, Depth)>,
    /// Whether the source must be a procfs: on `/proc`, labels and sysctls are written there.
    must_be_proc: bool,
    pub(super) id_map: Option<IdMap>,
    symlinks: Symlinks,
    /// What EPERM means for these flags, if some of them are taken away.
    locked: Option<CString>,
    text: String,
}

impl Bind {
    pub(super) fn compile(
        request: MountRequest,
        context: &Context,
        warnings: &mut Vec<String>,
    ) -> anyhow::Result<Self> {
        let options = &request.options;
        // mount(2) ignores the data of a bind mount, and some do pass it. A lone word is more likely a flag misspelt.
        for option in &options.data {
            ensure!(option.contains('='), "options: {option}: not an option of bind mounts");
            warnings.push(format!("options: {option}: has no effect on a bind mount"));
        }
        ensure!(!options.copy_up, "options: tmpcopyup: only a tmpfs can have a copy of what it hides");
        for flag in &options.superblock {
            warnings.push(format!("options: {}: has no effect on a bind mount", flag.to_string_lossy()));
        }
        let source = request.source.filter(|source| !source.as_os_str().is_empty());
        let source = context.bundle.join(source.context("source: missing")?);
        let mut bind = Self::new(&source, &request)?;
        bind.depth = options.bind.unwrap_or(Depth::One);
        if bind.shows_cgroups(&source) && bind.flags.mount.set & attr::RDONLY != 0 && context.is_rootless() {
            bind.flags.below.add(Attributes { set: attr::RDONLY, clear: 0 });
        }
        if bind.target.path.as_bytes() == b"/proc" {
            bind.must_be_proc = true;
            bind.target = Target { links: Links::Refuse, on_proc: true, ..bind.target };
        }
        Ok(bind)
    }

    /// The host's `/sys` in place of a new sysfs, which a user namespace may have only of a network namespace of its
    /// own. Read-only means all of it: the cgroups below are the host's (CVE-2023-25809).
    pub(super) fn of_host_sysfs(request: &MountRequest, context: &Context) -> anyhow::Result<Self> {
        let mut bind = Self::new(Path::new("/sys"), request).with_context(|| context.bundle.display().to_string())?;
        bind.depth = Depth::Tree;
        bind.flags.below = Attributes { set: bind.flags.mount.set & attr::RDONLY, clear: 0 };
        bind.target.links = Links::Refuse;
        Ok(bind)
    }

    /// The container's own directory of a cgroup hierarchy.
    pub(super) fn of_cgroup(directory: &Path, target: Target, flags: u64) -> anyhow::Result<Self> {
        Ok(Self {
            source: c_path(directory)?,
            depth: Depth::Tree,
            target,
            flags: Flags::of_mount(flags),
            propagation: Vec::new(),
            must_be_proc: false,
            id_map: None,
            symlinks: Symlinks::default(),
            locked: None,
            text: String::new(),
        })
    }

    fn new(source: &Path, request: &MountRequest) -> anyhow::Result<Self> {
        let options = &request.options;
        Ok(Self {
            source: c_path(source).context("source")?,
            depth: Depth::One,
            target: Target { itself: options.symlinks.cover_target_itself, ..request.target.clone() },
            flags: options.flags,
            propagation: options.propagation.clone(),
            must_be_proc: false,
            id_map: request.id_map,
            symlinks: options.symlinks,
            locked: locked(&request.text)?,
            text: request.text.clone(),
        })
    }

    /// Whether it is the whole of the host's `/sys`. In a container whose root is a user of the host, read-only means
    /// all of it then, although only `rro` would say so: in the cgroups below, that user may have some of his own, and
    /// no container of his is meant to write them (CVE-2023-25809).
    fn shows_cgroups(&self, source: &Path) -> bool {
        source == Path::new("/sys") && self.depth == Depth::Tree
    }

    /// Whether the source lies in the directory `path`.
    pub(super) fn is_below(&self, path: &Path) -> bool {
        Path::new(OsStr::from_bytes(self.source.as_bytes())).starts_with(path)
    }

    /// A detached copy of the source, in the caller's mount namespace and with its rights; or the symlink that is to be
    /// made anew.
    pub(super) fn open(&self, namespaces: UserNamespaces) -> Result<OwnedFd, Fault> {
        if self.symlinks.copy {
            let link = file::open_itself(&self.source).map_err(|error| error.about(&self.source))?;
            if file::stat(link.as_fd())?.kind() == file::kind::SYMLINK {
                return Ok(link);
            }
        }
        let tree = self.copy()?;
        if let Some(id_map) = &self.id_map {
            id_map.apply(tree.as_fd(), &self.source, namespaces)?;
        }
        Ok(tree)
    }

    fn copy(&self) -> Result<OwnedFd, Fault> {
        let copy = if self.symlinks.mount_source_itself { copy_itself } else { copy_path };
        copy(&self.source, self.depth).map_err(|error| match (error.errno, self.depth) {
            // Copying one mount alone would uncover what a more privileged user namespace has covered.
            (Errno::EINVAL, Depth::One) => Fault::of_parts(
                error.call,
                error.errno,
                &[self.source.as_bytes(), b" has locked mounts below it: use rbind"],
            ),
            _ => error.about(&self.source),
        })
    }

    /// `opened`, else what it opens itself, with its flags, and its place. None: it is a symlink made anew.
    pub(super) fn prepare(&self, root: &RootFd, opened: Option<OwnedFd>) -> Result<Option<Prepared<'_>>, Fault> {
        let tree = match opened {
            Some(tree) => tree,
            None => self.copy()?,
        };
        if self.must_be_proc && file::fs_type(tree.as_fd())? != magic::PROC {
            return Err(Fault::of_parts("fstatfs", Errno::EPERM, &[self.source.as_bytes(), b" is not a procfs"]));
        }
        let stat = file::stat(tree.as_fd())?;
        if self.symlinks.copy && stat.kind() == file::kind::SYMLINK {
            return self.copy_link(root, tree.as_fd()).map(|()| None);
        }
        self.flags.apply(tree.as_fd()).map_err(|error| match error.errno {
            Errno::EPERM => error.about(self.locked.as_ref().unwrap_or(&self.source)),
            _ => error.about(&self.source),
        })?;
        let at = if stat.is_directory() { self.target.directory(root)? } else { self.target.file(root)? };
        Ok(Some(Prepared { mount: tree, stat, at, path: &self.target.path, copies: false }))
    }

    /// What is left to do once it is attached.
    pub(super) fn settle(&self, root: &RootFd, prepared: &Prepared) -> Result<(), Fault> {
        propagate(prepared.mount.as_fd(), &self.propagation)?;
        self.target.verify(root, &prepared.stat)
    }

    /// Both, for one that config.json does not list by itself.
    pub(super) fn apply(&self, root: &RootFd) -> Result<Option<OwnedFd>, Fault> {
        let Some(prepared) = self.prepare(root, None)? else { return Ok(None) };
        prepared.attach()?;
        self.settle(root, &prepared)?;
        Ok(Some(prepared.mount))
    }

    fn copy_link(&self, root: &RootFd, link: BorrowedFd) -> Result<(), Fault> {
        let mut buffer = [0; 4096];
        let len = file::readlink_at(link, c"", &mut buffer).map_err(|error| error.about(&self.source))?.len();
        // readlink_at leaves at least one byte, which is still zero.
        let to = CStr::from_bytes_until_nul(buffer.get(..=len).unwrap_or_default()).unwrap_or_default();
        self.target.make_link(root, to)
    }
}

/// Options that take a flag away, which a mount from a more privileged user namespace does not allow: mount_setattr(2).
const CLEARING: &[&str] = &[
    "rw",
    "suid",
    "dev",
    "exec",
    "rrw",
    "rsuid",
    "rdev",
    "rexec",
    "atime",
    "noatime",
    "relatime",
    "norelatime",
    "strictatime",
    "nostrictatime",
    "ratime",
    "rnoatime",
    "rrelatime",
    "rnorelatime",
    "rstrictatime",
    "rnostrictatime",
    "diratime",
    "rdiratime",
];

/// The words for EPERM where `options` have some that take flags away.
fn locked(options: &str) -> anyhow::Result<Option<CString>> {
    let cleared: Vec<_> = options.split(',').filter(|option| CLEARING.contains(option)).collect();
    if cleared.is_empty() {
        return Ok(None);
    }
    let words = format!("the source has flags that its user namespace has locked: {}", cleared.join(","));
    Ok(Some(CString::new(words)?))
}

impl fmt::Display for Bind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kept = self.text.split(',').filter(|option| !matches!(*option, "bind" | "rbind"));
        let kept = kept.collect::<Vec<_>>().join(",");
        let name = if self.depth == Depth::Tree { "rbind" } else { "bind" };
        self.target.describe(f, format_args!("{name} {}", self.source.to_string_lossy()), &kept)
    }
}
