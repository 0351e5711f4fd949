//! What the kernel tells of a process by its pidfd: PIDFD_GET_INFO, Linux 6.13.

use core::mem::zeroed;
use std::os::fd::{AsRawFd, BorrowedFd};

use super::error::{Errno, Result, check};
use super::exit::Exit;

/// How the process of `pidfd` has ended, whoever its parent was. `None`: it lives, or its parent has not reaped it, or the
/// kernel does not tell (before Linux 6.15). The descriptor has to be older than the reaping.
pub fn exit(pidfd: BorrowedFd) -> Result<Option<Exit>> {
    // SAFETY: the struct is plain numbers, for which zero is a valid value.
    let mut info: libc::pidfd_info = unsafe { zeroed() };
    info.mask = libc::PIDFD_INFO_EXIT.into();
    // SAFETY: the kernel writes no more than the struct's size, which is part of the request; `info` outlives the call.
    let ret = unsafe { libc::ioctl(pidfd.as_raw_fd(), libc::PIDFD_GET_INFO, &raw mut info) };
    match check("ioctl PIDFD_GET_INFO", ret.into()) {
        // ENOTTY, EINVAL: Linux before 6.13. ESRCH: reaped, and of that Linux before 6.15 keeps nothing.
        Err(error) if matches!(error.errno, Errno::ENOTTY | Errno::EINVAL | Errno::ESRCH) => Ok(None),
        Err(error) => Err(error),
        Ok(_) => Ok((info.mask & u64::from(libc::PIDFD_INFO_EXIT) != 0).then(|| Exit::of_status(info.exit_code))),
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::{process, testing};

    #[test]
    fn the_end_of_a_process_is_told_once_it_is_reaped() {
        for (status, expected) in [(7, Exit::Status(7)), (0, Exit::Status(0))] {
            let pid = testing::spawn(|| {
                std::thread::sleep(std::time::Duration::from_millis(100));
                process::exit_now(status)
            });
            let pidfd = process::pidfd_open(pid).unwrap();
            assert_eq!(exit(pidfd.as_fd()).unwrap(), None, "it lives");
            assert!(process::ends_within(pidfd.as_fd(), 10_000).unwrap());
            assert_eq!(exit(pidfd.as_fd()).unwrap(), None, "it is not reaped");
            assert_eq!(process::wait(pidfd.as_fd()).unwrap(), expected);
            match exit(pidfd.as_fd()).unwrap() {
                None => return testing::skip("exit-info", "the kernel does not tell"),
                told => assert_eq!(told, Some(expected)),
            }
        }
    }
}
