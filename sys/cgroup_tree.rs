//! A walk over a cgroup and all cgroups below it, where a container makes, removes and (on v1) renames them meanwhile.
//!
//! Names are bytes, and are looked up in the directory that is held, so neither UTF-8 nor PATH_MAX matters. At most
//! three directories are open at a time: the walk goes up by `..`, which leads where it came from, since cgroupfs renames
//! within one directory only (cgroup1_rename() and, on v2, not at all). Children are visited in the order of their inode
//! numbers, of which the last is all that a level has to remember; names are kept for the deepest levels only, and
//! read again after that. New cgroups have higher numbers (kernfs counts up) and are still seen.

use core::ffi::CStr;
use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

use super::error::{Errno, Result, SysError};
use super::{beneath, cgroup, file};

/// How many children of one directory are kept by name.
const NAMES: usize = 256;
/// How many of the deepest levels keep names: 1 MiB at most, with names of 255 bytes.
const NAMED_LEVELS: usize = 16;

/// What the walk has come to.
#[derive(Debug)]
pub enum WalkStep<'a> {
    /// A cgroup, before those below it; the first is that in which the walk starts. Anything may have happened to it since.
    Enter(BorrowedFd<'a>),
    /// All cgroups below `name` in `parent` were visited. Not told of the one in which the walk starts.
    Leave { parent: BorrowedFd<'a>, name: &'a CStr },
}

/// A walk at work.
#[derive(Debug)]
pub struct Walk {
    dir: OwnedFd,
    /// The directory above, as long as it is known.
    above: Option<OwnedFd>,
    /// From the start down to `dir`; empty before the first step.
    levels: Vec<WalkLevel>,
    name: CString,
    buffer: Vec<u8>,
    until: Instant,
}

/// A directory on the way down.
#[derive(Debug)]
struct WalkLevel {
    inode: u64,
    /// Children up to this inode number were visited.
    after: u64,
    /// The child that is being visited.
    entered: u64,
    /// The next children, the last one first.
    next: Vec<ChildDirectory>,
    /// Whether there may be others behind them.
    has_more: bool,
}

#[derive(Debug)]
struct ChildDirectory {
    inode: u64,
    name: CString,
}

impl Walk {
    /// Starts at the cgroup at `path`. A walk that has not ended at `until` fails with ETIMEDOUT.
    pub fn start(path: &CStr, until: Instant) -> Result<Self> {
        let dir = file::list_at(cgroup::here(), path)?;
        Ok(Self { dir, above: None, levels: Vec::new(), name: CString::default(), buffer: Vec::new(), until })
    }

    /// The next step; `None` at the end.
    pub fn step(&mut self) -> Result<Option<WalkStep<'_>>> {
        if self.levels.is_empty() {
            self.levels.push(WalkLevel::of(self.dir.as_fd())?);
            return Ok(Some(WalkStep::Enter(self.dir.as_fd())));
        }
        loop {
            if Instant::now() >= self.until {
                return Err(SysError::new("getdents64", Errno::ETIMEDOUT));
            }
            if self.has_child()? {
                if self.descend()? {
                    return Ok(Some(WalkStep::Enter(self.dir.as_fd())));
                }
            } else if !self.ascend()? {
                return Ok(None);
            } else if self.leave()? {
                return Ok(Some(WalkStep::Leave { parent: self.dir.as_fd(), name: &self.name }));
            }
        }
    }

    /// Whether the directory has a child that was not visited; reads the names of the next ones if none is known.
    fn has_child(&mut self) -> Result<bool> {
        let Some(level) = self.levels.last_mut() else { return Ok(false) };
        if level.next.is_empty() && level.has_more {
            self.buffer.resize(32 << 10, 0);
            level.read(self.dir.as_fd(), &mut self.buffer)?;
        }
        Ok(!level.next.is_empty())
    }

    /// Goes down into the next child; false if it is not there under its name any more, which is then read again.
    fn descend(&mut self) -> Result<bool> {
        let Some(level) = self.levels.last_mut() else { return Ok(false) };
        let Some(child) = level.next.last() else { return Ok(false) };
        let below = match beneath::list_beneath(self.dir.as_fd(), &child.name) {
            Err(error) if error.errno == Errno::ENOENT => {
                level.forget();
                return Ok(false);
            }
            below => below?,
        };
        let deeper = WalkLevel::of(below.as_fd())?;
        if deeper.inode != child.inode {
            level.forget();
            return Ok(false);
        }
        level.entered = child.inode;
        self.above = Some(std::mem::replace(&mut self.dir, below));
        self.levels.push(deeper);
        let distant = self.levels.len().checked_sub(NAMED_LEVELS + 1);
        distant.and_then(|index| self.levels.get_mut(index)).into_iter().for_each(WalkLevel::forget);
        Ok(true)
    }

    /// Goes up to the directory above; false at the start.
    fn ascend(&mut self) -> Result<bool> {
        if self.levels.len() < 2 {
            return Ok(false);
        }
        self.levels.pop();
        self.dir = match self.above.take() {
            Some(above) => above,
            None => file::list_at(self.dir.as_fd(), c"..")?,
        };
        let inode = file::stat(self.dir.as_fd())?.inode;
        // Nothing moves a cgroup to another parent. If something did, the walk would leave the tree.
        match self.levels.last() {
            Some(level) if level.inode == inode => Ok(true),
            _ => Err(SysError::new("openat", Errno::EXDEV)),
        }
    }

    /// Marks the child that we came up from as visited; whether it is still there, with its name in `name`.
    fn leave(&mut self) -> Result<bool> {
        self.has_child()?;
        let Some(level) = self.levels.last_mut() else { return Ok(false) };
        level.after = level.entered;
        let left = level.next.pop_if(|child| child.inode == level.entered);
        let is_there = left.is_some();
        self.name = left.map(|child| child.name).unwrap_or_default();
        Ok(is_there)
    }
}

impl WalkLevel {
    /// The directory, before any child of it was visited. In kernfs it has two links more than it has children.
    fn of(dir: BorrowedFd<'_>) -> Result<Self> {
        let stat = nix::sys::stat::fstat(dir).map_err(|errno| SysError::new("fstat", errno))?;
        Ok(Self { inode: stat.st_ino, after: 0, entered: 0, next: Vec::new(), has_more: stat.st_nlink > 2 })
    }

    /// Reads the names of the next children: those with the lowest inode numbers that were not visited.
    fn read(&mut self, dir: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<()> {
        self.has_more = false;
        file::rewind(dir)?;
        loop {
            let length = match file::entries(dir, buffer) {
                // The directory itself was removed.
                Err(error) if error.errno == Errno::ENOENT => 0,
                length => length?,
            };
            let mut rest = buffer.get(..length).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            while let Some((child, others)) = entry(rest) {
                rest = others;
                self.next.extend(child.filter(|child| child.inode > self.after));
                if self.next.len() >= 2 * NAMES {
                    self.shorten();
                }
            }
        }
        self.shorten();
        self.next.reverse();
        Ok(())
    }

    /// Sorts the names that were read, and keeps the first ones.
    fn shorten(&mut self) {
        self.next.sort_unstable_by_key(|child| child.inode);
        self.has_more |= self.next.len() > NAMES;
        self.next.truncate(NAMES);
    }

    /// Forgets the names, which are read again when they are needed.
    fn forget(&mut self) {
        self.next = Vec::new();
        self.has_more = true;
    }
}

/// The first of the entries that getdents64(2) gave, if it is a directory below, and those behind it. An entry has an inode
/// number, an offset, its length, its type, and a name that ends in NUL.
fn entry(entries: &[u8]) -> Option<(Option<ChildDirectory>, &[u8])> {
    let (inode, _) = entries.split_first_chunk::<8>()?;
    let (length, rest) = entries.get(16..)?.split_first_chunk::<2>()?;
    let (kind, _) = rest.split_first()?;
    let (entry, others) = entries.split_at_checked(u16::from_ne_bytes(*length).into())?;
    let name = CStr::from_bytes_until_nul(entry.get(19..)?).ok()?;
    let is_below = *kind == libc::DT_DIR && !matches!(name.to_bytes(), b"." | b"..");
    let child = is_below.then(|| ChildDirectory { inode: u64::from_ne_bytes(*inode), name: name.to_owned() });
    Some((child, others))
}
