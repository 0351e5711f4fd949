//! How many descriptors this process may have, and its children.

use std::io;

/// What containerd gave the shim, and its children are to have.
#[derive(Clone, Copy, Debug)]
pub struct Descriptors(libc::rlimit);

impl Descriptors {
    /// That of this process, which has not changed it yet.
    pub fn inherited() -> io::Result<Self> {
        current().map(Self)
    }

    /// Gives this process all that it may have. A process with its three streams takes seven, and since containerd 2.0 its
    /// service has 1024.
    pub fn raise(self) -> io::Result<()> {
        set(libc::rlimit { rlim_cur: self.0.rlim_max, ..self.0 })
    }

    /// Gives this process what it was given, or what somebody has left it since: what containers inherit is not the shim's to
    /// change. It allocates nothing, and may be called between fork and exec.
    pub fn apply(self) -> io::Result<()> {
        let most = current()?.rlim_max;
        set(libc::rlimit { rlim_cur: self.0.rlim_cur.min(most), rlim_max: most })
    }
}

fn current() -> io::Result<libc::rlimit> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the structure outlives the call.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(limit) }
}

fn set(limit: libc::rlimit) -> io::Result<()> {
    // SAFETY: the structure outlives the call.
    let result = unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
