//! `linux.maskedPaths`, `linux.readonlyPaths`, `root.readonly` and mounts that turn read-only at last: what closes the
//! container's files once its root is the root.

use core::ffi::CStr;
use std::collections::BTreeSet;
use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

use anyhow::Context as _;

use super::held::Held;
use super::target::verify;
use crate::error::field;
use crate::sys::file::{self, magic};
use crate::sys::mount::{Attributes, Depth, FsContext, attach, attr, copy_tree, set_attributes};
use crate::sys::path::{Links, RootFd};
use crate::sys::{Errno, Fault};

const READ_ONLY: Attributes = Attributes { set: attr::RDONLY, clear: 0 };

/// Makes a file read as empty, and a directory as empty and read-only. A missing path is fine.
#[derive(PartialEq, Eq, Debug)]
pub struct MaskPath {
    path: CString,
    label: Option<CString>,
}

/// What masks are made of: opened and verified once, for the first path that needs it.
#[derive(Default)]
pub struct Masks {
    null: Option<OwnedFd>,
    empty: Option<OwnedFd>,
}

impl MaskPath {
    /// `label` is linux.mountLabel, where SELinux is enabled.
    pub fn compile(paths: &[String], label: Option<&str>) -> anyhow::Result<Vec<Self>> {
        let label = label.map(CString::new).transpose().context(field!("linux.mountLabel"))?;
        let mut paths = container_paths(paths, "linux.maskedPaths")?;
        // Each once: a second mask would cover the first.
        let mut seen = BTreeSet::new();
        paths.retain(|path| seen.insert(path.clone()));
        Ok(paths.into_iter().map(|path| Self { path, label: label.clone() }).collect())
    }

    pub fn apply(&self, root: &RootFd, masks: &mut Masks) -> Result<(), Fault> {
        let Some(target) = open_existing(root, &self.path)? else { return Ok(()) };
        let stat = file::stat(target.as_fd()).map_err(|error| error.about(&self.path))?;
        let mask = if stat.is_directory() {
            masks.empty_directory(self.label.as_deref())?
        } else {
            copy_tree(masks.null_device(root)?, Depth::One).map_err(|error| error.about(&self.path))?
        };
        attach(mask.as_fd(), target.as_fd()).map_err(|error| error.about(&self.path))?;
        let mounted = file::stat(mask.as_fd())?;
        verify(root, &self.path, &mounted)?;
        let is_directory = stat.is_directory();
        let masked = if is_directory { is_empty_tmpfs(mask.as_fd())? } else { mounted.is_character(1, 3) };
        if !masked {
            return Err(Fault::of_parts("statx", Errno::EPERM, &[self.path.as_bytes(), b" is not masked"]));
        }
        if is_directory && masks.empty.is_none() {
            masks.empty = Some(mask);
        }
        Ok(())
    }
}

impl Masks {
    /// The container's `/dev/null`, which must be just that and no symlink (CVE-2025-31133).
    fn null_device(&mut self, root: &RootFd) -> Result<BorrowedFd<'_>, Fault> {
        if self.null.is_none() {
            let null = root.open(c"/dev/null", Links::Refuse).map_err(|error| error.about(c"/dev/null"))?;
            if !is_null(null.as_fd())? {
                return Err(Fault::new("statx", Errno::ENODEV, "/dev/null is not the character device 1:3"));
            }
            self.null = Some(null);
        }
        match &self.null {
            Some(null) => Ok(null.as_fd()),
            None => Err(Fault::new("statx", Errno::ENODEV, "/dev/null")),
        }
    }

    /// A mount of the empty directory: one tmpfs for all, since each superblock costs memory per CPU.
    ///
    /// The first mask is the tmpfs itself, the others are copies of it once it is attached: before Linux 6.15 a
    /// detached mount cannot be copied.
    fn empty_directory(&self, label: Option<&CStr>) -> Result<OwnedFd, Fault> {
        if let Some(empty) = &self.empty {
            return Ok(copy_tree(empty.as_fd(), Depth::One)?);
        }
        let tmpfs = FsContext::open(c"tmpfs")?;
        for (key, value) in [(c"source", Some(c"tmpfs")), (c"context", label), (c"mode", Some(c"0555"))] {
            if value.is_some() {
                tmpfs.set(key, value).map_err(|error| tmpfs.explain(error, key))?;
            }
        }
        tmpfs.set(c"ro", None)?;
        tmpfs.create().map_err(|error| tmpfs.explain(error, c"tmpfs"))?;
        Ok(tmpfs.mount(attr::RDONLY | attr::NOSUID | attr::NODEV | attr::NOEXEC)?)
    }
}

fn is_null(fd: BorrowedFd) -> Result<bool, Fault> {
    Ok(file::stat(fd)?.is_character(1, 3))
}

fn is_empty_tmpfs(fd: BorrowedFd) -> Result<bool, Fault> {
    Ok(file::fs_type(fd)? == magic::TMPFS && file::is_read_only(fd)?)
}

/// Makes a path read-only, with the mounts below it as they are. A missing path is fine.
#[derive(PartialEq, Eq, Debug)]
pub struct ReadonlyPath {
    path: CString,
}

impl ReadonlyPath {
    pub fn compile(paths: &[String]) -> anyhow::Result<Vec<Self>> {
        Ok(container_paths(paths, "linux.readonlyPaths")?.into_iter().map(|path| Self { path }).collect())
    }

    /// The path is resolved once; what is mounted is a copy of that, onto that (GHSA-3q8j-pf29-vwv8).
    pub fn apply(&self, root: &RootFd) -> Result<(), Fault> {
        let Some(target) = open_existing(root, &self.path)? else { return Ok(()) };
        let tree = copy_tree(target.as_fd(), Depth::Tree).map_err(|error| error.about(&self.path))?;
        set_attributes(tree.as_fd(), READ_ONLY, Depth::One).map_err(|error| error.about(&self.path))?;
        attach(tree.as_fd(), target.as_fd()).map_err(|error| error.about(&self.path))?;
        verify(root, &self.path, &file::stat(tree.as_fd())?)
    }
}

/// Makes the root read-only, and nothing that is mounted below it.
#[derive(PartialEq, Eq, Debug)]
pub struct ReadonlyRoot;

impl ReadonlyRoot {
    pub fn apply(&self, root: &RootFd) -> Result<(), Fault> {
        Ok(set_attributes(root.as_fd(), READ_ONLY, Depth::One)?)
    }
}

/// Makes a mount read-only that had to be writable until devices and mount points were made in it: `/dev`, any tmpfs.
#[derive(Debug)]
pub struct LateReadonly {
    pub(super) path: CString,
    pub(super) mount: Rc<Held>,
}

impl LateReadonly {
    /// Of the very mount that was made: its path may lead to another by now.
    pub fn apply(&self) -> Result<(), Fault> {
        self.apply_to(self.mount.mount()?)
    }

    pub(super) fn apply_to(&self, mount: BorrowedFd) -> Result<(), Fault> {
        set_attributes(mount, READ_ONLY, Depth::One).map_err(|error| error.about(&self.path))
    }
}

fn container_paths(paths: &[String], field: &str) -> anyhow::Result<Vec<CString>> {
    let compile = |(index, path): (usize, &String)| {
        let absolute = path.starts_with('/');
        anyhow::ensure!(absolute, field!("{field}[{index}]"; "{path}: not an absolute path"));
        CString::new(path.as_str()).with_context(|| field!("{field}[{index}]"))
    };
    paths.iter().enumerate().map(compile).collect()
}

/// The file `path` in the container, or none if there is none. Follows links, as runc does: images have /run as a link,
/// and what is masked or made read-only is what was opened.
fn open_existing(root: &RootFd, path: &CStr) -> Result<Option<OwnedFd>, Fault> {
    match root.open(path, Links::Follow) {
        Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ENOTDIR) => Ok(None),
        Err(error) => Err(error.about(path)),
        Ok(fd) => Ok(Some(fd)),
    }
}

impl fmt::Display for MaskPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "mask {}", self.path.to_string_lossy())
    }
}

impl fmt::Display for ReadonlyPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "read-only {}", self.path.to_string_lossy())
    }
}

impl fmt::Display for ReadonlyRoot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("read-only root")
    }
}

impl fmt::Display for LateReadonly {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "read-only mount {}", self.path.to_string_lossy())
    }
}
