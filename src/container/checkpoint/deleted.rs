//! Files that were deleted while they were open. CRIU saves what is in them, and makes them anew where they were, as
//! root, to open and remove them again (`ghost`); or it has left another name of the file there (`link_remap.N`, with
//! `--link-remap`). It takes a mount that is read-only for writable meanwhile, and a link of the container where a
//! directory was leads it astray. So it is done only where the container itself could do it.
//!
//! Field numbers of images/remap-file-path.proto, images/ghost-file.proto and images/regfile.proto.

use std::collections::BTreeSet;
use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result, bail, ensure};
use prost::Message;

use super::entries::{first, names, of};
use super::mount_entry::{MountEntry, is_root};
use super::names::Regular;
use crate::sys::path::RootFd;
use crate::sys::{Errno, file};

/// `remap_type`, and the bit that older images have in its place.
const LINKED: u32 = 0;
const GHOST: u32 = 1;
const IS_GHOST: u32 = 1 << 31;

const REMAPS: &str = "remap-fpath.img";

/// `fstype` of images/mnt.proto.
const TMPFS: u32 = 5;

/// MS_RDONLY of mount(2).
const READ_ONLY: u32 = 1;

/// Of stat(2): regular files, directories, FIFOs, and the bits that give a program other rights.
const KINDS: [u32; 3] = [0o100_000, DIRECTORY, 0o010_000];
const DIRECTORY: u32 = 0o040_000;
const KIND: u32 = 0o170_000;
const OTHER_RIGHTS: u32 = 0o6000;

/// `remap_file_path_entry`.
#[derive(Clone, PartialEq, Message)]
struct Remap {
    #[prost(uint32, tag = "1")]
    file: u32,
    /// Number of a ghost, or of another file.
    #[prost(uint32, tag = "2")]
    by: u32,
    #[prost(uint32, optional, tag = "3")]
    kind: Option<u32>,
}

/// `ghost_file_entry`.
#[derive(Clone, PartialEq, Message)]
struct GhostFileEntry {
    #[prost(uint32, tag = "3")]
    mode: u32,
}

/// A deleted file, by its path in the container.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Deleted {
    pub(super) path: Vec<u8>,
    /// Whether CRIU makes the file system anew, so that the files in it are not there yet.
    pub(super) on_new: bool,
    /// What CRIU makes in its place.
    pub(super) made: Option<StandIn>,
}

/// What CRIU makes in the place of a deleted file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum StandIn {
    /// A file by a name of its own with this number in it, which is linked to the path for a moment.
    File(u32),
    /// A directory at the path.
    Directory,
}

/// All deleted files of the images; fails where one cannot be made anew. `files` and `mounts` are those of the images;
/// `is_writable` tells whether config.json lets the container write to its root, or to the external mount of this name.
pub(super) fn check(
    images: BorrowedFd,
    files: &[Regular],
    mounts: &[MountEntry],
    is_writable: &dyn Fn(Option<&str>) -> bool,
) -> Result<Vec<Deleted>> {
    let (mut deleted, mut directories) = (Vec::new(), BTreeSet::new());
    let names = names(images)?;
    for name in names.iter().filter(|name| name.starts_with("ghost-file-")) {
        let found: GhostFileEntry = first(images, name)?;
        ghost(&found).with_context(|| image(name))?;
        if found.mode & KIND == DIRECTORY {
            directories.insert(name.as_str());
        }
    }
    if names.iter().any(|name| name == REMAPS) {
        let all = Images { files, mounts, is_writable, directories };
        for remap in of::<Remap>(images, REMAPS)? {
            deleted.extend(all.deleted(&remap).with_context(|| image(REMAPS))?);
        }
    }
    Ok(deleted)
}

fn image(name: &str) -> String {
    format!("--image-path: {name}")
}

fn ghost(ghost: &GhostFileEntry) -> Result<()> {
    let mode = ghost.mode;
    ensure!(KINDS.contains(&(mode & KIND)), "a deleted file of mode {mode:o} cannot be restored");
    ensure!(mode & OTHER_RIGHTS == 0, "a deleted set-user-ID or set-group-ID file cannot be restored");
    Ok(())
}

/// What the images say.
struct Images<'a> {
    files: &'a [Regular],
    mounts: &'a [MountEntry],
    is_writable: &'a dyn Fn(Option<&str>) -> bool,
    /// The images of deleted directories.
    directories: BTreeSet<&'a str>,
}

impl Images<'_> {
    /// All that CRIU could take for the file and for the other name of it.
    fn deleted(&self, remap: &Remap) -> Result<Vec<Deleted>> {
        let same = |id: u32| self.files.iter().filter(move |file| file.id == id);
        let mut found = Vec::new();
        for file in same(remap.file) {
            let on_new = self.on_new(file).with_context(|| format!("deleted file {}", show(&file.name)))?;
            found.push(Deleted { path: file.name.clone(), on_new, made: None });
        }
        let on_new = found.iter().any(|file| file.on_new);
        let is_one = found.iter().all(|file| file.on_new == on_new);
        ensure!(is_one && !found.is_empty(), "file {} is not known", remap.file);
        match remap.kind {
            None if remap.by & IS_GHOST != 0 => self.set_made(&mut found, remap.by & !IS_GHOST),
            Some(GHOST) => self.set_made(&mut found, remap.by),
            None | Some(LINKED) => {
                ensure!(same(remap.by).next().is_some(), "file {} is not known", remap.by);
                for other in same(remap.by) {
                    let name = other.name.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
                    ensure!(name.starts_with(b"link_remap."), "{}: not a name of criu's", show(&other.name));
                    // CRIU looks for it on the mount of the file.
                    found.push(Deleted { path: other.name.clone(), on_new, made: None });
                }
            }
            Some(kind) => bail!("a file that is gone (kind {kind}) cannot be restored"),
        }
        Ok(found)
    }

    fn set_made(&self, files: &mut [Deleted], number: u32) {
        // In hexadecimal digits, or decimal ones.
        let names = [format!("ghost-file-{number:x}.img"), format!("ghost-file-{number}.img")];
        let is_directory = names.iter().any(|name| self.directories.contains(name.as_str()));
        let made = if is_directory { StandIn::Directory } else { StandIn::File(number) };
        files.iter_mut().for_each(|file| file.made = Some(made));
    }

    /// Whether the file is on a file system that CRIU makes; fails where the container could not write to.
    fn on_new(&self, file: &Regular) -> Result<bool> {
        let same = |mount: &&MountEntry| Some(mount.id) == file.mount.and_then(|id| u32::try_from(id).ok());
        let mounts: Vec<&MountEntry> = self.mounts.iter().filter(same).collect();
        let [mount] = mounts.as_slice() else { bail!("its mount is not known") };
        ensure!(mount.flags & READ_ONLY == 0, "cannot be restored on a read-only mount");
        let is_hosts = |mount: &MountEntry| mount.ext_key.is_some() || is_root(mount, self.mounts);
        if is_hosts(mount) {
            ensure!((self.is_writable)(mount.ext_key.as_deref()), "cannot be restored on a read-only mount");
            return Ok(false);
        }
        let shows_hosts = self.mounts.iter().any(|other| is_hosts(other) && other.device == mount.device);
        ensure!(
            mount.kind == TMPFS && mount.root == "/" && !shows_hosts,
            "can be restored on the rootfs, a bind mount of config.json or a tmpfs only"
        );
        Ok(true)
    }
}

impl Deleted {
    /// Fails unless the directory of the file is there below `root`, or is missing, without a symlink on the way.
    pub fn check(&self, root: &RootFd) -> Result<()> {
        let slash = self.path.iter().rposition(|byte| *byte == b'/').unwrap_or_default();
        let above = self.path.get(..slash).unwrap_or_default();
        if self.on_new || above.is_empty() {
            return Ok(());
        }
        let is_directory = match root.open_exactly(above) {
            Ok(found) => file::stat(found.as_fd())?.is_directory(),
            // CRIU makes it for as long as it needs it.
            Err(error) if error.errno == Errno::ENOENT => true,
            Err(error) if matches!(error.errno, Errno::ELOOP | Errno::ENOTDIR) => false,
            Err(error) => return Err(error).with_context(|| show(&self.path)),
        };
        ensure!(is_directory, "deleted file {}: {LINK}", show(&self.path));
        Ok(())
    }
}

const LINK: &str = "cannot be restored: something else than a directory is on the way there by now";

fn show(path: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(path))
}
