//! The root directory of a CRIU that restores. What an image names by a path, CRIU looks for as root, through symlinks
//! that the container left; so of the host there is only what CRIU needs:
//!
//! ```text
//! /bin /sbin /lib* /usr …   the host's programs and libraries, read-only, and those beside criu where it lies elsewhere
//! /etc                      alternatives and ld.so.cache, by which these programs are found; no configuration
//! /dev                      nodes that harm nobody
//! /proc                     the runtime's: CRIU works on processes by the runtime's numbers
//! /sys                      read-only
//! /run /tmp                 its own
//! /.ocirt                   the rootfs, the sources of external mounts, a configuration file, a directory to work in
//! the path of --image-path  the images, and those that they are the difference to, read-only
//! ```
//!
//! `/proc/PID/root` still leads to the host from there: so while CRIU makes what images name, nobody follows a link in that
//! procfs, nor in the mounts that CRIU makes for the container.

use std::ffi::{CStr, CString};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};

use anyhow::{Context, Result, ensure};

use crate::sys::mount::{self, Attributes, Depth, FsContext, Sharing, attr};
use crate::sys::path::{Links, RootFd, open_itself_at};
use crate::sys::{Errno, file, mountinfo, random, regular};

/// What is the container's, and CRIU gets by names that ocirt chooses.
const OWN: &CStr = c"/.ocirt";

/// Below `/`, and below a directory of programs that is installed elsewhere: hier(7).
const PROGRAMS: [&str; 7] = ["bin", "sbin", "lib", "lib32", "lib64", "libx32", "libexec"];

/// Directories of programs below `/` alone; the last two are of Nix and Guix, whose programs are all there.
const SYSTEM: [&str; 3] = ["usr", "nix/store", "gnu/store"];

/// Where Debian's iptables-restore is a link to, and where the libraries are.
const CONFIGURATION: [&str; 2] = ["etc/alternatives", "etc/ld.so.cache"];

const DEVICES: [&str; 7] = ["dev/null", "dev/zero", "dev/full", "dev/random", "dev/urandom", "dev/tty", "dev/net/tun"];

/// What CRIU has found out about the kernel; it takes it from a tmpfs only.
const KERNEL_DATA: (&CStr, &CStr) = (c"/run", c"criu.kdat");
const KERNEL_DATA_LIMIT: u64 = 1 << 16;

/// What CRIU may do with a directory of the host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostAccess {
    Read,
    Write,
}

/// A root directory that comes to be, mounted somewhere in a mount namespace of the caller's own.
pub struct CriuRoot {
    top: RootFd,
    identity: (u64, u64),
}

impl CriuRoot {
    /// The path of the rootfs, and of CRIU's configuration file if there is one.
    pub const ROOTFS: &str = "/.ocirt/rootfs";
    pub const CONFIGURATION: &str = "/.ocirt/criu.conf";
    const WORK: &str = "/.ocirt/work";

    /// Begins one at `place`, with what CRIU needs of the host; `program` is the criu.
    pub fn begin(place: &Path, program: &Path) -> Result<Self> {
        let top = tmpfs()?;
        mount::attach(top.as_fd(), file::open_directory(&text(place)?)?.as_fd())?;
        let metadata = File::from(file::directory_at(top.as_fd(), c".")?).metadata()?;
        let root = Self { top: RootFd::new(top), identity: identity(&metadata) };
        root.programs(Path::new("/"), PROGRAMS.iter().chain(&SYSTEM))?;
        root.program(program).with_context(|| program.display().to_string())?;
        for name in CONFIGURATION.iter().chain(&DEVICES) {
            root.show_if_there(&Path::new("/").join(name), attr::RDONLY * u64::from(name.starts_with("etc")))?;
        }
        root.show_if_there(Path::new("/proc"), 0)?;
        root.show_if_there(Path::new("/sys"), attr::RDONLY)?;
        // A mount of its own: see `follow_no_links`.
        root.show(c"/tmp", tmpfs()?.as_fd())?;
        root.kernel_data()?;
        Ok(root)
    }

    /// The host's programs below `above`: directories, and links to such.
    fn programs<'n>(&self, above: &Path, names: impl Iterator<Item = &'n &'n str>) -> Result<()> {
        for name in names {
            let path = above.join(name);
            let is_link = match fs::symlink_metadata(&path) {
                Err(error) if error.kind() == ErrorKind::NotFound => continue,
                found => found.with_context(|| path.display().to_string())?.is_symlink(),
            };
            if is_link {
                let target = fs::read_link(&path).with_context(|| path.display().to_string())?;
                let path = text(&path)?;
                let (parent, name) = self.top.parent(&path, Links::Refuse)?;
                file::symlink_at(&text(&target)?, parent.as_fd(), name)?;
            } else {
                self.show_if_there(&path, attr::RDONLY)?;
            }
        }
        Ok(())
    }

    /// A criu that is not among the system's programs, with the libraries that are installed beside it.
    fn program(&self, path: &Path) -> Result<()> {
        let first = path.components().find_map(|part| match part {
            Component::Normal(name) => name.to_str(),
            _ => None,
        });
        if PROGRAMS.iter().chain(&SYSTEM).any(|name| name.split('/').next() == first) {
            return Ok(());
        }
        match path.parent().filter(|parent| parent.ends_with("bin") || parent.ends_with("sbin")).and_then(Path::parent)
        {
            Some(above) => self.programs(above, PROGRAMS.iter()),
            None => self.show_if_there(path, attr::RDONLY),
        }
    }

    /// Shows what the host has at `path` at the same path, with all that is mounted below.
    fn show_if_there(&self, path: &Path, restrictions: u64) -> Result<()> {
        if !path.exists() {
            return Ok(());
        }
        let what = || path.display().to_string();
        let name = text(path)?;
        let tree = mount::copy_path(&name, Depth::Tree).with_context(what)?;
        mount::set_sharing(tree.as_fd(), Sharing::Private, Depth::Tree).with_context(what)?;
        let attributes = Attributes { set: restrictions, clear: 0 };
        mount::set_attributes(tree.as_fd(), attributes, Depth::Tree).with_context(what)?;
        self.show(&name, tree.as_fd()).with_context(what)
    }

    /// Mounts `tree` at `path`, which is made.
    fn show(&self, path: &CStr, tree: BorrowedFd) -> Result<()> {
        let target = if file::stat(tree)?.is_directory() {
            self.top.target_dir(path, Links::Refuse)?
        } else {
            let (parent, name) = self.top.parent(path, Links::Refuse)?;
            drop(file::create_at(parent.as_fd(), name, 0o600)?);
            open_itself_at(parent.as_fd(), name)?
        };
        Ok(mount::attach(tree, target.as_fd())?)
    }

    /// Without it, CRIU looks at the kernel anew each time.
    fn kernel_data(&self) -> Result<()> {
        let (directory, name) = KERNEL_DATA;
        let own = self.top.target_dir(directory, Links::Refuse)?;
        let found = file::open_directory(directory).ok();
        let read = found.and_then(|found| regular::read(found.as_fd(), name, KERNEL_DATA_LIMIT).ok());
        if let Some((data, _)) = read.filter(|(_, stat)| stat.uid == 0) {
            File::from(file::create_at(own.as_fd(), name, 0o600)?).write_all(&data)?;
        }
        Ok(())
    }

    /// Shows the rootfs with all that is mounted in it. Where config.json has it read-only, CRIU has it so, too.
    pub fn rootfs(&self, path: &Path, is_read_only: bool) -> Result<()> {
        let tree = mount::copy_path(&text(path)?, Depth::Tree)?;
        if is_read_only {
            mount::set_attributes(tree.as_fd(), Attributes { set: attr::RDONLY, clear: 0 }, Depth::One)?;
        }
        self.show(&CString::new(Self::ROOTFS)?, tree.as_fd())
    }

    /// Shows the file as CRIU's configuration.
    pub fn configuration(&self, path: &Path) -> Result<()> {
        let tree = mount::copy_path(&text(path)?, Depth::One)?;
        mount::set_attributes(tree.as_fd(), Attributes { set: attr::RDONLY, clear: 0 }, Depth::One)?;
        self.show(&CString::new(Self::CONFIGURATION)?, tree.as_fd())
    }

    /// Shows the directory that `fd` is open on at `path`, where the host has it: links in one directory of images lead
    /// to another. It, open there. The processes that CRIU makes have it open still when they bind sockets by names that may
    /// lead there.
    pub fn directory(&self, path: &Path, fd: BorrowedFd, access: HostAccess) -> Result<OwnedFd> {
        ensure!(path != Path::new("/"), "is the host's root directory");
        let tree = mount::copy_tree(fd, Depth::One)?;
        if access == HostAccess::Read {
            mount::set_attributes(tree.as_fd(), Attributes { set: attr::RDONLY, clear: 0 }, Depth::One)?;
        }
        self.show(&text(path)?, tree.as_fd())?;
        Ok(file::directory_at(tree.as_fd(), c".")?)
    }

    /// A directory for CRIU to work in, of which nothing is the host's but what `files` are open on: they have these names there.
    pub fn work(&self, files: &[(&CStr, BorrowedFd)]) -> Result<OwnedFd> {
        let directory = self.top.target_dir(&CString::new(Self::WORK)?, Links::Refuse)?;
        for (name, file) in files {
            let tree = mount::copy_tree(*file, Depth::One)?;
            drop(file::create_at(directory.as_fd(), name, 0o600)?);
            mount::attach(tree.as_fd(), open_itself_at(directory.as_fd(), name)?.as_fd())?;
        }
        Ok(file::directory_at(directory.as_fd(), c".")?)
    }

    /// An empty directory for what is the container's.
    pub fn own(&self) -> Result<OwnedFd> {
        Ok(self.top.target_dir(OWN, Links::Refuse)?)
    }

    /// An empty directory for sources of external mounts, and its path: what is mounted there is more than the container may
    /// see, so no image can know it.
    pub fn sources(&self) -> Result<(OwnedFd, PathBuf)> {
        let name = random::hex(&random::bytes::<16>()?);
        let path = format!("{}/{name}", OWN.to_string_lossy());
        Ok((self.top.target_dir(&CString::new(path.as_str())?, Links::Refuse)?, path.into()))
    }

    /// Makes it the root of the caller's mount namespace, and of the caller; what was there before is gone.
    pub fn finish(self) -> Result<RootInUse> {
        file::enter(self.top.as_fd())?;
        mount::pivot_root_here()?;
        mount::detach_here()?;
        file::enter_root()?;
        Ok(RootInUse(self.identity))
    }
}

/// A root directory that is in use.
#[derive(Clone, Copy)]
pub struct RootInUse((u64, u64));

impl RootInUse {
    /// From now on, nobody who goes through the mounts that CRIU has made for the container follows a symlink: CRIU makes
    /// deleted files anew by their paths there, before the container's own mounts have a root that keeps links inside.
    /// The container's mounts are copies, in which links are as they were.
    ///
    /// To be called in the mount namespace in which CRIU makes them.
    pub fn follow_no_links(&self) -> Result<()> {
        self.ensure_is_here()?;
        let is_there = mountinfo::parse(&mountinfo::of_self()?).any(|mount| mount.at.starts_with(b"/tmp/.criu."));
        ensure!(is_there, "criu makes them elsewhere than in /tmp");
        set_links(c"/tmp", false)
    }

    /// Whether links are followed in the procfs. The processes that CRIU makes have CRIU's descriptors still when they open
    /// files and bind sockets by the names of an image, which `/proc/self/fd/N/PID/root/…` may be among: a container can
    /// bind a socket to such a name, where N is something else.
    ///
    /// To be called in every mount namespace that CRIU has.
    pub fn follow_links_of_proc(&self, are_followed: bool) -> Result<()> {
        self.ensure_is_here()?;
        set_links(c"/proc", are_followed)
    }

    /// Takes away what CRIU needs no more when its mounts are made: the sources of external mounts, which it has bound, and
    /// the right to write the host's sysctls.
    ///
    /// To be called in every mount namespace that CRIU has, before links of its `/proc` are refused.
    pub fn withdraw(&self) -> Result<()> {
        self.ensure_is_here()?;
        let kept = [CriuRoot::ROOTFS, CriuRoot::CONFIGURATION, CriuRoot::WORK];
        let is_source =
            |at: &[u8]| at.starts_with(b"/.ocirt/") && !kept.iter().any(|own| at.starts_with(own.as_bytes()));
        let text = mountinfo::of_self()?;
        let mut sources: Vec<_> = mountinfo::parse(&text).map(|mount| mount.at).filter(|at| is_source(at)).collect();
        // What is mounted later may lie on what is earlier.
        sources.reverse();
        for at in sources {
            mount::detach(&CString::new(at.as_ref())?).with_context(|| String::from_utf8_lossy(&at).into_owned())?;
        }
        for path in [c"/proc/sys", c"/proc/sysrq-trigger"] {
            let copy = match mount::copy_path(path, Depth::One) {
                // A kernel without it.
                Err(error) if error.errno == Errno::ENOENT => continue,
                copy => copy?,
            };
            mount::set_attributes(copy.as_fd(), Attributes { set: attr::RDONLY, clear: 0 }, Depth::One)?;
            mount::attach(copy.as_fd(), file::open_path(path)?.as_fd())?;
        }
        Ok(())
    }

    fn ensure_is_here(&self) -> Result<()> {
        ensure!(identity(&fs::metadata("/")?) == self.0, "criu is in another mount namespace");
        Ok(())
    }
}

fn set_links(path: &CStr, are_followed: bool) -> Result<()> {
    let (set, clear) = if are_followed { (0, attr::NOSYMFOLLOW) } else { (attr::NOSYMFOLLOW, 0) };
    Ok(mount::set_attributes(file::open_directory(path)?.as_fd(), Attributes { set, clear }, Depth::Tree)?)
}

fn tmpfs() -> Result<OwnedFd> {
    let tmpfs = FsContext::open(c"tmpfs")?;
    tmpfs.set(c"mode", Some(c"0755"))?;
    tmpfs.create()?;
    Ok(tmpfs.mount(attr::NOSUID | attr::NODEV | attr::NOEXEC)?)
}

fn identity(metadata: &fs::Metadata) -> (u64, u64) {
    (metadata.dev(), metadata.ino())
}

fn text(path: &Path) -> Result<CString> {
    Ok(CString::new(path.as_os_str().as_bytes())?)
}
