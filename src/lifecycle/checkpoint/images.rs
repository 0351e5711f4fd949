//! The directories of images and of work, held by descriptors: CRIU reads and writes there as root, by names that it
//! follows if they are links. So only what belongs to the caller or to root, and can be written by nobody else, is used,
//! and of what lies in it only regular files.

use std::ffi::{CStr, CString, OsStr};
use std::fs::{DirBuilder, File};
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use crate::container::checkpoint::entries;
use crate::container::checkpoint::flags::CriuFlags;
use crate::container::checkpoint::log;
use crate::container::checkpoint::network;
use crate::container::checkpoint::request::{Directories, RESTORE_LOG};
use crate::container::checkpoint::root::{CriuRoot, HostAccess};
use crate::lifecycle::disk::trusted;
use crate::sys::file::{self, Stat, kind};
use crate::sys::path::open_itself_at;
use crate::sys::{Errno, ids, regular};

/// Whether an image of an earlier checkpoint could be taken for one of the next, which may have none of its name.
fn is_old(name: &str) -> bool {
    let numbered = ["core-", "ids-", "mountpoints-", "ghost-file-"];
    let is_numbered = numbered.iter().any(|kind| name.starts_with(kind)) || network::is_image(name);
    is_numbered || ["remap-fpath.img", "apparmor.img"].contains(&name)
}

/// Where the images go when no flag says so, below the working directory: runc's name.
const DEFAULT_IMAGES: &str = "checkpoint";

/// CRIU's link to the images that these are the difference to.
const PARENT: &CStr = c"parent";

/// The socket of `criu lazy-pages`, in the work directory.
const LAZY_PAGES: &CStr = c"lazy-pages.socket";

/// What is made anew: the link, which CRIU would go by if it were an old one that leads elsewhere, logs, and our own.
const OF_CHECKPOINT: [&CStr; 6] =
    [c"irmap-cache", PARENT, c"dump.log", c"stats-dump", c"mounts.json", c"descriptors.json"];
const OF_RESTORE: [&CStr; 3] = [c"irmap-cache", c"restore.log", c"stats-restore"];

/// What CRIU may have written besides its log, in bytes: statistics, and a log by another name.
const LARGEST: u64 = 64 << 20;

/// How many images may be differences to others, one to the next.
const MOST_PARENTS: usize = 64;

/// The directories of images and work, open.
pub struct ImageFiles {
    images: PrivateDirectory,
    work: Option<PrivateDirectory>,
    /// What CRIU works in, in its own root directory.
    inside: Option<CriuDirectory>,
}

/// A directory of CRIU's, and the one of the caller's that it stands for.
struct CriuDirectory {
    directory: OwnedFd,
    caller: OwnedFd,
}

/// What CRIU does with the files that are there.
#[derive(Clone, Copy, PartialEq, Eq)]
enum FileUse {
    Read,
    Write,
}

/// A directory that only the caller and root can write to.
struct PrivateDirectory {
    fd: OwnedFd,
    /// From `/` on: this process may change its working directory.
    path: PathBuf,
}

impl ImageFiles {
    /// The directories of a new checkpoint, made if they are missing (but not those above them). What CRIU would write to
    /// there by a name is a regular file, or is not there.
    pub fn make(flags: &CriuFlags, parent: Option<&Path>) -> Result<Self> {
        let path = images(flags);
        make_directory(&path).with_context(|| format!("--image-path {}", path.display()))?;
        let files = Self::open(flags)?;
        files.remove(&OF_CHECKPOINT)?;
        files.check(FileUse::Write)?;
        for name in entries::names(files.images())?.iter().filter(|name| is_old(name)) {
            files.images.remove(&CString::new(name.as_str())?).with_context(|| format!("--image-path: {name}"))?;
        }
        if let Some(parent) = parent {
            let check = || -> Result<()> {
                let path = CString::new(parent.as_os_str().as_bytes())?;
                check_owner(file::directory_at(files.images.fd.as_fd(), &path)?.as_fd())
            };
            check().with_context(|| format!("--parent-path {}", parent.display()))?;
        }
        Ok(files)
    }

    /// The directories of a checkpoint that is there, without what an earlier restore has left.
    pub fn of_restore(flags: &CriuFlags) -> Result<Self> {
        let files = Self::open(flags)?;
        files.remove(&OF_RESTORE)?;
        files.check(FileUse::Read)?;
        check_parents(files.images.fd.as_fd()).context("--image-path")?;
        Ok(files)
    }

    /// The same once more, in a mount namespace that the caller has gone to, below the root directory that comes to be
    /// there: CRIU mounts things below its working directory, which must be one of its namespace's for that. CRIU writes to
    /// nothing of the caller's but its log, and the images that it is to make smaller.
    pub fn show(flags: &CriuFlags, root: &CriuRoot) -> Result<Self> {
        let mut files = Self::open(flags)?;
        let access = if flags.auto_dedup { HostAccess::Write } else { HostAccess::Read };
        let show = |directory: &PrivateDirectory| root.directory(&directory.path, directory.fd.as_fd(), access);
        for parent in parents(files.images.fd.as_fd()).context("--image-path")? {
            show(&PrivateDirectory::of(parent)?).context("--image-path: parent")?;
        }
        let caller = files.work.as_ref().unwrap_or(&files.images);
        let log = file::create_at(caller.fd.as_fd(), RESTORE_LOG, 0o600).context("--work-path: restore.log")?;
        let lazy_pages = match open_itself_at(caller.fd.as_fd(), LAZY_PAGES) {
            Ok(socket) if flags.lazy_pages => Some(socket),
            _ => None,
        };
        let socket = lazy_pages.as_ref().map(|socket| (LAZY_PAGES, socket.as_fd()));
        let shown: Vec<_> = [(RESTORE_LOG, log.as_fd())].into_iter().chain(socket).collect();
        let directory = root.work(&shown).context("--work-path")?;
        files.inside = Some(CriuDirectory { directory, caller: caller.fd.try_clone().context("--work-path")? });
        files.images.fd = show(&files.images).context("--image-path")?;
        Ok(files)
    }

    /// Gives the caller what CRIU has written besides its log, and is gone with it otherwise.
    pub fn hand_back(&self) -> Result<()> {
        let Some(CriuDirectory { directory, caller }) = &self.inside else { return Ok(()) };
        let own = format!("/proc/self/fd/{}", directory.as_raw_fd());
        for entry in std::fs::read_dir(&own).context(own)? {
            let name = CString::new(entry?.file_name().as_bytes())?;
            if ![RESTORE_LOG, LAZY_PAGES].contains(&name.as_c_str()) {
                hand_back(directory.as_fd(), caller.as_fd(), &name)
                    .with_context(|| format!("--work-path: {}", name.to_string_lossy()))?;
            }
        }
        Ok(())
    }

    fn open(flags: &CriuFlags) -> Result<Self> {
        let path = images(flags);
        let images = PrivateDirectory::open(&path).with_context(|| format!("--image-path {}", path.display()))?;
        let work = flags.work_path.as_deref().map(|path| {
            let work = make_directory(path).and_then(|()| PrivateDirectory::open_through(path));
            work.with_context(|| format!("--work-path {}", path.display()))
        });
        Ok(Self { images, work: work.transpose()?, inside: None })
    }

    fn directories_by_field(&self) -> impl Iterator<Item = (&'static str, &PrivateDirectory)> {
        let work = self.work.as_ref().map(|work| ("--work-path", work));
        std::iter::once(("--image-path", &self.images)).chain(work)
    }

    fn remove(&self, names: &[&CStr]) -> Result<()> {
        for (field, directory) in self.directories_by_field() {
            for name in names {
                let removed = directory.remove(name);
                removed.with_context(|| format!("{field}: {}", name.to_string_lossy()))?;
            }
        }
        Ok(())
    }

    /// Of the work directory, CRIU uses only the names that are removed before: engines keep sockets and FIFOs there.
    fn check(&self, purpose: FileUse) -> Result<()> {
        check_entries(self.images.fd.as_fd(), purpose).context("--image-path")
    }

    pub fn images(&self) -> BorrowedFd<'_> {
        self.images.fd.as_fd()
    }

    /// The directories of the images that these are the difference to.
    pub fn parents(&self) -> Result<Vec<OwnedFd>> {
        parents(self.images()).context("--image-path")
    }

    pub fn directories(&self) -> Directories {
        let number = |directory: &PrivateDirectory| directory.fd.as_raw_fd();
        let inside = self.inside.as_ref().map(|inside| inside.directory.as_raw_fd());
        Directories { images: number(&self.images), work: inside.or_else(|| self.work.as_ref().map(number)) }
    }

    /// What CRIU's log `name` says of a failure, wherever `configuration`, CRIU's own, has it.
    pub fn log_words(&self, name: &CStr, configuration: Option<&Path>) -> String {
        let directory = self.work.as_ref().unwrap_or(&self.images);
        if let Some(configuration) = configuration.filter(|_| !log::is_there(directory.fd.as_fd(), name))
            && let Some(words) = log::configured(configuration, &directory.path)
        {
            return words;
        }
        log::excerpt(directory.fd.as_fd(), &directory.path, name)
    }
}

/// Only files: what else is there was bound by a name of the container's.
fn hand_back(from: BorrowedFd, to: BorrowedFd, name: &CStr) -> Result<()> {
    if file::stat_at(from, name)?.kind() != kind::REGULAR {
        return Ok(());
    }
    let (bytes, _) = regular::read(from, name, LARGEST)?;
    match file::unlink_at(to, name) {
        Err(error) if error.errno != Errno::ENOENT => return Err(error.into()),
        _ => {}
    }
    Ok(File::from(file::create_at(to, name, 0o600)?).write_all(&bytes)?)
}

fn images(flags: &CriuFlags) -> PathBuf {
    flags.image_path.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_IMAGES))
}

fn make_directory(path: &Path) -> Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error.into()),
        _ => Ok(()),
    }
}

impl PrivateDirectory {
    /// The directory, or the one that a link of this name leads to, if the link is the caller's or root's: containerd has one in
    /// each bundle, `work`, and its shim names that.
    fn open_through(path: &Path) -> Result<Self> {
        // A slash at the end would follow a link.
        let path: PathBuf = path.components().collect();
        let link = file::open_itself(&CString::new(path.as_os_str().as_bytes())?)?;
        let stat = file::stat(link.as_fd())?;
        if stat.kind() != kind::SYMLINK {
            return Self::open(&path);
        }
        trusted::check_owner(stat.uid).context("the symlink")?;
        // PATH_MAX (linux/limits.h)
        let mut buffer = [0; 4096];
        let target = OsStr::from_bytes(file::readlink_at(link.as_fd(), c"", &mut buffer)?);
        Self::open(&path.parent().unwrap_or(Path::new("/")).join(target))
    }

    /// The directory itself, not one that a link of this name leads to.
    fn open(path: &Path) -> Result<Self> {
        // A slash at the end would follow a link.
        let path: PathBuf = path.components().collect();
        let fd = file::open_itself(&CString::new(path.as_os_str().as_bytes())?)?;
        let stat = file::stat(fd.as_fd())?;
        ensure!(stat.kind() != kind::SYMLINK, "is a symlink");
        ensure!(stat.is_directory(), "not a directory");
        check_owner(fd.as_fd())?;
        Self::of(file::directory_at(fd.as_fd(), c".")?)
    }

    fn of(fd: OwnedFd) -> Result<Self> {
        let link = format!("/proc/self/fd/{}", fd.as_raw_fd());
        let path = std::fs::read_link(&link).context(link)?;
        Ok(Self { fd, path })
    }

    /// Removes the name, whatever it is, and not what it leads to.
    fn remove(&self, name: &CStr) -> Result<()> {
        match file::unlink_at(self.fd.as_fd(), name) {
            Err(error) if error.errno != Errno::ENOENT => Err(error.into()),
            _ => Ok(()),
        }
    }
}

/// Refuses a directory in which others could exchange what is there.
fn check_owner(fd: BorrowedFd) -> Result<()> {
    is_ours(&file::stat(fd)?)
}

fn is_ours(stat: &Stat) -> Result<()> {
    trusted::check_owner(stat.uid)?;
    let mode = stat.permissions();
    let is_own_group = [0, ids::effective_gid()].contains(&stat.gid);
    let others = if is_own_group { 0o002 } else { 0o022 };
    ensure!(mode & others == 0, "can be written by others (mode {mode:o})");
    Ok(())
}

/// Refuses whatever CRIU would follow or wait for, and files that others can write.
fn check_entries(directory: BorrowedFd, purpose: FileUse) -> Result<()> {
    let own = format!("/proc/self/fd/{}", directory.as_raw_fd());
    for entry in std::fs::read_dir(&own).context(own)? {
        let name = CString::new(entry?.file_name().as_bytes())?;
        check_entry(directory, &name, purpose).with_context(|| name.to_string_lossy().into_owned())?;
    }
    Ok(())
}

fn check_entry(directory: BorrowedFd, name: &CStr, purpose: FileUse) -> Result<()> {
    let fd = open_itself_at(directory, name)?;
    let stat = file::stat(fd.as_fd())?;
    match stat.kind() {
        kind::REGULAR => {
            // Its other name may be anywhere.
            ensure!(purpose == FileUse::Read || stat.links == 1, "would be overwritten, and has {} names", stat.links);
            is_ours(&stat)
        }
        kind::DIRECTORY => Ok(()),
        kind::SYMLINK if name == PARENT => Ok(()),
        kind::SOCKET if name == LAZY_PAGES => Ok(()),
        _ => bail!("not a regular file"),
    }
}

/// The images that these are the difference to are as trustworthy.
fn check_parents(images: BorrowedFd) -> Result<()> {
    let check =
        |parent: &OwnedFd| check_owner(parent.as_fd()).and_then(|()| check_entries(parent.as_fd(), FileUse::Read));
    parents(images)?.iter().try_for_each(check).context("parent")
}

/// The directories of the images that these are the difference to, from one to the next.
fn parents(images: BorrowedFd) -> Result<Vec<OwnedFd>> {
    let mut found: Vec<OwnedFd> = Vec::new();
    for _ in 0..MOST_PARENTS {
        let directory = found.last().map_or(images, AsFd::as_fd);
        match file::directory_at(directory, PARENT) {
            Err(error) if error.errno == Errno::ENOENT => return Ok(found),
            parent => found.push(parent.context("parent")?),
        }
    }
    bail!("parent: images upon images without end")
}
