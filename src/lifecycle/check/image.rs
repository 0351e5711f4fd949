//! The container's files as they will be, as far as that can be told without mounting anything: the root file system, and
//! over it what is bound. Looked up below descriptors, so that no link leads to the host's files.

use std::ffi::CString;
use std::fs;
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{Mount, Spec};

use crate::container::lint::is_bind;
use crate::sys::file::{self, Stat};
use crate::sys::path::{Links, RootFd};
use crate::sys::{Errno, SysError, beneath};

/// As many links as the kernel follows: path_resolution(7).
const MOST_LINKS: usize = 40;
/// More than any /etc/passwd that somebody wrote, in bytes.
const MOST_READ: u64 = 1 << 20;

pub struct Image {
    root: RootFd,
    mounts: Vec<Cover>,
}

/// What hides a part of the image.
struct Cover {
    at: PathBuf,
    /// The host's file or directory; nothing of a file system that is not there yet.
    source: Option<PathBuf>,
}

/// What is at a path.
pub enum Look {
    There(Stat),
    Missing(SysError),
    /// Only who mounts it can tell.
    Unknown,
}

impl Image {
    pub fn open(rootfs: &Path, spec: &Spec, bundle: &Path) -> Option<Self> {
        let root = RootFd::new(file::open_directory(&c_path(rootfs)?).ok()?);
        let mut image = Self { root, mounts: Vec::new() };
        for mount in spec.mounts().iter().flatten() {
            let at = image.real(&clean(mount.destination()));
            image.mounts.push(Cover { at, source: source(mount, bundle) });
        }
        Some(image)
    }

    /// What is at `path`, links followed.
    pub fn look(&self, path: &Path) -> Look {
        match self.find(path, 0) {
            Ok(Some(fd)) => file::stat(fd.as_fd()).map_or_else(Look::Missing, Look::There),
            Ok(None) => Look::Unknown,
            Err(error) => Look::Missing(error),
        }
    }

    /// The text of a small file; nothing if there is none, or only who mounts it can tell.
    pub fn read(&self, path: &Path) -> Option<String> {
        if self.cover(path).is_some() {
            return None;
        }
        let fd = beneath::read_in_root(self.root.as_fd(), &c_path(path)?).ok()?;
        if !beneath::is_regular(fd.as_fd()).ok()? {
            return None;
        }
        let mut text = String::new();
        fs::File::from(fd).take(MOST_READ).read_to_string(&mut text).ok()?;
        Some(text)
    }

    fn find(&self, path: &Path, links: usize) -> Result<Option<OwnedFd>, SysError> {
        let path = self.real(&clean(path));
        match self.cover(&path) {
            Some(Cover { source: None, .. }) => Ok(None),
            Some(Cover { at, source: Some(source) }) => {
                let rest = path.strip_prefix(at).unwrap_or(Path::new(""));
                below(source, rest).map(Some)
            }
            None => match self.root.open(&c_path(&path).unwrap_or_default(), Links::Follow) {
                Err(error) if error.errno == Errno::ENOENT && links < MOST_LINKS => match self.link(&path) {
                    // Perhaps into what will be bound.
                    Some(to) => self.find(&to, links + 1),
                    None => Err(error),
                },
                found => found.map(Some),
            },
        }
    }

    /// The last of the mounts that hide `path`.
    fn cover(&self, path: &Path) -> Option<&Cover> {
        self.mounts
            .iter()
            .rev()
            .filter(|mount| path.starts_with(&mount.at))
            .max_by_key(|mount| mount.at.as_os_str().len())
    }

    /// `path` with the links on the way to its last part followed, as far as the image itself has them.
    fn real(&self, path: &Path) -> PathBuf {
        let Some((above, name)) = path.parent().zip(path.file_name()) else { return path.to_owned() };
        let place = c_path(above).and_then(|above| self.root.open_directory(&above, Links::Follow).ok());
        let names = place.and_then(|place| Some((name_of(place.as_fd())?, name_of(self.root.as_fd())?)));
        let inside = names.and_then(|(place, root)| place.strip_prefix(&root).ok().map(Path::to_owned));
        inside.map_or_else(|| path.to_owned(), |inside| Path::new("/").join(inside).join(name))
    }

    /// Where the link at `path` leads.
    fn link(&self, path: &Path) -> Option<PathBuf> {
        let fd = self.root.open_exactly(path.as_os_str().as_bytes()).ok()?;
        let mut buffer = [0; 4096];
        let to = file::readlink_at(fd.as_fd(), c"", &mut buffer).ok()?;
        let to = Path::new(std::ffi::OsStr::from_bytes(to));
        Some(path.parent().unwrap_or(Path::new("/")).join(to))
    }
}

/// What is at `rest` below `source` of the host.
fn below(source: &Path, rest: &Path) -> Result<OwnedFd, SysError> {
    let source = c_path(source).unwrap_or_default();
    if rest.as_os_str().is_empty() {
        return file::open_path(&source);
    }
    RootFd::new(file::open_directory(&source)?).open(&c_path(rest).unwrap_or_default(), Links::Follow)
}

fn source(mount: &Mount, bundle: &Path) -> Option<PathBuf> {
    let source = mount.source().as_deref().filter(|_| is_bind(mount))?;
    Some(bundle.join(source))
}

/// The kernel's name for what a descriptor is.
fn name_of(fd: BorrowedFd) -> Option<PathBuf> {
    fs::read_link(format!("/proc/self/fd/{}", fd.as_raw_fd())).ok()
}

fn c_path(path: &Path) -> Option<CString> {
    CString::new(path.as_os_str().as_bytes()).ok()
}

/// Absolute, without `.` and slashes too many; `..` is left to who resolves it, since what is before it may be a link.
fn clean(path: &Path) -> PathBuf {
    Path::new("/").join(path).components().filter(|part| *part != Component::CurDir).collect()
}
