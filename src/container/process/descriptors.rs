//! Which descriptors the container's process gets: stdio, the preserved ones behind it, and no other (CVE-2024-21626).

use std::fmt;
use std::os::fd::BorrowedFd;

use crate::sys::{Fault, proc_self};

/// Standard input, output and error, and `preserved` more that the caller of the runtime passed on as 3, 4, ….
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Descriptors {
    pub preserved: u32,
}

impl Descriptors {
    /// Closes everything above at once, so that nothing of the host lies open in an init that waits for its start; but
    /// for `kept`, which is close-on-exec. What is preserved survives the exec, and must be open: `EBADF`.
    pub fn apply<const N: usize>(&self, kept: [Option<BorrowedFd<'_>>; N]) -> Result<(), Fault> {
        let first = self.preserved.saturating_add(3);
        proc_self::close_from(first, kept)?;
        for fd in 3..first {
            proc_self::keep_over_exec(fd)?;
        }
        Ok(())
    }
}

impl fmt::Display for Descriptors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "close descriptors from {} on", self.preserved.saturating_add(3))
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::{AsFd, AsRawFd};

    use super::*;
    use crate::container::process::executable;
    use crate::sys::Errno;
    use crate::sys::program::Strings;
    use crate::sys::testing::{heap_free, in_a_child};

    #[test]
    fn only_stdio_and_the_preserved_descriptors_survive_an_exec() {
        in_a_child(|| {
            // A copy without close-on-exec, as a careless caller of the runtime leaves behind.
            let null = std::fs::File::open("/dev/null")?;
            let high = null.as_fd().as_raw_fd() as u32;
            proc_self::keep_over_exec(high)?;
            // Enough of them that 3 is open whatever the test program holds.
            let more: Vec<_> = (0..8).map(|_| null.try_clone()).collect::<Result<_, _>>()?;
            assert!(more.len() == 8);
            heap_free(|| Descriptors { preserved: 1 }.apply([]))?;
            let script = "cd /proc/$$/fd; for n in 4 5 6 7 8 9; do [ ! -e $n ] || exit 1; done; [ -e 3 ]";
            let args = ["sh", "-c", script].map(ToOwned::to_owned);
            let program = executable::compile(&args, Some("/bin:/usr/bin"))?;
            heap_free(|| program.find())?;
            Err(program.exec(&Strings::new(Vec::new())).into())
        });
    }

    #[test]
    fn a_preserved_descriptor_that_is_not_open_is_an_error() {
        in_a_child(|| {
            assert_eq!(Descriptors { preserved: 900 }.apply([]).expect_err("not open").errno, Errno::EBADF);
            Ok(())
        });
    }
}
