//! The runtime in another mount namespace for a while, as `restore` needs it twice: to make the root directory that CRIU
//! gets, and to look after the mounts that CRIU makes. Whatever happens to the runtime, nothing of it stays on the host.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::container::checkpoint::deleted::Deleted;
use crate::container::checkpoint::image::Point;
use crate::container::checkpoint::leftovers::Leftovers;
use crate::container::checkpoint::root::RootInUse;
use crate::container::checkpoint::targets::{self, Source};
use crate::error::field;
use crate::sys::file;
use crate::sys::mount::{self, Depth, Sharing};
use crate::sys::namespace::{self, Kind, Kinds};
use crate::sys::path::RootFd;

/// While this lives, the runtime is in a mount namespace that is not its own.
pub struct CriuMountNamespace {
    own: OwnedFd,
    directory: OwnedFd,
}

impl CriuMountNamespace {
    /// Goes to one that nobody else sees; the host's mounts are there, too.
    pub fn go() -> Result<Self> {
        let away = Self::begin()?;
        namespace::unshare(Kinds::NONE.with(Kind::Mount)).context("mount namespace of criu")?;
        mount::set_sharing(file::open_directory(c"/")?.as_fd(), Sharing::Slave, Depth::Tree)?;
        Ok(away)
    }

    fn begin() -> Result<Self> {
        Ok(Self { own: namespace::open(c"/proc/self/ns/mnt")?, directory: file::open_path(c".")? })
    }

    /// Makes everything that CRIU mounts on; what it may leave there. The mounts that show whether it is there are gone again
    /// afterwards.
    pub fn prepare(
        &self,
        root: &Path,
        points: &[Point],
        sources: &BTreeMap<String, Source>,
        deleted: &[Deleted],
    ) -> Result<Leftovers> {
        let path = CString::new(root.as_os_str().as_bytes())?;
        let tree = mount::copy_path(&path, Depth::Tree).context(field!("root.path"))?;
        mount::attach(tree.as_fd(), file::open_directory(&path)?.as_fd()).context(field!("root.path"))?;
        let inside = RootFd::new(tree);
        targets::prepare(&inside, points, sources)?;
        deleted.iter().try_for_each(|file| file.check(&inside))?;
        let left = Leftovers::before(&inside, deleted)?;
        mount::detach(&path)?;
        Ok(left)
    }

    pub fn back(self) -> Result<()> {
        // The guard does it; only here somebody can be told.
        namespace::join(self.own.as_fd(), Kind::Mount).context("mount namespace of the runtime")
    }
}

impl Drop for CriuMountNamespace {
    fn drop(&mut self) {
        // The right that let us leave is still ours. setns(2) moves the working directory, to where all relative paths of
        // the command line would be looked for.
        let _ = namespace::join(self.own.as_fd(), Kind::Mount);
        let _ = file::enter(self.directory.as_fd());
    }
}

/// Files and sockets are about to be made by their names: see [`RootInUse::follow_no_links`] and [`RootInUse::follow_links_of_proc`].
/// `init` is in the mount namespace in which CRIU makes the container's mounts, `criu` in the one that this is a copy of.
pub fn follow_no_links(made: RootInUse, criu: i32, init: i32) -> Result<()> {
    in_namespace_of(criu, || {
        made.withdraw()?;
        made.follow_links_of_proc(false)
    })?;
    in_namespace_of(init, || {
        made.withdraw()?;
        made.follow_no_links()?;
        made.follow_links_of_proc(false)
    })
}

/// All of them are made: CRIU goes on to find its own ways through /proc.
pub fn follow_links(made: RootInUse, criu: i32) -> Result<()> {
    in_namespace_of(criu, || made.follow_links_of_proc(true))
}

fn in_namespace_of(pid: i32, act: impl FnOnce() -> Result<()>) -> Result<()> {
    let theirs = namespace::open(&CString::new(format!("/proc/{pid}/ns/mnt"))?)?;
    let away = CriuMountNamespace::begin()?;
    namespace::join(theirs.as_fd(), Kind::Mount)?;
    act()?;
    away.back()
}
