//! Children of the shim: programs, and functions of its own that may take their time.
//!
//! A program is born by clone(2) with CLONE_VM and CLONE_VFORK: nothing is copied, and the shim goes on when the program
//! has been executed, or could not be. A function has a copy of the shim (fork(2)). To execute the shim once more would
//! cost several times as much, a good part of it for the C library, which asks the processor what it is.

use std::ffi::{CString, OsStr};
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::process::Command;

use crate::sys::limit::Descriptors;
use crate::sys::{self, Born, Execution};

/// What a child has for its standard streams; /dev/null where nothing is given.
pub type Streams = [Option<OwnedFd>; 3];

/// Executes a program with the shim's environment. Of `command` its streams and variables are not looked at.
pub fn execute(command: &Command, streams: &Streams, descriptors: Descriptors) -> io::Result<Born> {
    let path = c_string(command.get_program())?;
    let mut words = vec![path.clone()];
    for argument in command.get_args() {
        words.push(c_string(argument)?);
    }
    let directory = command.get_current_dir().map(|path| c_string(path.as_os_str())).transpose()?;
    let streams = streams.each_ref().map(|stream| stream.as_ref().map(AsFd::as_fd));
    sys::execute(Execution { path: &path, words: &words, directory: directory.as_deref(), streams, descriptors })
}

/// Runs a function in a copy of the shim that has no descriptor of the shim's: neither its socket nor its connections nor
/// a container's output must stay open for as long as an unmount may take. What goes wrong is written to `errors`.
pub fn run<F>(function: F, errors: &OwnedFd, descriptors: Descriptors) -> io::Result<Born>
where
    F: FnOnce() -> Result<(), Box<dyn std::error::Error>>,
{
    sys::fork_bound(|| {
        let told = nix::unistd::dup2_stderr(errors).map_err(Into::into);
        sys::close_all_from(3);
        let told = told.and_then(|()| descriptors.apply().map_err(Into::into));
        match told.and_then(|()| function()) {
            Ok(()) => 0,
            Err(error) => {
                // Without its words it is an error all the same.
                let _ = writeln!(io::stderr(), "{error}");
                1
            }
        }
    })
}

fn c_string(text: &OsStr) -> io::Result<CString> {
    Ok(CString::new(text.as_bytes())?)
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::Read;

    use super::*;

    fn limit() -> Descriptors {
        Descriptors::inherited().unwrap()
    }

    fn shell(line: &str, directory: &str) -> (String, Option<u32>) {
        let mut command = Command::new("sh");
        command.arg("-c").arg(line).current_dir(directory);
        let (mut ours, theirs) = io::pipe().unwrap();
        let born = execute(&command, &[None, Some(theirs.into()), None], limit()).unwrap();
        let mut text = String::new();
        ours.read_to_string(&mut text).unwrap();
        let status = loop {
            if let Some(status) = sys::wait(born.pidfd.as_fd()) {
                break status;
            }
            std::thread::yield_now();
        };
        (text, Some(status))
    }

    #[test]
    fn a_program_has_its_directory_its_arguments_and_its_status() {
        assert_eq!(shell("pwd; read line || echo end; exit 3", "/usr"), ("/usr\nend\n".to_owned(), Some(3)));
    }

    /// The shim takes SIGTERM and SIGCHLD from a descriptor, and ignores SIGPIPE. A container must not inherit that.
    #[test]
    fn a_program_blocks_and_ignores_no_signal() {
        let mask = nix::sys::signal::SigSet::from_iter([nix::sys::signal::Signal::SIGTERM]);
        mask.thread_block().unwrap();
        let (text, _) = shell("sed -n 's/^Sig\\(Blk\\|Ign\\):.//p' /proc/self/status", "/");
        mask.thread_unblock().unwrap();
        let sets: Vec<u64> = text.lines().map(|set| u64::from_str_radix(set, 16).unwrap()).collect();
        // Whoever began the tests may ignore others.
        assert_eq!([sets[0], sets[1] & 1 << (libc::SIGPIPE - 1)], [0, 0]);
        assert!(!nix::sys::signal::SigSet::thread_get_mask().unwrap().contains(nix::sys::signal::Signal::SIGUSR2));
    }

    #[test]
    fn a_program_or_directory_that_is_missing_is_an_error_and_no_child() {
        let mut command = Command::new("/no/such");
        assert_eq!(execute(&command, &[None, None, None], limit()).unwrap_err().kind(), io::ErrorKind::NotFound);
        command = Command::new("true");
        command.current_dir("/no/such");
        assert_eq!(execute(&command, &[None, None, None], limit()).unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn a_function_tells_its_error_and_has_no_descriptor() {
        let (mut ours, theirs) = io::pipe().unwrap();
        let other = File::open("/dev/null").unwrap();
        let number = std::os::fd::AsRawFd::as_raw_fd(&other);
        let look = move || Err(format!("{}", std::path::Path::new(&format!("/proc/self/fd/{number}")).exists()).into());
        let born = run(look, &theirs.into(), limit()).unwrap();
        let mut text = String::new();
        ours.read_to_string(&mut text).unwrap();
        assert_eq!(text, "false\n");
        drop((other, born));
    }
}
