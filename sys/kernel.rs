//! Which kernel this is, found out by what it can do: version numbers lie on distributions that backport.

use super::error::Errno;

/// Whether this is Linux 5.14 or newer: quotactl_fd(2) is one of the calls that came with it. A bad descriptor is all
/// it gets, so it does nothing; only a kernel without the call answers ENOSYS.
pub fn is_new_enough() -> bool {
    // SAFETY: no pointers; the kernel looks at the descriptor first.
    let ret = unsafe { libc::syscall(libc::SYS_quotactl_fd, -1, 0, 0, core::ptr::null::<u8>()) };
    ret >= 0 || Errno::last() != Errno::ENOSYS
}
