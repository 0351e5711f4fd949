//! What of the host a restored container gets to see, and where: the sources of its external mounts, their mount points
//! in the rootfs.

use std::collections::BTreeMap;
use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use super::entries;
use super::image::{Origin, Point};
use super::mounts::{self, DEVICES};
use super::outside::HostResources;
use crate::error::{field, io_error};
use crate::sys::file::{self, kind};
use crate::sys::mount::{self, Attributes, Depth, attr};
use crate::sys::path::{Links, RootFd, open_itself_at};
use crate::sys::{Errno, SysError};

/// An image of cgroups without one: CRIU's IMG_COMMON_MAGIC and CGROUP_MAGIC, and no entry.
const EMPTY_CGROUPS: [u8; 8] = [0x19, 0x43, 0x56, 0x54, 0x30, 0x33, 0x38, 0x59];

/// Of the calling thread: tests leave their namespace in one of several.
const MOUNTINFO: &str = "/proc/thread-self/mountinfo";

/// Something of the host.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Source {
    pub path: PathBuf,
    /// Whether config.json wants it read-only.
    pub read_only: bool,
}

/// Where on the host an external mount comes from now: by the configuration that is restored, and the new cgroup.
pub fn source(origin: &Origin, outside: &HostResources, cgroups: &BTreeMap<String, String>) -> Result<Source> {
    match origin {
        Origin::Mount(destination) => {
            let bind = outside.binds.iter().find(|bind| bind.destination == Path::new(destination));
            let bind =
                bind.with_context(|| field!("mounts"; "no bind mount on {destination}, as the checkpoint has"))?;
            Ok(Source { path: bind.source.clone(), read_only: bind.read_only })
        }
        Origin::Device(path) => {
            ensure!(DEVICES.contains(&path.as_str()), field!("linux.devices"; "no {path}, as the checkpoint has"));
            Ok(Source { path: PathBuf::from(path), read_only: false })
        }
        Origin::Cgroup(names) => {
            let path = cgroups.get(names);
            let path = path.with_context(|| format!("cgroup: no hierarchy {names:?}, as the checkpoint has"))?;
            Ok(Source { path: PathBuf::from(path), read_only: false })
        }
    }
}

/// Whether the container may write to the external mount of this name: a bind mount that config.json has so, and the host.
pub fn is_writable(name: &str, points: &[Point], outside: &HostResources) -> bool {
    let mut all = points.iter().filter_map(|point| point.external.as_ref()).filter(|external| external.name == name);
    all.all(|external| match &external.origin {
        Origin::Mount(_) => source(&external.origin, outside, &BTreeMap::new())
            .is_ok_and(|source| !source.read_only && !is_read_only(&source.path)),
        _ => false,
    })
}

/// Whether the host lets nobody write there; also if it is not there.
pub fn is_read_only(path: &Path) -> bool {
    let found = CString::new(path.as_os_str().as_bytes()).ok().and_then(|path| file::open_path(&path).ok());
    found.is_none_or(|found| file::is_read_only(found.as_fd()).unwrap_or(true))
}

/// Makes sure that each mount point is below `root`, and is what the checkpoint had there: a directory or a file, with no
/// symlink on the way, which would lead CRIU's mount elsewhere. What is missing is made, as by `create`.
///
/// External mounts are mounted meanwhile, since other mount points may be in them; what CRIU restores (a tmpfs) brings
/// its own. For a mount namespace of the caller's own.
pub fn prepare(root: &RootFd, points: &[Point], sources: &BTreeMap<String, Source>) -> Result<()> {
    let mut points: Vec<&Point> = points.iter().collect();
    points.sort_by_key(|point| point.at.matches('/').count());
    let mut restored: Vec<&str> = Vec::new();
    for point in points {
        let at = point.at.as_str();
        let is_inside = |outer: &&str| at.strip_prefix(*outer).is_some_and(|rest| rest.starts_with('/'));
        if restored.iter().any(is_inside) {
            continue;
        }
        let target = target(root, point).with_context(|| format!("mount point {at}"))?;
        match &point.external {
            None => restored.push(at),
            Some(external) => {
                let source = sources.get(&external.name).with_context(|| format!("mount point {at}: no source"))?;
                let tree = copy(source, point).with_context(|| format!("mount point {at}"))?;
                mount::attach(tree.as_fd(), target.as_fd()).with_context(|| format!("mount point {at}"))?;
            }
        }
    }
    Ok(())
}

/// Shows every source with its restrictions in the directory `place`, which CRIU has at `path`; the paths there, by the
/// names of the mounts. For a mount namespace of the caller's own.
///
/// CRIU takes a mount that looks like an earlier one for read-only already, although its source is not, and leaves it
/// writable: so no source of a read-only mount is writable. What is mounted in `place` is the whole mount that the
/// source is in: CRIU copies the propagation of mounts from it, for which the kernel wants one with a root above theirs
/// (move_mount(2), MOVE_MOUNT_SET_GROUP).
pub fn stage(
    place: BorrowedFd,
    path: &Path,
    points: &[Point],
    sources: &BTreeMap<String, Source>,
) -> Result<BTreeMap<String, PathBuf>> {
    // Other mounts of the host have any bytes for names; the sources' own are text.
    let mounts = fs::read(MOUNTINFO).context(MOUNTINFO)?;
    let mounts = String::from_utf8_lossy(&mounts);
    let mut staged = BTreeMap::new();
    for point in points {
        let Some(external) = &point.external else { continue };
        let source = sources.get(&external.name).with_context(|| format!("mount point {}: no source", point.at))?;
        let stage = Stage { place, mounts: &mounts, name: &external.name };
        let inside = stage.show(source, point).with_context(|| source.path.display().to_string())?;
        let mut path = path.join(&external.name);
        if !inside.as_os_str().is_empty() {
            path.push(inside);
        }
        staged.insert(external.name.clone(), path);
    }
    Ok(staged)
}

/// Where a source is shown.
struct Stage<'a> {
    place: BorrowedFd<'a>,
    mounts: &'a str,
    name: &'a str,
}

impl Stage<'_> {
    /// Where in its mount the source is.
    fn show(&self, source: &Source, point: &Point) -> Result<PathBuf> {
        let path = fs::canonicalize(&source.path).map_err(|error| io_error("stat", &error))?;
        let shown = file::open_path(&CString::new(path.as_os_str().as_bytes())?)?;
        let id = file::stat(shown.as_fd())?.mount;
        let mut mounts = self.mounts.lines().filter_map(mounts::parse);
        let top = mounts.find(|line| line.id == id).context("not reachable")?.at;
        let inside = path.strip_prefix(&top).context("not reachable")?;
        let tree = mount::copy_path(&CString::new(top.as_str())?, Depth::One)?;
        mount::set_attributes(tree.as_fd(), restrictions(source, point)?, Depth::One)?;
        let name = CString::new(self.name)?;
        if file::stat(tree.as_fd())?.is_directory() {
            file::mkdir_at(self.place, &name, 0o700)?;
        } else {
            drop(file::create_at(self.place, &name, 0o600)?);
        }
        mount::attach(tree.as_fd(), open_itself_at(self.place, &name)?.as_fd())?;
        let staged = match inside.as_os_str().as_bytes() {
            b"" => tree,
            inside => RootFd::new(tree).open_exactly(inside)?,
        };
        ensure!(identity(staged)? == identity(shown)?, "not reachable: something is mounted over it");
        Ok(inside.to_owned())
    }
}

fn identity(fd: OwnedFd) -> Result<(u64, u64)> {
    let metadata = File::from(fd).metadata().map_err(|error| io_error("stat", &error))?;
    Ok((metadata.dev(), metadata.ino()))
}

/// A detached mount of the source.
fn copy(source: &Source, point: &Point) -> Result<OwnedFd> {
    let what = || source.path.display().to_string();
    let metadata = fs::metadata(&source.path).map_err(|error| io_error("stat", &error)).with_context(what)?;
    let wanted = if point.directory { "a directory" } else { "a file" };
    ensure!(metadata.is_dir() == point.directory, "{} is no longer {wanted}", what());
    mount::copy_path(&CString::new(source.path.as_os_str().as_bytes())?, Depth::One).with_context(what)
}

/// What config.json forbids on the mount, and what was forbidden on it.
fn restrictions(source: &Source, point: &Point) -> Result<Attributes> {
    let mut set = if source.read_only { attr::RDONLY } else { 0 };
    for flag in &point.flags {
        set |= match flag.as_str() {
            "ro" => attr::RDONLY,
            "nosuid" => attr::NOSUID,
            "nodev" => attr::NODEV,
            "noexec" => attr::NOEXEC,
            other => bail!("{other} is no flag of a mount"),
        };
    }
    Ok(Attributes { set, clear: 0 })
}

/// Covers cgroup.img with an empty one, which is made in `place`: CRIU is told to ignore cgroups, but takes it apart all
/// the same. For a mount namespace of the caller's own.
pub fn hide_cgroups(place: BorrowedFd, images: BorrowedFd) -> Result<()> {
    cover(place, images, c"cgroup.img", &EMPTY_CGROUPS)
}

/// Covers the images of connections that the kernel tracks: CRIU would make them in a network namespace that it joins, too, and
/// those are not the container's. For a mount namespace of the caller's own.
pub fn hide_connections(place: BorrowedFd, images: BorrowedFd) -> Result<()> {
    let names = entries::names(images)?;
    let mut found = names.into_iter().filter(|name| name.starts_with("netns-ct-") || name.starts_with("netns-exp-"));
    found.try_for_each(|name| cover(place, images, &CString::new(name)?, &[]))
}

fn cover(place: BorrowedFd, images: BorrowedFd, name: &CStr, content: &[u8]) -> Result<()> {
    let target = match open_itself_at(images, name) {
        Err(error) if error.errno == Errno::ENOENT => return Ok(()),
        target => target?,
    };
    let empty = file::create_at(place, name, 0o600)?;
    let copy = mount::copy_tree(empty.as_fd(), Depth::One)?;
    File::from(empty).write_all(content)?;
    mount::attach(copy.as_fd(), target.as_fd())?;
    Ok(())
}

fn target(root: &RootFd, point: &Point) -> Result<OwnedFd> {
    let path = CString::new(point.at.as_str())?;
    if point.directory {
        return root.target_dir(&path, Links::Refuse).map_err(link);
    }
    let (parent, name) = root.parent(&path, Links::Refuse).map_err(link)?;
    let found = match open_itself_at(parent.as_fd(), name) {
        Err(error) if error.errno == Errno::ENOENT => make_file(&parent, name),
        found => found,
    }?;
    match file::stat(found.as_fd())?.kind() {
        kind::SYMLINK => bail!(LINK),
        kind::DIRECTORY => bail!("is a directory, not a file"),
        _ => Ok(found),
    }
}

fn make_file(parent: &OwnedFd, name: &CStr) -> crate::sys::Result<OwnedFd> {
    drop(file::create_at(parent.as_fd(), name, 0o644)?);
    open_itself_at(parent.as_fd(), name)
}

const LINK: &str = "a symlink is on the way there, which the checkpoint did not have";

fn link(error: SysError) -> anyhow::Error {
    match error.errno {
        Errno::ELOOP | Errno::EEXIST => anyhow::anyhow!(LINK),
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::image::External;
    use super::super::outside::HostBind;
    use super::*;
    use crate::sys::scratch::{Directory, in_mount_namespace};

    fn point(at: &str, name: &str, flags: &[&str]) -> Point {
        let external = External { name: name.to_owned(), origin: Origin::Mount(at.to_owned()) };
        let flags = flags.iter().map(ToString::to_string).collect();
        Point { at: at.to_owned(), directory: true, flags, external: Some(external) }
    }

    fn sources(path: &Path, read_only: bool) -> BTreeMap<String, Source> {
        BTreeMap::from([("0".to_owned(), Source { path: path.to_owned(), read_only })])
    }

    #[test]
    fn the_source_is_the_configurations_never_the_images() {
        let bind = HostBind { destination: "/data".into(), source: "/host/data".into(), read_only: true };
        let outside = HostResources { binds: vec![bind], ..HostResources::default() };
        let cgroups = BTreeMap::from([("pids".to_owned(), "/sys/fs/cgroup/pids/c1".to_owned())]);
        let of = |origin: Origin| source(&origin, &outside, &cgroups);
        assert_eq!(
            of(Origin::Mount("/data".to_owned())).unwrap(),
            Source { path: "/host/data".into(), read_only: true }
        );
        assert_eq!(of(Origin::Device("/dev/zero".to_owned())).unwrap().path, Path::new("/dev/zero"));
        assert_eq!(of(Origin::Cgroup("pids".to_owned())).unwrap().path, Path::new("/sys/fs/cgroup/pids/c1"));
        for forged in ["/etc", "/dev/sda", "/data"] {
            let error = format!("{:#}", of(Origin::Device(forged.to_owned())).unwrap_err());
            assert!(error.contains(forged), "{forged}: {error}");
        }
        let error = |origin| format!("{:#}", of(origin).unwrap_err());
        assert!(error(Origin::Mount("/etc".to_owned())).contains("no bind mount on /etc"));
        assert!(error(Origin::Cgroup("cpu".to_owned())).contains("no hierarchy \"cpu\""));
    }

    #[test]
    fn a_staged_source_has_all_restrictions() {
        in_mount_namespace(|| {
            let scratch = Directory::new();
            let (host, place) = (scratch.join("host"), scratch.join("place"));
            fs::create_dir(&host).unwrap();
            fs::create_dir(&place).unwrap();
            let stage = |name: &str, flags: &[&str], read_only| {
                let sources = BTreeMap::from([(name.to_owned(), Source { path: host.clone(), read_only })]);
                let directory = File::open(&place).unwrap();
                stage(directory.as_fd(), &place, &[point("/data", name, flags)], &sources).unwrap()[name].clone()
            };
            for (name, read_only, flags) in [("0", true, &[][..]), ("1", false, &["ro"])] {
                let refused = fs::write(stage(name, flags, read_only).join("x"), "").unwrap_err();
                assert_eq!(refused.raw_os_error(), Some(Errno::EROFS as i32));
            }
            fs::write(stage("2", &["nosuid"], false).join("x"), "").unwrap();
            assert!(host.join("x").exists());
        });
    }

    #[test]
    fn a_symlink_on_the_way_to_a_mount_point_is_refused() {
        in_mount_namespace(|| {
            let scratch = Directory::new();
            let (host, rootfs) = (scratch.join("host"), scratch.join("rootfs"));
            fs::create_dir_all(host.join("data")).unwrap();
            fs::create_dir(&rootfs).unwrap();
            std::os::unix::fs::symlink(&host, rootfs.join("link")).unwrap();
            let root = || RootFd::new(file::open_path(&CString::new(rootfs.as_os_str().as_bytes()).unwrap()).unwrap());
            for at in ["/link", "/link/data", "/link/new"] {
                let error = prepare(&root(), &[point(at, "0", &[])], &sources(&host, false)).unwrap_err();
                assert_eq!(format!("{error:#}"), format!("mount point {at}: {LINK}"));
                let file = Point { directory: false, ..point(at, "0", &[]) };
                let error = prepare(&root(), &[file], &sources(&host, false)).unwrap_err();
                assert_eq!(format!("{error:#}"), format!("mount point {at}: {LINK}"));
            }
            assert_eq!(fs::read_dir(&host).unwrap().count(), 1);
            prepare(&root(), &[point("/made/here", "0", &[])], &sources(&host, false)).unwrap();
            assert!(rootfs.join("made/here/data").exists());
        });
    }
}
