//! Descriptors that become readable when something happens: eventfd(2) and inotify(7).

use core::ffi::CStr;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use super::error::{Errno, Result, check};

/// A counter that another part of the kernel adds to; not blocking.
pub fn eventfd() -> Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
    let fd = check("eventfd", fd.into())?;
    // SAFETY: the call succeeded, so `fd` is a new descriptor that nobody else owns.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Becomes readable when the file at `path` changes; not blocking.
pub fn on_change(path: &CStr) -> Result<OwnedFd> {
    // SAFETY: no memory is passed.
    let fd = unsafe { libc::inotify_init1(libc::IN_CLOEXEC | libc::IN_NONBLOCK) };
    let fd = check("inotify_init1", fd.into())?;
    // SAFETY: the call succeeded, so `fd` is a new descriptor that nobody else owns.
    let watch = unsafe { OwnedFd::from_raw_fd(fd as i32) };
    // SAFETY: `path` is NUL-terminated and outlives the call.
    let ret = unsafe { libc::inotify_add_watch(watch.as_raw_fd(), path.as_ptr(), libc::IN_MODIFY) };
    check("inotify_add_watch", ret.into())?;
    Ok(watch)
}

/// Takes what is there to read, so that the next event can be waited for; whether there was any.
pub fn drain(fd: BorrowedFd<'_>) -> Result<bool> {
    let mut any = false;
    let mut buffer = [0u8; 4096];
    loop {
        // SAFETY: the buffer is ours and as long as said.
        let length = unsafe { libc::read(fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len()) };
        match check("read", length as libc::c_long) {
            Ok(0) => return Ok(any),
            Ok(_) => any = true,
            Err(error) if error.errno == Errno::EAGAIN => return Ok(any),
            Err(error) if error.errno == Errno::EINTR => {}
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn a_change_of_a_file_is_heard_once() {
        let path = std::env::temp_dir().join(format!("ocirt-notify-{}", std::process::id()));
        std::fs::write(&path, "a").unwrap();
        let name = std::ffi::CString::new(path.to_str().unwrap()).unwrap();
        let watch = on_change(&name).unwrap();
        assert!(!drain(watch.as_fd()).unwrap());
        std::fs::write(&path, "b").unwrap();
        assert!(drain(watch.as_fd()).unwrap() && !drain(watch.as_fd()).unwrap());
        std::fs::remove_file(&path).unwrap();
        assert_eq!(on_change(&name).unwrap_err().errno, Errno::ENOENT);
    }

    #[test]
    fn a_counter_is_empty_at_first() {
        assert!(!drain(eventfd().unwrap().as_fd()).unwrap());
    }
}
