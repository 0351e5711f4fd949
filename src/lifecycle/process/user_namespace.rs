//! A user namespace that a container joins by its path: whose ids it has, and how init gets into it.
//!
//! Nobody comes back from a user namespace into the one above, so a short-lived process enters it for the runtime: one
//! that is there while its maps are read, and one that makes init from inside, whose new namespaces belong to it then.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, anyhow, bail, ensure};
use oci_spec::runtime::{LinuxNamespaceType, Spec};

use super::reason;
use crate::container::id_map::existing::{self, ExistingMaps};
use crate::container::namespaces::{self, Join};
use crate::container::time_namespace::TimeNamespace;
use crate::error::field;
use crate::init::link::{self, RuntimeEnd};
use crate::init::report::{Failure, Milestone, Report, StepIndex};
use crate::plan::{Entrance, Label, Plan, StepError};
use crate::sys::guard::{self, Guard};
use crate::sys::namespace::{self, Kind, Kinds};
use crate::sys::process::{self, Child, Cloned};
use crate::sys::{Errno, Fault, file, proc_self};

/// How long it may take to enter a namespace, or to make init there, in milliseconds.
const GRACE: u32 = 60_000;

/// Settles which user namespace `spec` means where it names one by a path, and returns it. The runtime's own is the same
/// as none (setns(2) would refuse it). Of another, the mappings become the spec's: for everybody else it is then as one
/// that is made with these.
pub fn settle(spec: &mut Spec) -> Result<Option<Join>> {
    let Some(linux) = spec.linux_mut() else { return Ok(None) };
    let listed = linux.namespaces().iter().flatten().enumerate();
    let mut users = listed.filter(|(_, namespace)| namespace.typ() == LinuxNamespaceType::User);
    let Some((index, path)) = users.next().and_then(|(index, user)| Some((index, user.path().clone()?))) else {
        return Ok(None);
    };
    let field = || field!("linux.namespaces[{index}].path");
    let (join, is_own) = namespaces::open(Kind::User, &path).with_context(field)?;
    let maps = if is_own { existing::read(std::process::id() as i32)? } else { maps_of(&join).with_context(field)? };
    let given = |map: &Option<Vec<_>>| map.clone().unwrap_or_default();
    maps.agree_with(&given(linux.uid_mappings()), &given(linux.gid_mappings()))?;
    if is_own {
        linux.namespaces_mut().iter_mut().for_each(|list| drop(list.remove(index)));
        linux.set_uid_mappings(None).set_gid_mappings(None);
        return Ok(None);
    }
    maps.have_root().with_context(|| path.display().to_string()).with_context(field)?;
    linux.set_uid_mappings(Some(maps.uids)).set_gid_mappings(Some(maps.gids));
    Ok(Some(join))
}

/// Checks that the path still led to the namespace that was settled on when `plan` was made.
pub fn verify(settled: &Join, plan: &Plan) -> Result<()> {
    let planned = plan.entrance.as_ref().and_then(|entrance| entrance.user.as_ref()).map(Join::fd);
    let is_same = planned.is_some_and(|planned| namespace::is_same(planned, settled.fd()) == Ok(true));
    ensure!(is_same, field!("linux.namespaces"; "{} has become another namespace meanwhile", settled.path().display()));
    Ok(())
}

/// The maps of the namespace, read through a process in it: no other file shows them.
fn maps_of(namespace: &Join) -> Result<ExistingMaps> {
    let (ours, theirs) = link::pair()?;
    let child = match guard::clone_helper(0, None)? {
        Cloned::Child => {
            drop(ours);
            let entered = proc_self::set_undumpable().map_err(Fault::from).and_then(|()| namespace.apply());
            let report = match &entered {
                Ok(()) => Report::Reached(Milestone::Ready),
                Err(fault) => Report::Failed(Failure::new(StepIndex::FIRST, fault)),
            };
            // Until the runtime is done, or gone.
            let _ = theirs.report(&report).and_then(|()| theirs.wait_for_go());
            process::exit_now(0)
        }
        Cloned::Runtime(child) => Guard::new(child),
    };
    drop(theirs);
    let maps = match first_report(&ours) {
        Ok(Some((Report::Reached(_), _))) => existing::read(child.pid),
        Ok(Some((Report::Failed(failure), _))) => Err(StepError::new(Some(&label("", namespace)), &failure).into()),
        Ok(Some((report, _))) => Err(anyhow!("{namespace}: the process that joins it reports {report:?}")),
        Ok(None) => Err(reason::death(&child, "the process that joins it", "it joined", "out of memory?", false)
            .context(namespace.to_string())),
        Err(error) => Err(error),
    };
    // It ends by this, before it is waited for.
    drop(ours);
    maps
}

fn first_report(end: &RuntimeEnd) -> Result<Option<(Report, Option<OwnedFd>)>> {
    let [has_spoken] = process::poll([end.as_fd()], Some(GRACE))?;
    ensure!(has_spoken, "the user namespace was not entered within {} s", GRACE / 1000);
    Ok(end.report_with_descriptor()?)
}

fn label(field: &str, what: impl ToString) -> Label {
    Label { index: StepIndex::FIRST, field: field.to_owned(), what: what.to_string() }
}

/// Makes init, as a child of ours, from inside the user namespace; in init, returns as fork(2) does.
pub fn clone_init(entrance: &Entrance, flags: u64, cgroup: Option<BorrowedFd>) -> Result<Cloned> {
    let (ours, theirs) = link::pair()?;
    let maker = match guard::clone_helper(0, None).context("init")? {
        Cloned::Child => {
            drop(ours);
            let made = entrance.enter().and_then(|_| process::clone_sibling(flags, cgroup).map_err(at(Item::Init)));
            let told = match made {
                Ok(Cloned::Child) => return Ok(Cloned::Child),
                Ok(Cloned::Runtime(init)) => theirs.report_born(init.pid as u32, init.pidfd.as_fd()),
                Err(failed) => theirs.report(&report_of(&failed)),
            };
            process::exit_now(i32::from(told.is_err()))
        }
        Cloned::Runtime(maker) => Guard::new(maker),
    };
    drop(theirs);
    match first_report(&ours).context("init")? {
        Some((Report::Born(pid), Some(pidfd))) => Ok(Cloned::Runtime(Child { pid: pid as i32, pidfd })),
        Some((Report::Failed(failure), _)) => bail!(entrance.word(&failure)),
        Some((report, _)) => bail!("init: the process that makes it reports {report:?}"),
        None => {
            Err(reason::death(&maker, "the process that makes it", "it entered", "out of memory?", false)
                .context("init"))
        }
    }
}

/// Makes the process that makes init at last: it has gone into the user namespace, or made one, by itself, and is in the
/// runtime's pid namespace. In it, returns as fork(2) does.
pub fn clone_maker(entrance: &Entrance, new: Kinds, cgroup: Option<BorrowedFd>) -> Result<Cloned> {
    let (ours, theirs) = link::pair()?;
    let maker = match guard::clone_helper(0, cgroup).context("init")? {
        Cloned::Child => {
            drop(ours);
            match entrance.enter_for_good(new) {
                Ok(()) if theirs.report(&Report::Reached(Milestone::Ready)).is_ok() => return Ok(Cloned::Child),
                Ok(()) => {}
                // The runtime may be gone; then there is nobody left to tell.
                Err(failed) => drop(theirs.report(&report_of(&failed))),
            }
            process::exit_now(1)
        }
        Cloned::Runtime(maker) => maker,
    };
    drop(theirs);
    let report = first_report(&ours).context("init");
    if let Ok(Some((Report::Reached(_), _))) = report {
        return Ok(Cloned::Runtime(maker));
    }
    drop(Guard::new(maker));
    match report? {
        Some((Report::Failed(failure), _)) => bail!(entrance.word(&failure)),
        _ => bail!("init: the process that makes it was killed"),
    }
}

fn report_of((item, fault): &(Item, Fault)) -> Report {
    Report::Failed(Failure::new(StepIndex::of(item.number()), fault))
}

/// What is done on the way in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Item {
    OomScore,
    User,
    Time,
    Init,
    Other(usize),
}

impl Item {
    const FIXED: [Self; 4] = [Self::OomScore, Self::User, Self::Time, Self::Init];

    fn number(self) -> usize {
        match self {
            Self::Other(index) => Self::FIXED.len() + index,
            fixed => Self::FIXED.iter().position(|item| *item == fixed).unwrap_or_default(),
        }
    }

    fn numbered(number: usize) -> Self {
        let fixed = Self::FIXED.get(number).copied();
        fixed.unwrap_or(Self::Other(number.saturating_sub(Self::FIXED.len())))
    }
}

fn at<E: Into<Fault>>(item: Item) -> impl Fn(E) -> (Item, Fault) {
    move |error| (item, error.into())
}

impl Entrance {
    /// Namespaces of the host are joined with the runtime's rights, and those that it has no rights over with those that
    /// it gets inside: the order of runc (1.2) and crun.
    fn enter(&self) -> std::result::Result<OwnedFd, (Item, Fault)> {
        let proc = file::open_directory(c"/proc").map_err(at(Item::Init))?;
        if let Some(score) = &self.oom_score_adj {
            score.apply(proc.as_fd()).map_err(at(Item::OomScore))?;
        }
        let offsets = self.time.as_ref().map(|_| TimeNamespace::open_offsets(proc.as_fd())).transpose();
        let offsets = offsets.map_err(at(Item::Time))?;
        if self.user.is_some() {
            // Processes of the namespaces could ptrace us, and init, otherwise (CVE-2016-9962). With a new one, the id maps
            // come before.
            proc_self::set_undumpable().map_err(at(Item::User))?;
        }
        let mut later = Vec::new();
        for (index, join) in self.others.iter().enumerate() {
            match join.apply() {
                Err(fault) if fault.errno == Errno::EPERM => later.push((index, join)),
                joined => joined.map_err(at(Item::Other(index)))?,
            }
        }
        if let Some(user) = &self.user {
            user.apply().map_err(at(Item::User))?;
        }
        for (index, join) in later {
            join.apply().map_err(at(Item::Other(index)))?;
        }
        if let (Some(time), Some(offsets)) = (&self.time, offsets) {
            time.apply_to_children(offsets.as_fd()).map_err(at(Item::Time))?;
        }
        Ok(proc)
    }

    /// The same, and on into the `new` namespaces, which belong to the user namespace.
    fn enter_for_good(&self, new: Kinds) -> std::result::Result<(), (Item, Fault)> {
        let proc = self.enter()?;
        if self.time.is_some() {
            TimeNamespace::follow(proc.as_fd()).map_err(at(Item::Time))?;
        }
        if new.is_empty() { Ok(()) } else { namespace::unshare(new).map_err(at(Item::Init)) }
    }

    fn word(&self, failure: &Failure) -> StepError {
        let label = match Item::numbered(failure.step.place()) {
            Item::OomScore => self.oom_score_adj.as_ref().map(|score| label("process.oomScoreAdj", score)),
            Item::User => self.user.as_ref().map(|user| label("linux.namespaces", user)),
            Item::Time => self.time.as_ref().map(|time| label("linux.timeOffsets", time)),
            Item::Other(index) => self.others.get(index).map(|join| label("linux.namespaces", join)),
            Item::Init => None,
        };
        StepError::new(Some(&label.unwrap_or_else(|| self::label("", "init"))), failure)
    }
}
