//! Self-protection (CVE-2019-5736): a process that enters a container must not expose a writable host binary as
//! /proc/PID/exe, or a container started from `#!/proc/self/exe` could overwrite the runtime.
//!
//! So the commands that enter a container first replace themselves by the same binary seen through a read-only mount
//! of its own, detached from every mount namespace: nobody can remount it, and opening it for writing is EROFS.
//! Where no such mount can be made (no CAP_SYS_ADMIN, a binary on a foreign mount namespace), a sealed copy in memory
//! serves, or, where no file in memory may be executed, one without a name. See docs/decisions/0001-self-protection.md.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};

use crate::lifecycle::host::Host;
use crate::sys::program::Strings;
use crate::sys::{self, binary};

/// Runs this process from a binary that the container cannot write. Returns only in a protected process.
///
/// Skipped where the binary is read-only already: on a read-only file system, or after the replacement. And for an
/// ordinary user whose runtime is a file of root's that nobody else may write: what runs in his container has his own
/// id and those that root gave to him, so it could open that file for writing no more than he could. He could not make
/// the clone either, and the copy costs a millisecond for each command.
pub fn enter() -> Result<()> {
    enter_after(|| {})
}

/// As [`enter`], in a process whose umask is no longer its caller's: the replacement has to find that one.
pub fn ensure(host: &Host) -> Result<()> {
    enter_after(|| {
        sys::credentials::set_umask(host.umask);
    })
}

/// `last` is done in the process that is replaced.
fn enter_after(last: impl FnOnce()) -> Result<()> {
    let own = binary::open_own().context("self-protection: open /proc/self/exe")?;
    let out_of_reach = sys::ids::effective_uid() != 0 && binary::is_roots_alone(own.as_fd())?;
    if out_of_reach || binary::is_read_only(own.as_fd()).context("self-protection")? {
        return Ok(());
    }
    let read_only = clone_or_copy(own).context("self-protection")?;
    let (arguments, environment) = (Strings::of_arguments(), Strings::of_environment());
    last();
    Err(sys::process::exec_descriptor(read_only.as_fd(), &arguments, &environment)).context("self-protection")
}

fn clone_or_copy(own: OwnedFd) -> std::result::Result<OwnedFd, sys::Fault> {
    binary::read_only_clone(own.as_fd()).or_else(|_| binary::private_copy())
}
