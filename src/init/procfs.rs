//! A procfs of the pid namespace that init is to be born in. It is that of whoever makes it, and before its birth init is in
//! the runtime's: so a short-lived process makes it, which the others there see as they will see init.

use core::ffi::CStr;
use std::os::fd::{AsFd, OwnedFd};

use super::link::{self, Failure, Report, StepIndex};
use crate::container::rootfs::mount::Mount;
use crate::sys::path::RootFd;
use crate::sys::process::{self, Child, Cloned};
use crate::sys::{Errno, Fault, Text, command_line, file, proc_self, signal};

/// How long its maker may take, in milliseconds: the others can stop it.
const PATIENCE: u32 = 10_000;

/// The detached mount. Its maker has `root` for its root, as the caller has it for the time of the clone.
pub fn make(mount: &Mount, root: &RootFd, step: StepIndex) -> Result<OwnedFd, Fault> {
    let (ours, theirs) = link::pair()?;
    let before = file::open_directory(c"/")?;
    file::enter(root.as_fd())?;
    file::chroot_here()?;
    title(c"ocirt:procfs")?;
    let maker = match process::clone_process(0, None) {
        Ok(Cloned::Child) => {
            drop((ours, before));
            let told = process::die_with_parent().map_err(Fault::from).and_then(|()| mount.make());
            let told = match &told {
                Ok(made) => theirs.report_made(made.as_fd()),
                Err(fault) => theirs.report(&Report::Failed(Failure::new(step, fault))),
            };
            process::exit_now(i32::from(told.is_err()))
        }
        Ok(Cloned::Runtime(maker)) => Ok(maker),
        Err(error) => Err(error),
    };
    file::enter(before.as_fd())?;
    file::chroot_here()?;
    title(c"ocirt:init")?;
    let maker = maker?;
    drop(theirs);
    let made = receive(&ours);
    end(&maker);
    made
}

fn title(name: &CStr) -> Result<(), Fault> {
    command_line::set(name);
    Ok(proc_self::set_name(name)?)
}

fn receive(ours: &link::RuntimeEnd) -> Result<OwnedFd, Fault> {
    let [has_spoken] = process::poll([ours.as_fd()], Some(PATIENCE))?;
    if !has_spoken {
        return Err(Fault::new("poll", Errno::ETIMEDOUT, "did a process of the joined pid namespace stop its maker?"));
    }
    match ours.report_with_descriptor()? {
        Some((Report::Made, Some(mount))) => Ok(mount),
        Some((Report::Failed(failure), _)) => {
            let mut detail = Text::default();
            for part in [failure.call.as_bytes(), b" ", failure.detail.as_bytes()] {
                detail.push(part);
            }
            Err(Fault { call: "in the joined pid namespace", errno: failure.errno, detail })
        }
        _ => Err(Fault::new("clone3", Errno::ECHILD, "its maker in the joined pid namespace was killed")),
    }
}

/// Kills it, whatever it does, and reaps it.
fn end(maker: &Child) {
    // Both fail only if it has ended and is reaped.
    let _ = process::pidfd_send_signal(maker.pidfd.as_fd(), signal::KILL);
    let _ = process::wait(maker.pidfd.as_fd());
}
