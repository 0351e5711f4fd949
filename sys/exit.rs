//! How a process has ended.

/// How a process ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exit {
    Status(i32),
    Signal(i32),
}

impl Exit {
    /// From the status that wait(2) and proc_pid_stat(5) have.
    pub fn of_status(status: i32) -> Self {
        if libc::WIFEXITED(status) {
            Exit::Status(libc::WEXITSTATUS(status))
        } else {
            Exit::Signal(libc::WTERMSIG(status))
        }
    }

    /// The shell's number for it: the exit status, or 128 and the signal.
    pub fn code(self) -> i32 {
        match self {
            Exit::Status(status) => status,
            Exit::Signal(signal) => 128 + signal,
        }
    }
}

impl core::fmt::Display for Exit {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Exit::Status(status) => write!(f, "exit status {status}"),
            Exit::Signal(signal) => write!(f, "killed by signal {signal}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_that_of_wait() {
        assert_eq!(Exit::of_status(3 << 8), Exit::Status(3));
        assert_eq!(Exit::of_status(9), Exit::Signal(9));
        assert_eq!(Exit::of_status(11 | 0x80), Exit::Signal(11), "with a core dump");
    }
}
