//! mounts: puts mounts into a container that runs, and takes them out again, as crun does.
//!
//! A short-lived process does it. What it mounts from the host it opens in a mount namespace that belongs to the
//! container's user namespace and is a slave of the host's (see opener.rs); then it joins the container's namespaces and
//! becomes its root. It joins no pid namespace, so that nobody inside sees it.

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};

use super::inspect::Found;
use super::opener::{self, Killed};
use super::state::Status;
use super::{Host, Id, Refusal, protect};
use crate::container::bundle;
use crate::container::id_map::existing::{self, Existing};
use crate::container::process::user::BecomeRoot;
use crate::container::rootfs::hot::{HotMount, Unmount};
use crate::container::rootfs::idmap::UserNamespaces;
use crate::container::rootfs::mount;
use crate::init::link::{Failure, StepIndex};
use crate::plan::StepError;
use crate::plan::mounts::{self, Listed};
use crate::sys::mount::{Depth, Sharing, set_sharing};
use crate::sys::namespace::{self, Kind, Kinds};
use crate::sys::path::RootFd;
use crate::sys::process::{self, Cloned};
use crate::sys::{self, Fault, SysError, file, proc_self, socket};

/// How long preparing may take, in milliseconds.
const GRACE: u32 = 60_000;

/// Mounts everything in `text`, a JSON array of mounts as config.json has them, or nothing.
pub fn add(host: &Host, id: &Id, text: &[u8]) -> Result<()> {
    protect::enter()?;
    let container = Container::open(host, id)?;
    let mounts = bundle::parse_mounts(text)?;
    let context = mount::Context {
        bundle: &container.bundle,
        label: None,
        user_namespace: container.user().is_some(),
        network_namespace: container.namespaces.iter().any(|(kind, _)| *kind == Kind::Net),
        cgroup: None,
        unseen: false,
        id_mappings: (&container.maps.uids, &container.maps.gids),
    };
    let listed = mounts::add(&mounts, &context)?;
    for warning in &listed.warnings {
        host.log.warn(warning);
    }
    let maps = opener::namespaces(&listed.mount_maps)?;
    let outside = container.outside().context("mount namespace for the sources")?;
    let word = |failure: &Failure| StepError::new(listed.label(failure.step).as_ref(), failure);
    opener::in_a_child(word, || container.add(&listed, &maps, &outside))
}

/// Unmounts the destinations of everything in `text`, the last first: all of them, or none if one is no mount.
pub fn remove(host: &Host, id: &Id, text: &[u8]) -> Result<()> {
    protect::enter()?;
    let container = Container::open(host, id)?;
    let listed = mounts::remove(&bundle::parse_mounts(text)?)?;
    let word = |failure: &Failure| StepError::new(listed.label(failure.step).as_ref(), failure);
    opener::in_a_child(word, || container.remove(&listed))
}

/// A container with a mount namespace of its own, and the namespaces that are not the runtime's.
struct Container {
    bundle: PathBuf,
    /// The user namespace last: whoever joins it has no rights over the others that are not below it.
    namespaces: Vec<(Kind, OwnedFd)>,
    maps: Existing,
}

/// The item that failed, and why.
type Failed = (StepIndex, Fault);

impl Container {
    fn open(host: &Host, id: &Id) -> Result<Self> {
        let found = Found::open(host, id)?;
        if matches!(found.status, Status::Stopped | Status::Creating) {
            bail!(Refusal::NotRunning);
        }
        let init = found.state.init.ok_or(Refusal::NotRunning)?;
        let pidfd = init.open()?.ok_or(Refusal::NotRunning)?;
        let mut namespaces = Vec::new();
        for kind in [Kind::Ipc, Kind::Net, Kind::Mount, Kind::User] {
            let path = format!("/proc/{}/ns/{kind}", init.pid);
            let namespace = match File::open(&path) {
                Err(error) if found.status == Status::Created && error.kind() == ErrorKind::PermissionDenied => {
                    return Err(error).context(path).context(super::ONLY_ROOT_ENTERS);
                }
                opened => opened.context(path)?,
            };
            if !namespace::is_own(namespace.as_fd(), kind)? {
                namespaces.push((kind, namespace.into()));
            }
        }
        let has = |wanted| namespaces.iter().any(|(kind, _)| *kind == wanted);
        ensure!(has(Kind::Mount), "the container has no mount namespace of its own");
        let maps = if has(Kind::User) { existing::read(init.pid)? } else { Existing::default() };
        // All that was opened by its pid is the container's only if it has not ended.
        ensure!(!process::ends_within(pidfd.as_fd(), 0)?, Refusal::NotRunning);
        Ok(Self { bundle: found.state.bundle, namespaces, maps })
    }

    fn user(&self) -> Option<&OwnedFd> {
        self.namespaces.iter().find(|(kind, _)| *kind == Kind::User).map(|(_, namespace)| namespace)
    }

    /// A copy of the runtime's mount namespace that belongs to the container's user namespace: its mounts receive the
    /// host's and pass nothing back, and their flags are locked if the user namespace is another.
    fn outside(&self) -> Result<OwnedFd> {
        let (ours, theirs) = socket::pair()?;
        let child = match process::clone_process(0, None)? {
            Cloned::Child => {
                drop(ours);
                let left = self.leave().and_then(|()| socket::send(theirs.as_fd(), b"x", &[]));
                if left.is_ok() {
                    // Until the runtime is done, or gone.
                    let _ = socket::receive(theirs.as_fd(), &mut [0]);
                }
                process::exit_now(0)
            }
            Cloned::Runtime(child) => Killed(child),
        };
        drop(theirs);
        let [answered] = process::poll([ours.as_fd()], Some(GRACE))?;
        let done = answered && socket::receive(ours.as_fd(), &mut [0])?.len == 1;
        ensure!(done, "unshare: the kernel makes none");
        let path = format!("/proc/{}/ns/mnt", child.0.pid);
        Ok(File::open(&path).context(path)?.into())
    }

    fn leave(&self) -> Result<(), SysError> {
        if let Some(user) = self.user() {
            namespace::join(user.as_fd(), Kind::User)?;
        }
        namespace::unshare(Kinds::NONE.with(Kind::Mount))?;
        set_sharing(file::open_directory(c"/")?.as_fd(), Sharing::Slave, Depth::Tree)
    }

    /// In a process of its own: opens, goes into the container, and mounts.
    fn add(&self, listed: &Listed<HotMount>, maps: &[OwnedFd], outside: &OwnedFd) -> Result<(), Failed> {
        let first = |error: SysError| (StepIndex::FIRST, Fault::from(error));
        proc_self::set_undumpable().map_err(first)?;
        let descriptors = file::open_directory(c"/proc/self/fd").map_err(first)?;
        let user = self.user().map(AsFd::as_fd);
        let is_inside = opener::join_mounts(outside.as_fd(), user).map_err(first)?;
        let namespaces = UserNamespaces { listed: maps, container: user };
        let items = || StepIndex::number(&listed.items);
        let opened = items().map(|(index, hot)| hot.open(namespaces).map_err(|fault| (index, fault)));
        let opened = opened.collect::<Result<Vec<_>, _>>()?;
        let left = self.namespaces.iter().filter(|(kind, _)| !is_inside || *kind != Kind::User);
        for (kind, namespace) in left {
            namespace::join(namespace.as_fd(), *kind).map_err(first)?;
        }
        let root = root().map_err(first)?;
        if user.is_some() {
            // What is made on the way to a mount point is the container's.
            BecomeRoot::default().apply().map_err(|fault| (StepIndex::FIRST, fault))?;
        }
        for ((index, hot), opened) in items().zip(opened) {
            if let Err(fault) = hot.apply(&root, opened, descriptors.as_fd()) {
                for done in listed.items.iter().take(index.place()).rev() {
                    // The first error is the one to tell.
                    let _ = done.undo(&root, descriptors.as_fd());
                }
                return Err((index, fault));
            }
        }
        Ok(())
    }

    /// In a process of its own: goes into the container, and unmounts once all are found.
    fn remove(&self, listed: &Listed<Unmount>) -> Result<(), Failed> {
        let first = |error: SysError| (StepIndex::FIRST, Fault::from(error));
        proc_self::set_undumpable().map_err(first)?;
        let descriptors = file::open_directory(c"/proc/self/fd").map_err(first)?;
        if let Some((_, mounts)) = self.namespaces.iter().find(|(kind, _)| *kind == Kind::Mount) {
            opener::join_mounts(mounts.as_fd(), self.user().map(AsFd::as_fd)).map_err(first)?;
        }
        let root = root().map_err(first)?;
        let find = |(index, unmount): (StepIndex, &Unmount)| unmount.find(&root).map_err(|fault| (index, fault));
        let found = StepIndex::number(&listed.items).map(find).collect::<Result<Vec<_>, _>>()?;
        let found: Vec<_> = StepIndex::number(&listed.items).zip(found).collect();
        for ((index, unmount), there) in found.into_iter().rev() {
            unmount.detach(there.as_fd(), descriptors.as_fd()).map_err(|fault| (index, fault))?;
        }
        Ok(())
    }
}

/// The root of the mount namespace that this process has joined.
fn root() -> sys::Result<RootFd> {
    file::open_directory(c"/").map(RootFd::new)
}
