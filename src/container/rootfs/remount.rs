//! `remount`: other flags or options for what is mounted already. mount(8), "remount".

use std::ffi::CString;
use std::fmt;
use std::os::fd::AsFd;

use anyhow::{Context as _, ensure};

use super::filesystem::parameter;
use super::mount::{Request, Target, propagate, write_mount};
use super::options::Flags;
use crate::sys::Fault;
use crate::sys::mount::{Depth, FsContext, Sharing};
use crate::sys::path::{Links, RootFd};

/// A change of the mount at a path. The filesystem itself is changed only by options of its own: `ro` alone must not
/// turn a filesystem read-only that others use too.
#[derive(PartialEq, Debug)]
pub struct Remount {
    target: Target,
    flags: Flags,
    parameters: Vec<(CString, Option<CString>)>,
    propagation: Vec<(Sharing, Depth)>,
    text: String,
}

impl Remount {
    pub(super) fn compile(request: Request) -> anyhow::Result<Self> {
        let options = request.options;
        ensure!(options.legacy == 0, "options: iversion and silent cannot be changed by remount");
        ensure!(!options.copy_up, "options: tmpcopyup: not for a remount");
        ensure!(request.id_map.is_none(), "options: idmap: not for a remount");
        let data = options.data.iter().map(|option| parameter(option));
        let mut parameters = data.collect::<anyhow::Result<Vec<_>>>().context("options")?;
        parameters.extend(options.superblock.iter().map(|flag| (CString::from(*flag), None)));
        Ok(Self {
            target: request.target,
            flags: options.flags,
            parameters,
            propagation: options.propagation,
            text: request.text,
        })
    }

    pub(super) fn apply(&self, root: &RootFd) -> Result<(), Fault> {
        let mount = root.open(&self.target.path, Links::Follow).map_err(|error| error.about(&self.target.path))?;
        if !self.parameters.is_empty() {
            let context = FsContext::pick(mount.as_fd()).map_err(|error| error.about(&self.target.path))?;
            for (key, value) in &self.parameters {
                context.set(key, value.as_deref()).map_err(|error| context.explain(error, key))?;
            }
            context.reconfigure().map_err(|error| context.explain(error, &self.target.path))?;
        }
        self.flags.apply(mount.as_fd()).map_err(|error| error.about(&self.target.path))?;
        propagate(mount.as_fd(), &self.propagation)
    }
}

impl fmt::Display for Remount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let others = self.text.split(',').filter(|option| *option != "remount").collect::<Vec<_>>().join(",");
        write_mount(f, format_args!("remount"), &self.target, &others)
    }
}
