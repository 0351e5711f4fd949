//! `mounts[]`: each entry becomes a bind mount, a filesystem, a change of an existing mount, or the container's
//! cgroups. runtime-spec config.md, "Mounts".

use core::ffi::CStr;
use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use oci_spec::runtime::{self, LinuxIdMapping};

use super::bind::Bind;
use super::cgroup::{CgroupMount, CgroupView};
use super::filesystem::Filesystem;
use super::idmap::{self, IdMap, Mappings, UserNamespaces};
use super::mask::LateReadonly;
use super::options::{Options, Symlinks};
use super::remount::Remount;
use crate::sys::file::{self, Stat, magic};
use crate::sys::mount::{Depth, Sharing, attr, set_sharing};
use crate::sys::path::{Links, RootFd, open_itself_at};
use crate::sys::{Errno, Fault, Text, ids};

/// An SELinux label for filesystems.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Label<'a> {
    /// Which mount option says it: `context`, `rootcontext`, ….
    pub option: &'static str,
    pub text: &'a str,
}

/// What a mount depends on besides its own entry.
pub struct Context<'a> {
    /// Where relative sources of bind mounts start: absolute.
    pub bundle: &'a Path,
    /// linux.mountLabel, where SELinux is enabled.
    pub label: Option<Label<'a>>,
    /// Whether the container has a user namespace other than the runtime's.
    pub user_namespace: bool,
    /// Whether the container has a network namespace that belongs to its user namespace.
    pub network_namespace: bool,
    /// What a mount of type `cgroup` shows; without it, such a mount is an error.
    pub cgroup: Option<&'a CgroupView>,
    /// Whether nobody else sees what is mounted before the container runs: its mount namespace is new, and its mounts
    /// are no peers of the host's.
    pub unseen: bool,
    /// linux.uidMappings and gidMappings.
    pub id_mappings: (&'a [LinuxIdMapping], &'a [LinuxIdMapping]),
}

/// What an entry of `mounts` comes to.
pub struct Compiled {
    pub mount: Mount,
    /// To be applied when all mount points, devices and links are made.
    pub late: Option<LateReadonly>,
    /// The mappings of the user namespace that is to be made for this mount.
    pub mappings: Option<Mappings>,
    pub warnings: Vec<String>,
}

/// One entry of `mounts`, ready to be mounted.
#[derive(PartialEq, Debug)]
pub enum Mount {
    Bind(Bind),
    Filesystem(Filesystem),
    Remount(Remount),
    Cgroup(Box<CgroupMount>),
    /// A new sysfs, or the host's where the network namespace is of another user namespace than ours.
    Sysfs(Box<(Filesystem, Bind)>),
}

impl Context<'_> {
    /// Whether the container's root is not the host's. Asked only by the mounts that it matters to.
    pub(super) fn is_rootless(&self) -> bool {
        self.user_namespace || ids::effective_uid() != 0 || ids::in_a_user_namespace()
    }
}

impl Mount {
    /// The entry `mount`; a user namespace that it needs made for its mapping will have the number `next`.
    pub fn compile(mount: &runtime::Mount, context: &Context, next: usize) -> anyhow::Result<Compiled> {
        let mut warnings = Vec::new();
        let options = mount.options().as_deref().unwrap_or_default();
        let parsed = Options::parse(options);
        let (id_map, mappings) = idmap::compile(mount, parsed.id_map.as_ref(), context, next)?.unzip();
        let unwritten = if id_map.is_some() && parsed.id_map.is_none() { "idmap" } else { "" };
        let request = Request {
            target: Target::compile(mount.destination(), &mut warnings)?,
            kind: mount.typ().as_deref().unwrap_or_default(),
            source: mount.source().as_deref(),
            text: options
                .iter()
                .map(String::as_str)
                .chain(Some(unwritten).filter(|word| !word.is_empty()))
                .collect::<Vec<_>>()
                .join(","),
            options: parsed,
            id_map,
        };
        let is_bind = request.options.bind.is_some() || request.kind == "bind";
        let follows = request.options.symlinks == Symlinks::default();
        ensure!(
            follows || is_bind && !request.options.remount,
            "options: copy-symlink, src-nofollow and dest-nofollow are for bind mounts"
        );
        let mut late = None;
        let mount = match request.kind {
            _ if request.options.remount => Self::Remount(Remount::compile(request)?),
            _ if is_bind => Self::Bind(Bind::compile(request, context, &mut warnings)?),
            "" => bail!("type: missing (only bind mounts do without)"),
            "cgroup" => Self::Cgroup(Box::new(CgroupMount::compile(request, context)?)),
            "sysfs" if !context.network_namespace => {
                let bind = Bind::of_host_sysfs(&request, context)?;
                Self::Sysfs(Box::new((Filesystem::compile(request, context.label)?, bind)))
            }
            _ => {
                late = request.late_readonly();
                Self::Filesystem(Filesystem::compile(request, context.label)?)
            }
        };
        Ok(Compiled { mount, late, mappings: mappings.flatten(), warnings })
    }

    /// Whether the owners of its files are mapped.
    pub fn is_id_mapped(&self) -> bool {
        match self {
            Self::Bind(bind) => bind.id_map.is_some(),
            Self::Filesystem(filesystem) => filesystem.id_map.is_some(),
            Self::Sysfs(sysfs) => sysfs.0.id_map.is_some(),
            Self::Remount(_) | Self::Cgroup(_) => false,
        }
    }

    /// Whether it can be opened before the entries that come earlier are mounted: a source in `rootfs` may lie on one.
    pub fn opens_early(&self, rootfs: &Path) -> bool {
        matches!(self, Self::Bind(bind) if !bind.is_below(rootfs)) || self.is_id_mapped()
    }

    /// The detached mount, of what is opened by a path of the host or mapped to other ids: the part that may need
    /// rights which the container has not. None: there is no such part.
    pub fn open(&self, namespaces: UserNamespaces) -> Result<Option<OwnedFd>, Fault> {
        match self {
            Self::Bind(bind) => bind.open(namespaces).map(Some),
            Self::Filesystem(filesystem) => filesystem.open(namespaces),
            Self::Sysfs(sysfs) => sysfs.0.open(namespaces),
            Self::Remount(_) | Self::Cgroup(_) => Ok(None),
        }
    }

    /// Mounts it below `root`; what is missing of the mount point is made. `opened` is what [`Mount::open`] returned.
    pub fn apply(&self, root: &RootFd, opened: Option<OwnedFd>) -> Result<(), Fault> {
        match self {
            Self::Bind(bind) => bind.apply(root, opened),
            Self::Filesystem(filesystem) => filesystem.mount(root, opened).map(drop),
            Self::Remount(remount) => remount.apply(root),
            Self::Cgroup(cgroup) => cgroup.apply(root),
            Self::Sysfs(sysfs) => match sysfs.0.mount(root, opened) {
                Err(fault) if fault.errno == Errno::EPERM => sysfs.1.apply(root, None),
                done => done.map(drop),
            },
        }
    }
}

/// Whether the runtime makes the devices and links of `/dev`: not where the host's, or another, is bound there.
pub fn makes_devices(mounts: &[runtime::Mount]) -> bool {
    let is_bound = |mount: &runtime::Mount| {
        let options = mount.options().as_deref().unwrap_or_default();
        let bound = options.iter().any(|option| option == "bind" || option == "rbind");
        (bound || mount.typ().as_deref() == Some("bind")) && clean(mount.destination()) == Path::new("/dev")
    };
    !mounts.iter().any(is_bound)
}

/// An entry of `mounts`, its options and destination understood.
pub(super) struct Request<'a> {
    pub target: Target,
    pub kind: &'a str,
    pub source: Option<&'a Path>,
    pub options: Options,
    pub id_map: Option<IdMap>,
    /// The options as they are written.
    pub text: String,
}

impl Request<'_> {
    /// A read-only tmpfs, or `/dev`, stays writable until mount points, devices and links are made in it.
    fn late_readonly(&self) -> Option<LateReadonly> {
        let read_only = self.options.flags.mount.set & attr::RDONLY != 0;
        let is_late = self.kind == "tmpfs" || self.target.path.as_bytes() == b"/dev";
        (read_only && is_late).then(|| LateReadonly { path: self.target.path.clone() })
    }
}

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
    fn compile(destination: &Path, warnings: &mut Vec<String>) -> anyhow::Result<Self> {
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
        Ok(Self { path, links: Links::Follow, on_proc: emulated, itself: false })
    }

    /// A mount point in a tree of our own.
    pub fn plain(name: &str) -> anyhow::Result<Self> {
        Ok(Self { path: CString::new(name)?, links: Links::Follow, on_proc: false, itself: false })
    }

    /// The directory to mount on, made if it is missing.
    pub fn directory(&self, root: &RootFd) -> Result<OwnedFd, Fault> {
        let fd = root.target_dir(&self.path, self.links).map_err(|error| self.explain(error))?;
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

    /// The directory to mount on, if there is one already.
    pub fn existing(&self, root: &RootFd) -> Result<Option<OwnedFd>, Fault> {
        match root.open(&self.path, self.links) {
            Err(error) if error.errno == Errno::ENOENT => Ok(None),
            Err(error) => Err(self.explain(error)),
            Ok(fd) => self.checked(fd).map(Some),
        }
    }

    fn checked(&self, fd: OwnedFd) -> Result<OwnedFd, Fault> {
        if !self.on_proc && file::fs_type(fd.as_fd())? == magic::PROC {
            return Err(words("move_mount", Errno::EPERM, &[self.path.as_bytes(), b" lies inside a procfs"]));
        }
        Ok(fd)
    }

    fn explain(&self, error: crate::sys::SysError) -> Fault {
        if error.errno == Errno::ELOOP && self.links == Links::Refuse {
            let path = self.path.as_bytes();
            return words(error.call, error.errno, &[path, b" must be a directory, and no symlink may lead there"]);
        }
        error.about(&self.path)
    }
}

/// Sets the propagation of what has been attached, in the order of the options.
pub(super) fn propagate(mount: BorrowedFd, wanted: &[(Sharing, Depth)]) -> Result<(), Fault> {
    for (sharing, depth) in wanted {
        set_sharing(mount, *sharing, *depth)?;
    }
    Ok(())
}

/// Fails if `path` does not lead to the mount that `mount` is the root of: somebody moved the mount point away (CVE-2021-30465).
pub(super) fn verify(root: &RootFd, path: &CStr, mount: &Stat) -> Result<(), Fault> {
    let there = root.open(path, Links::Follow).map_err(|error| error.about(path))?;
    verify_at(there.as_fd(), path, mount)
}

fn verify_at(there: BorrowedFd, path: &CStr, mount: &Stat) -> Result<(), Fault> {
    if file::stat(there)?.mount == mount.mount {
        return Ok(());
    }
    Err(words("move_mount", Errno::ESTALE, &[path.to_bytes(), b" was moved while it was mounted on"]))
}

/// A failure in words of ours.
pub(super) fn words(call: &'static str, errno: Errno, parts: &[&[u8]]) -> Fault {
    let mut detail = Text::default();
    parts.iter().for_each(|part| detail.push(part));
    Fault { call, errno, detail }
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
fn clean(path: &Path) -> PathBuf {
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

impl fmt::Display for Mount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bind(bind) => bind.fmt(f),
            Self::Filesystem(filesystem) => filesystem.fmt(f),
            Self::Remount(remount) => remount.fmt(f),
            Self::Cgroup(cgroup) => cgroup.fmt(f),
            Self::Sysfs(sysfs) => sysfs.0.fmt(f),
        }
    }
}

/// `what on path (options)`, without the parentheses where there are none.
pub(super) fn write_mount(
    f: &mut fmt::Formatter<'_>,
    what: fmt::Arguments<'_>,
    target: &Target,
    options: &str,
) -> fmt::Result {
    write!(f, "{what} on {}", target.path.to_string_lossy())?;
    if options.is_empty() { Ok(()) } else { write!(f, " ({options})") }
}

#[cfg(test)]
#[path = "mount_tests.rs"]
mod tests;
