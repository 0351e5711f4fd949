//! A process that copies for a container and is charged as its own: a tmpfs that starts with a copy of what it hides
//! (`tmpcopyup`) counts towards the memory of the cgroup in which it is filled.

use std::os::fd::{AsFd, BorrowedFd};

use anyhow::{Context, Result, ensure};
use caps::Capability::{self, *};

use crate::container::cgroup::CgroupJoin;
use crate::container::process::oom::{self, OomScoreAdj};
use crate::container::process::user::BecomeRoot;
use crate::container::rootfs::copy_up::copy_up;
use crate::init::link::{self, InitEnd, RuntimeEnd};
use crate::init::report::{Failure, Milestone, Report, StepIndex};
use crate::lifecycle::disk::found::Found;
use crate::lifecycle::status::Status;
use crate::sys::guard::{self, Guard};
use crate::sys::namespace::{self, Kind};
use crate::sys::process::{self, Cloned};
use crate::sys::{self, Errno, Fault, SysError, credentials, file, proc_self};

/// What a copy of files with their owners and modes takes. Above all, not what reads disks and kernel memory.
const KEPT: [Capability; 7] =
    [CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH, CAP_FOWNER, CAP_FSETID, CAP_MKNOD, CAP_SETFCAP];

/// How long a copy may take, in milliseconds.
const GRACE: u32 = 50_000;

/// The container's cgroup, open: that of memory, and that of devices.
pub struct Charge {
    join: CgroupJoin,
    /// Where init is: a container that has made cgroups below its own may have left its own to nobody (cgroups(7), "no
    /// internal processes").
    instead: Option<CgroupJoin>,
    score: Option<OomScoreAdj>,
}

impl Charge {
    pub fn open<D>(found: &Found<D>) -> Result<Self> {
        let place = found.state.cgroup.of_memory_and_devices();
        let join = place.join().context("memory cgroup")?;
        let is_v2 = join.clone_into().is_some();
        ensure!(
            !(is_v2 && found.status == Status::Paused),
            "tmpcopyup: a paused container cannot be given a copy (what copies would be frozen with it)"
        );
        let init = found.state.init.filter(|_| is_v2);
        let instead = init.map(|init| place.join_like(init.pid)).transpose().context("memory cgroup")?;
        Ok(Self { join, instead, score: oom::compile(Some(1000))? })
    }

    /// Starts the process, which has the rights of root in `user`, the container's user namespace if it has one.
    pub fn start(&self, user: Option<BorrowedFd>) -> sys::Result<Copier> {
        let (link, theirs) = link::pair()?;
        let born = match (guard::clone_helper(0, self.join.clone_into()), &self.instead) {
            (Err(_), Some(instead)) => guard::clone_helper(0, instead.clone_into()),
            (born, _) => born,
        };
        match born? {
            Cloned::Child => {
                drop(link);
                let done = self.serve(&theirs, user);
                let report = match &done {
                    Ok(()) => Report::Reached(Milestone::Ready),
                    Err(fault) => Report::Failed(Failure::new(StepIndex::FIRST, fault)),
                };
                // Whoever asked may be gone; then there is nobody left to tell.
                let _ = theirs.report(&report);
                process::exit_now(0)
            }
            Cloned::Runtime(child) => Ok(Copier { link, _child: Guard::new(child) }),
        }
    }

    /// In the process: waits for two directories, and copies.
    fn serve(&self, link: &InitEnd, user: Option<BorrowedFd>) -> Result<(), Fault> {
        if let Some(score) = &self.score {
            // When the memory does not suffice, this is the process to be killed, and none of the container's. Forbidden to
            // a user whose processes are undumpable by then; the copy is charged all the same.
            let _ = score.apply(file::open_directory(c"/proc")?.as_fd());
        }
        self.join.apply()?;
        proc_self::set_undumpable()?;
        if let Some(user) = user {
            namespace::join(user, Kind::User)?;
            BecomeRoot::default().apply()?;
            process::die_with_parent()?;
        }
        credentials::keep_only(KEPT.iter().fold(0, |kept, capability| kept | capability.bitmask()))?;
        let [Some(from), Some(to), ..] = link.wait_for_go()? else {
            return Err(SysError::new("recvmsg", Errno::EBADF).into());
        };
        copy_up(from.as_fd(), to.as_fd())
    }
}

/// The process, at the other end of a link.
pub struct Copier {
    link: RuntimeEnd,
    _child: Guard,
}

impl Copier {
    /// Copies everything in one directory into the other.
    pub fn copy(self, from: BorrowedFd, to: BorrowedFd) -> Result<(), Fault> {
        self.link.go(&[from, to])?;
        let [has_spoken] = process::poll([self.link.as_fd()], Some(GRACE))?;
        if !has_spoken {
            return Err(Fault::new("poll", Errno::ETIMEDOUT, "tmpcopyup: the copy takes too long"));
        }
        match self.link.report()? {
            Some(Report::Reached(Milestone::Ready)) => Ok(()),
            Some(Report::Failed(failure)) => {
                Err(Fault { call: "tmpcopyup", errno: failure.errno, detail: failure.detail })
            }
            _ => Err(Fault::new("tmpcopyup", Errno::ENOMEM, "what copied was killed: the container's memory limit?")),
        }
    }
}
