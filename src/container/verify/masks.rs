//! Whether what is to be hidden is hidden, and what is to be read-only is: linux.maskedPaths and linux.readonlyPaths.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result};

use super::mounts::{Look, Place};
use super::place;
use super::table::{Line, Shown, join};
use crate::sys::file::{self, Stat};
use crate::sys::path::Links;
use crate::sys::{Errno, SysError};

/// What is at a mount point.
struct Target {
    fd: OwnedFd,
    stat: Stat,
}

impl Look<'_> {
    /// A file that reads as empty, or an empty directory; what is missing need not be masked.
    pub(super) fn masked(&mut self, field: &str, path: &Path) -> Result<()> {
        let wanted = format!("{} masked", path.display());
        let index = match self.place(path)? {
            Place::Nothing => return Ok(()),
            Place::Inside => None,
            Place::Mount(index) => Some(index),
            Place::Silent => {
                self.silent(field, wanted);
                return Ok(());
            }
        };
        let is_masked = index.map_or(Ok(false), |index| self.is_mask(index))?;
        let found = self.line(index).map_or_else(|| "no mask".to_owned(), Line::to_string);
        if let Some(index) = index.filter(|_| is_masked) {
            self.claim(index);
        }
        self.note(field, wanted, found, is_masked);
        Ok(())
    }

    fn is_mask(&self, index: usize) -> Result<bool> {
        let Some(line) = self.line(Some(index)) else { return Ok(false) };
        // Of others, nothing is asked.
        if !matches!(line.kind.as_str(), "tmpfs" | "devtmpfs") && !self.host.has_device(&line.shown.device) {
            return Ok(false);
        }
        let Some(target) = self.target(line)? else { return Ok(false) };
        if !target.stat.is_directory() {
            return Ok(target.stat.is_character(1, 3));
        }
        let is_own = line.shown.root == Path::new("/") && !self.host.has_device(&line.shown.device);
        Ok(is_own && line.kind == "tmpfs" && line.has("ro") && is_empty(&target)?)
    }

    /// A mount of what lies there, read-only.
    pub(super) fn read_only(&mut self, field: &str, path: &Path) -> Result<()> {
        let wanted = format!("{} read-only", path.display());
        let index = match self.place(path)? {
            Place::Nothing => return Ok(()),
            Place::Inside => None,
            Place::Mount(index) if self.is_claimed(index) => return Ok(()),
            Place::Mount(index) => Some(index),
            Place::Silent => {
                self.silent(field, wanted);
                return Ok(());
            }
        };
        let holds =
            self.line(index).is_some_and(|line| line.has("ro") && self.below(line).as_ref() == Some(&line.shown));
        let found = self.line(index).map_or_else(|| "no mount there".to_owned(), Line::to_string);
        if let Some(index) = index.filter(|_| holds) {
            self.claim(index);
        }
        self.note(field, wanted, found, holds);
        Ok(())
    }

    /// What one would see at the mount point without the mount.
    fn below(&self, line: &Line) -> Option<Shown> {
        let parent = self.lines.iter().find(|parent| parent.id == line.parent)?;
        let inside = line.at.strip_prefix(&parent.at).ok()?;
        Some(Shown { device: parent.shown.device.clone(), root: join(&parent.shown.root, inside) })
    }

    /// What is at the mount point of a mount, if one can see it there.
    fn target(&self, line: &Line) -> Result<Option<Target>> {
        let what = || line.at.display().to_string();
        let is_quiet = |line: &Line| line.id == self.number || place::is_quiet(&self.host, line);
        let led = place::follow(self.lines, self.number, &line.at, is_quiet);
        if !led.is_some_and(|led| led.is_quiet && self.line(Some(led.last)).is_some_and(|last| last.id == line.id)) {
            return Ok(None);
        }
        let fd = match self.root.open(&CString::new(line.at.as_os_str().as_bytes())?, Links::Refuse) {
            Err(SysError { errno: Errno::ENOENT | Errno::ENOTDIR | Errno::ELOOP, .. }) => return Ok(None),
            fd => fd.with_context(what)?,
        };
        if file::mount_of(fd.as_fd())? != line.id {
            return Ok(None);
        }
        let stat = file::stat(fd.as_fd()).with_context(what)?;
        Ok(Some(Target { fd, stat }))
    }
}

fn is_empty(place: &Target) -> Result<bool> {
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&place.fd));
    Ok(std::fs::read_dir(&path).context(path)?.next().is_none())
}
