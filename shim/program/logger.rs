//! Programs that read a container's output (`binary://`): their start, and the wait for the word that they are ready.

use std::ffi::OsStr;
use std::fs::{File, OpenOptions};
use std::io::{self, Error, Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use containerd_shim_ocirt::call::stdio::{Logger, Ready};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use ocirt_sys::process::pidfd_open;

use crate::sys;
use crate::sys::limit::Descriptors;

/// How long a logger may take until it is ready. Go's shim waits for ever, and with it everybody who asks for the
/// container.
const READY_WITHIN: u16 = 10_000;

/// The first word of the command line of a child that waits for a logger and becomes the runtime.
pub const AWAIT: &str = "await-logger";

/// A logger that has begun.
#[derive(Debug)]
pub struct Begun {
    pub pidfd: OwnedFd,
    /// Readable when it is ready, or has closed its end.
    pub ready: OwnedFd,
}

/// Begins a logger that reads the two streams. Its environment is these two variables, and nothing of the shim's.
pub fn begin(
    logger: &Logger,
    id: &str,
    namespace: &str,
    streams: [OwnedFd; 2],
    descriptors: Descriptors,
) -> io::Result<Begun> {
    let (ready, theirs) = io::pipe()?;
    let [stdout, stderr] = streams;
    let mut command = Command::new(&logger.program);
    command.args(&logger.arguments).env_clear();
    command.env("CONTAINER_ID", id).env("CONTAINER_NAMESPACE", namespace);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).current_dir("/");
    sys::give(&mut command, [stdout, stderr, theirs.into()], descriptors);
    let child = command.spawn().map_err(|error| named(&logger.program, &error))?;
    // What it may open anew by /proc must not be the write end, whose last holder the logger is.
    drop(command);
    Ok(Begun { pidfd: pidfd_open(child.id() as i32)?, ready: ready.into() })
}

/// A command that waits until the logger is ready, and then becomes `command`. The loop has no time for that.
pub fn behind(command: &Command, logger: &Logger, begun: &Begun, log: &Path) -> Command {
    let kind = match logger.ready {
        Ready::ByteOrEnd => "binary",
        Ready::Byte => "binary-v2",
    };
    let pipe = format!("/proc/{}/fd/{}", std::process::id(), begun.ready.as_raw_fd());
    let mut behind = Command::new("/proc/self/exe");
    behind.args([AWAIT, &pipe, kind]).arg(&logger.program).arg(log);
    behind.arg(command.get_program()).args(command.get_args());
    if let Some(directory) = command.get_current_dir() {
        behind.current_dir(directory);
    }
    behind
}

/// The child of `behind`. An error goes where the runtime's own errors go.
pub fn wait_and_execute(words: &[String]) -> Result<(), Box<dyn std::error::Error>> {
    let [pipe, kind, logger, log, program, arguments @ ..] = words else { return Err("no command".into()) };
    let ready = wait(Path::new(pipe), kind).map_err(|error| named(Path::new(logger), &error));
    let error = match ready {
        Ok(()) => named(Path::new(program), &Command::new(program).args(arguments).exec()),
        Err(error) => error,
    };
    let line = serde_json::json!({ "level": "error", "msg": error.to_string() });
    let mut file = OpenOptions::new().append(true).create(true).open(log)?;
    file.write_all(format!("{line}\n").as_bytes())?;
    Err(error.into())
}

fn wait(pipe: &Path, kind: &str) -> io::Result<()> {
    let mut pipe = File::open(pipe)?;
    let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
    if poll(&mut fds, PollTimeout::from(READY_WITHIN))? == 0 {
        return Err(Error::other(format!("not ready within {} seconds", READY_WITHIN / 1000)));
    }
    let count = pipe.read(&mut [0])?;
    if count == 0 && kind == "binary-v2" {
        return Err(Error::other("it ended without saying that it is ready"));
    }
    Ok(())
}

fn named(logger: &Path, error: &Error) -> Error {
    let name = logger.as_os_str();
    Error::new(error.kind(), format!("{}: {error}", OsStr::display(name)))
}
