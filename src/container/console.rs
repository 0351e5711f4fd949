//! `process.terminal`: a pseudoterminal of the container's own devpts, whose other end goes to who asked for it.
//! runtime-spec config.md, "Process"; runc's docs/terminals.md for the console socket.

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::Context as _;

use crate::error::field;
use crate::sys::file::{self, kind, magic};
use crate::sys::mount::{Depth, attach, copy_tree};
use crate::sys::path::{Links, RootFd, open_itself_at};
use crate::sys::{Errno, Fault, socket, stdio, tty};

/// Makes a terminal the container's standard input, output and error.
#[derive(PartialEq, Eq, Debug)]
pub struct Console {
    size: Option<tty::Size>,
    node: ConsoleNode,
    output: TerminalOutput,
}

/// What becomes of the program's newlines.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TerminalOutput {
    /// Whoever has the console socket shows them as they come: with carriage returns, as on any terminal.
    Shown,
    /// They come out of the runtime, whose own terminal, if it is one, adds the carriage returns: runc's way.
    Relayed,
}

impl TerminalOutput {
    pub fn of(relayed: bool) -> Self {
        if relayed { Self::Relayed } else { Self::Shown }
    }
}

/// Whether `/dev/console` is that terminal too.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ConsoleNode {
    /// It is bound there: for a container's first process, in a mount namespace of its own.
    Bound,
    Untouched,
}

/// What the console socket gets beside the descriptor: the name that the terminal was opened by.
const NAME: &[u8] = b"/dev/ptmx";

impl Console {
    /// `size` is process.consoleSize.
    pub fn compile(
        size: Option<&oci_spec::runtime::Box>,
        node: ConsoleNode,
        output: TerminalOutput,
    ) -> anyhow::Result<Self> {
        let dimension = |field: &str, value: u64| {
            u16::try_from(value).with_context(|| field!("process.consoleSize.{field}"; "{value}: out of range"))
        };
        let compile = |size: &oci_spec::runtime::Box| {
            anyhow::Ok(tty::Size {
                rows: dimension("height", size.height())?,
                columns: dimension("width", size.width())?,
            })
        };
        Ok(Self { size: size.map(compile).transpose()?, node, output })
    }

    /// Opens a terminal of the devpts at `/dev/pts` below `root` and sends its master over `socket`. It becomes the
    /// controlling terminal later, by [`ControllingTerminal`].
    pub fn apply(&self, root: &RootFd, socket: BorrowedFd) -> Result<(), Fault> {
        let master = open_master(root)?;
        tty::unlock(master.as_fd())?;
        let terminal = tty::peer(master.as_fd())?;
        check_terminal(terminal.as_fd())?;
        if let Some(size) = self.size {
            tty::set_size(master.as_fd(), size)?;
        }
        if self.output == TerminalOutput::Relayed {
            tty::keep_newlines(master.as_fd())?;
        }
        if self.node == ConsoleNode::Bound {
            bind_console(root, terminal.as_fd())?;
        }
        socket::send(socket, NAME, &[master.as_fd()]).map_err(|error| error.about(c"the console socket"))?;
        Ok(stdio::become_all(terminal.as_fd())?)
    }
}

/// A new terminal's master. `/dev/pts` must be a devpts, where nobody can put a file of their own.
fn open_master(root: &RootFd) -> Result<OwnedFd, Fault> {
    let pts = root.open(c"/dev/pts", Links::Refuse).map_err(|error| error.about(c"/dev/pts"))?;
    if file::fs_type(pts.as_fd())? != magic::DEVPTS {
        return Err(Fault::new("fstatfs", Errno::ENODEV, "/dev/pts is not a devpts: a terminal needs one"));
    }
    let master = RootFd::new(pts).open_terminal(c"ptmx").map_err(|error| error.about(c"/dev/pts/ptmx"))?;
    if !file::stat(master.as_fd())?.is_character(5, 2) {
        return Err(Fault::new("statx", Errno::ENODEV, "/dev/pts/ptmx is not the character device 5:2"));
    }
    Ok(master)
}

/// Fails unless `terminal` is a terminal of a devpts (CVE-2025-52565): majors 136 to 143, linux/major.h.
fn check_terminal(terminal: BorrowedFd) -> Result<(), Fault> {
    let stat = file::stat(terminal)?;
    let is_pts = stat.kind() == kind::CHARACTER && (136..=143).contains(&stat.device.0);
    if is_pts && file::fs_type(terminal)? == magic::DEVPTS {
        return Ok(());
    }
    Err(Fault::new("ioctl TIOCGPTPEER", Errno::ENODEV, "the terminal is none of a devpts"))
}

/// Mounts `terminal` on `/dev/console`, which is made if it is missing and must not be a symlink (CVE-2026-88264).
fn bind_console(root: &RootFd, terminal: BorrowedFd) -> Result<(), Fault> {
    let path = c"/dev/console";
    let (dev, name) = root.parent(path, Links::Refuse).map_err(|error| error.about(path))?;
    let console = match file::create_at(dev.as_fd(), name, 0o666) {
        Err(error) if error.errno == Errno::EEXIST => open_itself_at(dev.as_fd(), name),
        created => created,
    };
    let console = console.map_err(|error| error.about(path))?;
    if file::stat(console.as_fd())?.kind() == kind::SYMLINK {
        return Err(Fault::new("openat2", Errno::ELOOP, "/dev/console is a symlink"));
    }
    let mount = copy_tree(terminal, Depth::One)?;
    attach(mount.as_fd(), console.as_fd()).map_err(|error| error.about(path))
}

/// Makes standard input the controlling terminal of the container's session, which setsid(2) has made.
#[derive(PartialEq, Eq, Debug)]
pub struct ControllingTerminal;

impl ControllingTerminal {
    pub fn apply(&self) -> Result<(), Fault> {
        Ok(tty::control_stdin()?)
    }
}

impl fmt::Display for Console {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("console")?;
        if self.node == ConsoleNode::Bound {
            f.write_str(" on /dev/console")?;
        }
        match self.size {
            Some(tty::Size { rows, columns }) => write!(f, " ({columns}x{rows})"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for ControllingTerminal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("controlling terminal")
    }
}

#[cfg(test)]
mod tests;
