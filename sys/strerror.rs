//! The words of an errno are glibc's with every C library: engines match them, and their users search for them. What std
//! says of a failure has them, too.

use nix::errno::Errno;

/// strerror(3) of glibc. The crate's own words, but for those that it has otherwise.
pub fn strerror(errno: Errno) -> &'static str {
    match errno {
        Errno::EIO => "Input/output error",
        Errno::EBADF => "Bad file descriptor",
        Errno::EAGAIN => "Resource temporarily unavailable",
        Errno::ENOMEM => "Cannot allocate memory",
        Errno::EXDEV => "Invalid cross-device link",
        Errno::ENFILE => "Too many open files in system",
        Errno::ENOTTY => "Inappropriate ioctl for device",
        Errno::EDOM => "Numerical argument out of domain",
        Errno::ERANGE => "Numerical result out of range",
        Errno::EDEADLK => "Resource deadlock avoided",
        Errno::ENOLCK => "No locks available",
        Errno::ELOOP => "Too many levels of symbolic links",
        Errno::ENETRESET => "Network dropped connection on reset",
        Errno::EBADMSG => "Bad message",
        Errno::EILSEQ => "Invalid or incomplete multibyte or wide character",
        Errno::EOPNOTSUPP => "Operation not supported",
        Errno::EDQUOT => "Disk quota exceeded",
        Errno::UnknownErrno => "Unknown error",
        errno => errno.desc(),
    }
}

/// What std asks for the words of an errno, in place of musl's function, which has words of its own (EMFILE: "No file
/// descriptors available"). The linker takes a program's own function before that of a library, as it does for malloc(3).
/// Always 0, as strerror_r(3) of POSIX has it; what does not fit is cut.
///
/// # Safety
///
/// `buffer` has room for `len` bytes.
#[cfg(target_env = "musl")]
#[unsafe(export_name = "__xpg_strerror_r")]
unsafe extern "C" fn strerror_r(errno: libc::c_int, buffer: *mut libc::c_char, len: usize) -> libc::c_int {
    let words = strerror(Errno::from_raw(errno)).as_bytes();
    let Some(room) = len.checked_sub(1) else { return 0 };
    let count = words.len().min(room);
    // SAFETY: the caller says that there is room for `len` bytes, and `count` and the NUL are no more than that.
    unsafe {
        buffer.copy_from_nonoverlapping(words.as_ptr().cast(), count);
        buffer.add(count).write(0);
    }
    0
}

#[cfg(test)]
mod tests {
    use std::ffi::CStr;

    use super::*;

    fn known() -> impl Iterator<Item = (i32, Errno)> {
        (1..=133).map(|number| (number, Errno::from_raw(number))).filter(|(_, errno)| *errno != Errno::UnknownErrno)
    }

    #[cfg(target_env = "gnu")]
    #[test]
    fn the_words_are_those_of_glibc() {
        for (number, errno) in known() {
            // SAFETY: takes a number, returns a string for any; no other thread of this test asks.
            let text = unsafe { libc::strerror(number) };
            // SAFETY: that string is NUL-terminated, and lives until strerror is called again.
            let text = unsafe { CStr::from_ptr(text) };
            assert_eq!(strerror(errno), text.to_string_lossy());
        }
    }

    #[test]
    fn std_has_these_words() {
        for (number, errno) in known() {
            let text = std::io::Error::from_raw_os_error(number).to_string();
            assert_eq!(text, format!("{} (os error {number})", strerror(errno)));
        }
    }
}
