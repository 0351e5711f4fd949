//! A container's directory below the runtime's root: opened once by each command, which works on the descriptor from then
//! on and never on the path again.
//!
//! ```text
//! <root>/<id>/state.json   who the container is; written before the first side effect, and once init is ready
//! <root>/<id>/exec.json    what an exec has to know besides; written once, while the phase is still `creating`
//! <root>/<id>/told.json    what `verify` compares the container with; written once, and by `update` and `mounts`
//! <root>/<id>/gate         the socket on which a created container's init waits for `start`
//! ```
//!
//! **The directory is the container.** Each `create` makes one, and `delete` takes its state file away for good. So a command
//! that finds the state file in the directory that it holds has the container that it was called for, whatever its name
//! leads to by now. To change a container takes the directory's lock besides ([`Locked`]): flock(2), which the kernel gives
//! back whatever becomes of the process; its children do not share it ([`Lockable`]). Who only looks never waits.

use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::Write;
use std::ops::Deref;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::Serialize;

use super::holder;
use super::root::Root;
use super::state::State;
use super::trusted;
use crate::error::io_error;
use crate::lifecycle::id::Id;
use crate::lifecycle::refusal::Refusal;
use crate::plan::Saved;
use crate::sys::directory::Lockable;
use crate::sys::regular::Unfit;
use crate::sys::{self, Errno, directory, file, socket};

const STATE_FILE: &CStr = c"state.json";
const STATE_FILE_NEW: &CStr = c"state.json.new";
const GATE: &CStr = c"gate";
const EXEC_FILE: &CStr = c"exec.json";
pub(super) const TOLD_FILES: [&CStr; 2] = [c"told.json", c"told.json.new"];
/// In the order in which they are removed: without a state file there is no container.
const NAMES: [&CStr; 6] = [GATE, EXEC_FILE, TOLD_FILES[0], TOLD_FILES[1], STATE_FILE, STATE_FILE_NEW];

/// How long to wait for another command that changes the same container.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest pause between two looks at the lock.
const PAUSE: Duration = Duration::from_millis(20);

/// A container's directory, open.
#[derive(Debug)]
pub struct Directory {
    root: Root,
    id: Id,
    fd: Lockable,
}

/// Another command was still at work on the container when the wait was over.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Busy {
    /// Who has the lock, as far as can be told.
    holder: String,
}

impl std::fmt::Display for Busy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} is still changing the container after {} s", self.holder, TIMEOUT.as_secs())
    }
}

impl std::error::Error for Busy {}

impl Directory {
    /// Makes the directory of a new container. An id that is taken is [`Refusal::Exists`].
    pub fn reserve(root: &Path, id: &Id) -> Result<Reserved> {
        let root = Root::make(root)?;
        let name = CString::new(id.as_str())?;
        match file::mkdir_at(root.fd(), &name, 0o700) {
            Err(error) if error.errno == Errno::EEXIST => bail!(Refusal::Exists),
            result => result.with_context(|| words(&root, id))?,
        }
        let opened = open(&root, id).inspect_err(|_| {
            // The first error is the one to tell; only what is empty is removed.
            let _ = directory::remove_at(root.fd(), &name);
        });
        let fd = opened?;
        let directory = Self { root, id: id.clone(), fd: Lockable::new(fd) };
        match directory.wait_for_lock().and_then(|()| directory.is_new()) {
            Ok(true) => Ok(Reserved(Some(Locked(directory)))),
            Ok(false) => bail!("{}: taken away by another process", directory.words()),
            Err(error) => {
                let _ = directory.remove_name();
                Err(error)
            }
        }
    }

    /// Whether it is one that was just made. In a root of others it may be another one by now: a container's, or one that
    /// `delete --force` has removed.
    fn is_new(&self) -> Result<bool> {
        Ok(file::stat(self.fd())?.links > 0 && !self.is_there()?)
    }

    /// Opens the directory of an existing container; a missing one is [`Refusal::DoesNotExist`].
    pub fn open(root: &Path, id: &Id) -> Result<Self> {
        let Some(root) = Root::open(root)? else { bail!(Refusal::DoesNotExist) };
        let fd = open(&root, id)?;
        Ok(Self { root, id: id.clone(), fd: Lockable::new(fd) })
    }

    pub fn path(&self) -> PathBuf {
        self.root.path_of(&self.id)
    }

    pub fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    fn words(&self) -> String {
        words(&self.root, &self.id)
    }

    pub(super) fn words_of(&self, name: &CStr) -> String {
        format!("state file {}", self.path().join(OsStr::from_bytes(name.to_bytes())).display())
    }

    /// Takes the lock, waiting for whoever has it: [`Busy`] if that takes too long.
    pub fn lock(self) -> Result<Locked> {
        self.lock_after(|_| Ok(()))
    }

    /// The same without waiting. `None`: another command changes the container now.
    pub fn try_lock(self) -> Result<Option<Locked>> {
        Ok(self.fd.try_lock().with_context(|| self.words())?.then_some(Locked(self)))
    }

    /// Takes the lock as [`Directory::lock`] does; does `work` before it waits for another one.
    pub fn lock_after(self, work: impl FnOnce(&Self) -> Result<()>) -> Result<Locked> {
        if !self.fd.try_lock().with_context(|| self.words())? {
            work(&self)?;
            self.wait_for_lock()?;
        }
        Ok(Locked(self))
    }

    fn wait_for_lock(&self) -> Result<()> {
        let begun = Instant::now();
        while !self.fd.try_lock().with_context(|| self.words())? {
            let waited = begun.elapsed();
            ensure!(waited < TIMEOUT, Busy { holder: self.holder() });
            std::thread::sleep((waited / 2).clamp(Duration::from_micros(100), PAUSE));
        }
        Ok(())
    }

    /// Who has the lock, for a message: proc_locks(5).
    fn holder(&self) -> String {
        let find = || {
            let inode = file::stat(self.fd()).ok()?.inode;
            let pid = holder::of(&std::fs::read_to_string("/proc/locks").ok()?, inode)?;
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let words = String::from_utf8_lossy(&line).trim_end_matches('\0').replace('\0', " ");
            Some(format!("process {pid} ({})", words.chars().take(200).collect::<String>().escape_debug()))
        };
        find().unwrap_or_else(|| "another process".to_owned())
    }

    /// Reads the state file. None: a `create` was killed before it wrote anything, or `delete` has removed the container.
    pub fn load(&self) -> Result<Option<State>> {
        let words = || self.words_of(STATE_FILE);
        let Some(text) = trusted::read(self.fd(), STATE_FILE).with_context(words)? else { return Ok(None) };
        let state: State = serde_json::from_slice(&text).with_context(words)?;
        ensure!(
            state.id == self.id.as_str(),
            anyhow!("it is the state of container {:?} (was its directory renamed?)", state.id).context(words())
        );
        Ok(Some(state))
    }

    /// Whether the container is still there, and not deleted.
    pub fn is_there(&self) -> Result<bool> {
        self.has(STATE_FILE)
    }

    fn has(&self, name: &CStr) -> Result<bool> {
        match file::stat_at(self.fd(), name) {
            Err(error) if error.errno == Errno::ENOENT => Ok(false),
            result => result.map(|_| true).with_context(|| self.words_of(name)),
        }
    }

    /// Reads the file for exec.
    pub fn load_for_exec(&self) -> Result<Saved<'static>> {
        let text = trusted::read(self.fd(), EXEC_FILE).with_context(|| self.words_of(EXEC_FILE))?;
        let text = text.with_context(|| format!("{}: missing", self.words_of(EXEC_FILE)))?;
        serde_json::from_slice(&text).with_context(|| self.words_of(EXEC_FILE))
    }

    /// Connects to init, which waits at the gate. `None`: there is no gate, or nobody waits any more.
    pub fn connect_gate(&self) -> Result<Option<OwnedFd>> {
        match socket::connect_in(self.fd(), GATE) {
            Ok(connection) => Ok(Some(connection)),
            Err(error) if matches!(error.errno, Errno::ENOENT | Errno::ECONNREFUSED) => Ok(None),
            Err(error) => Err(error).with_context(|| format!("start gate in {}", self.path().display())),
        }
    }

    pub fn has_gate(&self) -> Result<bool> {
        self.has(GATE)
    }

    /// While we hold the lock, nobody removes this directory, so that nobody makes one of its name either. What another
    /// user of the root exchanges it for now is not removed unless it is empty.
    fn remove_name(&self) -> Result<()> {
        let name = CString::new(self.id.as_str())?;
        let there = match file::stat_at(self.root.fd(), &name) {
            Err(error) if error.errno == Errno::ENOENT => return Ok(()),
            there => there?,
        };
        let ours = file::stat(self.fd())?;
        if (there.mount, there.inode) != (ours.mount, ours.inode) {
            return Ok(());
        }
        match directory::remove_at(self.root.fd(), &name) {
            Err(error) if error.errno != Errno::ENOENT => Err(error.into()),
            _ => Ok(()),
        }
    }
}

fn words(root: &Root, id: &Id) -> String {
    format!("state directory {}", root.path_of(id).display())
}

/// Opens the directory `id` of `root`. It is the caller's or root's, and nobody else writes it.
fn open(root: &Root, id: &Id) -> Result<OwnedFd> {
    let fd = match file::list_at(root.fd(), &CString::new(id.as_str())?) {
        Err(error) if error.errno == Errno::ENOENT => bail!(Refusal::DoesNotExist),
        result => result.with_context(|| words(root, id))?,
    };
    let stat = file::stat(fd.as_fd())?;
    trusted::check_owner(stat.uid).and_then(|()| trusted::check_mode(stat.mode)).with_context(|| words(root, id))?;
    Ok(fd)
}

/// A container's directory whose lock this process has: only so is anything in it changed.
#[derive(Debug)]
pub struct Locked(Directory);

impl Deref for Locked {
    type Target = Directory;

    fn deref(&self) -> &Directory {
        &self.0
    }
}

impl Locked {
    /// Lets others change the container.
    pub fn unlock(self) -> Result<Directory> {
        self.fd.unlock().with_context(|| self.words())?;
        Ok(self.0)
    }

    /// Replaces the state file: a reader sees the old one or the new one, never a part.
    pub fn save(&self, state: &State) -> Result<()> {
        self.replace([STATE_FILE, STATE_FILE_NEW], state)
    }

    /// The same of any file, by way of another name.
    pub(super) fn replace(&self, [name, new]: [&CStr; 2], value: &impl Serialize) -> Result<()> {
        self.write(new, value)?;
        directory::rename_at(self.fd(), new, name).with_context(|| self.words_of(new))
    }

    /// Writes the file for exec. Nobody reads it before the container is created, so it need not be atomic.
    pub fn save_for_exec(&self, saved: &Saved) -> Result<()> {
        self.write(EXEC_FILE, saved)
    }

    /// Writes a new file.
    pub(super) fn write(&self, name: &CStr, value: &impl Serialize) -> Result<()> {
        let text = serde_json::to_vec(value).with_context(|| self.words_of(name))?;
        // Nobody would read it.
        ensure!(text.len() as u64 <= trusted::LIMIT, anyhow!(Unfit::Size(trusted::LIMIT)).context(self.words_of(name)));
        let file = self.create(name).with_context(|| self.words_of(name))?;
        let written = File::from(file).write_all(&text).map_err(|error| io_error("write", &error));
        written.with_context(|| self.words_of(name))
    }

    fn create(&self, name: &CStr) -> sys::Result<OwnedFd> {
        match file::create_at(self.fd(), name, 0o600) {
            // Of a command that was killed: nobody else has the lock.
            Err(error) if error.errno == Errno::EEXIST => {
                file::unlink_at(self.fd(), name)?;
                file::create_at(self.fd(), name, 0o600)
            }
            created => created,
        }
    }

    /// Makes the socket at which init waits for `start`.
    pub fn make_gate(&self) -> Result<OwnedFd> {
        socket::listen_in(self.fd(), GATE).with_context(|| format!("start gate in {}", self.path().display()))
    }

    /// Removes the gate: whoever has not connected yet comes too late.
    pub fn remove_gate(&self) -> Result<()> {
        match file::unlink_at(self.fd(), GATE) {
            Err(error) if error.errno == Errno::ENOENT => Ok(()),
            result => result.with_context(|| format!("start gate in {}", self.path().display())),
        }
    }

    /// Removes what is in the directory, and then the directory, if its name still leads to it: a name that leads
    /// elsewhere, or nowhere, is not ours.
    pub fn remove(&self) -> Result<()> {
        // Only these names are ever made, so nothing is followed and nothing is listed.
        for name in NAMES {
            match file::unlink_at(self.fd(), name) {
                Err(error) if error.errno == Errno::EISDIR => {
                    directory::remove_at(self.fd(), name).with_context(|| self.words_of(name))?;
                }
                Err(error) if error.errno != Errno::ENOENT => return Err(error).with_context(|| self.words_of(name)),
                _ => {}
            }
        }
        self.remove_name().with_context(|| self.words())
    }
}

/// The directory of a container that is being created: it goes away unless it is kept.
#[derive(Debug)]
pub struct Reserved(Option<Locked>);

impl Reserved {
    /// The container is made: its directory stays, and others may change it.
    pub fn keep(mut self) -> Result<Directory> {
        // While it can still fail, it is not kept.
        self.unlock()?;
        let Some(Locked(directory)) = self.0.take() else { unreachable!("it is kept only once") };
        Ok(directory)
    }

    /// Lets others change the container for a while.
    pub fn unlock(&self) -> Result<()> {
        self.fd.unlock().with_context(|| self.words())
    }

    /// Whether the container is still there after that, and ours again. If that cannot be told, it is left to `delete`.
    pub fn is_ours_again(&self) -> bool {
        self.wait_for_lock().and_then(|()| self.is_there()).unwrap_or(false)
    }

    /// Somebody else's now.
    pub fn give_up(&mut self) {
        self.0 = None;
    }
}

impl Deref for Reserved {
    type Target = Locked;

    fn deref(&self) -> &Locked {
        let Some(locked) = &self.0 else { unreachable!("it is kept at the end") };
        locked
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        if let Some(locked) = &self.0 {
            // The error that made us undo is the one to tell.
            let _ = locked.remove();
        }
    }
}
