//! Mount tables: every field of proc_pid_mountinfo(5).

use std::borrow::Cow;
use std::collections::BTreeSet;
use std::ffi::{CString, OsString};
use std::fs::{self, File};
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::sys::Errno;
use crate::sys::file;
use crate::sys::mountinfo;
use crate::sys::namespace::{self, Kind};

/// Of the calling thread: tests leave their namespace in one of several.
const OWN: &str = "/proc/thread-self/mountinfo";

/// One mount.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Line {
    pub id: u64,
    pub parent: u64,
    pub shown: Shown,
    /// Its mount point, as the process has it.
    pub at: PathBuf,
    /// Of the mount, and, behind them, of the filesystem.
    pub flags: Vec<String>,
    /// Its peer group, and the one that it gets mounts from.
    pub shared: Option<u64>,
    pub master: Option<u64>,
    pub kind: String,
}

/// What a mount shows: which filesystem, by its device, and which directory or file of that.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Shown {
    pub device: String,
    pub root: PathBuf,
}

impl Shown {
    /// Whether this is the same as `other`, or something below it.
    pub fn is_within(&self, other: &Self) -> bool {
        self.device == other.device && self.root.starts_with(&other.root)
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Shown { device, root } = &self.shown;
        write!(f, "{} of the {} on device {device} ({})", root.display(), self.kind, self.flags.join(","))
    }
}

impl Line {
    fn parse(line: &str) -> Option<Self> {
        let mounted = mountinfo::parse_line(line.as_bytes())?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).ok();
        let path = |bytes: Cow<[u8]>| PathBuf::from(OsString::from_vec(bytes.into_owned()));
        let mut flags: Vec<String> = text(mounted.flags)?.split(',').map(str::to_owned).collect();
        let tags = text(mounted.tags)?;
        let group = |name: &str| tags.split(' ').find_map(|tag| tag.strip_prefix(name)?.parse().ok());
        // A filesystem that is read-only is so everywhere.
        if mounted.options.split(|byte| *byte == b',').any(|option| option == b"ro")
            && !flags.iter().any(|flag| flag == "ro")
        {
            flags.push("ro".to_owned());
        }
        Some(Self {
            id: mounted.number,
            parent: mounted.parent,
            shown: Shown { device: text(mounted.device)?, root: path(mounted.root) },
            at: path(mounted.at),
            flags,
            shared: group("shared:"),
            master: group("master:"),
            kind: text(mounted.kind)?,
        })
    }

    pub fn has(&self, flag: &str) -> bool {
        self.flags.iter().any(|found| found == flag)
    }
}

/// A mount namespace as its root sees it. A process whose own root is deeper would see fewer mounts.
pub struct View {
    /// In the kernel's order.
    pub lines: Vec<Line>,
    pub root: OwnedFd,
}

impl View {
    /// The namespace of process `pid`. The calling process, which may have no other thread, is there meanwhile.
    pub fn of(pid: i32) -> Result<Self> {
        let path = CString::new(format!("/proc/{pid}/ns/mnt"))?;
        let there = namespace::open(&path).with_context(|| path.to_string_lossy().into_owned())?;
        // The /proc of the other namespace may be anything.
        let proc = file::open_directory(c"/proc")?;
        let own = Own { namespace: namespace::open(c"/proc/thread-self/ns/mnt")?, directory: file::open_path(c".")? };
        match namespace::join(there.as_fd(), Kind::Mount) {
            Err(error) if error.errno == Errno::EPERM => return Self::of_users(pid),
            joined => joined.context("mount namespace of the container")?,
        }
        let seen = look(proc.as_fd());
        own.back()?;
        let (text, root) = seen?;
        Ok(Self { lines: parse(&text).with_context(|| format!("mounts of process {pid}"))?, root })
    }
}

impl View {
    /// The same for a user who may not join it, as the root of process `pid` sees it.
    fn of_users(pid: i32) -> Result<Self> {
        let what = || format!("mounts of process {pid}");
        let root = CString::new(format!("/proc/{pid}/root"))?;
        let text = mountinfo::of_pid(pid).with_context(what)?;
        Ok(Self { lines: parse(&text).with_context(what)?, root: file::open_path(&root).with_context(what)? })
    }
}

fn look(proc: BorrowedFd) -> Result<(Vec<u8>, OwnedFd)> {
    let file = file::read_at(proc, c"thread-self/mountinfo").context("mountinfo")?;
    let mut text = Vec::new();
    File::from(file).read_to_end(&mut text).context("mountinfo")?;
    Ok((text, file::open_path(c"/")?))
}

/// Where the runtime is at home. Dropped, it goes back there.
struct Own {
    namespace: OwnedFd,
    directory: OwnedFd,
}

impl Own {
    fn back(self) -> Result<()> {
        // The guard does it; only here somebody can be told.
        namespace::join(self.namespace.as_fd(), Kind::Mount).context("mount namespace of the runtime")
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        // The right that let us leave is still ours. setns(2) moves the working directory, too.
        let _ = namespace::join(self.namespace.as_fd(), Kind::Mount);
        let _ = file::enter(self.directory.as_fd());
    }
}

fn parse(bytes: &[u8]) -> Result<Vec<Line>> {
    // What is not UTF-8 is compared with nothing that is: it is nobody's mount.
    let text = String::from_utf8_lossy(bytes);
    text.lines().map(|line| Line::parse(line).with_context(|| format!("mountinfo: {line:?}"))).collect()
}

/// The mounts of the runtime.
pub struct Host {
    lines: Vec<Line>,
    devices: BTreeSet<String>,
    groups: BTreeSet<u64>,
}

impl Host {
    pub fn read() -> Result<Self> {
        let lines = parse(&fs::read(OWN).context(OWN)?)?;
        let devices = lines.iter().map(|line| line.shown.device.clone()).collect();
        let groups = lines.iter().filter_map(|line| line.shared).collect();
        Ok(Self { lines, devices, groups })
    }

    pub fn has_device(&self, device: &str) -> bool {
        self.devices.contains(device)
    }

    /// Whether mounts of this peer group are the host's, or reach it.
    pub fn has_group(&self, group: u64) -> bool {
        self.groups.contains(&group)
    }

    /// What a mount shows that is made from `path` of the host.
    pub fn shown(&self, path: &Path) -> Result<Shown> {
        let what = || path.display().to_string();
        let fd = file::open_path(&CString::new(path.as_os_str().as_bytes())?).with_context(what)?;
        let id = file::stat(fd.as_fd()).with_context(what)?.mount;
        let line = self.lines.iter().find(|line| line.id == id).with_context(|| format!("{}: no mount", what()))?;
        let real = fs::canonicalize(path).with_context(what)?;
        let inside = real.strip_prefix(&line.at).with_context(what)?;
        Ok(Shown { device: line.shown.device.clone(), root: join(&line.shown.root, inside) })
    }
}

/// `root` with `inside` behind it: without the slash at the end that an empty one would leave.
pub fn join(root: &Path, inside: &Path) -> PathBuf {
    if inside.as_os_str().is_empty() { root.to_owned() } else { root.join(inside) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_mountinfo_tells_everything() {
        let line = Line::parse(
            "36 35 98:0 /mnt1 /mnt\\0402\\134x rw,nodev,noatime shared:7 master:1 - ext3 /dev/root ro,errors=continue",
        )
        .unwrap();
        assert_eq!((line.id, line.parent, line.kind.as_str()), (36, 35, "ext3"));
        assert_eq!(line.shown, Shown { device: "98:0".to_owned(), root: "/mnt1".into() });
        assert_eq!((line.at.as_path(), line.shared, line.master), (Path::new("/mnt 2\\x"), Some(7), Some(1)));
        assert!(line.has("ro") && line.has("nodev") && !line.has("nosuid"));
        assert_eq!(Line::parse("36 35 98:0 /mnt1"), None);
    }

    #[test]
    fn what_a_path_of_the_host_shows_is_told_as_its_mounts_are() {
        let host = Host::read().unwrap();
        let root = host.shown(Path::new("/")).unwrap();
        let below = host.shown(Path::new("/proc/self/..")).unwrap();
        assert_ne!(root.device, below.device);
        assert_eq!(below.root, Path::new("/"));
        assert!(host.has_device(&root.device) && root.is_within(&root) && !below.is_within(&root));
    }
}
