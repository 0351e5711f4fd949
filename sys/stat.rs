//! newfstatat(2), by itself: musl makes stat(2) and fstat(2) of it on x86_64, which a container's seccomp profile need not let
//! through where it lets this one.

use core::ffi::CStr;
use core::mem::{size_of, zeroed};
use std::os::fd::RawFd;

use super::error::{Result, check};

// The C libraries have the kernel's layout here: asm/stat.h.
const _: () = assert!(size_of::<libc::stat>() == if cfg!(target_arch = "x86_64") { 144 } else { 128 });

/// What `path` is, at the end of all symlinks.
pub(super) fn of_path(path: &CStr) -> Result<libc::stat> {
    newfstatat("stat", libc::AT_FDCWD, path, 0)
}

/// What `fd` is open on. EBADF: nothing.
pub(super) fn of(fd: RawFd) -> Result<libc::stat> {
    newfstatat("fstat", fd, c"", libc::AT_EMPTY_PATH)
}

fn newfstatat(call: &'static str, dir: RawFd, path: &CStr, flags: i32) -> Result<libc::stat> {
    // SAFETY: an all-zero stat is valid.
    let mut stat: libc::stat = unsafe { zeroed() };
    // SAFETY: `path` is NUL-terminated, `stat` is live and has the kernel's layout.
    let ret = unsafe { libc::syscall(libc::SYS_newfstatat, dir, path.as_ptr(), &raw mut stat, flags) };
    check(call, ret).map(|_| stat)
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::fs::MetadataExt;

    use super::*;

    #[test]
    fn a_path_and_its_descriptor_are_what_the_standard_library_says() {
        let file = std::fs::File::open("/proc/self/exe").unwrap();
        let expected = file.metadata().unwrap();
        for stat in [of_path(c"/proc/self/exe"), of(file.as_raw_fd())] {
            let stat = stat.unwrap();
            let found = (stat.st_dev, stat.st_ino, stat.st_mode, stat.st_uid, stat.st_size.cast_unsigned());
            assert_eq!(found, (expected.dev(), expected.ino(), expected.mode(), expected.uid(), expected.size()));
        }
        assert!(of(-1).is_err());
    }
}
