//! What a CRIU that failed leaves in the container's files: a deleted file that it had made anew, under a name of its own,
//! and directories for it. It finds no way back there to remove them, since no link of its /proc is followed meanwhile.
//!
//! The names are known from the images, and the directories are held from before CRIU has begun: nothing is looked up by a
//! path in what the container may have changed.

use std::ffi::CString;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result};

use super::deleted::{Deleted, StandIn};
use crate::sys::file::{self, Stat, kind};
use crate::sys::path::{RootFd, open_itself_at};
use crate::sys::{Errno, directory};

/// All that CRIU may leave. Dropped, it is removed, for which CRIU has to be gone.
#[derive(Default)]
pub struct Leftovers(Vec<CriuLeftover>);

/// Something that CRIU makes in the place of what was deleted.
struct CriuLeftover {
    /// The last directory on its way that was there before.
    directory: OwnedFd,
    /// Those behind it that were missing; of a deleted directory, itself.
    missing: Vec<CString>,
    file: Option<Ghost>,
}

/// A file, which CRIU makes in the last directory that is there.
struct Ghost {
    name: CString,
    /// CRIU's own name for it.
    own: CString,
}

impl Drop for Leftovers {
    fn drop(&mut self) {
        for left in &self.0 {
            // The error that led here is the one to tell.
            let _ = left.remove();
        }
    }
}

impl Leftovers {
    /// Those of `deleted`, below `root`. What a runtime that was killed has left is removed: CRIU would stumble over it.
    pub fn before(root: &RootFd, deleted: &[Deleted]) -> Result<Self> {
        let mut all = Vec::new();
        for file in deleted.iter().filter(|file| !file.on_new) {
            let Some(made) = file.made else { continue };
            let what = || format!("deleted file {:?}", String::from_utf8_lossy(&file.path));
            let left = CriuLeftover::of(root, &file.path, made).with_context(what)?;
            left.remove_file().with_context(what)?;
            all.push(left);
        }
        Ok(Self(all))
    }

    /// CRIU has been successful, and has removed them itself.
    pub fn keep(&mut self) {
        self.0.clear();
    }
}

impl CriuLeftover {
    fn of(root: &RootFd, path: &[u8], made: StandIn) -> Result<Self> {
        let mut parts: Vec<&[u8]> = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty()).collect();
        let file = match made {
            StandIn::Directory => None,
            StandIn::File(number) => Some(Ghost::of(parts.pop().context("is the root directory")?, number)?),
        };
        let mut directory = root.open_exactly(b".")?;
        let mut missing = Vec::new();
        for part in parts {
            let part = CString::new(part)?;
            if !missing.is_empty() {
                missing.push(part);
                continue;
            }
            match open_itself_at(directory.as_fd(), &part) {
                Err(error) if error.errno == Errno::ENOENT => missing.push(part),
                found => directory = found?,
            }
        }
        Ok(Self { directory, missing, file })
    }

    fn remove(&self) -> Result<()> {
        let mut opened: Vec<OwnedFd> = Vec::new();
        for part in &self.missing {
            match open_itself_at(opened.last().map_or(self.directory.as_fd(), AsFd::as_fd), part) {
                Ok(found) => opened.push(found),
                Err(_) => break,
            }
        }
        if let Some(file) = self.file.as_ref().filter(|_| opened.len() == self.missing.len()) {
            file.remove_links(self.directory.as_fd(), opened.last().map_or(self.directory.as_fd(), AsFd::as_fd))?;
        }
        self.remove_file()?;
        // Those that CRIU made, from the last one; they are empty then.
        for at in (0..opened.len()).rev() {
            let above = at.checked_sub(1).and_then(|at| opened.get(at)).map_or(self.directory.as_fd(), AsFd::as_fd);
            if let Some(name) = self.missing.get(at) {
                directory::remove_at(above, name)?;
            }
        }
        Ok(())
    }

    fn remove_file(&self) -> Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        if file.stat(self.directory.as_fd())?.is_some() {
            file::unlink_at(self.directory.as_fd(), &file.own)?;
        }
        Ok(())
    }
}

impl Ghost {
    fn of(name: &[u8], number: u32) -> Result<Self> {
        let own = [name, format!(".cr.{number:x}.ghost").as_bytes()].concat();
        Ok(Self { name: CString::new(name)?, own: CString::new(own)? })
    }

    /// What CRIU has made, if it is there; nothing else is ever removed under its name.
    fn stat(&self, directory: BorrowedFd) -> Result<Option<Stat>> {
        match file::stat_at(directory, &self.own) {
            Ok(stat) => Ok(Some(stat).filter(|stat| [kind::REGULAR, kind::FIFO].contains(&stat.kind()))),
            Err(error) if error.errno == Errno::ENOENT => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// The names that CRIU gives it in `last` for the moment in which it opens it.
    fn remove_links(&self, own: BorrowedFd, last: BorrowedFd) -> Result<()> {
        let Some(ghost) = self.stat(own)? else { return Ok(()) };
        let link = CString::new([self.name.as_bytes(), b".cr_link"].concat())?;
        for name in [&self.name, &link] {
            let found = file::stat_at(last, name);
            if found.is_ok_and(|found| (found.mount, found.inode) == (ghost.mount, ghost.inode)) {
                file::unlink_at(last, name)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::scratch::{Directory, c_path};
    use std::fs;

    fn deleted(path: &str, on_new: bool) -> Deleted {
        Deleted { path: path.into(), on_new, made: Some(StandIn::File(0x1f)) }
    }

    #[test]
    fn what_criu_made_is_removed_and_nothing_else() {
        let scratch = Directory::new();
        let root = || RootFd::new(file::open_path(&c_path(scratch.path())).unwrap());
        let (at, elsewhere) = (|name: &str| scratch.join(name), scratch.join("elsewhere"));
        fs::create_dir_all(at("a")).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        for name in ["a/other", "a/f.cr.1.ghost", "a/f.cr.1f.ghost", "elsewhere/g"] {
            fs::write(at(name), "").unwrap();
        }
        let all = [deleted("/a/f", false), deleted("/a/b/c/g", false), deleted("/tmpfs/f", true)];
        let left = Leftovers::before(&root(), &all).unwrap();
        // An earlier one is in the way.
        assert!(!at("a/f.cr.1f.ghost").exists());
        fs::write(at("a/f.cr.1f.ghost"), "").unwrap();
        fs::hard_link(at("a/f.cr.1f.ghost"), at("a/f")).unwrap();
        fs::write(at("a/g.cr.1f.ghost"), "").unwrap();
        fs::create_dir_all(at("a/b/c")).unwrap();
        fs::hard_link(at("a/g.cr.1f.ghost"), at("a/b/c/g")).unwrap();
        drop(left);
        let mut names: Vec<_> = fs::read_dir(at("a")).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, ["f.cr.1.ghost", "other"]);

        let left = Leftovers::before(&root(), &all).unwrap();
        // Others have been there meanwhile: a link instead of a directory, and a file of the same name.
        std::os::unix::fs::symlink(&elsewhere, at("a/b")).unwrap();
        fs::write(at("a/f"), "").unwrap();
        fs::create_dir(at("a/f.cr.1f.ghost")).unwrap();
        drop(left);
        assert!(
            at("a/f").exists() && at("a/b").exists() && at("a/f.cr.1f.ghost").exists() && at("elsewhere/g").exists()
        );

        fs::remove_file(at("a/b")).unwrap();
        fs::remove_dir(at("a/f.cr.1f.ghost")).unwrap();
        let directory = Deleted { path: b"/a/d/e".to_vec(), on_new: false, made: Some(StandIn::Directory) };
        let left = Leftovers::before(&root(), &[directory]).unwrap();
        fs::create_dir_all(at("a/d/e")).unwrap();
        drop(left);
        assert!(!at("a/d").exists());

        let mut left = Leftovers::before(&root(), &all).unwrap();
        fs::write(at("a/g.cr.1f.ghost"), "").unwrap();
        left.keep();
        drop(left);
        assert!(at("a/g.cr.1f.ghost").exists());
    }
}
