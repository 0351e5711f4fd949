//! What the caller of the runtime does to itself before it becomes the runtime, which inherits it.

use super::Call;
use std::fs::File;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::process::CommandExt;

impl Call {
    /// What the caller of the runtime does to itself before, and the runtime inherits: system calls only.
    pub fn inheriting(mut self, change: impl FnMut() -> std::io::Result<()> + Send + Sync + 'static) -> Self {
        // SAFETY: after the fork; the callers pass nothing but plain system calls.
        unsafe { self.command.pre_exec(change) };
        self
    }

    /// Passes `descriptors` as 3, 4, …
    pub fn descriptors(mut self, descriptors: Vec<OwnedFd>) -> Self {
        // SAFETY: after the fork, dup2 and fcntl only; the descriptors live in the closure.
        unsafe {
            self.command.pre_exec(move || {
                // Out of the way first: a target number may be a source.
                let high: Vec<_> =
                    descriptors.iter().map(|fd| libc::fcntl(fd.as_raw_fd(), libc::F_DUPFD, 100)).collect();
                for (index, fd) in high.iter().enumerate() {
                    libc::dup2(*fd, 3 + index as i32);
                    libc::close(*fd);
                }
                Ok(())
            });
        }
        self
    }

    /// A kernel without these system calls: a seccomp filter answers ENOSYS, also in the container.
    pub fn without(mut self, numbers: Vec<i64>) -> Self {
        // BPF (seccomp(2)): load the number, then for each: equal → the next instruction, else skip it.
        let statement = |code: u32, k: u32, jf: u8| libc::sock_filter { code: code as u16, jt: 0, jf, k };
        let (load, equal, answer) =
            (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, libc::BPF_JMP | libc::BPF_JEQ, libc::BPF_RET);
        let mut program = vec![statement(load, 0, 0)];
        for number in numbers {
            program.push(statement(equal, number as u32, 1));
            program.push(statement(answer, libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32, 0));
        }
        program.push(statement(answer, libc::SECCOMP_RET_ALLOW, 0));
        // SAFETY: after the fork, one prctl that reads the program, which the closure owns.
        unsafe {
            self.command.pre_exec(move || {
                let filter = libc::sock_fprog { len: program.len() as u16, filter: program.as_ptr().cast_mut() };
                match libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &filter) {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            });
        }
        self
    }

    /// A new session whose controlling terminal is `terminal`, which is also 0, 1 and 2.
    pub fn terminal(mut self, terminal: &File) -> Self {
        let fd = terminal.as_raw_fd();
        // SAFETY: after the fork, plain system calls on a descriptor that the parent keeps open until then.
        unsafe {
            self.command.pre_exec(move || {
                libc::setsid();
                libc::ioctl(fd, libc::TIOCSCTTY, 0);
                for target in 0..3 {
                    libc::dup2(fd, target);
                }
                Ok(())
            });
        }
        self
    }
}
