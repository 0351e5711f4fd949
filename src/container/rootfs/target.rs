//! Where mounts go: a path in the container, what is made there if it is missing, and whether it led there.

use core::ffi::CStr;
use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, ensure};

use crate::sys::file::{self, Stat, magic};
use crate::sys::path::{Links, RootFd, open_itself_at};
use crate::sys::{Errno, Fault};

/// Where something is mounted: a path in the container.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Target {
    pub path: CString,
    pub links: Links,
    /// Whether the mount point may lie on a procfs: other mounts there would lead the writes of labels and sysctls
    /// astray, ours and those of programs in the container (CVE-2019-16884).
    pub on_proc: bool,
    /// Whether a symlink there is the mount point, and not where it leads.
    pub itself: bool,
}

/// Files of /proc that lxcfs and its like emulate; nothing else below it may be covered. As runc has it, but for
/// [`SHORT_LIVED`].
const EMULATED: &[&str] = &[
    "/proc/cpuinfo",
    "/proc/diskstats",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/swaps",
    "/proc/uptime",
    "/proc/loadavg",
    "/proc/slabinfo",
    "/proc/sys/kernel/ns_last_pid",
    "/proc/sys/crypto/fips_enabled",
];

/// On runc's list as well, but the kernel makes the directory entry anew at each lookup, and detaches a mount on the old
/// one (proc_net_d_revalidate): no program would ever see what is mounted there.
const SHORT_LIVED: &str = "/proc/net/dev";

impl Target {
    pub fn compile(destination: &Path, warnings: &mut Vec<String>) -> anyhow::Result<Self> {
        let path = destination_of(destination)?;
        if !destination.is_absolute() {
            let (given, taken) = (destination.display(), path.display());
            warnings.push(format!("destination: {given} is relative, which is deprecated: taken as {taken}"));
        }
        ensure!(
            path != Path::new(SHORT_LIVED),
            "destination: {SHORT_LIVED}: the kernel detaches a mount there at the next look at the file"
        );
        let emulated = EMULATED.iter().any(|file| path == Path::new(file));
        let inside_proc = path.starts_with("/proc") && path != Path::new("/proc");
        ensure!(!inside_proc || emulated, "destination: {}: nothing may be mounted inside /proc", path.display());
        let path = c_path(&path).context("destination")?;
        // Images have links on the way (/var/run), which lead to places inside the root. They are followed once: the mount
        // goes onto what was found, and a race only makes it another place, which `verify` sees.
        Ok(Self { path, links: Links::Follow, on_proc: emulated, itself: false })
    }

    /// A mount point in a tree of our own.
    pub fn plain(name: &str) -> anyhow::Result<Self> {
        Ok(Self { path: CString::new(name)?, links: Links::Follow, on_proc: false, itself: false })
    }

    /// The directory to mount on, made if it is missing.
    pub fn directory(&self, root: &RootFd) -> Result<OwnedFd, Fault> {
        let fd = root.target_dir(&self.path, self.links).map_err(|error| match error.errno {
            Errno::ENOTDIR => {
                let words = b" is a file, or lies below one, where a directory is to be mounted";
                Fault::of_parts(error.call, error.errno, &[self.path.as_bytes(), words])
            }
            _ => self.explain(error),
        })?;
        self.checked(fd)
    }

    /// The file to mount on, made if it is missing.
    pub fn file(&self, root: &RootFd) -> Result<OwnedFd, Fault> {
        if self.itself {
            match self.open_itself(root) {
                Err(error) if error.errno == Errno::ENOENT => {}
                Err(error) => return Err(self.explain(error)),
                Ok(fd) => return self.checked(fd),
            }
        }
        let fd = root.target_file(&self.path).map_err(|error| self.explain(error))?;
        self.checked(fd)
    }

    /// What is there, a symlink as such.
    fn open_itself(&self, root: &RootFd) -> crate::sys::Result<OwnedFd> {
        let (above, name) = root.parent(&self.path, self.links)?;
        open_itself_at(above.as_fd(), name)
    }

    /// Makes the symlink to `to` there; one that is there already must lead to the same.
    pub fn make_link(&self, root: &RootFd, to: &CStr) -> Result<(), Fault> {
        let (above, name) = root.parent(&self.path, self.links).map_err(|error| self.explain(error))?;
        match file::symlink_at(to, above.as_fd(), name) {
            Err(error) if error.errno == Errno::EEXIST => {
                let mut buffer = [0; 4096];
                let there = file::readlink_at(above.as_fd(), name, &mut buffer);
                if there.is_ok_and(|there| there == to.to_bytes()) { Ok(()) } else { Err(self.explain(error)) }
            }
            made => made.map_err(|error| self.explain(error)),
        }
    }

    /// Fails if the path does not lead to the mount that `mount` is the root of.
    pub fn verify(&self, root: &RootFd, mount: &Stat) -> Result<(), Fault> {
        // A mounted symlink would be followed like any other.
        if self.itself || mount.kind() == file::kind::SYMLINK {
            let there = self.open_itself(root).map_err(|error| error.about(&self.path))?;
            return verify_at(there.as_fd(), &self.path, mount);
        }
        verify(root, &self.path, mount)
    }

    /// The directory to mount on, and the permissions that it had before; if it is missing, it is made.
    pub fn directory_and_mode(&self, root: &RootFd) -> Result<(OwnedFd, Option<u32>), Fault> {
        match root.open_directory(&self.path, self.links) {
            Err(error) if error.errno == Errno::ENOENT => Ok((self.directory(root)?, None)),
            Err(error) => Err(self.explain(error)),
            Ok(fd) => {
                let fd = self.checked(fd)?;
                let mode = file::stat(fd.as_fd())?.permissions();
                Ok((fd, Some(mode)))
            }
        }
    }

    /// `what on path (options)`, without the parentheses where there are none.
    pub fn describe(&self, f: &mut fmt::Formatter<'_>, what: fmt::Arguments<'_>, options: &str) -> fmt::Result {
        write!(f, "{what} on {}", self.path.to_string_lossy())?;
        if options.is_empty() { Ok(()) } else { write!(f, " ({options})") }
    }

    fn checked(&self, fd: OwnedFd) -> Result<OwnedFd, Fault> {
        if !self.on_proc && file::fs_type(fd.as_fd())? == magic::PROC {
            return Err(Fault::of_parts("move_mount", Errno::EPERM, &[self.path.as_bytes(), b" lies inside a procfs"]));
        }
        Ok(fd)
    }

    fn explain(&self, error: crate::sys::SysError) -> Fault {
        if error.errno == Errno::ELOOP && self.links == Links::Refuse {
            let path = self.path.as_bytes();
            return Fault::of_parts(
                error.call,
                error.errno,
                &[path, b" must be a directory, and no symlink may lead there"],
            );
        }
        error.about(&self.path)
    }
}

/// Fails if `path` does not lead to the mount that `mount` is the root of: somebody moved the mount point away (CVE-2021-30465).
pub(super) fn verify(root: &RootFd, path: &CStr, mount: &Stat) -> Result<(), Fault> {
    // Follows links as the mount point was found. A race here is harmless: nothing is done to what is found, its mount is
    // only compared.
    let there = root.open(path, Links::Follow).map_err(|error| error.about(path))?;
    verify_at(there.as_fd(), path, mount)
}

fn verify_at(there: BorrowedFd, path: &CStr, mount: &Stat) -> Result<(), Fault> {
    if file::stat(there)?.mount == mount.mount {
        return Ok(());
    }
    Err(Fault::of_parts("move_mount", Errno::ESTALE, &[path.to_bytes(), b" was moved while it was mounted on"]))
}

/// Where `path` of config.json is in the container: not the root itself.
fn destination_of(path: &Path) -> anyhow::Result<PathBuf> {
    ensure!(!path.as_os_str().is_empty(), "destination: missing");
    let path = clean(path);
    ensure!(path != Path::new("/"), "destination: a mount on / would hide the root filesystem");
    Ok(path)
}

/// A destination as the kernel takes it.
pub(super) fn destination(path: &Path) -> anyhow::Result<CString> {
    c_path(&destination_of(path)?).context("destination")
}

/// `path` as an absolute one without `.`, `..` and doubled slashes.
pub(super) fn clean(path: &Path) -> PathBuf {
    let mut cleaned = PathBuf::from("/");
    for component in path.components() {
        match component {
            Component::Normal(name) => cleaned.push(name),
            Component::ParentDir => drop(cleaned.pop()),
            Component::CurDir | Component::RootDir | Component::Prefix(_) => {}
        }
    }
    cleaned
}

/// `path` as the kernel takes it.
pub(super) fn c_path(path: &Path) -> anyhow::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).with_context(|| format!("{}", path.display()))
}
