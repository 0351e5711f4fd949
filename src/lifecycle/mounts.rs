//! mounts: puts mounts into a container that runs, and takes them out again, as crun does.
//!
//! A short-lived process does it. What it mounts from the host it opens in a mount namespace that belongs to the
//! container's user namespace and is a slave of the host's (see opener.rs); then it joins the container's namespaces and
//! becomes its root. It joins no pid namespace, so that nobody inside sees it.

mod copier;

use std::fs::File;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result, bail, ensure};

use super::disk::directory::Locked;
use super::disk::found::Found;
use super::floor::{self, Loaded};
use super::host::Host;
use super::id::Id;
use super::process::opener::{self, Heard};
use super::process::protect;
use super::refusal::{ONLY_ROOT_ENTERS, Refusal};
use super::status::Status;
use crate::container::bundle;
use crate::container::id_map::existing::{self, ExistingMaps};
use crate::container::process::user::BecomeRoot;
use crate::container::rootfs::context::Context;
use crate::container::rootfs::hot::{self, Added, HotMount, Unmount};
use crate::container::rootfs::idmap::UserNamespaces;
use crate::error::Faults;
use crate::init::link::{self, InitEnd, RuntimeEnd};
use crate::init::report::{Failure, Milestone, Report, StepIndex};
use crate::plan::mounts::{self, Listed};
use crate::plan::{Label, StepError};
use crate::sys::guard::{self, Guard};
use crate::sys::mount::{Depth, Sharing, set_sharing};
use crate::sys::namespace::{self, Kind, Kinds};
use crate::sys::path::RootFd;
use crate::sys::process::{self, Cloned};
use crate::sys::{self, Errno, Fault, SysError, file, mountinfo, proc_self};
use copier::Charge;

/// How long preparing may take, in milliseconds.
const GRACE: u32 = 60_000;

/// Mounts everything in `text`, a JSON array of mounts as config.json has them, or nothing.
pub fn add(host: &Host, id: &Id, text: &[u8]) -> Result<()> {
    protect::enter()?;
    let container = HotTarget::open(host, id)?;
    let mounts = bundle::parse_mounts(text)?;
    if let Some(Loaded { floor, .. }) = floor::load(host)? {
        floor.mounts(&mounts, &container.found.state.bundle, &mut Faults::first())?;
    }
    let context = Context {
        bundle: &container.found.state.bundle,
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
    let outside = container.outside().context("sources")?;
    let copies = listed.items.iter().any(HotMount::copies);
    let charge = copies.then(|| Charge::open(&container.found)).transpose()?;
    let from = Sources { maps: &maps, outside: outside.as_fd(), charge: charge.as_ref() };
    let word = |failure: &Failure| StepError::new(listed.label(failure.step).as_ref(), failure);
    let mut added = Vec::new();
    let work = |link: &InitEnd| container.add(&listed, &from, link);
    let done = opener::converse(word, work, |link, report| match report {
        Report::Mounted(item, id) => {
            let mount = mounts.get(item.place()).context("an item that is not listed")?;
            added.push(Added::new(mount, id, container.namespace)?);
            Ok(Heard::More)
        }
        Report::Reached(Milestone::Mounted) => {
            // Before the helper has the word to leave them: what is mounted can always be removed.
            container.save(|all| {
                all.retain(|old| !added.iter().any(|new| old.is_outlived_by(new)));
                all.extend(added.iter().cloned());
            })?;
            link.go(&[])?;
            Ok(Heard::Enough)
        }
        _ => bail!("the helper process reports what is not its own"),
    });
    if done.is_err() {
        container.clear(&added);
    }
    done
}

/// Unmounts what `mounts add` has mounted at the destinations of everything in `text`, the last first: all of them, or
/// none if there is nothing of the kind for one.
pub fn remove(host: &Host, id: &Id, text: &[u8]) -> Result<()> {
    protect::enter()?;
    let container = HotTarget::open(host, id)?;
    let listed = mounts::remove(&bundle::parse_mounts(text)?)?;
    let word = |failure: &Failure| StepError::new(listed.label(failure.step).as_ref(), failure);
    let chosen = container.choose(&listed).map_err(|(step, fault)| word(&Failure::new(step, &fault)))?;
    opener::converse(word, |_| container.remove(&chosen, IfUnmounted::Error), nothing)?;
    container.save(|all| all.retain(|added| !chosen.contains(added)))
}

/// Hears a process that has nothing to say but that it failed.
fn nothing(_: &RuntimeEnd, _: Report) -> Result<Heard> {
    bail!("the helper process reports what is not its own")
}

/// What becomes of a mount that is not there any more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IfUnmounted {
    Error,
    Fine,
}

/// A container with a mount namespace of its own, and the namespaces that are not the runtime's.
struct HotTarget {
    /// Nobody deletes the container meanwhile, or changes its mounts.
    found: Found<Locked>,
    /// The inode of its mount namespace.
    namespace: u64,
    /// The user namespace last: whoever joins it has no rights over the others that are not below it.
    namespaces: Vec<(Kind, OwnedFd)>,
    maps: ExistingMaps,
}

/// What the process that mounts brings from outside.
struct Sources<'a> {
    /// User namespaces of id-mapped mounts.
    maps: &'a [OwnedFd],
    /// The mount namespace in which sources are opened.
    outside: BorrowedFd<'a>,
    /// Whom the content of a tmpfs is charged to, if there is any.
    charge: Option<&'a Charge>,
}

/// The item that failed, and why.
type FailedItem = (StepIndex, Fault);

impl HotTarget {
    fn open(host: &Host, id: &Id) -> Result<Self> {
        let found = Found::open_to_change(host, id, |status| {
            ensure!(!matches!(status, Status::Stopped | Status::Creating), Refusal::NotRunning);
            Ok(())
        })?;
        let init = found.state.init.ok_or(Refusal::NotRunning)?;
        let pidfd = init.open()?.ok_or(Refusal::NotRunning)?;
        let mut namespaces: Vec<(Kind, OwnedFd)> = Vec::new();
        for kind in [Kind::Ipc, Kind::Net, Kind::Mount, Kind::User] {
            let path = format!("/proc/{}/ns/{kind}", init.pid);
            let namespace = match File::open(&path) {
                Err(error) if found.status == Status::Created && error.kind() == ErrorKind::PermissionDenied => {
                    return Err(error).context(path).context(ONLY_ROOT_ENTERS);
                }
                // It has none any more since it was found.
                Err(error) if error.kind() == ErrorKind::NotFound && !init.is_alive()? => bail!(Refusal::NotRunning),
                opened => opened.context(path)?,
            };
            if !namespace::is_own(namespace.as_fd(), kind)? {
                namespaces.push((kind, namespace.into()));
            }
        }
        let has = |wanted| namespaces.iter().any(|(kind, _)| *kind == wanted);
        ensure!(has(Kind::Mount), "the container has no mount namespace of its own");
        let maps = if has(Kind::User) { existing::read(init.pid)? } else { ExistingMaps::default() };
        // All that was opened by its pid is the container's only if it has not ended.
        ensure!(!process::ends_within(pidfd.as_fd(), 0)?, Refusal::NotRunning);
        let mounts = namespaces.iter().find(|(kind, _)| *kind == Kind::Mount).map(|(_, namespace)| namespace);
        let namespace = file::stat(mounts.context("mount namespace")?.as_fd())?.inode;
        Ok(Self { found, namespace, namespaces, maps })
    }

    /// Changes what is saved of the mounts that were added.
    fn save(&self, change: impl FnOnce(&mut Vec<Added>)) -> Result<()> {
        // As it is by now: this command may have saved it before.
        let mut state = self.found.directory.load()?.ok_or(Refusal::DoesNotExist)?;
        change(&mut state.added_mounts);
        self.found.directory.save(&state)
    }

    /// Takes away what an `add` that failed may have left: its process undoes it, unless it was killed.
    fn clear(&self, added: &[Added]) {
        if !added.is_empty() {
            let word = |failure: &Failure| StepError::new(None, failure);
            // The error that made us undo is the one to tell.
            let _ = opener::converse(word, |_| self.remove(added, IfUnmounted::Fine), nothing);
            let _ = self.save(|all| all.retain(|left| !added.contains(left)));
        }
    }

    /// The mount that each item means, in order; of several at one destination, the later item has the later mount.
    fn choose(&self, listed: &Listed<Unmount>) -> Result<Vec<Added>, FailedItem> {
        let mut left = self.found.state.added_mounts.clone();
        let mut chosen = Vec::new();
        for (index, unmount) in StepIndex::number(&listed.items).collect::<Vec<_>>().into_iter().rev() {
            match unmount.choose(&left) {
                Some(place) => chosen.push(left.remove(place)),
                None => {
                    let pid = self.found.state.init.map_or(0, |init| init.pid);
                    // Only for the words of the error.
                    let table = mountinfo::of_pid(pid).unwrap_or_default();
                    return Err((index, unmount.unknown(&table)));
                }
            }
        }
        chosen.reverse();
        Ok(chosen)
    }

    fn user(&self) -> Option<&OwnedFd> {
        self.namespaces.iter().find(|(kind, _)| *kind == Kind::User).map(|(_, namespace)| namespace)
    }

    /// A copy of the runtime's mount namespace that belongs to the container's user namespace: its mounts receive the
    /// host's and pass nothing back, and their flags are locked if the user namespace is another.
    fn outside(&self) -> Result<OwnedFd> {
        let (ours, theirs) = link::pair()?;
        let child = match guard::clone_helper(0, None)? {
            Cloned::Child => {
                drop(ours);
                let report = match self.leave() {
                    Ok(()) => Report::Reached(Milestone::Ready),
                    Err(error) => Report::Failed(Failure::new(StepIndex::FIRST, &error.into())),
                };
                // Until the runtime is done, or gone.
                let _ = theirs.report(&report).and_then(|()| theirs.wait_for_go());
                process::exit_now(0)
            }
            Cloned::Runtime(child) => Guard::new(child),
        };
        drop(theirs);
        let [answered] = process::poll([ours.as_fd()], Some(GRACE))?;
        ensure!(answered, "not made within {} s", GRACE / 1000);
        match ours.report()? {
            Some(Report::Reached(_)) => {}
            Some(Report::Failed(failure)) => {
                let what = "mount namespace".to_owned();
                let label = Label { index: failure.step, field: String::new(), what };
                return Err(StepError::new(Some(&label), &failure).into());
            }
            _ => bail!("the process that makes it was killed"),
        }
        let path = format!("/proc/{}/ns/mnt", child.pid);
        Ok(File::open(&path).context(path)?.into())
    }

    fn leave(&self) -> Result<(), SysError> {
        if let Some(user) = self.user() {
            namespace::join(user.as_fd(), Kind::User)?;
            process::die_with_parent()?;
        }
        namespace::unshare(Kinds::NONE.with(Kind::Mount))?;
        set_sharing(file::open_directory(c"/")?.as_fd(), Sharing::Slave, Depth::Tree)
    }

    /// In a process of its own: opens, goes into the container, mounts, and leaves it so if the runtime says Go.
    fn add(&self, listed: &Listed<HotMount>, from: &Sources, link: &InitEnd) -> Result<(), FailedItem> {
        let first = |error: SysError| (StepIndex::FIRST, Fault::from(error));
        let user = self.user().map(AsFd::as_fd);
        // Born where it is charged, as long as this process may enter there.
        let start = |hot: &HotMount| {
            let charge = from.charge.filter(|_| hot.copies());
            charge.map(|charge| charge.start(user)).transpose()
        };
        let copiers = listed.items.iter().map(start).collect::<sys::Result<Vec<_>>>().map_err(first)?;
        proc_self::set_undumpable().map_err(first)?;
        let own = file::open_directory(c"/proc/self/.").map_err(first)?;
        let is_inside = opener::join_mounts(from.outside, user).map_err(first)?;
        let namespaces = UserNamespaces { listed: from.maps, container: user };
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
            process::die_with_parent().map_err(first)?;
        }
        let mut mounted = MountedSoFar { mounts: Vec::new(), own: own.as_fd() };
        for (((index, hot), opened), copier) in items().zip(opened).zip(copiers) {
            let copy = |from: BorrowedFd, to: BorrowedFd| match copier {
                Some(copier) => copier.copy(from, to),
                None => Err(Fault::new("clone3", Errno::ESRCH, "nobody copies")),
            };
            let announce = |id| {
                // From here on there is something to undo if the runtime is gone.
                guard::outlive_parent()?;
                Ok(link.report(&Report::Mounted(index, id))?)
            };
            let mount = hot.apply(&root, opened, own.as_fd(), copy, announce).map_err(|fault| (index, fault))?;
            mounted.mounts.extend(mount);
        }
        link.report(&Report::Reached(Milestone::Mounted)).map_err(first)?;
        link.wait_for_go().map_err(first)?;
        mounted.mounts.clear();
        Ok(())
    }

    /// In a process of its own: goes into the container, and unmounts once all are found.
    fn remove(&self, chosen: &[Added], missing: IfUnmounted) -> Result<(), FailedItem> {
        let first = |error: SysError| (StepIndex::FIRST, Fault::from(error));
        proc_self::set_undumpable().map_err(first)?;
        let own = file::open_directory(c"/proc/self/.").map_err(first)?;
        if let Some((_, mounts)) = self.namespaces.iter().find(|(kind, _)| *kind == Kind::Mount) {
            opener::join_mounts(mounts.as_fd(), self.user().map(AsFd::as_fd)).map_err(first)?;
        }
        let root = root().map_err(first)?;
        let mut found = Vec::new();
        for (index, added) in StepIndex::number(chosen) {
            let is_covered = || chosen.iter().skip(index.place() + 1).any(|other| added.is_below(other));
            match added.locate(&root, self.namespace, own.as_fd()) {
                Err(_) if missing == IfUnmounted::Fine => {}
                // By one that goes first.
                Err(fault) if fault.errno == Errno::ESTALE && is_covered() => found.push((index, added, None)),
                located => found.push((index, added, Some(located.map_err(|fault| (index, fault))?))),
            }
        }
        // It removes all of them, also if the runtime is gone.
        guard::outlive_parent().map_err(first)?;
        for (index, added, mount) in found.into_iter().rev() {
            let located = mount.map_or_else(|| added.locate(&root, self.namespace, own.as_fd()), Ok);
            let removed = located.and_then(|mount| hot::detach(mount.as_fd(), own.as_fd()));
            removed.map_err(|fault| (index, fault))?;
        }
        Ok(())
    }
}

/// What has been mounted so far, the last at the end: unmounted again when this is dropped, unless it was taken.
struct MountedSoFar<'a> {
    mounts: Vec<OwnedFd>,
    /// The process's own directory in the host's procfs.
    own: BorrowedFd<'a>,
}

impl Drop for MountedSoFar<'_> {
    fn drop(&mut self) {
        for mount in self.mounts.drain(..).rev() {
            // The error that made us undo is the one to tell.
            let _ = hot::detach(mount.as_fd(), self.own);
        }
    }
}

/// The root of the mount namespace that this process has joined.
fn root() -> sys::Result<RootFd> {
    file::open_directory(c"/").map(RootFd::new)
}
