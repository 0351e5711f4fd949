//! The container's mounts as the kernel has them: which of them show something of the host, and what.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs::{self, File};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use super::image::{External, Origin, Point, RESTRICTIONS};
use super::outside::HostResources;
use crate::sys::file;
use crate::sys::mountinfo;
use crate::sys::path::{Links, RootFd};
use crate::sys::{Errno, SysError};

/// Nodes of the host that are in containers although no `mounts` says so: bound where none can be made.
pub(super) const DEVICES: [&str; 6] =
    ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom", "/dev/tty"];

/// Device and inode: what a file is, wherever it lies.
type FileIdentity = (u64, u64);

/// Everything of the host that a mount of the container may show.
struct Candidates(Vec<(FileIdentity, Origin)>);

impl Candidates {
    fn new(outside: &HostResources, cgroups: &BTreeMap<String, String>) -> Self {
        let binds = outside
            .binds
            .iter()
            .map(|bind| (bind.source.clone(), Origin::Mount(bind.destination.to_string_lossy().into_owned())));
        let devices = DEVICES.iter().map(|path| (PathBuf::from(path), Origin::Device((*path).to_owned())));
        let cgroups = cgroups.iter().map(|(names, path)| (PathBuf::from(path), Origin::Cgroup(names.clone())));
        let found = binds.chain(devices).chain(cgroups).filter_map(|(path, origin)| {
            // What is gone from the host cannot be told; CRIU refuses a mount that nobody explains.
            let metadata = fs::metadata(path).ok()?;
            Some(((metadata.dev(), metadata.ino()), origin))
        });
        Self(found.collect())
    }

    /// Of several that are the same file, the one whose destination is the mount point; else any does, since flags and
    /// place of the mount are CRIU's to restore.
    fn find(&self, identity: FileIdentity, at: &str) -> Option<&Origin> {
        let mut same = self.0.iter().filter(|(candidate, _)| *candidate == identity).map(|(_, origin)| origin);
        let is_exact = |origin: &&Origin| matches!(origin, Origin::Mount(path) | Origin::Device(path) if path == at);
        same.clone().find(is_exact).or_else(|| same.next())
    }
}

/// The mounts of process `pid` but for its root, in the kernel's order.
///
/// A mount is external if what it shows *is* what an entry of config.json names, or one of the host's device nodes, or
/// the container's own cgroup: the same inode. The rest is the container's, and CRIU's to restore.
pub fn of(pid: i32, outside: &HostResources, cgroups: &BTreeMap<String, String>) -> Result<Vec<Point>> {
    let path = format!("/proc/{pid}/mountinfo");
    let text = fs::read_to_string(&path).with_context(|| path.clone())?;
    let root = RootFd::new(file::open_path(&CString::new(format!("/proc/{pid}/root"))?).context("container root")?);
    let candidates = Candidates::new(outside, cgroups);
    let mut points = Vec::new();
    for line in text.lines() {
        let MountLine { id, at, flags, mapped } = parse(line).with_context(|| format!("{path}: {line:?}"))?;
        if at == "/" {
            continue;
        }
        // A mount that another one covers is reached by no path.
        let Some(shown) = open(&root, &at, Links::Refuse)? else { continue };
        let stat = file::stat(shown.as_fd())?;
        if stat.mount != id {
            continue;
        }
        let metadata = File::from(shown).metadata().with_context(|| at.clone())?;
        let origin = candidates.find((metadata.dev(), metadata.ino()), &at);
        if let Some(Origin::Mount(destination)) = origin {
            let now = open(&root, destination, Links::Follow)?.map(|fd| file::stat(fd.as_fd())).transpose()?;
            let is_there = now.is_some_and(|now| now.mount == id && now.is_mount_root);
            ensure!(is_there, "mount point {at}: the mount of {destination} was moved there, and cannot be restored");
        }
        let external = origin.map(|origin| External { name: points.len().to_string(), origin: origin.clone() });
        if external.is_some() && at.contains("]:") {
            // CRIU's own list of external mounts is text: `mnt[PATH]:NAME` (CVE-2026-115520).
            bail!("mount point {at:?}: cannot be checkpointed with \"]:\" in its path");
        }
        // CRIU knows nothing of id maps, and would restore the mount without.
        ensure!(!mapped, "mount point {at}: an id-mapped mount cannot be restored");
        points.push(Point { at, directory: stat.is_directory(), flags, external });
    }
    Ok(points)
}

fn open(root: &RootFd, at: &str, links: Links) -> Result<Option<OwnedFd>> {
    match root.open(&CString::new(at)?, links) {
        Ok(fd) => Ok(Some(fd)),
        Err(SysError { errno: Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP | Errno::EACCES, .. }) => Ok(None),
        Err(error) => Err(error).with_context(|| format!("mount point {at}")),
    }
}

/// Fields 1, 5 and 6 of a line of proc_pid_mountinfo(5).
#[derive(PartialEq, Eq, Debug)]
pub(super) struct MountLine {
    pub id: u64,
    pub at: String,
    /// Of [`RESTRICTIONS`].
    pub flags: Vec<String>,
    /// Whether it is id-mapped (mount_setattr(2), Linux 5.12).
    mapped: bool,
}

pub(super) fn parse(line: &str) -> Option<MountLine> {
    let mounted = mountinfo::parse_line(line.as_bytes())?;
    let text = |bytes: Cow<[u8]>| String::from_utf8(bytes.into_owned()).ok();
    let options = text(mounted.flags.into())?;
    let flags = options.split(',').filter(|flag| RESTRICTIONS.contains(flag)).map(str::to_owned).collect();
    let mapped = options.split(',').any(|option| option == "idmapped");
    Some(MountLine { id: mounted.number, at: text(mounted.at)?, flags, mapped })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_mountinfo_tells_id_mount_point_and_restrictions() {
        let line = "36 35 98:0 /mnt1 /mnt\\0402\\134x ro,nodev,noatime master:1 - ext3 /dev/root rw,errors=continue";
        let expected = MountLine {
            id: 36,
            at: "/mnt 2\\x".to_owned(),
            flags: vec!["ro".to_owned(), "nodev".to_owned()],
            mapped: false,
        };
        assert_eq!(parse(line), Some(expected));
        assert_eq!(parse("36 35 98:0 /mnt1"), None);
        assert_eq!(parse("36 35 98:0 / /a\\9"), None);
    }

    #[test]
    fn of_two_binds_of_one_file_the_one_at_its_destination_is_meant() {
        let origins = ["/a", "/b"].map(|path| ((1, 2), Origin::Mount(path.to_owned())));
        let candidates = Candidates(origins.to_vec());
        assert_eq!(candidates.find((1, 2), "/b"), Some(&Origin::Mount("/b".to_owned())));
        assert_eq!(candidates.find((1, 2), "/c"), Some(&Origin::Mount("/a".to_owned())));
        assert_eq!(candidates.find((1, 3), "/a"), None);
    }
}
