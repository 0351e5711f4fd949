//! config.json's `hooks`: programs that the runtime starts at fixed points of a container's life, with the container's
//! state on their standard input (runtime-spec, config.md "POSIX-platform Hooks").
//!
//! prestart, createRuntime, poststart and poststop run as children of the runtime; createContainer and startContainer
//! run as children of init, in the container's namespaces.

use std::ffi::{CStr, CString};
use std::fmt;
use std::fs::OpenOptions;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::rc::Rc;

use anyhow::{Context, Result, anyhow, bail};
use oci_spec::runtime;

use crate::error::{field, printable};
use crate::sys::exit::Exit;
use crate::sys::external::{ExternalProgram, NOT_STARTED};
use crate::sys::process::Open;
use crate::sys::program::Strings;
use crate::sys::{Fault, SysError, signal, socket, timed_io};

/// The name of a file for the state that a hook reads. A sealed file, and not a pipe: a hook that does not read would
/// keep the runtime waiting in write(2) once the pipe is full.
const STATE: &CStr = c"ocirt:state";

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
    environment: Rc<Strings>,
    /// Milliseconds; `None`: the hook takes as long as it takes.
    timeout: Option<u32>,
    /// Its file mode creation mask; `None`: that of the process that starts it.
    umask: Option<u32>,
}

/// Where hooks write: open files of the host. By default standard output goes nowhere, and what they say on standard
/// error is kept for the error of one that fails.
#[derive(Debug)]
pub struct Output {
    pub stdout: OwnedFd,
    pub stderr: OwnedFd,
    /// Whether `stderr` is a file of ours.
    is_kept: bool,
}

impl Output {
    /// Opens the files, at their ends; what is not there is made, for its owner alone.
    pub fn open(stdout: Option<&Path>, stderr: Option<&Path>) -> Result<Self> {
        let open = |path: &Path, stream: &str| {
            let file = timed_io::append(path, 0o600)
                .and_then(|file| timed_io::let_wait(&file).map(|()| file).map_err(Fault::from));
            file.map(OwnedFd::from).with_context(|| field!("annotations.run.oci.hooks.{stream}"; "{}", path.display()))
        };
        let null = || OpenOptions::new().write(true).open("/dev/null").context("/dev/null").map(OwnedFd::from);
        let is_kept = stderr.is_none();
        let stdout = stdout.map_or_else(null, |path| open(path, "stdout"))?;
        let stderr = stderr.map_or_else(|| Ok(socket::sealable_file(KEPT)?), |path| open(path, "stderr"))?;
        Ok(Self { stdout, stderr, is_kept })
    }

    /// What is kept of the last hook.
    pub fn kept(&self) -> Option<BorrowedFd<'_>> {
        self.is_kept.then(|| self.stderr.as_fd())
    }
}

/// A file with a state for hooks, which all of them read from its beginning.
pub fn state_file(state: &[u8]) -> crate::sys::Result<OwnedFd> {
    socket::sealed_file(STATE, state)
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

/// What a hook gets of those around it where it says nothing itself.
#[derive(Clone, Debug)]
pub enum HookDefaults {
    /// A program of the host: the runtime's environment, and this umask, which is that of the runtime's caller. While the
    /// runtime records spans, `TRACEPARENT=…` says whose span the hook's are below.
    OfRuntime { umask: u32, trace_parent: Option<CString> },
    /// A program of the image: the environment of the container's program, and the umask of the process that starts it.
    OfProgram(Rc<Strings>),
}

/// Prepares the hooks of one list; `list` is its name in config.json, e.g. `prestart`.
pub fn compile(list: &str, hooks: &[runtime::Hook], inherited: &HookDefaults) -> impl Iterator<Item = Result<Hook>> {
    let numbered = hooks.iter().enumerate();
    numbered.map(move |(index, hook)| compile_one(format!("hooks.{list}[{index}]"), hook, inherited))
}

fn compile_one(field: String, hook: &runtime::Hook, inherited: &HookDefaults) -> Result<Hook> {
    let c_string = |what: &str, text: &str| {
        CString::new(text).with_context(|| field!("{field}.{what}"; "{text:?} holds a NUL byte"))
    };
    let path = hook.path().to_str().with_context(|| field!("{field}.path"; "not UTF-8"))?;
    let path = c_string("path", path)?;
    let arguments = match hook.args().as_deref() {
        None | Some([]) => vec![path.clone()],
        Some(args) => args.iter().map(|arg| c_string("args", arg)).collect::<Result<_>>()?,
    };
    // An empty list is one.
    let own: Option<Vec<CString>> = hook
        .env()
        .as_ref()
        .map(|env| env.iter().map(|variable| c_string("env", variable)).collect::<Result<_>>())
        .transpose()?;
    let environment = match (own, inherited) {
        (Some(own), HookDefaults::OfRuntime { trace_parent: Some(parent), .. }) if !own.iter().any(is_trace_parent) => {
            Rc::new(Strings::new([own, vec![parent.clone()]].concat()))
        }
        (Some(own), _) => Rc::new(Strings::new(own)),
        (None, HookDefaults::OfRuntime { trace_parent: Some(parent), .. }) => {
            let callers = Strings::of_environment();
            let others = callers.iter().map(CStr::to_owned).filter(|variable| !is_trace_parent(variable));
            Rc::new(Strings::new(others.chain([parent.clone()]).collect()))
        }
        (None, HookDefaults::OfRuntime { trace_parent: None, .. }) => Rc::new(Strings::of_environment()),
        (None, HookDefaults::OfProgram(environment)) => environment.clone(),
    };
    let umask = match inherited {
        HookDefaults::OfRuntime { umask, .. } => Some(*umask),
        HookDefaults::OfProgram(_) => None,
    };
    let timeout = match hook.timeout() {
        None => None,
        Some(seconds) if seconds > 0 => Some(u32::try_from(seconds.saturating_mul(1000)).unwrap_or(u32::MAX)),
        Some(seconds) => bail!(field!("{field}.timeout"; "{seconds} is not greater than zero")),
    };
    let arguments = Strings::new(arguments);
    Ok(Hook { field, path, arguments, environment, timeout, umask })
}

fn is_trace_parent(variable: &CString) -> bool {
    variable.as_bytes().starts_with(b"TRACEPARENT=")
}

impl Hook {
    /// Runs the hook as a child of the runtime, with `state` on its standard input, and waits for it.
    ///
    /// An error says how the hook ended and what it last wrote to standard error.
    pub fn run(&self, state: &[u8], directory: &Path, output: &Output) -> Result<()> {
        let directory = CString::new(directory.as_os_str().as_bytes())?;
        let state = state_file(state)?;
        output.kept().map_or(Ok(()), socket::empty)?;
        match self.start_and_wait(state.as_fd(), output, Some(&directory), Open::Any) {
            Ok(Some(Exit::Status(0))) => Ok(()),
            Ok(Some(exit)) => match output.kept().map(said).unwrap_or_default().as_str() {
                "" => bail!("{self}: {exit}"),
                said => bail!("{self}: {exit}: {said}"),
            },
            Ok(None) => bail!("{self}: {}", TimedOut(self.timeout)),
            Err(error) => Err(anyhow!(error).context(self.to_string())),
        }
    }

    /// Runs the hook as a child of init, with the sealed file `state` as its standard input: at its beginning, as what is
    /// kept of hooks is empty.
    ///
    /// Errors: what kept it from starting; in words, how it ended, or that its time was up. Where a filter may be the reason,
    /// they say so.
    pub fn apply(
        &self,
        state: BorrowedFd,
        output: &Output,
        confinement: Confinement,
    ) -> core::result::Result<(), Fault> {
        let open = match confinement {
            Confinement::None => Open::Any,
            // Behind the step that closes descriptors: those that the container's program is to have come first, and all
            // others are close-on-exec.
            Confinement::Filter => Open::First,
        };
        let exit = self.start_and_wait(state, output, None, open).map_err(|error| confinement.explain(error))?;
        let (exit, hint) = match exit {
            None => return Err(Fault::in_words(format_args!("{}", TimedOut(self.timeout)))),
            Some(Exit::Status(0)) => return Ok(()),
            Some(exit @ Exit::Status(NOT_STARTED)) => (exit, confinement.hint(", does linux.seccomp let it start?")),
            Some(exit @ Exit::Signal(signal::SYS)) => (exit, confinement.hint(", linux.seccomp forbids what it did")),
            Some(exit) => (exit, ""),
        };
        Err(Fault::in_words(format_args!("{exit}{hint}")))
    }

    /// How the hook ended; `None`: its time was up, and it was killed. `directory` is where it starts, if not where its
    /// maker is.
    fn start_and_wait(
        &self,
        state: BorrowedFd,
        output: &Output,
        directory: Option<&CStr>,
        open: Open,
    ) -> crate::sys::Result<Option<Exit>> {
        let hook = ExternalProgram {
            path: &self.path,
            arguments: &self.arguments,
            environment: &self.environment,
            streams: [state, output.stdout.as_fd(), output.stderr.as_fd()],
            directory,
            umask: self.umask,
            open,
        };
        hook.start()?.wait(self.timeout)
    }
}

/// That the milliseconds of a hook were over.
struct TimedOut(Option<u32>);

impl fmt::Display for TimedOut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "timed out after {} s", self.0.unwrap_or_default() / 1000)
    }
}

/// What a hook said on standard error, from the start of the file that was kept of it: its first 4096 bytes. A hook may be
/// the container's own: nothing of it reaches a terminal but printable text.
pub fn said(file: BorrowedFd) -> String {
    let mut bytes = [0; SAID];
    // It is a help, not the error. What is no file in memory might keep us waiting.
    let length = if socket::is_in_memory(file) { socket::read_from_start(file, &mut bytes) } else { Ok(0) };
    let text = String::from_utf8_lossy(bytes.get(..length.unwrap_or_default()).unwrap_or_default());
    text.trim().split('\n').map(printable).collect::<Vec<_>>().join("\n")
}

impl fmt::Display for Hook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "hook {}", self.path.to_string_lossy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

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
