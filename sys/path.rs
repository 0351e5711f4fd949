//! The only way to touch the container's files: [`RootFd`] resolves every path inside the rootfs. Most of this field's
//! CVEs are paths that were resolved twice, or by the wrong process, inside a tree that the attacker controls. Kernel files
//! have a procfs of their own: `procfs.rs`.

use core::ffi::CStr;
use core::mem::size_of;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use super::error::{Errno, Result, SysError};
use super::file::{self, owned};
use super::stack_path::StackPath;

/// How often openat2(2) is asked again after EAGAIN: somebody renames directories on the way.
const RACES: u32 = 64;
/// As much of a long path as is resolved at a time: less than PATH_MAX, more than a name.
const PART: usize = 2048;
/// As many symlinks as the kernel itself follows: path_resolution(7).
const MAX_LINKS: u32 = 40;

/// The container's root directory: no path given to it leads out, whatever symlinks and `..` it meets.
pub struct RootFd(OwnedFd);

/// Whether a path may lead through symlinks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Links {
    Follow,
    /// A symlink anywhere is ELOOP: `/proc` and `/sys` as links are attacks (CVE-2019-19921, CVE-2023-27561).
    Refuse,
}

/// What is made where a mount point is missing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Leaf {
    Directory,
    File,
}

impl RootFd {
    pub fn new(root: OwnedFd) -> Self {
        Self(root)
    }

    pub fn into_fd(self) -> OwnedFd {
        self.0
    }

    /// `path` inside the root, only named (O_PATH).
    pub fn open(&self, path: &CStr, links: Links) -> Result<OwnedFd> {
        self.resolve(path, libc::O_PATH, links)
    }

    /// The directory `path` inside the root, only named (O_PATH).
    pub fn open_directory(&self, path: &CStr, links: Links) -> Result<OwnedFd> {
        self.resolve(path, libc::O_PATH | libc::O_DIRECTORY, links)
    }

    /// What is mounted, or lies, at `path` inside the root, only named (O_PATH): no symlink is followed, and one at the
    /// end is opened itself. The path may be longer than PATH_MAX: processes inside may have renamed what is on the way.
    pub fn open_exactly(&self, path: &[u8]) -> Result<OwnedFd> {
        let mut at: Option<OwnedFd> = None;
        let mut rest = path.strip_prefix(b"/").unwrap_or(path);
        loop {
            let (part, after) = match rest.get(..PART) {
                Some(part) => match part.iter().rposition(|byte| *byte == b'/') {
                    Some(slash) => rest.split_at_checked(slash).unwrap_or((rest, b"")),
                    None => (rest, &b""[..]),
                },
                None => (rest, &b""[..]),
            };
            let resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_MAGICLINKS | libc::RESOLVE_NO_SYMLINKS;
            let from = at.as_ref().map_or(self.as_fd(), |fd| fd.as_fd());
            let found = openat2(from, StackPath::new(part)?.as_cstr(), libc::O_PATH | libc::O_NOFOLLOW, resolve)?;
            match after.strip_prefix(b"/") {
                Some(after) => (at, rest) = (Some(found), after),
                None => return Ok(found),
            }
        }
    }

    /// The terminal `path` inside the root, open for both directions; it does not become the controlling terminal.
    pub fn open_terminal(&self, path: &CStr) -> Result<OwnedFd> {
        self.resolve(path, libc::O_RDWR | libc::O_NOCTTY, Links::Refuse)
    }

    /// The directory `path` inside the root, made if it is missing, with all above it.
    pub fn target_dir(&self, path: &CStr, links: Links) -> Result<OwnedFd> {
        match self.open_directory(path, links) {
            Err(error) if error.errno == Errno::ENOENT => self.make(path, Leaf::Directory, links),
            done => done,
        }
    }

    /// The file `path` inside the root, made empty if it is missing, with all directories above it. Follows links: what is
    /// mounted on is the descriptor, and whoever can move links there can also move the file.
    pub fn target_file(&self, path: &CStr) -> Result<OwnedFd> {
        match self.resolve(path, libc::O_PATH, Links::Follow) {
            Err(error) if error.errno == Errno::ENOENT => self.make(path, Leaf::File, Links::Follow),
            done => done,
        }
    }

    /// The directory above `path`, made if it is missing, and the last component of `path`.
    pub fn parent<'p>(&self, path: &'p CStr, links: Links) -> Result<(OwnedFd, &'p CStr)> {
        let bytes = path.to_bytes_with_nul();
        let slash = bytes.iter().rposition(|byte| *byte == b'/');
        let (above, name) = bytes.split_at(slash.map_or(0, |at| at + 1));
        let name = CStr::from_bytes_with_nul(name).map_err(|_| SysError::new("openat2", Errno::EINVAL))?;
        let above = StackPath::new(if above.is_empty() { b"/" } else { above })?;
        Ok((self.target_dir(above.as_cstr(), links)?, name))
    }

    fn resolve(&self, path: &CStr, flags: libc::c_int, links: Links) -> Result<OwnedFd> {
        let links = match links {
            Links::Follow => 0,
            Links::Refuse => libc::RESOLVE_NO_SYMLINKS,
        };
        openat2(self.as_fd(), path, flags, libc::RESOLVE_IN_ROOT | libc::RESOLVE_NO_MAGICLINKS | links)
    }

    /// Makes what is missing of `path`, one component after the other, each in a resolved directory and only if nothing
    /// is there (CVE-2024-45310). A symlink that leads nowhere is followed inside the root, and its target made: images
    /// bring `/etc/resolv.conf -> ../run/…/stub-resolv.conf`.
    fn make(&self, path: &CStr, leaf: Leaf, links: Links) -> Result<OwnedFd> {
        let mut whole = StackPath::new(path.to_bytes())?;
        for _ in 0..MAX_LINKS {
            match self.make_until_link(&whole, leaf, links)? {
                Made::Done(fd) => return Ok(fd),
                Made::Link(instead) => whole = instead,
            }
        }
        Err(SysError::new("openat2", Errno::ELOOP))
    }

    fn make_until_link(&self, whole: &StackPath, leaf: Leaf, links: Links) -> Result<Made> {
        let bytes = whole.as_bytes();
        let mut parent: Option<OwnedFd> = None;
        let mut start = 0;
        while let Some((from, to)) = component(bytes, start) {
            let last = component(bytes, to).is_none();
            let want = if last { leaf } else { Leaf::Directory };
            let name = StackPath::new(bytes.get(from..to).unwrap_or_default())?;
            let above = parent.as_ref().map_or(self.as_fd(), |fd| fd.as_fd());
            let prefix = StackPath::new(bytes.get(..to).unwrap_or_default())?;
            // The whole path was missing a moment ago, so the last component is not looked for again.
            let there = if last { None } else { Some(self.resolve(prefix.as_cstr(), want.open_flags(), links)) };
            let found = match there {
                Some(Err(error)) if error.errno != Errno::ENOENT => return Err(error),
                Some(Ok(found)) => found,
                _ => match want.make(above, name.as_cstr()) {
                    Err(error) if error.errno == Errno::EEXIST => {
                        match self.resolve(prefix.as_cstr(), want.open_flags(), links) {
                            Err(error) if error.errno == Errno::ENOENT && links == Links::Follow => {
                                return with_link(whole, above, name.as_cstr(), from, to).map(Made::Link);
                            }
                            // Somebody made it meanwhile.
                            found => found?,
                        }
                    }
                    made => made?,
                },
            };
            parent = Some(found);
            start = to;
        }
        match parent {
            Some(fd) => Ok(Made::Done(fd)),
            None => self.resolve(c"/", libc::O_PATH | libc::O_DIRECTORY, links).map(Made::Done),
        }
    }
}

impl AsFd for RootFd {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[expect(clippy::large_enum_variant, reason = "one at a time, on the stack: init has no heap")]
enum Made {
    Done(OwnedFd),
    /// The path to try instead, because a symlink without a target was on the way.
    Link(StackPath),
}

impl Leaf {
    fn open_flags(self) -> libc::c_int {
        match self {
            Self::Directory => libc::O_PATH | libc::O_DIRECTORY,
            Self::File => libc::O_PATH,
        }
    }

    /// Makes `name` in `dir` and opens exactly that: whoever swaps it for a symlink gets an error from us.
    fn make(self, dir: BorrowedFd, name: &CStr) -> Result<OwnedFd> {
        match self {
            Self::Directory => {
                file::mkdir_at(dir, name, 0o755)?;
                let flags = libc::O_PATH | libc::O_DIRECTORY | libc::O_NOFOLLOW;
                openat2(dir, name, flags, libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS)
            }
            Self::File => file::create_at(dir, name, 0o755),
        }
    }
}

/// The bounds of the first component of `bytes` at or after `start`.
fn component(bytes: &[u8], start: usize) -> Option<(usize, usize)> {
    let rest = bytes.get(start..)?;
    let from = start + rest.iter().position(|byte| *byte != b'/')?;
    let rest = bytes.get(from..)?;
    Some((from, from + rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len())))
}

/// `name` in `directory` itself, if it is a symlink the link, only named (O_PATH).
pub fn open_itself_at(directory: BorrowedFd, name: &CStr) -> Result<OwnedFd> {
    let resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;
    openat2(directory, name, libc::O_PATH | libc::O_NOFOLLOW, resolve)
}

/// The directory `path` of the caller's namespace, only named (O_PATH). A symlink anywhere on the way is ELOOP.
pub fn directory_without_links(path: &CStr) -> Result<OwnedFd> {
    openat2(super::cgroup::here(), path, libc::O_PATH | libc::O_DIRECTORY, libc::RESOLVE_NO_SYMLINKS)
}

/// `path` with the symlink `name` in `dir`, its component at `from..to`, replaced by where it leads.
fn with_link(path: &StackPath, dir: BorrowedFd, name: &CStr, from: usize, to: usize) -> Result<StackPath> {
    let mut buffer = [0u8; libc::PATH_MAX as usize];
    let target = file::readlink_at(dir, name, &mut buffer)?;
    let above = if target.first() == Some(&b'/') { 0 } else { from };
    let mut instead = StackPath::new(path.as_bytes().get(..above).unwrap_or_default())?;
    instead.push(target)?;
    instead.push(path.as_bytes().get(to..).unwrap_or_default())?;
    Ok(instead)
}

/// openat2(2), close-on-exec, tried again while somebody renames directories on the way.
pub(super) fn openat2(dir: BorrowedFd, path: &CStr, flags: libc::c_int, resolve: u64) -> Result<OwnedFd> {
    // SAFETY: `open_how` is plain integers, for which zero is valid, and must be zeroed: openat2(2).
    let mut how: libc::open_how = unsafe { core::mem::zeroed() };
    how.flags = (flags | libc::O_CLOEXEC) as u64;
    how.resolve = resolve;
    let mut tries = 0;
    loop {
        let (dir, size) = (dir.as_raw_fd(), size_of::<libc::open_how>());
        // SAFETY: `path` is NUL-terminated, `how` is a whole struct of `size` bytes; both outlive the call.
        let ret = unsafe { libc::syscall(libc::SYS_openat2, dir, path.as_ptr(), &raw const how, size) };
        match owned("openat2", ret) {
            Err(error) if error.errno == Errno::EAGAIN && tries < RACES => tries += 1,
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests;
