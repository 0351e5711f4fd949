//! Waits for init that a signal can end. `run` and `restore` block all signals until they have a container to pass them on to;
//! an init that hangs, as in a file system that does not answer, must not make them deaf.

use std::os::fd::AsFd;

use anyhow::{Context, Result, bail};

use crate::init::link::RuntimeEnd;
use crate::sys::{process, signal};

/// How often to look for a signal, in milliseconds: so long init may still take to go on.
const LOOK: u32 = 1000;

/// Waits until init speaks, or has ended; false, if it has done neither for `timeout` milliseconds. A signal that asks for an
/// end is an error, and stays pending: if init speaks first, it is for the container.
pub fn until_spoken(link: &RuntimeEnd, timeout: Option<u32>) -> Result<bool> {
    let mut left = timeout;
    loop {
        let slice = left.map_or(LOOK, |left| left.min(LOOK));
        let [has_spoken] = process::poll([link.as_fd()], Some(slice)).context("report of init")?;
        if has_spoken {
            return Ok(true);
        }
        if let Some(number) = signal::pending_end().context("signals")? {
            bail!("signal {number} came while init was set up, and it did not go on");
        }
        left = match left.map(|left| left - slice) {
            Some(0) => return Ok(false),
            left => left,
        };
    }
}
