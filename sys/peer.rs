//! Who is at the other end of a unix socket.

use core::mem::size_of;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::error::{Result, check};

/// The process that listens at the other end, as SO_PEERCRED of unix(7) has it: who called listen(2). 0 if it is in no pid
/// namespace that ours can see.
pub fn pid(socket: BorrowedFd) -> Result<i32> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut len = size_of::<libc::ucred>() as libc::socklen_t;
    // SAFETY: the kernel writes at most `len` bytes, which `peer` has.
    let ret = unsafe {
        let peer = (&raw mut peer).cast();
        libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_PEERCRED, peer, &raw mut len)
    };
    check("getsockopt", ret.into())?;
    Ok(peer.pid)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::socket;
    use std::os::fd::AsFd;

    #[test]
    fn the_other_end_of_a_pair_is_ours() {
        let (one, _other) = socket::pair().unwrap();
        assert_eq!(pid(one.as_fd()).unwrap(), std::process::id() as i32);
    }
}
