//! The names of errnos.

/// `EPERM` for an error that carries that errno; the number where the table has no name.
pub fn errno_name(error: &std::io::Error) -> String {
    let Some(code) = error.raw_os_error() else { return error.to_string() };
    let found = ERRNOS.iter().find(|(number, _)| *number == code);
    found.map_or_else(|| format!("errno {code}"), |(_, name)| (*name).to_owned())
}

macro_rules! errnos {
    ($($name:ident)*) => { &[$((libc::$name, stringify!($name))),*] };
}

const ERRNOS: &[(i32, &str)] = errnos![
    EPERM ENOENT ESRCH EINTR EIO ENXIO E2BIG ENOEXEC EBADF ECHILD EAGAIN ENOMEM EACCES EFAULT ENOTBLK EBUSY EEXIST
    EXDEV ENODEV ENOTDIR EISDIR EINVAL ENFILE EMFILE ENOTTY ETXTBSY EFBIG ENOSPC ESPIPE EROFS EMLINK EPIPE EDOM
    ERANGE EDEADLK ENAMETOOLONG ENOSYS ENOTEMPTY ELOOP ENODATA EOVERFLOW EOPNOTSUPP EAFNOSUPPORT ENETUNREACH
    ECONNREFUSED ENOKEY EKEYREVOKED EPROTONOSUPPORT
];
