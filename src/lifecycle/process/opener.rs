//! What the runtime opens for an init that may not: with a user namespace of its own, init cannot reach what lies below a
//! directory that only the host's root may enter, and cannot map the ids of a filesystem of the host.
//!
//! A short-lived process joins init's mount namespace and opens there with the runtime's rights. Opened in the host's
//! mount namespace, a mount would stay a peer of the host's (mounts made inside would appear outside), and its flags
//! would not be locked: the container's root could make a read-only mount of the host writable.

use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use crate::container::id_map::IdMaps;
use crate::container::rootfs::idmap::UserNamespaces;
use crate::error::Field;
use crate::init::link::{self, InitEnd, RuntimeEnd};
use crate::init::report::{Failure, Report, StepIndex};
use crate::init::step::Step;
use crate::plan::{Plan, StepError};
use crate::sys::exit::Exit;
use crate::sys::guard::{self, Guard};
use crate::sys::namespace::{self, Kind, Kinds};
use crate::sys::process::{self, Cloned};
use crate::sys::socket::{self, MAX_FDS};
use crate::sys::{self, Errno, Fault, SysError, proc_self};

/// How long opening may take, in milliseconds: a source can lie on a network filesystem that answers late.
const OPEN_GRACE: u32 = 60_000;

/// How long undoing may take, in milliseconds.
const UNDO_GRACE: u32 = 10_000;

/// The user namespaces of id-mapped mounts: their maps, each with the field that asks for it.
pub fn namespaces(maps: &[(String, IdMaps)]) -> Result<Vec<OwnedFd>> {
    maps.iter().map(|(field, maps)| namespace_of(maps).with_context(|| Field::new(field.clone()))).collect()
}

/// A user namespace with these maps, in which nobody is: the process that it is made with ends at once.
fn namespace_of(maps: &IdMaps) -> Result<OwnedFd> {
    let (ours, theirs) = socket::pair()?;
    let child = match guard::clone_helper(Kinds::NONE.with(Kind::User).flags().into(), None)? {
        Cloned::Child => {
            drop(ours);
            // Until the runtime is done, or gone.
            let _ = socket::receive(theirs.as_fd(), &mut [0]);
            process::exit_now(0)
        }
        Cloned::Runtime(child) => Guard::new(child),
    };
    let namespace = mapped(child.pid, maps);
    // It ends by this, before it is waited for.
    drop(ours);
    namespace
}

/// The user namespace of process `pid`, which gets these maps.
fn mapped(pid: i32, maps: &IdMaps) -> Result<OwnedFd> {
    let directory = format!("/proc/{pid}");
    maps.write(pid, File::open(&directory).context(directory.clone())?.as_fd())?;
    Ok(File::open(format!("{directory}/ns/user")).context(directory)?.into())
}

/// The namespaces in which init sees files.
#[derive(Debug)]
pub struct View {
    mounts: File,
    user: File,
}

impl View {
    /// Those of process `pid`; for an ordinary user only as long as the process is dumpable.
    pub fn of(pid: i32) -> Result<Self> {
        let open = |name: &str| {
            let path = format!("/proc/{pid}/ns/{name}");
            File::open(&path).context(path)
        };
        Ok(Self { mounts: open("mnt")?, user: open("user")? })
    }
}

/// Lets init, which is at `step`, go on with what this step needs, and with what later ones will need as well.
///
/// `listed` are the user namespaces of the plan's id-mapped mounts.
pub fn serve(view: &View, link: &RuntimeEnd, plan: &Plan, step: StepIndex, listed: &[OwnedFd]) -> Result<()> {
    let namespaces = UserNamespaces { listed, container: Some(view.user.as_fd()) };
    let wanted = OpenerRequest { plan, step, namespaces };
    in_a_child(|failure| plan.word(failure), || wanted.open_and_pass(view.mounts.as_fd(), link))
}

/// Joins the mount namespace of a container, and returns whether that took joining its user namespace too: only there
/// has an ordinary user rights over it. He stays who he is outside, and may open what he may. For
/// a helper.
pub fn join_mounts(mounts: BorrowedFd, user: Option<BorrowedFd>) -> sys::Result<bool> {
    match (namespace::join(mounts, Kind::Mount), user) {
        (Err(error), Some(user)) if error.errno == Errno::EPERM => {
            namespace::join(user, Kind::User)?;
            process::die_with_parent()?;
            namespace::join(mounts, Kind::Mount).map(|()| true)
        }
        (joined, _) => joined.map(|()| false),
    }
}

/// Does `work` in a process of its own and waits for it; `word` tells which step or item failed.
pub fn in_a_child(
    word: impl Fn(&Failure) -> StepError,
    work: impl FnOnce() -> std::result::Result<(), (StepIndex, Fault)>,
) -> Result<()> {
    let (ours, theirs) = link::pair()?;
    let child = match guard::clone_helper(0, None).context("opener")? {
        Cloned::Child => {
            drop(ours);
            if let Err((step, fault)) = work() {
                // The runtime may be gone; then there is nobody left to tell.
                let _ = theirs.report(&Report::Failed(Failure::new(step, &fault)));
                process::exit_now(1)
            }
            process::exit_now(0)
        }
        Cloned::Runtime(child) => Guard::new(child),
    };
    drop(theirs);
    let ended = process::ends_within(child.pidfd.as_fd(), OPEN_GRACE).context("poll")?;
    ensure!(ended, "a source was not opened and mounted within {} s", OPEN_GRACE / 1000);
    // What it reports is read only if it failed: what it has done is done, whatever happens to us.
    match child.wait().context("opener")? {
        Exit::Status(0) => Ok(()),
        exit => match ours.report().context("report of the opener")? {
            Some(Report::Failed(failure)) => Err(word(&failure).into()),
            _ => match exit {
                Exit::Signal(number) => bail!("the opener was ended by signal {number}"),
                Exit::Status(status) => bail!("the opener ended with status {status}"),
            },
        },
    }
}

/// What the runtime expects after a report.
pub enum Heard {
    More,
    /// The rest is the child's, which cannot fail any more.
    Enough,
}

/// Has a process of its own do `work` and report, and hears what it says; `word` tells which item failed. After an error
/// of ours the child, which waits for Go or finds nobody to report to, has ended when this returns.
pub fn converse(
    word: impl Fn(&Failure) -> StepError,
    work: impl FnOnce(&InitEnd) -> std::result::Result<(), (StepIndex, Fault)>,
    mut hear: impl FnMut(&RuntimeEnd, Report) -> Result<Heard>,
) -> Result<()> {
    let (ours, theirs) = link::pair()?;
    let child = match guard::clone_helper(0, None).context("helper process")? {
        Cloned::Child => {
            drop(ours);
            if let Err((step, fault)) = work(&theirs) {
                // The runtime may be gone; then there is nobody left to tell.
                let _ = theirs.report(&Report::Failed(Failure::new(step, &fault)));
                process::exit_now(1)
            }
            process::exit_now(0)
        }
        Cloned::Runtime(child) => Guard::new(child),
    };
    drop(theirs);
    let mut listen = || loop {
        let [has_spoken] = process::poll([ours.as_fd()], Some(OPEN_GRACE)).context("poll")?;
        ensure!(has_spoken, "nothing was opened, mounted or removed within {} s", OPEN_GRACE / 1000);
        match ours.report().context("report of the helper process")? {
            Some(Report::Failed(failure)) => return Err(word(&failure).into()),
            Some(report) => match hear(&ours, report)? {
                Heard::More => {}
                Heard::Enough => return Ok(true),
            },
            None => return Ok(false),
        }
    };
    let heard = listen();
    // It undoes what it has done, if it is in the middle of something.
    drop(ours);
    if let Ok(true) = heard {
        return Ok(());
    }
    let ended = process::ends_within(child.pidfd.as_fd(), UNDO_GRACE);
    heard?;
    ensure!(ended.context("poll")?, "the helper process does not end");
    match child.wait().context("helper process")? {
        Exit::Status(0) => Ok(()),
        exit => bail!("the helper process ended with status {}", exit.code()),
    }
}

struct OpenerRequest<'a> {
    plan: &'a Plan,
    step: StepIndex,
    namespaces: UserNamespaces<'a>,
}

impl OpenerRequest<'_> {
    /// Opens in the mount namespace `mounts`, and passes on to init.
    fn open_and_pass(&self, mounts: BorrowedFd, link: &RuntimeEnd) -> std::result::Result<(), (StepIndex, Fault)> {
        let at_step = |error: SysError| (self.step, error.into());
        proc_self::set_undumpable().map_err(at_step)?;
        join_mounts(mounts, self.namespaces.container).map_err(at_step)?;
        let opened = self.open()?;
        let steps: Vec<_> = opened.iter().map(|(step, _)| *step).collect();
        let fds: Vec<_> = opened.iter().map(|(_, fd)| fd.as_fd()).collect();
        link.go_with(&steps, &fds).map_err(at_step)
    }

    /// What the step needs, and what later steps would ask for one by one. Of those, what cannot be opened is left to
    /// them: an earlier step may change that.
    fn open(&self) -> std::result::Result<Vec<(StepIndex, OwnedFd)>, (StepIndex, Fault)> {
        let Some(first) = self.plan.steps.get(self.step.place()) else { return Ok(Vec::new()) };
        let needed = self.open_one(&first.step).map_err(|fault| (self.step, fault))?;
        let mut opened = vec![(self.step, needed)];
        if matches!(first.step, Step::Device(_)) {
            // This process may be in another mount namespace by now, from which nothing is opened for init.
            return Ok(opened);
        }
        for (index, planned) in StepIndex::number(&self.plan.steps).skip(self.step.place() + 1) {
            if opened.len() == MAX_FDS {
                break;
            }
            if opens_early(&planned.step, &self.plan.rootfs)
                && let Ok(fd) = self.open_one(&planned.step)
            {
                opened.push((index, fd));
            }
        }
        Ok(opened)
    }

    fn open_one(&self, step: &Step) -> std::result::Result<OwnedFd, Fault> {
        let nothing = Fault::new("open_tree", Errno::EINVAL, "nothing of the host's");
        match step {
            Step::EnterRootfs(enter) => enter.open(),
            Step::Mount(mount, _) => mount.open(self.namespaces)?.ok_or(nothing),
            Step::Device(device) => match device.open() {
                Err(fault) if fault.errno == Errno::ENOENT => device.make(),
                opened => opened,
            },
            _ => Err(nothing),
        }
    }
}

fn opens_early(step: &Step, rootfs: &Path) -> bool {
    matches!(step, Step::Mount(mount, _) if mount.opens_early(rootfs))
}
