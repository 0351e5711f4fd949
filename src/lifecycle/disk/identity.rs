//! Which process a pid is: told from a later one with the same number by when it started.

use std::ffi::CString;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use procfs::FromRead;
use procfs::process::Stat;
use serde::{Deserialize, Serialize};

use crate::sys::exit::Exit;
use crate::sys::{Errno, file, process, signal};

/// How long a killed process may take to end: runc's ten seconds.
const KILL_GRACE: Duration = Duration::from_secs(10);
/// How long to wait, in milliseconds, before a killed process that does not end is thawed again.
const THAW_EVERY: u32 = 100;

/// A process that is told from a later one with the same pid by when it started.
#[derive(Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Identity {
    pub pid: i32,
    /// Clock ticks between boot and the process's start: field 22 of proc_pid_stat(5).
    pub start_time: u64,
    /// The inode of its pidfd, unique where the kernel has pidfs (Linux 6.9).
    #[serde(default)]
    pub pidfd_inode: u64,
}

impl Identity {
    /// The identity of the process `pid` that `pidfd` holds.
    pub fn of(pid: i32, pidfd: BorrowedFd) -> Result<Self> {
        let Seen { start_time, .. } = read_stat(pid)?.with_context(|| format!("process {pid} is gone"))?;
        Ok(Self { pid, start_time, pidfd_inode: process::pidfd_inode(pidfd)? })
    }

    /// The identity of this process.
    pub fn own() -> Result<Self> {
        let pid = std::process::id() as i32;
        let Seen { start_time, .. } = read_stat(pid)?.with_context(|| format!("process {pid} is gone"))?;
        Ok(Self { pid, start_time, pidfd_inode: 0 })
    }

    /// Whether it still runs: a zombie does not.
    pub fn is_alive(&self) -> Result<bool> {
        Ok(self.seen()?.is_some_and(|seen| !seen.has_ended()))
    }

    fn seen(&self) -> Result<Option<Seen>> {
        Ok(read_stat(self.pid)?.filter(|seen| seen.start_time == self.start_time))
    }

    /// How it has ended, as long as its parent has not reaped it.
    pub fn remains(&self) -> Result<Remains> {
        let Some(seen) = self.seen()? else { return Ok(Remains::Nothing) };
        if !seen.has_ended() {
            return Ok(Remains::Hidden);
        }
        // EACCES says that we may not trace it, and its exit code is hidden; of a zombie that we may there is no program.
        let is_hidden = fs::read_link(format!("/proc/{}/exe", self.pid))
            .is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
        if is_hidden {
            return Ok(Remains::Hidden);
        }
        // What was reaped meanwhile has no program either, and its exit code may have been hidden before.
        Ok(if self.seen()?.is_some() { Remains::Exit(Exit::of_status(seen.exit_code)) } else { Remains::Nothing })
    }

    /// A descriptor of the process; `None` when it is gone, even if its pid has a new owner.
    pub fn open(&self) -> Result<Option<OwnedFd>> {
        let pidfd = match process::pidfd_open(self.pid) {
            Err(error) if error.errno == Errno::ESRCH => return Ok(None),
            // No other error says that it is gone, as EMFILE, ENOMEM and EPERM, but that it has not that pid any more: a
            // thread may (EINVAL, or ENOENT).
            Err(_) if !self.is_alive()? => return Ok(None),
            result => result.with_context(|| format!("process {}", self.pid))?,
        };
        // Checked after the descriptor is held: from here on it cannot become another process.
        let same =
            self.is_alive()? && (self.pidfd_inode == 0 || process::pidfd_inode(pidfd.as_fd())? == self.pidfd_inode);
        Ok(same.then_some(pidfd))
    }

    /// Sends SIGKILL to the process, to be waited for; `None` when it is gone.
    pub fn kill(&self) -> Result<Option<Dying>> {
        let Some(pidfd) = self.open()? else { return Ok(None) };
        match process::pidfd_send_signal(pidfd.as_fd(), signal::KILL) {
            Err(error) if error.errno == Errno::ESRCH => Ok(None),
            result => result.map(|()| Some(Dying(pidfd))).with_context(|| format!("kill process {}", self.pid)),
        }
    }

    /// Kills the process, if it is there, and waits for its end.
    pub fn end(&self, who: &str) -> Result<()> {
        self.kill()?.map_or(Ok(()), |dying| dying.wait(who, || Ok(())))
    }
}

/// What there is of a process, for somebody who is not its parent.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Remains {
    /// It was reaped.
    Nothing,
    /// It lives, or how it has ended is not for us.
    Hidden,
    Exit(Exit),
}

/// A process that was sent SIGKILL.
pub struct Dying(OwnedFd);

impl Dying {
    /// Waits for its end. `thaw` lets it die where it is frozen: also if somebody froze it after the signal.
    pub fn wait(&self, who: &str, mut thaw: impl FnMut() -> Result<()>) -> Result<()> {
        let deadline = Instant::now() + KILL_GRACE;
        loop {
            let thawed = thaw();
            if process::ends_within(self.0.as_fd(), THAW_EVERY).context("poll")? {
                return Ok(());
            }
            if Instant::now() >= deadline {
                thawed?;
                bail!("{who} did not end within {} s of SIGKILL", KILL_GRACE.as_secs());
            }
        }
    }
}

/// The parent of `pid`; `None`: there is no such process.
pub fn parent_of(pid: i32) -> Result<Option<i32>> {
    Ok(read_stat(pid)?.map(|seen| seen.parent))
}

/// What proc_pid_stat(5) has of `pid`; `None`: no such process.
fn read_stat(pid: i32) -> Result<Option<Seen>> {
    let path = format!("/proc/{pid}/stat");
    // More than the 52 numbers and the name ever take, so that it is read at once.
    let mut buffer = [0; 2048];
    let name = CString::new(path.as_str())?;
    match file::read_path(&name).and_then(|stat| file::read(stat.as_fd(), &mut buffer)) {
        Ok(len) => parse_stat(buffer.get(..len).unwrap_or_default()).map(Some).context(path),
        // ESRCH: it ended between open and read.
        Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ESRCH) => Ok(None),
        Err(error) => Err(error).context(path),
    }
}

/// Fields 3, 4, 20, 22 and 52 of proc_pid_stat(5).
#[derive(PartialEq, Eq, Debug)]
struct Seen {
    state: char,
    parent: i32,
    threads: i64,
    start_time: u64,
    /// As wait(2) has it; zero for a caller who may not trace the process.
    exit_code: i32,
}

impl Seen {
    /// The state is that of its first thread, which a program may end long before the others.
    fn has_ended(&self) -> bool {
        matches!(self.state, 'Z' | 'X') && self.threads <= 1
    }
}

fn parse_stat(text: &[u8]) -> Result<Seen> {
    let Stat { state, ppid, num_threads, starttime, exit_code, .. } = Stat::from_read(text)?;
    let exit_code = exit_code.unwrap_or(0);
    Ok(Seen { state, parent: ppid, threads: num_threads, start_time: starttime, exit_code })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stat_line_is_read_past_a_hostile_name() {
        let text = b"7 (a) Z 1 (b) S 1 7 7 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 4242 4096 1 18446744073709551615 1 1 0 0 0 0 0 0 0 0 0 0 17 1 0 0 0 0 0 0 0 0 0 0 0 0 0\n";
        let seen = Seen { state: 'S', parent: 1, threads: 1, start_time: 4242, exit_code: 0 };
        assert_eq!(parse_stat(text).unwrap(), seen);
        assert!(parse_stat(b"7 (x").is_err());
        assert!(parse_stat(b"").is_err());
    }

    #[test]
    fn a_process_whose_first_thread_has_ended_lives_on_in_the_others() {
        let seen = |state, threads| Seen { state, parent: 1, threads, start_time: 1, exit_code: 0 };
        assert!(seen('Z', 1).has_ended() && seen('X', 0).has_ended());
        assert!(!seen('Z', 2).has_ended() && !seen('S', 1).has_ended());
    }

    #[test]
    fn this_process_is_alive_and_an_older_one_with_its_pid_is_not() {
        let own = Identity::own().unwrap();
        assert!(own.is_alive().unwrap() && own.open().unwrap().is_some());
        let reused = Identity { start_time: own.start_time - 1, ..own };
        assert!(!reused.is_alive().unwrap() && reused.open().unwrap().is_none());
    }
}
