//! A procfs of the pid namespace that init is to be born in. It is that of the process that makes it, and before its birth
//! init is in the runtime's: so a short-lived process, the maker, makes it, and the others there see that one as they will
//! see init.
//!
//! It gets everything from its parent at the moment at which it is seen. So its parent is a helper, which nobody sees in the
//! runtime's pid namespace, and which has let go of all that is the host's before.

use std::os::fd::{AsFd, OwnedFd};

use super::link::{self, InitEnd};
use super::report::{Failure, Report, StepIndex};
use crate::container::namespaces::Join;
use crate::container::rootfs::mount::Mount;
use crate::sys::guard::Guard;
use crate::sys::path::RootFd;
use crate::sys::process::{self, Cloned};
use crate::sys::{Errno, Fault, Text, command_line, file, proc_self};

/// How long the maker may take, in milliseconds: the others can stop it.
const TIMEOUT: u32 = 10_000;
/// How long the helper may take, which is for the killed maker as well: one that is traced is not reaped before its tracer
/// lets it go.
const HELPER_TIMEOUT: u32 = TIMEOUT + 1_000;

/// The detached mount, of the namespace `pid`, which the caller's children are not born in yet. Its maker has `root` for
/// its root.
pub fn make(mount: &Mount, root: &RootFd, pid: &Join, step: StepIndex) -> Result<OwnedFd, Fault> {
    let (ours, theirs) = link::pair()?;
    let helper = match process::clone_process(0, None)? {
        Cloned::Child => {
            drop(ours);
            let done = let_go(root, pid, &theirs).and_then(|()| give_birth(mount, &theirs, step));
            // If init is gone, there is nobody left to tell.
            let told = done.or_else(|fault| theirs.report(&Report::Failed(Failure::new(step, &fault))));
            process::exit_now(i32::from(told.is_err()))
        }
        Cloned::Runtime(helper) => Guard::new(helper),
    };
    drop(theirs);
    let ended = process::ends_within(helper.pidfd.as_fd(), HELPER_TIMEOUT);
    drop(helper);
    ended?;
    receive(&ours)
}

/// Makes this process what may be seen: in the container's root, with the link as its only descriptor. Its children are born in
/// the namespace.
fn let_go(root: &RootFd, pid: &Join, link: &InitEnd) -> Result<(), Fault> {
    process::die_with_parent()?;
    file::enter(root.as_fd())?;
    file::chroot_here()?;
    command_line::set(c"ocirt:procfs");
    proc_self::set_name(c"ocirt:procfs")?;
    proc_self::set_undumpable()?;
    pid.apply()?;
    Ok(proc_self::close_from(0, [Some(link.as_fd())])?)
}

/// Makes the maker, and waits for its end.
fn give_birth(mount: &Mount, link: &InitEnd, step: StepIndex) -> Result<(), Fault> {
    let maker = match process::clone_process(0, None)? {
        Cloned::Child => {
            let made = process::die_with_parent().map_err(Fault::from).and_then(|()| mount.make());
            let told = match &made {
                Ok(made) => link.report_made(made.as_fd()),
                Err(fault) => link.report(&Report::Failed(Failure::new(step, fault))),
            };
            process::exit_now(i32::from(told.is_err()))
        }
        Cloned::Runtime(maker) => Guard::new(maker),
    };
    let has_ended = process::ends_within(maker.pidfd.as_fd(), TIMEOUT)?;
    drop(maker);
    if has_ended { Ok(()) } else { Err(Fault::new("poll", Errno::ETIMEDOUT, "")) }
}

/// What came first: the maker may have been stopped behind its report, or before.
fn receive(ours: &link::RuntimeEnd) -> Result<OwnedFd, Fault> {
    // A stopped maker that was not to be reaped has the other end yet.
    let [has_spoken] = process::poll([ours.as_fd()], Some(0))?;
    match if has_spoken { ours.report_with_descriptor()? } else { None } {
        Some((Report::Made, Some(mount))) => Ok(mount),
        Some((Report::Failed(failure), _)) => Err(fault_of(&failure)),
        None if !has_spoken => Err(stopped()),
        _ => Err(Fault::new("clone3", Errno::ECHILD, "its maker in the joined pid namespace was killed")),
    }
}

fn stopped() -> Fault {
    Fault::new("poll", Errno::ETIMEDOUT, "did a process of the joined pid namespace stop its maker?")
}

fn fault_of(failure: &Failure) -> Fault {
    match (failure.call.as_bytes(), failure.errno) {
        (b"poll", Errno::ETIMEDOUT) => return stopped(),
        // There is nobody in the namespace yet.
        (b"clone3", errno) => return Fault::new("clone3", errno, ""),
        _ => {}
    }
    let mut detail = Text::default();
    for part in [failure.call.as_bytes(), b" ", failure.detail.as_bytes()] {
        detail.push(part);
    }
    Fault { call: "in the joined pid namespace", errno: failure.errno, detail }
}
