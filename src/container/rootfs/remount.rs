//! `remount`: other flags or options for what is mounted already. mount(8), "remount".

use std::ffi::CString;
use std::fmt;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;

use anyhow::{Context as _, ensure};

use super::filesystem::parameter;
use super::held::{Earlier, Held};
use super::options::Flags;
use super::prepared::propagate;
use super::request::MountRequest;
use super::target::Target;
use crate::sys::mount::{Depth, FsContext, Sharing};
use crate::sys::path::{Links, RootFd};
use crate::sys::{Errno, Fault, file};

/// A change of the mount at a path. The filesystem itself is changed only by options of its own: `ro` alone must not
/// turn a filesystem read-only that others use too.
#[derive(Debug)]
pub struct Remount {
    target: Target,
    on: On,
    flags: Flags,
    parameters: Vec<(CString, Option<CString>)>,
    propagation: Vec<(Sharing, Depth)>,
    text: String,
}

/// Which mount is changed.
#[derive(Debug)]
enum On {
    /// That of the last entry before with the same destination.
    Made(Rc<Held>),
    /// One that no entry makes: part of a tree that is bound, or of a mount namespace that is joined. None of the
    /// entries' own, to which whoever writes a shared volume could lead the path.
    Found(Vec<Rc<Held>>),
}

impl Remount {
    pub(super) fn compile(request: MountRequest, earlier: &[Earlier]) -> anyhow::Result<Self> {
        let options = request.options;
        ensure!(options.legacy == 0, "options: iversion and silent cannot be changed by remount");
        ensure!(!options.copy_up, "options: tmpcopyup: not for a remount");
        ensure!(request.id_map.is_none(), "options: idmap: not for a remount");
        let data = options.data.iter().map(|option| parameter(option));
        let mut parameters = data.collect::<anyhow::Result<Vec<_>>>().context("options")?;
        parameters.extend(options.superblock.iter().map(|flag| (CString::from(*flag), None)));
        let same = earlier.iter().rfind(|other| other.path == request.target.path);
        let on = match same {
            Some(made) => On::Made(made.mount.clone()),
            None => On::Found(earlier.iter().map(|other| other.mount.clone()).collect()),
        };
        on.want();
        Ok(Self {
            target: request.target,
            on,
            flags: options.flags,
            parameters,
            propagation: options.propagation,
            text: request.text,
        })
    }

    pub(super) fn apply(&self, root: &RootFd) -> Result<(), Fault> {
        let found = self.find(root)?;
        let mount = match (&self.on, &found) {
            (_, Some(found)) => found.as_fd(),
            (On::Made(held), None) => held.mount()?,
            (On::Found(_), None) => return Err(self.nothing()),
        };
        if !self.parameters.is_empty() {
            let context = FsContext::pick(mount).map_err(|error| error.about(&self.target.path))?;
            for (key, value) in &self.parameters {
                context.set(key, value.as_deref()).map_err(|error| context.explain(error, key))?;
            }
            context.reconfigure().map_err(|error| context.explain(error, &self.target.path))?;
        }
        self.flags.apply(mount).map_err(|error| error.about(&self.target.path))?;
        propagate(mount, &self.propagation)
    }

    /// The mount, if no entry makes it. A race is harmless here: only mounts of one bound tree can be exchanged, by those
    /// who give them their names anyway.
    fn find(&self, root: &RootFd) -> Result<Option<OwnedFd>, Fault> {
        let On::Found(others) = &self.on else { return Ok(None) };
        let found = root.open(&self.target.path, Links::Refuse).map_err(|error| error.about(&self.target.path))?;
        let stat = file::stat(found.as_fd())?;
        if !stat.is_mount_root {
            return Err(self.nothing());
        }
        for other in others.iter().filter_map(|other| other.get()) {
            if file::stat(other)?.mount == stat.mount {
                return Err(Fault::of_parts("openat2", Errno::ESTALE, &[self.target.path.to_bytes(), OTHERS]));
            }
        }
        Ok(Some(found))
    }

    fn nothing(&self) -> Fault {
        Fault::of_parts("mount_setattr", Errno::EINVAL, &[self.target.path.to_bytes(), b" is no mount"])
    }
}

const OTHERS: &[u8] = b" leads to the mount of another entry";

impl On {
    fn want(&self) {
        match self {
            Self::Made(held) => held.want(),
            Self::Found(others) => others.iter().for_each(|held| held.want()),
        }
    }
}

impl fmt::Display for Remount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let others = self.text.split(',').filter(|option| *option != "remount").collect::<Vec<_>>().join(",");
        self.target.describe(f, format_args!("remount"), &others)
    }
}
