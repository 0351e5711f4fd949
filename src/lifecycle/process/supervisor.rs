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
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::inbox::Inbox;
use crate::error::{io_error, one_line};
use crate::lifecycle::disk::identity::Identity;
use crate::lifecycle::host::Host;
use crate::plan::Listening;
use crate::sys::process::{self, Ready};
use crate::sys::{self, socket};

/// How long the supervisor may take to read what it was told, or to have acted on it.
const TIMEOUT: Duration = Duration::from_secs(10);

/// The most messages that are passed on within [`WINDOW`]: the supervisor is not the container's to keep busy.
const MESSAGES: u32 = 32;
const WINDOW: Duration = Duration::from_secs(1);

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
    container: Inbox,
    /// Whose end is the service's end.
    main: u32,
    is_ready: bool,
    /// Whether the container was told to end: it has no more time to ask for.
    is_ending: bool,
    /// Whether nothing is passed on any more.
    is_over: bool,
    window: Window,
}

/// How many messages came since when.
struct Window {
    begun: Instant,
    count: u32,
}

impl Window {
    /// How long nothing more is taken.
    fn pause(&self) -> Option<Duration> {
        let left = WINDOW.saturating_sub(self.begun.elapsed());
        (self.count >= MESSAGES && !left.is_zero()).then_some(left)
    }

    fn add(&mut self) {
        if self.begun.elapsed() >= WINDOW {
            *self = Self { begun: Instant::now(), count: 0 };
        }
        self.count += 1;
    }
}

impl<'a> Relay<'a> {
    /// `container` is the socket that init has sent; `main` is the process whose end is the service's end. None: nobody
    /// waits at NOTIFY_SOCKET.
    pub fn new(host: &'a Host, container: Option<OwnedFd>, main: impl FnOnce() -> u32) -> Result<Option<Self>> {
        let (Some(container), Some(supervisor)) = (container, address()) else { return Ok(None) };
        Ok(Some(Self {
            host,
            supervisor,
            container: Inbox::new(container).context("NOTIFY_SOCKET")?,
            main: main(),
            is_ready: false,
            is_ending: false,
            is_over: false,
            window: Window { begun: Instant::now(), count: 0 },
        }))
    }

    /// What to wait for before the next [`Self::pass`], or how long nothing is to be waited for, in milliseconds.
    pub fn wants(&self) -> (Option<BorrowedFd<'_>>, Option<u32>) {
        match self.window.pause() {
            _ if self.is_over => (None, None),
            Some(pause) => (None, Some(u32::try_from(pause.as_millis()).unwrap_or(u32::MAX).saturating_add(1))),
            None => (Some(self.container.as_fd()), None),
        }
    }

    /// The container was told to end.
    pub fn end(&mut self) {
        self.is_ending = true;
    }

    /// Passes on what has come. That it cannot be is a warning: the container goes on.
    pub fn pass(&mut self) {
        let mut buffer = [0; 4096];
        while !self.is_over && self.window.pause().is_none() {
            let Some(message) = self.container.peek(&mut buffer) else { break };
            self.window.add();
            self.pass_one(buffer.get(..message.len).unwrap_or_default());
            if let Err(error) = self.container.take(&message) {
                self.leave(&one_line(&error));
            }
        }
    }

    fn leave(&mut self, why: &str) {
        self.is_over = true;
        self.host.log.warn(&format!("NOTIFY_SOCKET: {why}: nothing more of it is passed on"));
    }

    fn pass_one(&mut self, message: &[u8]) {
        let message = passed_on(message, self.main, !self.is_ready && !self.is_ending);
        if message.is_empty() {
            return;
        }
        self.is_ready |= message.lines().any(|line| line == READY);
        if let Err(error) = self.tell(message.as_bytes(), &[]) {
            self.leave(&error.to_string());
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
        while !self.is_ready && !self.is_over {
            let (container, pause) = self.wants();
            let wants = [container, Some(pidfd)].map(|fd| fd.map(|fd| (fd, Ready::Read)));
            let [has_spoken, ended] = process::poll_for(wants, pause)?;
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

const READY: &str = "READY=1";

/// The lines of a container's message that are passed on: what it may tell of itself. MAINPID, FDSTORE, NOTIFYACCESS and
/// their like are about the host's processes, and WATCHDOG=trigger ends one. That it is ready goes with the pid of the
/// service's process: the supervisor may have taken another for it, such as the shell that has started the runtime.
fn passed_on(message: &[u8], main: u32, may_ask_for_time: bool) -> String {
    let Ok(text) = std::str::from_utf8(message) else { return String::new() };
    // systemd ends a line at either.
    let lines = text.split(['\n', '\r']);
    let mut lines: Vec<String> = lines.filter(|line| is_passed_on(line, may_ask_for_time)).map(str::to_owned).collect();
    if lines.iter().any(|line| line == READY) {
        lines.push(format!("MAINPID={main}"));
    }
    lines.join("\n")
}

fn is_passed_on(line: &str, may_ask_for_time: bool) -> bool {
    let is_number = |value: &str| !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    match line.split_once('=') {
        Some(("READY" | "RELOADING" | "STOPPING" | "WATCHDOG", value)) => value == "1",
        // It may be shown on a terminal.
        Some(("STATUS", value)) => !value.contains(char::is_control),
        Some(("ERRNO" | "MONOTONIC_USEC", value)) => is_number(value),
        // As often as it likes, and so for ever, were it not bounded by its start.
        Some(("EXTEND_TIMEOUT_USEC", value)) => may_ask_for_time && is_number(value),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_about_the_service_is_passed_on() {
        let passed = |text: &str| passed_on(text.as_bytes(), 7, true);
        assert_eq!(passed("STATUS=a=b\nREADY=1\nFDSTORE=1"), "STATUS=a=b\nREADY=1\nMAINPID=7");
        assert_eq!(passed("MAINPID=1\nNOTIFYACCESS=all\nBARRIER=1\nX_READY=1\nREADY\n"), "");
        assert_eq!(passed("WATCHDOG=1\n"), "WATCHDOG=1");
        assert_eq!(passed("READY=0\nWATCHDOG=trigger\nERRNO=x\nMONOTONIC_USEC=\nSTOPPING=1 "), "");
        assert_eq!(passed("STATUS=x\rMAINPID=1\rFDSTOREREMOVE=1\r\nERRNO=5"), "STATUS=x\nERRNO=5");
        assert_eq!(passed("STATUS=\u{1b}[2J\nSTATUS=\u{9b}2J\nSTATUS=\u{e9}"), "STATUS=\u{e9}");
        assert_eq!(passed_on(b"READY=1\n\xff", 7, true), "");
        let asked = b"EXTEND_TIMEOUT_USEC=9";
        assert_eq!([true, false].map(|may| passed_on(asked, 7, may).len()), [asked.len(), 0]);
    }

    #[test]
    fn a_container_cannot_keep_the_supervisor_busy() {
        let mut window = Window { begun: Instant::now(), count: 0 };
        (0..MESSAGES).for_each(|_| window.add());
        assert!(window.pause().is_some_and(|pause| pause <= WINDOW));
        window.begun -= WINDOW;
        assert_eq!(window.pause(), None);
        window.add();
        assert_eq!(window.count, 1);
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
