//! What systemd, or another supervisor of the runtime, has for the service that it starts, and what it wants to hear:
//! the descriptors of LISTEN_FDS (sd_listen_fds(3)), and READY=1 at NOTIFY_SOCKET (sd_notify(3)).
//!
//! The program gets a socket of its own, and the runtime passes on what is about the service alone. The supervisor's
//! socket itself stays outside: with it, the container could name any process of the host as the service's, or have
//! descriptors kept.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::process::id;
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use crate::error::{io_error, one_line};
use crate::lifecycle::disk::identity::Identity;
use crate::lifecycle::host::Host;
use crate::plan::Listening;
use crate::sys::process;
use crate::sys::{self, socket};

/// How long the supervisor may take to read what it was told, or to have acted on it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// What a container may tell of itself. MAINPID, FDSTORE, NOTIFYACCESS and their like are about the host's processes.
const PASSED_ON: [&str; 8] =
    ["READY", "STATUS", "ERRNO", "RELOADING", "MONOTONIC_USEC", "STOPPING", "WATCHDOG", "EXTEND_TIMEOUT_USEC"];

/// The most messages that are passed on before the runtime looks at something else.
const MESSAGES: usize = 16;

/// What a supervisor has put into the runtime's environment.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Supervision {
    /// Whether it waits at NOTIFY_SOCKET.
    pub notify: bool,
    /// Descriptors from 3 on.
    pub listening: Option<Listening>,
}

impl Supervision {
    pub fn of_environment() -> Result<Self> {
        let variable = |name| std::env::var_os(name).and_then(|value| value.into_string().ok());
        let (count, pid) = (variable("LISTEN_FDS"), variable("LISTEN_PID"));
        // With another pid they are not for us, but for the one that has started us.
        let is_ours = pid.is_some_and(|pid| pid.parse() == Ok(id()));
        let listening = match count.filter(|_| is_ours) {
            Some(count) => listening(&count, variable("LISTEN_FDNAMES"))?,
            None => None,
        };
        Ok(Self { notify: address().is_some(), listening })
    }
}

fn listening(count: &str, names: Option<String>) -> Result<Option<Listening>> {
    let count: u32 = count.parse().ok().with_context(|| format!("LISTEN_FDS={count}: not a number of descriptors"))?;
    for fd in 3..count.saturating_add(3) {
        ensure!(sys::proc_self::is_passed_on(fd), "LISTEN_FDS={count}: descriptor {fd} is not open");
    }
    Ok((count > 0).then_some(Listening { count, names }))
}

fn address() -> Option<SocketAddr> {
    let text = std::env::var_os("NOTIFY_SOCKET")?.into_string().ok()?;
    match text.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name).ok(),
        None if text.starts_with('/') => SocketAddr::from_pathname(text).ok(),
        // vsock: is about a machine's own supervisor.
        None => None,
    }
}

/// What passes a container's messages on.
pub struct Relay<'a> {
    host: &'a Host<'a>,
    supervisor: SocketAddr,
    container: UnixDatagram,
    /// Whose end is the service's end.
    main: u32,
    is_ready: bool,
}

impl<'a> Relay<'a> {
    /// `container` is the socket that init has sent; `main` is the process whose end is the service's end. None: nobody
    /// waits at NOTIFY_SOCKET.
    pub fn new(host: &'a Host, container: Option<OwnedFd>, main: impl FnOnce() -> u32) -> Result<Option<Self>> {
        let (Some(container), Some(supervisor)) = (container.map(UnixDatagram::from), address()) else {
            return Ok(None);
        };
        container.set_nonblocking(true).map_err(|error| io_error("fcntl", &error)).context("NOTIFY_SOCKET")?;
        Ok(Some(Self { host, supervisor, container, main: main(), is_ready: false }))
    }

    /// Passes on what has come. That it cannot be is a warning: the container goes on.
    pub fn pass(&mut self) {
        let mut buffer = [0; 4096];
        for _ in 0..MESSAGES {
            // Descriptors that came along are closed by the kernel: whoever waits for that waits no longer.
            match self.container.recv(&mut buffer) {
                Ok(length) => self.pass_one(buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => break,
            }
        }
    }

    fn pass_one(&mut self, message: &[u8]) {
        let message = passed_on(message, self.main);
        if message.is_empty() {
            return;
        }
        self.is_ready |= message.lines().any(|line| line == "READY=1");
        if let Err(error) = self.tell(message.as_bytes(), &[]) {
            self.host.log.warn(&format!("NOTIFY_SOCKET: {error}"));
        }
    }

    fn tell(&self, message: &[u8], fds: &[BorrowedFd]) -> sys::Result<()> {
        let failed = |call| move |error| io_error(call, &error);
        let socket = UnixDatagram::unbound().map_err(failed("socket"))?;
        socket.set_write_timeout(Some(TIMEOUT)).map_err(failed("setsockopt"))?;
        socket.connect_addr(&self.supervisor).map_err(failed("connect"))?;
        socket::send(socket.as_fd(), message, fds)
    }

    /// Passes on until the container has said READY=1, or has ended. Then the supervisor has acted on it: it could not
    /// tell any more where the words came from once we have ended.
    fn until_ready(mut self, pidfd: BorrowedFd) -> Result<()> {
        while !self.is_ready {
            let [has_spoken, ended] = process::poll([self.container.as_fd(), pidfd], None)?;
            if has_spoken {
                self.pass();
            } else if ended {
                return Ok(());
            }
        }
        if let Err(error) = self.barrier() {
            self.host.log.warn(&format!("NOTIFY_SOCKET: {}", one_line(&error)));
        }
        Ok(())
    }

    /// sd_notify_barrier(3): the supervisor closes the descriptor when it has come to this message.
    fn barrier(&self) -> Result<()> {
        let (reader, writer) = io::pipe().map_err(|error| io_error("pipe2", &error))?;
        self.tell(b"BARRIER=1", &[writer.as_fd()])?;
        drop(writer);
        let milliseconds = u32::try_from(TIMEOUT.as_millis()).unwrap_or(u32::MAX);
        let [is_done] = process::poll([reader.as_fd()], Some(milliseconds))?;
        ensure!(is_done, "nobody has read it within {} s", TIMEOUT.as_secs());
        Ok(())
    }
}

/// Passes on what a container that was started tells, until it is ready or has ended: it goes on without us.
pub fn follow(host: &Host, container: Option<OwnedFd>, init: Identity) -> Result<()> {
    let Some(relay) = Relay::new(host, container, || init.pid.cast_unsigned())? else { return Ok(()) };
    let Some(pidfd) = init.open()? else { return Ok(()) };
    relay.until_ready(pidfd.as_fd())
}

impl AsFd for Relay<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.container.as_fd()
    }
}

/// The lines of a container's message that are passed on. That it is ready goes with the pid of the service's process:
/// the supervisor may have taken another for it, such as the shell that has started the runtime.
fn passed_on(message: &[u8], main: u32) -> String {
    let Ok(text) = std::str::from_utf8(message) else { return String::new() };
    let is_known = |line: &&str| line.split_once('=').is_some_and(|(name, _)| PASSED_ON.contains(&name));
    let mut lines: Vec<String> = text.lines().filter(is_known).map(str::to_owned).collect();
    if lines.iter().any(|line| line == "READY=1") {
        lines.push(format!("MAINPID={main}"));
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_about_the_service_is_passed_on() {
        let passed = |text: &str| passed_on(text.as_bytes(), 7);
        assert_eq!(passed("STATUS=a=b\nREADY=1\nFDSTORE=1"), "STATUS=a=b\nREADY=1\nMAINPID=7");
        assert_eq!(passed("MAINPID=1\nNOTIFYACCESS=all\nBARRIER=1\nX_READY=1\nREADY\n"), "");
        assert_eq!(passed("WATCHDOG=1\n"), "WATCHDOG=1");
        assert_eq!(passed("READY=0"), "READY=0");
        assert_eq!(passed_on(b"READY=1\n\xff", 7), "");
    }

    #[test]
    fn a_number_of_descriptors_is_one() {
        assert_eq!(listening("0", None).unwrap(), None);
        for junk in ["", "x", "-1", "4294967296"] {
            let error = listening(junk, None).unwrap_err().to_string();
            assert!(error.starts_with("LISTEN_FDS="), "{error}");
        }
        let error = listening("900", None).unwrap_err().to_string();
        assert!(error.starts_with("LISTEN_FDS=900: descriptor "), "{error}");
    }
}
