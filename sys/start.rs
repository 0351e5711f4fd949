//! A program's first lines, in place of the standard library's: those also read /proc/self/maps and prepare to report a
//! stack overflow, 40 µs of the 250 that a process costs, twice in the commands that replace themselves.

use std::ffi::{CStr, OsStr, OsString};
use std::os::unix::ffi::OsStrExt;

use nix::sys::signal::{SigHandler, SigSet, SigmaskHow, Signal, signal, sigprocmask};

use super::error::{Result, SysError, check};

/// Has the C library call `$main`, a function of the arguments that returns the exit status.
#[macro_export]
macro_rules! program {
    ($main:path) => {
        // SAFETY: the C library looks for this symbol, and gives it these arguments; nothing else has its name.
        #[unsafe(no_mangle)]
        pub extern "C" fn main(count: std::ffi::c_int, arguments: *const *const std::ffi::c_char) -> std::ffi::c_int {
            $crate::start::run($main, count, arguments)
        }
    };
}

/// Runs `main`, and ends the process with its status. The arguments are those that the C library has from the kernel.
#[expect(clippy::disallowed_methods, reason = "main has returned, so that no guard is left")]
pub fn run(main: fn(Vec<OsString>) -> u8, count: i32, arguments: *const *const libc::c_char) -> ! {
    super::command_line::remember(count, arguments);
    never_capture_backtraces();
    let status = match prepare() {
        Ok(()) => main(super::command_line::arguments().map(owned).collect()),
        Err(_) => 1,
    };
    // Unlike a return it lets the standard library write what standard output still holds.
    std::process::exit(status.into())
}

fn owned(word: &CStr) -> OsString {
    OsStr::from_bytes(word.to_bytes()).to_owned()
}

/// Has the standard library decide, once for the life of the process, that errors have no backtraces. Each that is made,
/// handled or not, would cost milliseconds where an engine has `RUST_BACKTRACE=1` in its environment, and nobody prints
/// them. The environment is as before, for programs that inherit it.
fn never_capture_backtraces() {
    let no: [*const libc::c_char; 2] = [c"RUST_LIB_BACKTRACE=0".as_ptr(), core::ptr::null()];
    // SAFETY: the C library's variable; there is no other thread yet.
    let own = unsafe { environ };
    // SAFETY: as above. The array ends in null, and lives until the next statement but one.
    unsafe { environ = no.as_ptr() };
    let _decides = std::backtrace::Backtrace::capture();
    // SAFETY: as above.
    unsafe { environ = own };
}

unsafe extern "C" {
    /// environ(7)
    static mut environ: *const *const libc::c_char;
}

/// Opens /dev/null in the place of a standard stream that is closed, for the next file to be opened would be taken for
/// it; and puts right what else the program inherits.
fn prepare() -> Result<()> {
    let mut streams = [0, 1, 2].map(|fd| libc::pollfd { fd, events: 0, revents: 0 });
    // SAFETY: three structs, for the time of the call.
    let ret = unsafe { libc::poll(streams.as_mut_ptr(), 3, 0) };
    check("poll", ret.into())?;
    for _ in streams.iter().filter(|stream| stream.revents & libc::POLLNVAL != 0) {
        // SAFETY: the path is NUL-terminated and static. The lowest number that is free is the stream's, since those
        // before it are open; a stream is nobody's `OwnedFd`.
        let ret = unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) };
        check("open", ret.into())?;
    }
    put_signals_right()
}

/// What a caller ignores or blocks survives the exec that started this program, and would change what it does.
///
/// SIGCHLD: while it is ignored, the kernel reaps our children, and how they ended is lost. SIGPIPE and SIGXFSZ: a reader
/// that is gone and RLIMIT_FSIZE are to be errors, EPIPE and EFBIG, after which everything is undone; the signals would end
/// the program in the middle. The mask: what the caller had blocked, SIGTERM for one, must reach us. Other signals that are
/// ignored, as nohup(1) does it, are the caller's choice. External programs and the container's program begin with the defaults:
/// [`reset_signals`](super::proc_self::reset_signals).
fn put_signals_right() -> Result<()> {
    let actions = [
        (Signal::SIGCHLD, SigHandler::SigDfl),
        (Signal::SIGPIPE, SigHandler::SigIgn),
        (Signal::SIGXFSZ, SigHandler::SigIgn),
    ];
    for (number, action) in actions {
        // SAFETY: no handler of ours is replaced: there is none yet.
        unsafe { signal(number, action) }.map_err(|errno| SysError::new("signal", errno))?;
    }
    let none = SigSet::empty();
    sigprocmask(SigmaskHow::SIG_SETMASK, Some(&none), None).map_err(|errno| SysError::new("sigprocmask", errno))
}
