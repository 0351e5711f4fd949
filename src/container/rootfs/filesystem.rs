//! Mounts of new filesystems: configured, mounted detached with all their flags, and attached.

use core::ffi::CStr;
use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context as _, ensure};

use super::context::MountLabel;
use super::idmap::{IdMap, UserNamespaces};
use super::prepared::{Prepared, propagate};
use super::request::MountRequest;
use super::target::{Target, c_path, verify};
use crate::error::field;
use crate::sys::mount::{
    Attributes, Depth, FsContext, Sharing, attach, attr, copy_tree, detach_here, legacy, mount_here, set_attributes,
};
use crate::sys::path::{Links, RootFd, open_itself_at};
use crate::sys::{Errno, Fault, file};

/// fsconfig(2) takes strings of up to 255 bytes; beyond, as overlay's lists of layers can be, mount(2) has to do.
const MAX_VALUE: usize = 255;

const MOUNT_POINT: &CStr = c"mount";

/// Kinds whose filesystem is one of a whole namespace, or is written to before it turns read-only: `ro` is for the
/// mount alone, or the next container in the same pod would find its own read-only as well.
const RO_MOUNT_ONLY: &[&str] = &[
    "proc",
    "sysfs",
    "mqueue",
    "devpts",
    "devtmpfs",
    "tmpfs",
    "cgroup",
    "cgroup2",
    "bpf",
    "securityfs",
    "debugfs",
    "tracefs",
    "configfs",
    "pstore",
    "fusectl",
    "binfmt_misc",
    "efivarfs",
];

/// Kinds that have no source on the host.
const OWN_KINDS: &[&str] = &["tmpfs", "ramfs", "devpts", "mqueue", "sysfs", "bpf"];

/// A filesystem of the container's own.
#[derive(PartialEq, Debug)]
pub struct Filesystem {
    kind: CString,
    target: Target,
    parameters: Vec<(CString, Option<CString>)>,
    flags: u64,
    propagation: Vec<(Sharing, Depth)>,
    copy_up: bool,
    /// Whether it needs nothing of the host's, and belongs to whoever mounts it.
    is_own_kind: bool,
    /// Whether a tmpfs takes the permissions of the directory that it hides.
    inherit_mode: bool,
    legacy: Option<Legacy>,
    /// The label of the root directory, where the filesystem takes none when mounted.
    label: Option<CString>,
    pub(super) id_map: Option<IdMap>,
    text: String,
}

/// The arguments of mount(2).
#[derive(PartialEq, Debug)]
struct Legacy {
    source: CString,
    flags: u64,
    data: CString,
}

impl Filesystem {
    pub(super) fn compile(request: MountRequest, label: Option<MountLabel>) -> anyhow::Result<Self> {
        let options = &request.options;
        ensure!(!options.copy_up || request.kind == "tmpfs", "options: tmpcopyup: only for a tmpfs");
        // SELinux labels neither /proc nor /sys, and the root of mqueue only afterwards; as runc.
        let mounted_label = label.filter(|_| !matches!(request.kind, "proc" | "sysfs" | "mqueue"));
        let mounted_label = mounted_label.filter(|label| !options.has_data(label.option));
        let flags = options.flags.mount.set;
        let is_special = matches!(request.kind, "proc" | "sysfs");
        let links = if is_special { Links::Refuse } else { Links::Follow };
        let is_late = request.kind == "tmpfs" || request.target.path.as_bytes() == b"/dev";
        Ok(Self {
            kind: CString::new(request.kind.split('.').next().unwrap_or_default()).context("type")?,
            parameters: parameters(&request, mounted_label)?,
            flags: if is_late { flags & !attr::RDONLY } else { flags },
            propagation: options.propagation.clone(),
            copy_up: options.copy_up,
            is_own_kind: OWN_KINDS.contains(&request.kind),
            inherit_mode: request.kind == "tmpfs" && !options.has_data("mode"),
            legacy: Legacy::compile(&request, mounted_label)?,
            label: label.filter(|_| request.kind == "mqueue").map(|label| CString::new(label.text)).transpose()?,
            id_map: request.id_map,
            text: request.text,
            target: Target { links, on_proc: request.kind == "proc" || request.target.on_proc, ..request.target },
        })
    }

    /// One that config.json does not list by itself.
    pub(super) fn internal(kind: &str, target: Target, data: &[String], flags: u64) -> anyhow::Result<Self> {
        let parameters = data.iter().map(|option| parameter(option));
        Ok(Self {
            kind: CString::new(kind)?,
            target,
            parameters: parameters.collect::<anyhow::Result<_>>()?,
            flags,
            propagation: Vec::new(),
            copy_up: false,
            is_own_kind: true,
            inherit_mode: false,
            legacy: None,
            label: None,
            id_map: None,
            text: data.join(","),
        })
    }

    /// Mounts a new one.
    pub(super) fn apply(&self, root: &RootFd) -> Result<OwnedFd, Fault> {
        let prepared = self.prepare(root, None)?;
        prepared.attach()?;
        self.settle(root, &prepared)?;
        Ok(prepared.mount)
    }

    /// The detached mount, if its ids are mapped: whoever does that must have rights over the filesystem as well.
    pub(super) fn open(&self, namespaces: UserNamespaces) -> Result<Option<OwnedFd>, Fault> {
        let Some(id_map) = &self.id_map else { return Ok(None) };
        let mount = self.detached(None)?;
        id_map.apply(mount.as_fd(), &self.kind, namespaces)?;
        Ok(Some(mount))
    }

    /// Mounts it on a new directory in `directory`, which nobody else can see: nothing is on the way there, or can be
    /// moved away, so that nothing has to be looked up twice.
    pub(super) fn mount_in(&self, directory: BorrowedFd) -> Result<(), Fault> {
        let about = |error: crate::sys::SysError| error.about(&self.target.path);
        file::mkdir_at(directory, &self.target.path, 0o755).map_err(about)?;
        let target = open_itself_at(directory, &self.target.path).map_err(about)?;
        attach(self.detached(None)?.as_fd(), target.as_fd()).map_err(about)
    }

    /// The detached mount, but for filesystems that have nothing of the host's.
    pub(super) fn open_outside(&self, namespaces: UserNamespaces) -> Result<Option<OwnedFd>, Fault> {
        match self.open(namespaces)? {
            None if !self.is_own_kind => self.detached(None).map(Some),
            done => Ok(done),
        }
    }

    /// Whether it starts with a copy of what it hides.
    pub(super) fn copies(&self) -> bool {
        self.copy_up
    }

    /// Whether it can only be mounted where it will be.
    pub(super) fn needs_mount_point(&self) -> bool {
        self.legacy.is_some()
    }

    pub(super) fn is_procfs(&self) -> bool {
        self.kind.as_c_str() == c"proc"
    }

    /// The detached mount.
    pub(super) fn make(&self) -> Result<OwnedFd, Fault> {
        if self.needs_mount_point() {
            return Err(Fault::new(
                "mount",
                Errno::EINVAL,
                "iversion and silent: not in a pid namespace that is joined",
            ));
        }
        self.detached(None)
    }

    /// The mount, `opened` or a new one, and its place.
    pub(super) fn prepare(&self, root: &RootFd, opened: Option<OwnedFd>) -> Result<Prepared<'_>, Fault> {
        let (at, mode) = if self.inherit_mode {
            self.target.directory_and_mode(root)?
        } else {
            (self.target.directory(root)?, None)
        };
        let mount = match &self.legacy {
            Some(legacy) => self.mount_legacy(legacy, at.as_fd())?,
            None => self.detached_or(opened, mode)?,
        };
        let stat = file::stat(mount.as_fd())?;
        Ok(Prepared { mount, stat, at, path: &self.target.path, copies: self.copy_up })
    }

    /// What is left to do once it is attached.
    pub(super) fn settle(&self, root: &RootFd, prepared: &Prepared) -> Result<(), Fault> {
        let mount = prepared.mount.as_fd();
        if let Some(label) = &self.label {
            let directory = file::list_at(mount, c".")?;
            file::set_xattr(directory.as_fd(), c"security.selinux", label).map_err(|error| error.about(label))?;
        }
        propagate(mount, &self.propagation)?;
        verify(root, &self.target.path, &prepared.stat)
    }

    fn detached_or(&self, opened: Option<OwnedFd>, mode: Option<u32>) -> Result<OwnedFd, Fault> {
        let Some(mount) = opened else { return self.detached(mode) };
        if let Some(mode) = mode {
            // Made before the directory was known that it hides.
            file::chmod(file::list_at(mount.as_fd(), c".")?.as_fd(), mode).map_err(|error| error.about(c"mode"))?;
        }
        Ok(mount)
    }

    fn detached(&self, mode: Option<u32>) -> Result<OwnedFd, Fault> {
        let context = FsContext::open(&self.kind).map_err(|error| error.about(&self.kind))?;
        if let Some(mode) = mode {
            let digits = octal(mode);
            let value = CStr::from_bytes_until_nul(&digits).unwrap_or_default();
            context.set(c"mode", Some(value)).map_err(|error| context.explain(error, c"mode"))?;
        }
        for (key, value) in &self.parameters {
            context.set(key, value.as_deref()).map_err(|error| context.explain(error, key))?;
        }
        context.create().map_err(|error| context.explain(error, self.source()))?;
        context.mount(self.flags).map_err(|error| context.explain(error, self.source()))
    }

    /// A detached mount by mount(2), which gives no descriptor, and whose path could lead elsewhere by the time that one
    /// is opened: so it is made on a directory that nobody else has, in a tmpfs over the mount point, and copied there.
    fn mount_legacy(&self, legacy: &Legacy, at: BorrowedFd) -> Result<OwnedFd, Fault> {
        let about = |error: crate::sys::SysError| error.about(&self.target.path);
        let scratch = FsContext::open(c"tmpfs")?;
        scratch.create()?;
        let scratch = scratch.mount(attr::NOSUID | attr::NODEV | attr::NOEXEC)?;
        file::mkdir_at(scratch.as_fd(), MOUNT_POINT, 0o700)?;
        attach(scratch.as_fd(), at).map_err(about)?;
        let mount = self.mount_in_scratch(legacy, scratch.as_fd());
        // Both are attached there still, and gone with this.
        file::enter(scratch.as_fd())?;
        detach_here().map_err(about)?;
        file::enter(at)?;
        let mount = mount?;
        let flags = Attributes { set: self.flags, clear: attr::ATIME_FIELD };
        set_attributes(mount.as_fd(), flags, Depth::One).map_err(about)?;
        Ok(mount)
    }

    fn mount_in_scratch(&self, legacy: &Legacy, scratch: BorrowedFd) -> Result<OwnedFd, Fault> {
        file::enter(open_itself_at(scratch, MOUNT_POINT)?.as_fd())?;
        mount_here(&legacy.source, &self.kind, legacy.flags, &legacy.data)
            .map_err(|error| error.about(&self.target.path))?;
        Ok(copy_tree(open_itself_at(scratch, MOUNT_POINT)?.as_fd(), Depth::One)?)
    }

    /// What an error without words of the kernel is about.
    fn source(&self) -> &CStr {
        self.parameters
            .iter()
            .find(|(key, _)| key.as_c_str() == c"source")
            .map_or(&self.kind, |(_, value)| value.as_ref().unwrap_or(&self.kind))
    }
}

impl Legacy {
    /// The arguments for mount(2), if fsconfig(2) cannot do it.
    fn compile(request: &MountRequest, label: Option<MountLabel>) -> anyhow::Result<Option<Self>> {
        let options = &request.options;
        let source = request.source.map_or(Default::default(), |source| source.to_string_lossy());
        let value_of = |option: &String| option.split_once('=').map_or(0, |(_, value)| value.len());
        let fits = source.len() <= MAX_VALUE && options.data.iter().all(|option| value_of(option) <= MAX_VALUE);
        if fits && options.legacy == 0 {
            return Ok(None);
        }
        ensure!(request.id_map.is_none(), "options: idmap: not together with iversion, silent or long options");
        ensure!(!options.copy_up, "options: tmpcopyup: not together with iversion, silent or long options");
        let mut data = options.data.clone();
        data.extend(label.map(|label| format!("{}=\"{}\"", label.option, label.text)));
        let data = data.join(",");
        ensure!(data.len() < 4096, "options: longer than the page that mount(2) takes");
        let mut flags = options.legacy;
        for name in &options.superblock {
            let (set, clear) = legacy::superblock(name);
            flags = flags & !clear | set;
        }
        let read_only = options.flags.mount.set & attr::RDONLY != 0 && !RO_MOUNT_ONLY.contains(&request.kind);
        flags |= if read_only { legacy::RDONLY } else { 0 };
        let source = if source.is_empty() { "none" } else { &source };
        Ok(Some(Self { source: CString::new(source)?, flags, data: CString::new(data)? }))
    }
}

/// All that is configured by fsconfig(2), in order: the source, the flags of the filesystem, its own options.
fn parameters(request: &MountRequest, label: Option<MountLabel>) -> anyhow::Result<Vec<(CString, Option<CString>)>> {
    let options = &request.options;
    let mut parameters = Vec::new();
    if let Some(source) = request.source.filter(|source| !source.as_os_str().is_empty()) {
        parameters.push((c"source".to_owned(), Some(c_path(source).context("source")?)));
    }
    if let Some((_, subtype)) = request.kind.split_once('.') {
        parameters.push((c"subtype".to_owned(), Some(CString::new(subtype).context("type")?)));
    }
    if options.flags.mount.set & attr::RDONLY != 0 && !RO_MOUNT_ONLY.contains(&request.kind) {
        parameters.push((c"ro".to_owned(), None));
    }
    parameters.extend(options.superblock.iter().map(|flag| (CString::from(*flag), None)));
    for option in &options.data {
        parameters.push(parameter(option).context("options")?);
    }
    if let Some(label) = label {
        parameters
            .push((CString::new(label.option)?, Some(CString::new(label.text).context(field!("linux.mountLabel"))?)));
    }
    Ok(parameters)
}

/// `key=value` or `flag` as fsconfig(2) takes it. The quotes around a label are mount(2)'s, to hide its commas.
pub(super) fn parameter(option: &str) -> anyhow::Result<(CString, Option<CString>)> {
    let name = |text: &str| CString::new(text).with_context(|| option.to_owned());
    let Some((key, value)) = option.split_once('=') else { return Ok((name(option)?, None)) };
    let unquoted = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
    Ok((name(key)?, Some(name(unquoted.unwrap_or(value))?)))
}

/// The permissions `mode` in octal digits, NUL-terminated.
fn octal(mode: u32) -> [u8; 5] {
    let digit = |shift: u32| b'0' + (mode >> shift & 7) as u8;
    [digit(9), digit(6), digit(3), digit(0), 0]
}

impl fmt::Display for Filesystem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.target.describe(f, format_args!("mount {}", self.kind.to_string_lossy()), &self.text)
    }
}

#[cfg(test)]
mod tests;
