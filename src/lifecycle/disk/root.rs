//! The directory that holds containers' states: where it is when `--root` does not say, and how it is opened.
//!
//! `--root` may lie below directories of other users, who can rename and replace what is in theirs. So it is opened once
//! by each command, everything below it by descriptor, and no symlink of another user is followed on the way:
//! docs/security.md.

use std::ffi::{CStr, CString, OsStr, OsString};
use std::fs;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::trusted;
use crate::lifecycle::id::Id;
use crate::sys::file::{self, kind, magic};
use crate::sys::{self, Errno, SysError, path};

/// As many symlinks as the kernel itself follows: path_resolution(7).
const MAX_LINKS: u32 = 40;

/// The state directory for a caller who named none: `/run/ocirt`, or `$XDG_RUNTIME_DIR/ocirt` for one who is not the
/// host's root.
///
/// The second is made at once, mode 0700 and sticky: the XDG base directory specification has unused files removed
/// from there, but for sticky ones.
pub fn default_root() -> Result<PathBuf> {
    let Some(directory) = runtime_directory(std::env::var_os("XDG_RUNTIME_DIR")) else {
        return Ok(PathBuf::from("/run/ocirt"));
    };
    let root = directory.join("ocirt");
    make_sticky(&root).with_context(|| format!("--root: {}", root.display()))?;
    Ok(root)
}

/// The caller's file mode creation mask. From here on the process's own is 0, and its children's is, up to what gets another
/// one: the container's program that of process.user, a hook the caller's. One mask for all beats one for each thing that
/// is made: no place can forget it, and a device costs two system calls less. What is made before, such as the log file, is
/// the caller's own, and under the caller's mask.
pub fn take_umask() -> u32 {
    sys::credentials::set_umask(0)
}

fn runtime_directory(variable: Option<OsString>) -> Option<PathBuf> {
    let directory = variable.filter(|path| !path.is_empty())?;
    is_unprivileged().then(|| PathBuf::from(directory))
}

/// True for a user id other than 0, and for a root of a user namespace who does not call himself root: engines run the
/// runtime as such, and the environment is the user's there.
fn is_unprivileged() -> bool {
    if sys::ids::effective_uid() != 0 {
        return true;
    }
    sys::ids::in_a_user_namespace() && std::env::var_os("USER").is_none_or(|user| user != "root")
}

fn make_sticky(root: &Path) -> Result<()> {
    let made = resolve(root, IfAbsent::IsMade)?;
    // A descriptor that only names a directory does not change it.
    file::chmod(file::list_at(made.as_fd(), c".")?.as_fd(), 0o1700)?;
    Ok(())
}

/// The directory of `--root`, open.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    fd: OwnedFd,
}

/// What becomes of a directory that is not there.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum IfAbsent {
    IsMade,
    IsAnError,
}

impl Root {
    /// None: it is not there.
    pub fn open(path: &Path) -> Result<Option<Self>> {
        match resolve(path, IfAbsent::IsAnError) {
            Err(error) if is_missing(&error) => Ok(None),
            fd => Self::new(path, fd).map(Some),
        }
    }

    /// Makes it if it is not there, with all above it.
    pub fn make(path: &Path) -> Result<Self> {
        Self::new(path, resolve(path, IfAbsent::IsMade))
    }

    fn new(path: &Path, fd: Result<OwnedFd>) -> Result<Self> {
        let fd = fd.with_context(|| format!("root directory {}", path.display()))?;
        Ok(Self { path: path.to_owned(), fd })
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// For messages; what is there is opened below [`Root::fd`].
    pub fn path_of(&self, id: &Id) -> PathBuf {
        self.path.join(id.as_str())
    }

    /// The ids of all containers, sorted.
    pub fn ids(&self) -> Result<Vec<Id>> {
        let words = || format!("root directory {}", self.path.display());
        let mut ids = Vec::new();
        for entry in fs::read_dir(format!("/proc/self/fd/{}", self.fd.as_raw_fd())).with_context(words)? {
            let entry = entry.with_context(words)?;
            let Some(id) = entry.file_name().to_str().and_then(|name| Id::parse(name).ok()) else { continue };
            // What is no directory, or not named like a container, is not ours.
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => ids.push(id),
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error).with_context(words),
                _ => {}
            }
        }
        ids.sort();
        Ok(ids)
    }
}

fn is_missing(error: &anyhow::Error) -> bool {
    error.downcast_ref::<SysError>().is_some_and(|error| error.errno == Errno::ENOENT)
}

/// Opens the directory `path`, only to refer to it.
fn resolve(path: &Path, missing: IfAbsent) -> Result<OwnedFd> {
    let whole = CString::new(path.as_os_str().as_bytes())?;
    match path::directory_without_links(&whole) {
        Err(error) if error.errno == Errno::ENOENT && missing == IfAbsent::IsMade => walk(path, missing),
        Err(error) if error.errno == Errno::ELOOP => walk(path, missing),
        result => Ok(result?),
    }
}

/// Goes down `path`, which is absolute, one component after the other. The host's own symlinks are followed, such as
/// /var/run, and those of the caller.
fn walk(path: &Path, missing: IfAbsent) -> Result<OwnedFd> {
    let mut left = names(path);
    let mut here = file::open_directory(c"/")?;
    let mut links = 0;
    while let Some(name) = left.pop() {
        let next = step(here.as_fd(), &name, missing)?;
        let stat = file::stat(next.as_fd())?;
        if stat.is_directory() {
            here = next;
            continue;
        }
        ensure!(stat.kind() == kind::SYMLINK, SysError::new("openat2", Errno::ENOTDIR));
        trusted::check_link(stat.uid).with_context(|| format!("symlink {}", name.to_string_lossy()))?;
        links += 1;
        ensure!(links <= MAX_LINKS, SysError::new("openat2", Errno::ELOOP));
        if file::fs_type(next.as_fd())? == magic::PROC {
            // The kernel's own, such as /proc/self/fd/7: where it leads is no path.
            here = file::follow_at(here.as_fd(), &name)?;
            continue;
        }
        let mut buffer = [0; 4096];
        let target = Path::new(OsStr::from_bytes(file::readlink_at(next.as_fd(), c"", &mut buffer)?));
        if target.is_absolute() {
            here = file::open_directory(c"/")?;
        }
        left.extend(names(target));
    }
    Ok(here)
}

/// The components, the first one last.
fn names(path: &Path) -> Vec<CString> {
    let names = path.components().rev().filter_map(|component| match component {
        Component::Normal(name) => Some(name.as_bytes()),
        Component::ParentDir => Some(b"..".as_slice()),
        Component::RootDir | Component::CurDir | Component::Prefix(_) => None,
    });
    // What comes from a path of the kernel's, or went to it, has no NUL.
    names.filter_map(|name| CString::new(name).ok()).collect()
}

/// `name` in `directory`, itself if it is a symlink.
fn step(directory: BorrowedFd, name: &CStr, missing: IfAbsent) -> Result<OwnedFd> {
    if name == c".." {
        return Ok(file::directory_above(directory)?);
    }
    match path::open_itself_at(directory, name) {
        Err(error) if error.errno == Errno::ENOENT && missing == IfAbsent::IsMade => {
            match file::mkdir_at(directory, name, 0o700) {
                // Another one was faster.
                Err(error) if error.errno != Errno::EEXIST => Err(error.into()),
                _ => Ok(path::open_itself_at(directory, name)?),
            }
        }
        result => Ok(result?),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown, symlink};

    fn place(name: &str) -> PathBuf {
        let place = std::env::temp_dir().join(format!("ocirt-root-{name}-{}", std::process::id()));
        fs::create_dir_all(&place).unwrap();
        fs::canonicalize(place).unwrap()
    }

    fn inode(fd: &OwnedFd) -> u64 {
        file::stat(fd.as_fd()).unwrap().inode
    }

    #[test]
    fn an_empty_runtime_directory_is_none() {
        assert_eq!(runtime_directory(Some(OsString::new())), None);
        assert_eq!(runtime_directory(None), None);
    }

    #[test]
    fn a_runtime_directory_is_private_and_sticky() {
        let root = place("sticky");
        make_sticky(&root.join("deep/ocirt")).unwrap();
        let mode = fs::metadata(root.join("deep/ocirt")).unwrap().permissions().mode();
        fs::remove_dir_all(&root).unwrap();
        assert_eq!(mode & 0o7777, 0o1700);
    }

    #[test]
    fn what_is_missing_is_made_only_where_it_is_wanted() {
        let root = place("missing");
        assert!(Root::open(&root.join("a/b")).unwrap().is_none());
        Root::make(&root.join("a/b")).unwrap();
        assert_eq!(fs::metadata(root.join("a")).unwrap().permissions().mode() & 0o7777, 0o700);
        assert!(Root::open(&root.join("a/b")).unwrap().is_some());
        fs::write(root.join("file"), "").unwrap();
        let error = Root::make(&root.join("file")).unwrap_err();
        assert!(format!("{error:#}").ends_with("not a directory"), "{error:#}");
        let error = Root::make(&root.join("file/below")).unwrap_err();
        assert!(format!("{error:#}").ends_with("not a directory"), "{error:#}");
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn symlinks_of_ours_are_followed_as_by_the_kernel() {
        let root = place("links");
        fs::create_dir_all(root.join("real/below")).unwrap();
        symlink(root.join("real"), root.join("absolute")).unwrap();
        symlink("real/../absolute", root.join("relative")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        for link in ["absolute", "relative"] {
            let opened = resolve(&root.join(link).join("below"), IfAbsent::IsAnError).unwrap();
            assert_eq!(inode(&opened), fs::metadata(root.join("real/below")).unwrap().ino(), "{link}");
            Root::make(&root.join(link).join("made")).unwrap();
        }
        let descriptor = file::open_directory(&CString::new(root.as_os_str().as_bytes()).unwrap()).unwrap();
        let by_number = format!("/proc/self/fd/{}/real", descriptor.as_raw_fd());
        let opened = resolve(Path::new(&by_number), IfAbsent::IsAnError).unwrap();
        assert_eq!(inode(&opened), fs::metadata(root.join("real")).unwrap().ino());
        let error = resolve(&root.join("loop"), IfAbsent::IsAnError).unwrap_err();
        assert!(error.to_string().ends_with("too many levels of symbolic links"), "{error}");
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn a_symlink_of_another_user_is_not_followed() {
        if sys::ids::effective_uid() != 0 {
            return sys::testing::skip("root", "only root gives a file to another user");
        }
        let root = place("theirs");
        fs::create_dir(root.join("real")).unwrap();
        symlink("real", root.join("link")).unwrap();
        lchown(root.join("link"), Some(1000), Some(1000)).unwrap();
        for path in ["link", "link/made"] {
            let error = format!("{:#}", Root::make(&root.join(path)).unwrap_err());
            assert!(error.ends_with("symlink link: belongs to user 1000, not to user 0"), "{error}");
        }
        assert!(!root.join("real/made").exists());
        fs::remove_dir_all(&root).unwrap();
    }
}
