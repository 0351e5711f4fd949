//! config.json's `hooks`: programs that the runtime starts at fixed points of a container's life, with the container's
//! state on their standard input (runtime-spec, config.md "POSIX-platform Hooks").
//!
//! prestart, createRuntime, poststart and poststop run as children of the runtime; createContainer and startContainer
//! run as children of init, in the container's namespaces.

use std::ffi::{CStr, CString};
use std::fmt;
use std::fs::OpenOptions;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use oci_spec::runtime;

use crate::error::field;
use crate::sys::process::{self, Exit, Open};
use crate::sys::program::Strings;
use crate::sys::{Errno, Fault, SysError, signal, socket};

/// How long a hook that was killed for its timeout may take to disappear, in milliseconds.
const KILL_GRACE: u32 = 10_000;

/// The exit status of a child that could not become the hook's program.
const NOT_STARTED: i32 = 127;

/// The name of a file for what a hook says on standard error, and how much of it an error has, in bytes.
const KEPT: &CStr = c"ocirt:hook-stderr";
const SAID: usize = 4096;

/// One hook, ready to be started from either side.
#[derive(Debug)]
pub struct Hook {
    /// The place in config.json, e.g. `hooks.prestart[0]`.
    pub field: String,
    path: CString,
    arguments: Strings,
    environment: Strings,
    /// Milliseconds; `None`: the hook takes as long as it takes.
    timeout: Option<u32>,
}

/// Where hooks write, if not nowhere: open files of the host.
#[derive(Debug, Default)]
pub struct Output {
    pub stdout: Option<OwnedFd>,
    pub stderr: Option<OwnedFd>,
    /// Whether `stderr` is a file of ours, for the error of a hook that fails.
    is_kept: bool,
}

impl Output {
    /// Opens the files, at their ends; what is not there is made, for its owner alone.
    pub fn open(stdout: Option<&Path>, stderr: Option<&Path>) -> Result<Self> {
        let open = |path: Option<&Path>, stream: &str| {
            let open = |path: &Path| {
                let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path);
                let file = file.map_err(|error| SysError::io("open", &error));
                file.with_context(|| field!("annotations.run.oci.hooks.{stream}"; "{}", path.display()))
            };
            path.map(|path| open(path).map(OwnedFd::from)).transpose()
        };
        Ok(Self { stdout: open(stdout, "stdout")?, stderr: open(stderr, "stderr")?, is_kept: false })
    }

    /// The same for hooks that init runs: their nowhere is the host's /dev/null, and what they say on standard error is
    /// kept for the runtime.
    pub fn for_init(self) -> Result<Self> {
        let is_kept = self.stderr.is_none();
        let null = || OpenOptions::new().write(true).open("/dev/null").context("/dev/null").map(OwnedFd::from);
        let stdout = self.stdout.map_or_else(null, Ok)?;
        let stderr = self.stderr.map_or_else(|| socket::sealable_file(KEPT), Ok)?;
        Ok(Self { stdout: Some(stdout), stderr: Some(stderr), is_kept })
    }

    /// What is kept of the last hook.
    pub fn kept(&self) -> Option<BorrowedFd<'_>> {
        self.stderr.as_ref().filter(|_| self.is_kept).map(AsFd::as_fd)
    }

    fn streams(&self) -> [Option<BorrowedFd<'_>>; 2] {
        [&self.stdout, &self.stderr].map(|stream| stream.as_ref().map(AsFd::as_fd))
    }
}

/// Whether a hook that init runs is under the container's seccomp filter, and init with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Confinement {
    None,
    Filter,
}

impl Confinement {
    /// What keeps init from running a hook.
    pub fn explain(self, error: SysError) -> Fault {
        Fault::new(error.call, error.errno, self.hint("does linux.seccomp allow it to run hooks?"))
    }

    /// What is added to an error that a filter may be the reason for.
    fn hint(self, words: &'static str) -> &'static str {
        if self == Self::Filter { words } else { "" }
    }
}

/// Prepares the hooks of one list; `list` is its name in config.json, e.g. `prestart`.
pub fn compile(list: &str, hooks: &[runtime::Hook]) -> Result<Vec<Hook>> {
    hooks.iter().enumerate().map(|(index, hook)| compile_one(format!("hooks.{list}[{index}]"), hook)).collect()
}

fn compile_one(field: String, hook: &runtime::Hook) -> Result<Hook> {
    let c_string = |what: &str, text: &str| {
        CString::new(text).with_context(|| field!("{field}.{what}"; "{text:?} holds a NUL byte"))
    };
    let path = hook.path().to_str().with_context(|| field!("{field}.path"; "not UTF-8"))?;
    let path = c_string("path", path)?;
    let arguments = match hook.args().as_deref() {
        None | Some([]) => vec![path.clone()],
        Some(args) => args.iter().map(|arg| c_string("args", arg)).collect::<Result<_>>()?,
    };
    let environment = hook.env().iter().flatten().map(|variable| c_string("env", variable)).collect::<Result<_>>()?;
    let timeout = match hook.timeout() {
        None => None,
        Some(seconds) if seconds > 0 => Some(u32::try_from(seconds.saturating_mul(1000)).unwrap_or(u32::MAX)),
        Some(seconds) => bail!(field!("{field}.timeout"; "{seconds} is not greater than zero")),
    };
    let (arguments, environment) = (Strings::new(arguments, 0), Strings::new(environment, 0));
    Ok(Hook { field, path, arguments, environment, timeout })
}

impl Hook {
    /// Runs the hook as a child of the runtime, with `state` on its standard input, and waits for it.
    ///
    /// An error says how the hook ended and what it last wrote to standard error.
    pub fn run(&self, state: &[u8], directory: &Path, output: &Output) -> Result<()> {
        use std::os::unix::ffi::OsStrExt;
        let os = |text: &CStr| std::ffi::OsStr::from_bytes(text.to_bytes()).to_owned();
        let mut command = Command::new(os(&self.path));
        let mut arguments = self.arguments.iter().map(os);
        if let Some(name) = arguments.next() {
            command.arg0(name);
        }
        command.args(arguments).env_clear().current_dir(directory);
        for variable in self.environment.iter() {
            let text = variable.to_bytes();
            let mut parts = text.splitn(2, |byte| *byte == b'=');
            let (name, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
            command.env(std::ffi::OsStr::from_bytes(name), std::ffi::OsStr::from_bytes(value));
        }
        let errors = socket::sealable_file(KEPT)?;
        let [stdout, stderr] = [&output.stdout, &output.stderr].map(|stream| stream.as_ref().map(OwnedFd::try_clone));
        command.stdin(Stdio::piped()).stdout(stdout.transpose()?.map_or_else(Stdio::null, Stdio::from));
        command.stderr(match stderr.transpose()? {
            Some(file) => Stdio::from(file),
            None => Stdio::from(errors.try_clone()?),
        });
        process::start_as_stranger(&mut command);
        let mut child = command.spawn().with_context(|| self.to_string())?;
        if let Some(mut stdin) = child.stdin.take() {
            // A hook need not read its state: EPIPE is its choice.
            let _ = stdin.write_all(state);
        }
        let pidfd = process::pidfd_open(child.id() as i32)?;
        if self.wait_or_kill(child.id() as i32, pidfd.as_fd())?.is_none() {
            child.wait()?;
            bail!("{self}: timed out after {} s", self.timeout.unwrap_or_default() / 1000);
        }
        let status = child.wait()?;
        if status.success() {
            return Ok(());
        }
        let how = match (status.code(), status.signal()) {
            (Some(code), _) => format!("exit status {code}"),
            (None, signal) => format!("killed by signal {}", signal.unwrap_or_default()),
        };
        match said(errors.as_fd()).as_str() {
            "" => bail!("{self}: {how}"),
            said => bail!("{self}: {how}: {said}"),
        }
    }

    /// Runs the hook as a child of init, with the sealed file `state` as its standard input: at its beginning, as what is
    /// kept of hooks is empty.
    ///
    /// Errors: what kept it from starting; EIO with the status for one that failed; ETIMEDOUT. Where a filter may be the
    /// reason, they say so.
    pub fn apply(
        &self,
        state: BorrowedFd,
        output: &Output,
        confinement: Confinement,
    ) -> core::result::Result<(), Fault> {
        let exit = self.start_and_wait(state, output, confinement).map_err(|error| confinement.explain(error))?;
        let mut fault = Fault::new("hook", Errno::EIO, "");
        let (words, number, hint) = match exit {
            None => return Err(Fault::new("hook", Errno::ETIMEDOUT, "killed after its timeout")),
            Some(Exit::Status(0)) => return Ok(()),
            Some(Exit::Status(status)) if status == NOT_STARTED => {
                ("exit status", status, confinement.hint(", does linux.seccomp let it start?"))
            }
            Some(Exit::Signal(signal)) if signal == signal::SYS => {
                ("killed by signal", signal, confinement.hint(", linux.seccomp forbids what it did"))
            }
            Some(Exit::Status(status)) => ("exit status", status, ""),
            Some(Exit::Signal(signal)) => ("killed by signal", signal, ""),
        };
        let _ = core::fmt::write(&mut fault.detail, format_args!("{words} {number}{hint}"));
        Err(fault)
    }

    /// How the hook ended; `None`: its time was up, and it was killed. A filter that is written for runc lets all of its
    /// calls through: they are what Go makes to start a program.
    fn start_and_wait(
        &self,
        state: BorrowedFd,
        output: &Output,
        confinement: Confinement,
    ) -> crate::sys::Result<Option<Exit>> {
        let open = match confinement {
            Confinement::None => Open::Any,
            // Behind the step that closes descriptors: those that the container's program is to have come first, and all
            // others are close-on-exec.
            Confinement::Filter => Open::First,
        };
        let child = process::spawn(&self.path, &self.arguments, &self.environment, state, output.streams(), open)?;
        let pidfd = child.pidfd.as_fd();
        if self.timeout.is_none() {
            return process::wait_under_a_filter(&child).map(Some);
        }
        let in_time = self.wait_or_kill(child.pid, pidfd);
        if in_time.is_err() {
            // The error that we have is the one to tell.
            let _ = process::kill_child(child.pid, pidfd);
        }
        // Killed or not, it is ours to reap.
        let exit = process::wait_under_a_filter(&child)?;
        in_time.map(|in_time| in_time.map(|()| exit))
    }

    /// Waits for the end of the hook's process, a child; `None` if its time was up and it had to be killed.
    fn wait_or_kill(&self, pid: i32, pidfd: BorrowedFd) -> crate::sys::Result<Option<()>> {
        let [ended] = process::poll([pidfd], self.timeout)?;
        if ended {
            return Ok(Some(()));
        }
        process::kill_child(pid, pidfd)?;
        process::ends_within(pidfd, KILL_GRACE)?;
        Ok(None)
    }
}

/// What a hook said on standard error, from the start of the file that was kept of it: its first 4096 bytes. A hook may be
/// the container's own: nothing of it reaches a terminal but printable text.
pub fn said(file: BorrowedFd) -> String {
    let mut bytes = [0; SAID];
    // It is a help, not the error. What is no file in memory might keep us waiting.
    let length = if socket::is_in_memory(file) { socket::read_from_start(file, &mut bytes) } else { Ok(0) };
    let text = String::from_utf8_lossy(bytes.get(..length.unwrap_or_default()).unwrap_or_default());
    let plain = |c: char| if c.is_control() && c != '\n' { c.escape_default().to_string() } else { c.to_string() };
    text.trim().chars().map(plain).collect()
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hook {}", self.path.to_string_lossy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_hook_said_is_read_from_files_in_memory_only() {
        let kept = socket::sealable_file(KEPT).unwrap();
        let mut file = std::fs::File::from(kept.try_clone().unwrap());
        file.write_all(b" first\nsecond\x1b\xff\n").unwrap();
        assert_eq!(said(kept.as_fd()), "first\nsecond\\u{1b}\u{fffd}");
        socket::empty(kept.as_fd()).unwrap();
        assert_eq!(said(kept.as_fd()), "");
        // On this, a read would wait for ever.
        let (reader, _writer) = std::io::pipe().unwrap();
        assert_eq!(said(reader.as_fd()), "");
    }
}
