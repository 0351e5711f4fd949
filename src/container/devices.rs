//! `linux.devices`, the devices and links that every container has, and who owns its standard streams.
//! runtime-spec config-linux.md, "Devices", "Default Devices", "Dev symbolic links".

use core::ffi::CStr;
use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail, ensure};
use oci_spec::runtime::{LinuxDevice, LinuxDeviceType};

use crate::error::{Faults, field};
use crate::sys::file::{self, Stat, kind};
use crate::sys::mount::{Depth, FsContext, attach, attr, copy_path, copy_tree};
use crate::sys::namespace::{self, Kind, Kinds};
use crate::sys::path::{Links, RootFd, open_itself_at};
use crate::sys::{Errno, Fault, SysError, Text};

/// A device node or FIFO of the container.
#[derive(PartialEq, Eq, Debug)]
pub struct Device {
    path: CString,
    /// One of [`kind`].
    kind: u32,
    numbers: (u32, u32),
    permissions: u32,
    uid: u32,
    gid: u32,
    nodes: Nodes,
    /// Its owner as the runtime has it, in whose user namespace a node is made that the host lacks.
    outside: Option<(u32, u32)>,
}

/// How device nodes come into the container.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Nodes {
    /// mknod(2), or, where that is not permitted, as below.
    Made,
    /// The host's nodes are bound: in a user namespace, nodes that one makes oneself cannot be used.
    Bound,
}

/// What is in every container: path, major and minor number.
const DEFAULTS: [(&CStr, u32, u32); 6] = [
    (c"/dev/null", 1, 3),
    (c"/dev/zero", 1, 5),
    (c"/dev/full", 1, 7),
    (c"/dev/random", 1, 8),
    (c"/dev/urandom", 1, 9),
    (c"/dev/tty", 5, 0),
];

impl Device {
    pub fn path(&self) -> &CStr {
        &self.path
    }

    /// The default devices, but for those that `devices` describe differently, then `devices` in their order.
    pub fn compile(devices: &[LinuxDevice], nodes: Nodes, faults: &mut Faults) -> anyhow::Result<Vec<Self>> {
        let given = devices
            .iter()
            .enumerate()
            .map(|(index, device)| Self::from_spec(device, nodes).with_context(|| field!("linux.devices[{index}]")));
        let given = faults.keep_each(given)?;
        let defaults = DEFAULTS.iter().filter(|(path, ..)| given.iter().all(|device| device.path.as_c_str() != *path));
        let mut all: Vec<_> =
            defaults.map(|(path, major, minor)| Self::character(path, (*major, *minor), nodes)).collect();
        // The container's own devpts has it, see DevLinks.
        all.extend(given.into_iter().filter(|device| device.path.as_c_str() != c"/dev/ptmx"));
        Ok(all)
    }

    fn character(path: &CStr, numbers: (u32, u32), nodes: Nodes) -> Self {
        Self {
            path: path.to_owned(),
            kind: kind::CHARACTER,
            numbers,
            permissions: 0o666,
            uid: 0,
            gid: 0,
            nodes,
            outside: None,
        }
    }

    fn from_spec(device: &LinuxDevice, nodes: Nodes) -> anyhow::Result<Self> {
        let path = device.path();
        ensure!(path.is_absolute(), "path: {}: not an absolute path", path.display());
        ensure!(path.file_name().is_some(), "path: {}: not the path of a file", path.display());
        let kind = match device.typ() {
            LinuxDeviceType::C | LinuxDeviceType::U => kind::CHARACTER,
            LinuxDeviceType::B => kind::BLOCK,
            LinuxDeviceType::P => kind::FIFO,
            LinuxDeviceType::A => bail!("type: a: a device has one of the types c, u, b, p"),
        };
        let number = |field: &str, value: i64, bits: u32| {
            let fits = u32::try_from(value).ok().filter(|number| number >> bits == 0);
            fits.with_context(|| format!("{field}: {value}: out of range"))
        };
        let numbers = match kind {
            kind::FIFO => (0, 0),
            _ => (number("major", device.major(), 12)?, number("minor", device.minor(), 20)?),
        };
        Ok(Self {
            // Without a trailing slash, which asks for a directory.
            path: c_path(&path.components().collect::<PathBuf>()).context("path")?,
            kind,
            numbers,
            // Podman writes the type into it as well.
            permissions: device.file_mode().unwrap_or(0o666) & 0o7777,
            uid: device.uid().unwrap_or(0),
            gid: device.gid().unwrap_or(0),
            nodes,
            outside: None,
        })
    }

    /// The same, owned by what `uid` and `gid` make of its owner: the ids outside of the container's user namespace.
    pub fn mapped(self, uid: impl Fn(u32) -> Option<u32>, gid: impl Fn(u32) -> Option<u32>) -> Self {
        let outside = uid(self.uid).zip(gid(self.gid));
        Self { outside, ..self }
    }

    /// Whether a node of the host's is bound, or one that the runtime makes.
    pub fn is_bound(&self) -> bool {
        self.nodes == Nodes::Bound && self.kind != kind::FIFO
    }

    /// The host's node of the same path, as a detached mount.
    pub fn open(&self) -> Result<OwnedFd, Fault> {
        let node = copy_path(&self.path, Depth::One).map_err(|error| error.about(&self.path))?;
        if !self.is(&file::stat(node.as_fd())?) {
            return Err(self.fault("statx", Errno::ENODEV, b" of the host is not "));
        }
        Ok(node)
    }

    /// A node of its own, which the host does not have, as a detached mount. It lies on a tmpfs of the caller's user
    /// namespace, where nodes can be used; and the caller, which goes on in a mount namespace of its own, may make them.
    pub fn make(&self) -> Result<OwnedFd, Fault> {
        let words = |error: SysError| {
            let detail = [self.path.as_bytes(), b" is not on the host, and cannot be made"];
            Fault::of_parts(error.call, error.errno, &detail)
        };
        let (uid, gid) = self.outside.ok_or_else(|| words(SysError::new("fchownat", Errno::EOVERFLOW)))?;
        namespace::unshare(Kinds::NONE.with(Kind::Mount)).map_err(words)?;
        let tmpfs = FsContext::open(c"tmpfs").map_err(words)?;
        tmpfs.create().map_err(words)?;
        let mount = tmpfs.mount(attr::NOSUID | attr::NOEXEC).map_err(words)?;
        file::mknod_at(mount.as_fd(), c"node", self.kind | self.permissions, self.numbers).map_err(words)?;
        let node = open_itself_at(mount.as_fd(), c"node").map_err(words)?;
        file::chown(node.as_fd(), uid, gid).map_err(words)?;
        // Before Linux 6.15 nothing of a detached mount can be copied.
        let place = file::open_directory(c"/").map_err(words)?;
        attach(mount.as_fd(), place.as_fd()).map_err(words)?;
        copy_tree(node.as_fd(), Depth::One).map_err(words)
    }

    /// Shows `node`, which [`Device::open`] or [`Device::make`] returned, below `root`.
    pub fn bind(&self, root: &RootFd, node: OwnedFd) -> Result<(), Fault> {
        let (directory, name) = root.parent(&self.path, self.links()).map_err(|error| error.about(&self.path))?;
        self.show(directory.as_fd(), name, &node)
    }

    /// Elsewhere than in /dev links are followed inside the root, once: what is made, and what it is given to, goes by
    /// descriptor.
    fn links(&self) -> Links {
        if self.path.to_bytes().starts_with(b"/dev/") { Links::Refuse } else { Links::Follow }
    }

    /// Makes it below `root`, with missing directories. What is there already stays if it is the same device, and is
    /// an error otherwise.
    pub fn apply(&self, root: &RootFd) -> Result<(), Fault> {
        if self.is_bound() {
            return self.bind(root, self.open()?);
        }
        let (directory, name) = root.parent(&self.path, self.links()).map_err(|error| error.about(&self.path))?;
        match file::mknod_at(directory.as_fd(), name, self.kind | self.permissions, self.numbers) {
            Ok(()) if (self.uid, self.gid) == (0, 0) => Ok(()),
            Ok(()) => self.give_away(directory.as_fd(), name),
            Err(error) if error.errno == Errno::EEXIST => {
                let stat = file::stat_at(directory.as_fd(), name).map_err(|error| error.about(&self.path))?;
                if self.is(&stat) { Ok(()) } else { Err(self.fault(error.call, error.errno, b" exists and is not ")) }
            }
            Err(error) if error.errno == Errno::EPERM && self.kind != kind::FIFO => {
                self.show(directory.as_fd(), name, &self.open()?)
            }
            Err(error) => Err(error.about(&self.path)),
        }
    }

    /// Gives the device that was made to its owner, and nothing that has taken its name meanwhile.
    fn give_away(&self, directory: BorrowedFd, name: &CStr) -> Result<(), Fault> {
        let made = open_itself_at(directory, name).map_err(|error| error.about(&self.path))?;
        if !self.is(&file::stat(made.as_fd())?) {
            return Err(self.fault("statx", Errno::ESTALE, b" has become something that is not "));
        }
        file::chown(made.as_fd(), self.uid, self.gid).map_err(|error| error.about(&self.path))
    }

    fn show(&self, directory: BorrowedFd, name: &CStr, node: &OwnedFd) -> Result<(), Fault> {
        let target = match file::create_at(directory, name, 0o644) {
            Err(error) if error.errno == Errno::EEXIST => self.existing(directory, name)?,
            created => Some(created.map_err(|error| error.about(&self.path))?),
        };
        let Some(target) = target else { return Ok(()) };
        attach(node.as_fd(), target.as_fd()).map_err(|error| error.about(&self.path))
    }

    /// What is there to be covered: a regular file, left from an earlier run. None if it is the device already.
    fn existing(&self, directory: BorrowedFd, name: &CStr) -> Result<Option<OwnedFd>, Fault> {
        let there = open_itself_at(directory, name).map_err(|error| error.about(&self.path))?;
        let stat = file::stat(there.as_fd())?;
        match stat.kind() {
            _ if self.is(&stat) => Ok(None),
            kind::REGULAR => Ok(Some(there)),
            _ => Err(self.fault("mknodat", Errno::EEXIST, b" exists and is not ")),
        }
    }

    fn is(&self, stat: &Stat) -> bool {
        stat.kind() == self.kind && (self.kind == kind::FIFO || stat.device == self.numbers)
    }

    fn fault(&self, call: &'static str, errno: Errno, words: &[u8]) -> Fault {
        let mut detail = Text::from_bytes(self.path.to_bytes());
        detail.push(words);
        let _ = fmt::Write::write_fmt(&mut detail, format_args!("{}", self.identity()));
        Fault { call, errno, detail }
    }

    fn identity(&self) -> TypeAndNumbers<'_> {
        TypeAndNumbers(self)
    }
}

/// A device's type and numbers: `c 1:3`, `b 8:0`, `p`.
struct TypeAndNumbers<'a>(&'a Device);

impl fmt::Display for TypeAndNumbers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (major, minor) = self.0.numbers;
        match self.0.kind {
            kind::FIFO => f.write_str("p"),
            kind::BLOCK => write!(f, "b {major}:{minor}"),
            _ => write!(f, "c {major}:{minor}"),
        }
    }
}

/// Makes `/dev/fd`, `/dev/stdin`, `/dev/stdout`, `/dev/stderr` and `/dev/ptmx` lead where programs expect it, and
/// `/dev/core` where the host's kernel has `/proc/kcore`.
#[derive(PartialEq, Eq, Debug)]
pub struct DevLinks {
    core: bool,
}

/// Where each leads, and its name in /dev.
const LINKS: [(&CStr, &CStr); 4] = [
    (c"/proc/self/fd", c"fd"),
    (c"/proc/self/fd/0", c"stdin"),
    (c"/proc/self/fd/1", c"stdout"),
    (c"/proc/self/fd/2", c"stderr"),
];

impl DevLinks {
    pub fn compile() -> Self {
        Self { core: Path::new("/proc/kcore").exists() }
    }

    pub fn apply(&self, root: &RootFd) -> Result<(), Fault> {
        let dev = root.target_dir(c"/dev", Links::Refuse).map_err(|error| error.about(c"/dev"))?;
        let core = self.core.then_some((c"/proc/kcore", c"core"));
        for (target, name) in LINKS.into_iter().chain(core) {
            match file::symlink_at(target, dev.as_fd(), name) {
                Err(error) if error.errno != Errno::EEXIST => return Err(error.about(name)),
                _ => {}
            }
        }
        match file::unlink_at(dev.as_fd(), c"ptmx") {
            Err(error) if error.errno != Errno::ENOENT => return Err(error.about(c"/dev/ptmx")),
            _ => {}
        }
        file::symlink_at(c"pts/ptmx", dev.as_fd(), c"ptmx").map_err(|error| error.about(c"/dev/ptmx"))
    }
}

fn c_path(path: &Path) -> anyhow::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).with_context(|| format!("{}", path.display()))
}

impl fmt::Display for Device {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "device {} {} {:04o}", self.path.to_string_lossy(), self.identity(), self.permissions)?;
        if (self.uid, self.gid) == (0, 0) { Ok(()) } else { write!(f, " {}:{}", self.uid, self.gid) }
    }
}

impl fmt::Display for DevLinks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("links in /dev: fd stdin stdout stderr")?;
        f.write_str(if self.core { " core ptmx" } else { " ptmx" })
    }
}

#[cfg(test)]
mod tests;
