//! Why a process that the runtime made cannot go on. What it reported itself is the reason, whatever the runtime noticed
//! first: a broken pipe, a directory in /proc that is gone.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Error, anyhow};

use crate::error::field;
use crate::init::link::RuntimeEnd;
use crate::init::report::{Failure, Report};
use crate::sys::exit::Exit;
use crate::sys::process::{self, Child};
use crate::sys::signal;

/// How long a process may take to end that has closed its end of the link, in milliseconds.
const GRACE: u32 = 2_000;

/// `error`, or what the process at the other end of `link` has reported to have failed, worded by `word` with what came along.
pub fn own_words(link: &RuntimeEnd, word: impl Fn(&Failure, Option<OwnedFd>) -> Error, error: Error) -> Error {
    let has_spoken = process::poll([link.as_fd()], Some(0)).is_ok_and(|[has_spoken]| has_spoken);
    match has_spoken.then(|| link.report_with_descriptor()) {
        Some(Ok(Some((Report::Failed(failure), said)))) => word(&failure, said),
        _ => error,
    }
}

/// Why `child` ended without a word while it did `what`: "init was … while it set the container up". A filter, if it has
/// one, kills by SIGSYS.
pub fn death(child: &Child, who: &str, what: &str, killed: &str, has_filter: bool) -> Error {
    if process::ends_within(child.pidfd.as_fd(), GRACE) == Ok(false) {
        return anyhow!("{who} speaks no more while {what}, but lives on");
    }
    match process::wait(child.pidfd.as_fd()) {
        Ok(Exit::Signal(signal::KILL)) => anyhow!("{who} was killed while {what} ({killed})"),
        Ok(Exit::Signal(signal::SYS)) if has_filter => Error::from(field!(
            "linux.seccomp";
            "the filter ended {who} (SIGSYS) while {what}: the profile kills for a call that the runtime makes once the \
             filter is loaded (with process.noNewPrivileges it is loaded last)"
        )),
        Ok(Exit::Signal(number)) => anyhow!("{who} was ended by signal {number} while {what}"),
        Ok(Exit::Status(status)) => anyhow!("{who} ended with status {status} while {what}"),
        Err(error) => error.into(),
    }
}
