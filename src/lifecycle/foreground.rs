//! Staying with a container in the foreground: signals go in, its terminal comes out, its exit status comes back.

use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};

use crate::sys::process::{self, Child, Exit};
use crate::sys::signal::{self, Signals};
use crate::sys::{Errno, socket, terminal};

/// Our own terminal joined to the container's.
pub struct Terminal {
    container: OwnedFd,
    /// How our terminal was before it was made raw; restored on drop.
    _raw: Option<terminal::Raw>,
    input_open: bool,
}

impl Terminal {
    /// Receives the container's terminal from init, which has sent it before it was ready, and makes ours raw.
    pub fn receive(socket: OwnedFd) -> Result<Self> {
        let mut name = [0; 4096];
        let [container, ..] = socket::receive(socket.as_fd(), &mut name).context("terminal of init")?.fds;
        let container = container.context("process.terminal: init sent no terminal")?;
        let raw = terminal::make_raw(std::io::stdin().as_fd()).context("terminal")?;
        if raw.is_some() {
            terminal::copy_size(std::io::stdin().as_fd(), container.as_fd()).context("terminal size")?;
        }
        Ok(Self { container, _raw: raw, input_open: true })
    }

    /// Passes on what has come from one side to the other.
    fn pump(&mut self, input: bool, output: bool) -> Result<bool> {
        if input && !terminal::copy_some(std::io::stdin().as_fd(), self.container.as_fd())? {
            self.input_open = false;
        }
        if output {
            return Ok(terminal::copy_some(self.container.as_fd(), std::io::stdout().as_fd())?);
        }
        Ok(true)
    }
}

/// Stays until `child` ends: forwards signals, relays the terminal, and reaps orphans that are given to us.
pub fn follow(child: &Child, signals: &Signals, mut terminal: Option<Terminal>) -> Result<Exit> {
    loop {
        let events = wait_for_events(child, signals, terminal.as_ref())?;
        if let Some(relay) = &mut terminal
            && !relay.pump(events.input, events.output)?
        {
            terminal = None;
        }
        while let Some(number) = signals.next()? {
            forward(child, number, terminal.as_ref())?;
        }
        if events.ended {
            if let Some(relay) = &mut terminal {
                while process::poll([relay.container.as_fd()], Some(0))?[0] && relay.pump(false, true)? {}
            }
            return Ok(process::wait(child.pidfd.as_fd())?);
        }
    }
}

struct Events {
    ended: bool,
    input: bool,
    output: bool,
}

fn wait_for_events(child: &Child, signals: &Signals, terminal: Option<&Terminal>) -> Result<Events> {
    let (pidfd, signals) = (child.pidfd.as_fd(), signals.as_fd());
    let stdin = std::io::stdin();
    let events = match terminal {
        Some(relay) if relay.input_open => {
            let [ended, _, output, input] =
                process::poll([pidfd, signals, relay.container.as_fd(), stdin.as_fd()], None)?;
            Events { ended, input, output }
        }
        Some(relay) => {
            let [ended, _, output] = process::poll([pidfd, signals, relay.container.as_fd()], None)?;
            Events { ended, input: false, output }
        }
        None => {
            let [ended, _] = process::poll([pidfd, signals], None)?;
            Events { ended, input: false, output: false }
        }
    };
    Ok(events)
}

/// Passes a signal on to the container, but for those that are about ourselves.
fn forward(child: &Child, number: i32, terminal: Option<&Terminal>) -> Result<()> {
    match number {
        signal::CHLD => reap_orphans(child),
        // The Go runtime of some callers sends itself this one.
        signal::URG => Ok(()),
        signal::WINCH => match terminal {
            Some(relay) => Ok(terminal::copy_size(std::io::stdin().as_fd(), relay.container.as_fd())?),
            None => Ok(()),
        },
        _ => match process::pidfd_send_signal(child.pidfd.as_fd(), number) {
            Err(error) if error.errno != Errno::ESRCH => Err(error).with_context(|| format!("forward signal {number}")),
            _ => Ok(()),
        },
    }
}

/// Reaps what ended and is not init: orphans of the container that were given to us, the subreaper.
fn reap_orphans(child: &Child) -> Result<()> {
    while let Some(pid) = process::ended_child()? {
        if pid == child.pid {
            break;
        }
        process::reap(pid)?;
    }
    Ok(())
}
