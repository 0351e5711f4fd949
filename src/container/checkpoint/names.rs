//! Names of files and sockets in CRIU's images, and the flags with which it opens them: it does so as root, before anybody
//! can look at what it has opened.
//!
//! Field numbers of images/fdinfo.proto, regfile.proto, tty.proto, sk-unix.proto, fsnotify.proto, fh.proto, mm.proto and
//! vma.proto.

use anyhow::{Result, ensure};
use prost::Message;

/// O_CREAT, O_EXCL, O_NOCTTY and O_TRUNC of asm-generic/fcntl.h. They are about the call of open(2), and the kernel forgets
/// them: no file has them in /proc/PID/fdinfo, nor in an image that was not edited.
const OF_THE_CALL: u32 = 0o100 | 0o200 | 0o400 | 0o1000;

/// `file_entry`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct File {
    #[prost(message, optional, tag = "3")]
    pub regular: Option<Regular>,
    #[prost(message, optional, tag = "13")]
    inotify: Option<Inotify>,
    #[prost(message, optional, tag = "14")]
    fanotify: Option<Fanotify>,
    #[prost(message, optional, tag = "16")]
    socket: Option<Socket>,
    #[prost(message, optional, tag = "19")]
    terminal: Option<TtyFileEntry>,
}

/// `reg_file_entry`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Regular {
    #[prost(uint32, tag = "1")]
    pub id: u32,
    #[prost(uint32, tag = "2")]
    flags: u32,
    /// Any bytes.
    #[prost(bytes = "vec", tag = "6")]
    pub name: Vec<u8>,
    #[prost(sint32, optional, tag = "7")]
    pub mount: Option<i32>,
}

/// `tty_file_entry`: its name is that of a regular file.
#[derive(Clone, PartialEq, Message)]
pub(super) struct TtyFileEntry {
    #[prost(uint32, tag = "3")]
    flags: u32,
}

/// `unix_sk_entry`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Socket {
    /// That of an abstract one begins with a NUL byte.
    #[prost(bytes = "vec", tag = "11")]
    name: Vec<u8>,
    /// Where a relative name begins.
    #[prost(bytes = "vec", optional, tag = "14")]
    directory: Option<Vec<u8>>,
}

/// `inotify_file_entry`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Inotify {
    #[prost(message, repeated, tag = "5")]
    watches: Vec<InotifyWdEntry>,
}

/// `inotify_wd_entry`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct InotifyWdEntry {
    #[prost(message, optional, tag = "7")]
    handle: Option<Handle>,
}

/// `fanotify_file_entry`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Fanotify {
    #[prost(message, repeated, tag = "6")]
    marks: Vec<Mark>,
}

/// `fanotify_mark_entry`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Mark {
    #[prost(message, optional, tag = "7")]
    inode: Option<InodeMark>,
}

/// `fanotify_inode_mark_entry`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct InodeMark {
    #[prost(message, optional, tag = "2")]
    handle: Option<Handle>,
}

/// `fh_entry`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Handle {
    #[prost(bytes = "vec", tag = "4")]
    path: Vec<u8>,
}

/// `mm_entry`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct MmEntry {
    #[prost(message, repeated, tag = "14")]
    pub mappings: Vec<VmaEntry>,
}

/// `vma_entry`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct VmaEntry {
    /// With which its file is opened.
    #[prost(uint32, tag = "10")]
    flags: u32,
}

impl File {
    pub fn check(&self) -> Result<()> {
        self.regular.iter().try_for_each(Regular::check)?;
        self.terminal.iter().try_for_each(TtyFileEntry::check)?;
        self.socket.iter().try_for_each(Socket::check)?;
        self.inotify.iter().try_for_each(Inotify::check)?;
        self.fanotify.iter().try_for_each(Fanotify::check)
    }
}

impl Regular {
    pub fn check(&self) -> Result<()> {
        ensure!(!leaves(&self.name), "{}: a path with \"..\" or a NUL byte", show(&self.name));
        check_flags(self.flags, &self.name)
    }
}

impl TtyFileEntry {
    pub fn check(&self) -> Result<()> {
        check_flags(self.flags, b"a terminal")
    }
}

impl VmaEntry {
    pub fn check(&self) -> Result<()> {
        check_flags(self.flags, b"a mapping")
    }
}

impl Socket {
    /// CRIU binds and removes the name, in the container's mount namespace, with descriptors of its own still open.
    pub fn check(&self) -> Result<()> {
        if self.name.first() == Some(&0) {
            return Ok(());
        }
        // It is saved with the NUL byte at its end.
        let name = self.name.strip_suffix(b"\0").unwrap_or(&self.name);
        for path in [Some(name), self.directory.as_deref()].into_iter().flatten() {
            ensure!(!leaves(path), "socket {}: a path with \"..\" or a NUL byte", show(path));
        }
        Ok(())
    }
}

impl Inotify {
    pub fn check(&self) -> Result<()> {
        self.watches.iter().try_for_each(InotifyWdEntry::check)
    }
}

impl InotifyWdEntry {
    pub fn check(&self) -> Result<()> {
        self.handle.iter().try_for_each(Handle::check)
    }
}

impl Fanotify {
    pub fn check(&self) -> Result<()> {
        self.marks.iter().try_for_each(Mark::check)
    }
}

impl Mark {
    pub fn check(&self) -> Result<()> {
        self.inode.iter().filter_map(|mark| mark.handle.as_ref()).try_for_each(Handle::check)
    }
}

impl Handle {
    fn check(&self) -> Result<()> {
        ensure!(!leaves(&self.path), "{}: a path with \"..\" or a NUL byte", show(&self.path));
        Ok(())
    }
}

fn check_flags(flags: u32, name: &[u8]) -> Result<()> {
    ensure!(
        flags & OF_THE_CALL == 0,
        "{}: flags that no open file has ({flags:#o}), by which it would be emptied or made",
        show(name)
    );
    Ok(())
}

/// Whether a path leads out of what it is looked up in. For CRIU, it ends at a NUL byte.
pub(super) fn leaves(path: &[u8]) -> bool {
    path.contains(&0) || path.split(|byte| *byte == b'/').any(|part| part == b"..")
}

fn show(path: &[u8]) -> String {
    format!("{:?}", String::from_utf8_lossy(path))
}
