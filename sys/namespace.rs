//! Namespaces: their kinds, joining and leaving them, and the names kept in a uts namespace (namespaces(7)).

use core::ffi::CStr;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::error::{Errno, Result, SysError, check};

/// A kind of namespace. The value is its `CLONE_NEW*` flag.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
#[repr(u32)]
pub enum Kind {
    User = libc::CLONE_NEWUSER as u32,
    Ipc = libc::CLONE_NEWIPC as u32,
    Uts = libc::CLONE_NEWUTS as u32,
    Net = libc::CLONE_NEWNET as u32,
    Pid = libc::CLONE_NEWPID as u32,
    Mount = libc::CLONE_NEWNS as u32,
    Cgroup = libc::CLONE_NEWCGROUP as u32,
    Time = libc::CLONE_NEWTIME as u32,
}

impl Kind {
    /// Every kind in the order in which they must be joined: user first, since it gives the right to the others.
    pub const ALL: [Self; 8] =
        [Self::User, Self::Ipc, Self::Uts, Self::Net, Self::Pid, Self::Mount, Self::Cgroup, Self::Time];

    /// The `CLONE_NEW*` flag, as setns(2), unshare(2) and clone3(2) take it.
    pub const fn flag(self) -> u32 {
        self as u32
    }

    /// The kind whose `CLONE_NEW*` flag is `flag`.
    pub fn from_flag(flag: u32) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.flag() == flag)
    }

    /// The name of its file in /proc/PID/ns.
    pub const fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Ipc => "ipc",
            Self::Uts => "uts",
            Self::Net => "net",
            Self::Pid => "pid",
            Self::Mount => "mnt",
            Self::Cgroup => "cgroup",
            Self::Time => "time",
        }
    }
}

impl core::fmt::Display for Kind {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(self.name())
    }
}

/// Some kinds of namespaces, as `CLONE_NEW*` flags.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Kinds(u32);

impl Kinds {
    pub const NONE: Self = Self(0);

    /// The kinds of these `CLONE_NEW*` flags; other bits are left out.
    pub fn from_flags(flags: u32) -> Self {
        let known = Kind::ALL.into_iter().filter(|kind| flags & kind.flag() != 0);
        known.fold(Self::NONE, Self::with)
    }

    pub const fn flags(self) -> u32 {
        self.0
    }

    pub const fn contains(self, kind: Kind) -> bool {
        self.0 & kind.flag() != 0
    }

    pub const fn with(self, kind: Kind) -> Self {
        Self(self.0 | kind.flag())
    }

    pub const fn without(self, kind: Kind) -> Self {
        Self(self.0 & !kind.flag())
    }

    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

impl core::fmt::Display for Kinds {
    /// `user, pid, mnt`
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        let mut comma = "";
        for kind in Kind::ALL.into_iter().filter(|kind| self.contains(*kind)) {
            write!(f, "{comma}{kind}")?;
            comma = ", ";
        }
        Ok(())
    }
}

/// The kind of namespace that `fd` refers to; `ENOTTY` if it is none (ioctl_ns(2), Linux 4.11).
pub fn kind_of(fd: BorrowedFd<'_>) -> Result<Kind> {
    // SAFETY: NS_GET_NSTYPE takes no argument.
    let ret = unsafe { libc::ioctl(fd.as_raw_fd(), libc::NS_GET_NSTYPE) };
    let flag = check("ioctl(NS_GET_NSTYPE)", libc::c_long::from(ret))?;
    let kind = u32::try_from(flag).ok().and_then(Kind::from_flag);
    kind.ok_or(SysError::new("ioctl(NS_GET_NSTYPE)", Errno::EINVAL))
}

/// Moves the caller into the namespace `fd`, which must be of that kind. A pid or, for children, a time namespace
/// holds for the processes that are made afterwards.
pub fn join(fd: BorrowedFd<'_>, kind: Kind) -> Result<()> {
    // SAFETY: the descriptor is open; the flag is a number.
    let ret = unsafe { libc::syscall(libc::SYS_setns, fd.as_raw_fd(), kind.flag()) };
    check("setns", ret).map(drop)
}

/// Moves the caller into those namespaces of the process `pidfd` that are of `kinds`, all or none (setns(2), Linux 5.8).
/// A pid namespace holds for the processes that are made afterwards. ESRCH: the process has ended.
pub fn join_process(pidfd: BorrowedFd<'_>, kinds: Kinds) -> Result<()> {
    // SAFETY: the descriptor is open; the flags are a number.
    let ret = unsafe { libc::syscall(libc::SYS_setns, pidfd.as_raw_fd(), kinds.flags()) };
    check("setns", ret).map(drop)
}

/// Moves the caller into new namespaces of `kinds`.
pub fn unshare(kinds: Kinds) -> Result<()> {
    // SAFETY: only CLONE_NEW* flags; the raw call, so no state of the C library depends on it.
    let ret = unsafe { libc::syscall(libc::SYS_unshare, libc::c_ulong::from(kinds.flags())) };
    check("unshare", ret).map(drop)
}

/// Sets the host name of the uts namespace; at most 64 bytes.
pub fn set_hostname(name: &CStr) -> Result<()> {
    // SAFETY: `name` is as long as is said; the kernel wants no NUL.
    let ret = unsafe { libc::syscall(libc::SYS_sethostname, name.as_ptr(), name.count_bytes()) };
    check("sethostname", ret).map(drop)
}

/// Sets the NIS domain name of the uts namespace; at most 64 bytes.
pub fn set_domainname(name: &CStr) -> Result<()> {
    // SAFETY: `name` is as long as is said; the kernel wants no NUL.
    let ret = unsafe { libc::syscall(libc::SYS_setdomainname, name.as_ptr(), name.count_bytes()) };
    check("setdomainname", ret).map(drop)
}

/// Opens a namespace file; what else lies at `path` does not block.
pub fn open(path: &CStr) -> Result<OwnedFd> {
    let flags = libc::O_RDONLY | libc::O_NONBLOCK | libc::O_NOCTTY | libc::O_CLOEXEC;
    // SAFETY: `path` is NUL-terminated and outlives the call.
    let ret = unsafe { libc::open(path.as_ptr(), flags) };
    let fd = check("open", libc::c_long::from(ret))?;
    // SAFETY: the kernel has just given us this descriptor, and nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as libc::c_int) })
}

/// Whether `fd` is the namespace of `kind` that the caller is in.
pub fn is_own(fd: BorrowedFd<'_>, kind: Kind) -> Result<bool> {
    let own = open(match kind {
        Kind::User => c"/proc/self/ns/user",
        Kind::Ipc => c"/proc/self/ns/ipc",
        Kind::Uts => c"/proc/self/ns/uts",
        Kind::Net => c"/proc/self/ns/net",
        Kind::Pid => c"/proc/self/ns/pid",
        Kind::Mount => c"/proc/self/ns/mnt",
        Kind::Cgroup => c"/proc/self/ns/cgroup",
        Kind::Time => c"/proc/self/ns/time",
    })?;
    is_same(own.as_fd(), fd)
}

/// Whether both descriptors are of one namespace.
pub fn is_same(one: BorrowedFd<'_>, other: BorrowedFd<'_>) -> Result<bool> {
    Ok(identity(one)? == identity(other)?)
}

/// Whether the namespace `fd` belongs to the user namespace `user`, or to one below that (ioctl_nsfs(2)).
pub fn is_owned_by(fd: BorrowedFd<'_>, user: BorrowedFd<'_>) -> bool {
    // EPERM: it is above the caller's, or of no namespace that the caller may know of.
    let mut owner = above(fd, libc::NS_GET_USERNS as _);
    while let Some(found) = owner {
        if is_same(found.as_fd(), user) == Ok(true) {
            return true;
        }
        owner = above(found.as_fd(), libc::NS_GET_PARENT as _);
    }
    false
}

fn above(fd: BorrowedFd<'_>, which: libc::c_ulong) -> Option<OwnedFd> {
    // SAFETY: neither request takes an argument.
    let ret = unsafe { libc::ioctl(fd.as_raw_fd(), which as _) };
    super::file::owned("ioctl(NS_GET_PARENT)", ret.into()).ok()
}

/// The device and inode of `fd`, which tell namespaces apart (namespaces(7)).
fn identity(fd: BorrowedFd<'_>) -> Result<(u64, u64)> {
    let stat = super::stat::of(fd.as_raw_fd())?;
    Ok((stat.st_dev, stat.st_ino))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids;
    use crate::process::{Cloned, clone_process, exit_now, wait};
    use crate::socket;
    use crate::testing::{Outcome, in_a_child, skip};
    use std::os::fd::AsFd;

    /// Sends a user namespace, a uts namespace of it, another user namespace below it, and one of that.
    fn nested(link: BorrowedFd) -> Outcome {
        for _ in 0..2 {
            let (uid, gid) = (ids::effective_uid(), ids::effective_gid());
            unshare(Kinds::NONE.with(Kind::User))?;
            // Whoever has no id in a user namespace makes none below it.
            std::fs::write("/proc/self/setgroups", "deny")?;
            std::fs::write("/proc/self/uid_map", format!("0 {uid} 1"))?;
            std::fs::write("/proc/self/gid_map", format!("0 {gid} 1"))?;
            unshare(Kinds::NONE.with(Kind::Uts))?;
            for kind in [c"/proc/self/ns/user", c"/proc/self/ns/uts"] {
                socket::send(link, b"x", &[open(kind)?.as_fd()])?;
            }
        }
        Ok(())
    }

    #[test]
    fn a_namespace_is_owned_by_its_user_namespace_and_those_above() {
        in_a_child(|| -> Outcome {
            let (ours, theirs) = socket::pair()?;
            let child = match clone_process(0, None)? {
                Cloned::Child => {
                    drop(ours);
                    exit_now(i32::from(nested(theirs.as_fd()).is_err()))
                }
                Cloned::Runtime(child) => child,
            };
            drop(theirs);
            wait(child.pidfd.as_fd())?;
            let next =
                || socket::receive(ours.as_fd(), &mut [0]).ok().and_then(|message| message.fds.into_iter().next()?);
            let (Some(outer), Some(of_outer), Some(inner), Some(of_inner)) = (next(), next(), next(), next()) else {
                skip("user-namespaces", "user namespaces cannot be made, or not within another");
                return Ok(());
            };
            let (own, of_own) = (open(c"/proc/self/ns/user")?, open(c"/proc/self/ns/uts")?);
            let owners = |uts: &OwnedFd| [&inner, &outer, &own].map(|user| is_owned_by(uts.as_fd(), user.as_fd()));
            assert_eq!(owners(&of_inner), [true, true, true]);
            assert_eq!(owners(&of_outer), [false, true, true]);
            assert!(!is_owned_by(of_own.as_fd(), outer.as_fd()) && !is_owned_by(of_own.as_fd(), inner.as_fd()));
            Ok(())
        });
    }
}
