//! Staying with a container in the foreground: signals go in, its terminal comes out, its exit status comes back.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::supervisor::Relay;
use crate::error::field;
use crate::lifecycle::host::Host;
use crate::sys::exit::Exit;
use crate::sys::process::{self, Child, Ready};
use crate::sys::signal::{self, Signals};
use crate::sys::terminal::{self, Flow};
use crate::sys::{Errno, socket, tty};

/// How often the terminal is read once more after the container's end: what init wrote has to come out, what others
/// of a shared pid namespace go on writing has not.
const LAST_READS: usize = 64;
/// How long a killed process may take to end, in milliseconds.
const KILL_GRACE: u32 = 10_000;

/// How long a process that traces the container's may keep its end from us, unless a signal asks for our end, and how
/// often we look, in milliseconds.
const TRACED_TIMEOUT: Duration = Duration::from_secs(10);
const TRACED_EVERY: u32 = 20;
const KEPT: &str = "the process has ended, but another one traces it and does not let its parent see how (ptrace(2))";

/// Our own terminal joined to the container's.
pub struct Terminal {
    container: OwnedFd,
    /// How our terminal was before it was made raw; restored on drop.
    _raw: Option<terminal::Raw>,
    input: Flow,
    output: Flow,
    input_open: bool,
    end: Option<EndOfInput>,
}

/// Tells the container that there is no more input, again and again: a program may read more than once, and loses what
/// comes before it changes the terminal's mode, as shells do (termios(3), ICANON). Each time the pause is longer.
struct EndOfInput {
    next: Instant,
    pause: Duration,
}

impl EndOfInput {
    const FIRST: Duration = Duration::from_millis(20);
    const LONGEST: Duration = Duration::from_secs(1);

    fn begin() -> Self {
        Self { next: Instant::now(), pause: Self::FIRST }
    }

    /// How long until it is to be told, in milliseconds.
    fn due_in(&self) -> u32 {
        let left = self.next.saturating_duration_since(Instant::now()).as_millis();
        u32::try_from(left).unwrap_or(u32::MAX)
    }

    /// Writes the character that ends the input, once the pause is over. Where there is none, or no room for it, the program
    /// does not read.
    fn tell(&mut self, terminal: BorrowedFd) {
        if Instant::now() < self.next {
            return;
        }
        if let Ok(Some(end)) = tty::end_character(terminal) {
            let _ = terminal::write_some(terminal, &[end]);
        }
        self.next = Instant::now() + self.pause;
        self.pause = (self.pause * 2).min(Self::LONGEST);
    }
}

impl Terminal {
    /// Receives the container's terminal from init, which has sent it before it was ready, and makes ours raw.
    pub fn receive(socket: OwnedFd) -> Result<Self> {
        let mut name = [0; 4096];
        let [container, ..] = socket::receive(socket.as_fd(), &mut name).context("terminal of init")?.fds;
        let container = container.context(field!("process.terminal"; "init sent no terminal"))?;
        terminal::set_nonblocking(container.as_fd()).context("terminal of init")?;
        let raw = terminal::make_raw(std::io::stdin().as_fd()).context("terminal")?;
        if raw.is_some() {
            terminal::copy_size(std::io::stdin().as_fd(), container.as_fd()).context("terminal size")?;
        }
        Ok(Self { container, _raw: raw, input: Flow::default(), output: Flow::default(), input_open: true, end: None })
    }

    /// Passes on what can be, once it is known that input and output can go on. False when the terminal is of no more
    /// use: nobody in the container has it open, or nobody reads ours. Its end is then the container's hangup.
    fn pump(&mut self, input: bool, output: bool) -> bool {
        if input && self.input.is_pending() {
            // Nobody is there to read it; the output tells the end.
            self.input_open = self.input.drain(self.container.as_fd()).is_ok();
        } else if input {
            self.input_open = self.input.fill(std::io::stdin().as_fd()).unwrap_or(false);
            if !self.input_open {
                self.end = Some(EndOfInput::begin());
            }
        }
        if let Some(end) = &mut self.end {
            end.tell(self.container.as_fd());
        }
        match output {
            true if self.output.is_pending() => self.output.drain(std::io::stdout().as_fd()).is_ok(),
            true => self.output.fill(self.container.as_fd()).unwrap_or(false),
            false => true,
        }
    }

    /// What the input waits for, and what the output waits for.
    fn wants<'a>(&'a self, stdin: BorrowedFd<'a>, stdout: BorrowedFd<'a>) -> [Option<(BorrowedFd<'a>, Ready)>; 2] {
        let container = self.container.as_fd();
        let input = if self.input.is_pending() { (container, Ready::Write) } else { (stdin, Ready::Read) };
        let output = if self.output.is_pending() { (stdout, Ready::Write) } else { (container, Ready::Read) };
        [self.input_open.then_some(input), Some(output)]
    }

    /// Brings out what is still in the terminal.
    fn finish(&mut self) -> Result<()> {
        let stdout = std::io::stdout();
        for _ in 0..LAST_READS {
            while self.output.is_pending() {
                process::poll_for([Some((stdout.as_fd(), Ready::Write))], None)?;
                if !self.pump(false, true) {
                    return Ok(());
                }
            }
            if !process::poll([self.container.as_fd()], Some(0))?[0] || !self.pump(false, true) {
                break;
            }
        }
        Ok(())
    }
}

/// The wait for its end.
pub const RUNS: &str = "wait for the program to end";

/// Stays until `child` ends: forwards signals, relays the terminal, and reaps orphans that are given to us. After an error
/// it has been ended as well: nobody would be there for it.
/// `relay` tells a supervisor what the container says.
pub fn follow(
    host: &Host,
    child: &Child,
    signals: &Signals,
    terminal: Option<Terminal>,
    relay: Option<Relay>,
) -> Result<Exit> {
    let exit = stay(host, child, signals, terminal, relay);
    if exit.is_err() {
        let pidfd = child.pidfd.as_fd();
        // All fail only if it has ended and is reaped; and the first error is the one to tell.
        let _ = process::pidfd_send_signal(pidfd, signal::KILL);
        if process::ends_within(pidfd, KILL_GRACE) == Ok(true) {
            let _ = process::try_wait(pidfd);
        }
    }
    exit
}

/// Says what nobody else does of a program that its filter ended: a shell prints "Bad system call", and runs on.
pub fn explain(host: &Host, exit: &Exit, has_filter: bool) {
    if has_filter && *exit == Exit::Signal(signal::SYS) {
        host.log
            .warn("linux.seccomp: the filter ended the program (SIGSYS): the profile kills for a call that it made");
    }
}

fn stay(
    host: &Host,
    child: &Child,
    signals: &Signals,
    mut terminal: Option<Terminal>,
    mut supervised: Option<Relay>,
) -> Result<Exit> {
    let (stdin, stdout) = (std::io::stdin(), std::io::stdout());
    loop {
        let wants = terminal.as_ref().map_or([None, None], |relay| relay.wants(stdin.as_fd(), stdout.as_fd()));
        let [input_wants, output_wants] = wants;
        let [child_wants, signals_want] = [child.pidfd.as_fd(), signals.as_fd()].map(|fd| Some((fd, Ready::Read)));
        let due_in = terminal.as_ref().and_then(|relay| relay.end.as_ref()).map(EndOfInput::due_in);
        let (told, pause) = supervised.as_ref().map_or((None, None), Relay::wants);
        let told = told.map(|fd| (fd, Ready::Read));
        let timeout = due_in.into_iter().chain(pause).min();
        let [ended, _, input, output, tells] =
            process::poll_for([child_wants, signals_want, input_wants, output_wants, told], timeout)?;
        if let Some(relay) = supervised.as_mut().filter(|_| tells) {
            relay.pass();
        }
        if let Some(relay) = &mut terminal
            && !relay.pump(input, output)
        {
            terminal = None;
        }
        // Signals that came with the end are for us: the process hears them no more.
        if ended {
            if let Some(relay) = &mut terminal {
                relay.finish()?;
            }
            return reap(child, signals);
        }
        while let Some(number) = signals.next()? {
            if let Some(relay) = supervised.as_mut().filter(|_| signal::asks_to_end(number)) {
                relay.end();
            }
            forward(host, child, number, terminal.as_ref())?;
        }
    }
}

/// How `child`, which has ended, has ended. A process that traces it may keep that from us.
fn reap(child: &Child, signals: &Signals) -> Result<Exit> {
    let begun = Instant::now();
    loop {
        if let Some(exit) = process::try_wait(child.pidfd.as_fd())? {
            return Ok(exit);
        }
        ensure!(begun.elapsed() < TRACED_TIMEOUT, "{KEPT}");
        process::poll([signals.as_fd()], Some(TRACED_EVERY))?;
        while let Some(number) = signals.next()? {
            ensure!(!signal::asks_to_end(number), "{KEPT}");
        }
    }
}

/// Passes on what came before the program ran.
pub fn forward_early(host: &Host, child: &Child, numbers: &[i32], terminal: Option<&Terminal>) -> Result<()> {
    numbers.iter().try_for_each(|number| forward(host, child, *number, terminal))
}

/// Passes a signal on to the container, but for those that are about ourselves. One that the kernel does not take, as
/// when too many are queued, is a warning: the container goes on.
fn forward(host: &Host, child: &Child, number: i32, terminal: Option<&Terminal>) -> Result<()> {
    match number {
        signal::CHLD => reap_orphans(child),
        // The Go runtime of some callers sends itself this one.
        signal::URG => Ok(()),
        signal::WINCH => match terminal {
            // Without a terminal of ours, or after its hangup, there is no size to pass on.
            Some(relay) => {
                let _ = terminal::copy_size(std::io::stdin().as_fd(), relay.container.as_fd());
                Ok(())
            }
            None => Ok(()),
        },
        _ => {
            match process::pidfd_send_signal(child.pidfd.as_fd(), number) {
                Err(error) if error.errno != Errno::ESRCH => {
                    host.log.warn(&format!("forward signal {number}: {error}"));
                }
                _ => {}
            }
            Ok(())
        }
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
