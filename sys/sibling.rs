//! The birth of a process whose maker lives no longer: by then everything about it is settled, and it takes over its
//! maker's memory in place of a copy.

use core::ffi::{c_int, c_void};
use std::os::fd::{FromRawFd, OwnedFd};

use super::error::{Result, SysError, check};
use super::process::{Child, exit_now};

/// What the sibling's stack may grow to. Only what is touched is ever there.
const STACK: usize = 1 << 20;
/// What lies below it, so that to go beyond is a fault.
const GUARD: usize = 1 << 16;

struct Entry<T> {
    shared: *mut T,
    life: fn(&mut T) -> !,
}

/// Makes a process that lives `life`: a child of the caller's parent, in the pid namespace that the caller's children are
/// born in, with everything else as the caller has it (clone(2), CLONE_PARENT and CLONE_VM). In the caller, `tell` is
/// called for it, and the process ends; so this returns only if nobody was born.
///
/// Both have one memory until the caller ends, which saves the copy: three quarters of what a second clone would cost.
/// `life` must leave alone what `tell` uses until somebody has said that it was told. No heap.
pub fn give_birth<T>(shared: &mut T, tell: fn(&T, &Child) -> Result<()>, life: fn(&mut T) -> !) -> SysError {
    let top = match stack() {
        Ok(top) => top,
        Err(error) => return error,
    };
    let mut entry = Entry { shared: &raw mut *shared, life };
    let mut pidfd: c_int = -1;
    let flags = libc::CLONE_VM | libc::CLONE_PARENT | libc::CLONE_PIDFD | libc::SIGCHLD;
    let argument = (&raw mut entry).cast::<c_void>();
    // SAFETY: the stack is the sibling's alone; `entry` and `shared` lie in frames that the caller, which ends below,
    // never leaves.
    let ret = unsafe { libc::clone(enter::<T>, top, flags, argument, &raw mut pidfd) };
    match check("clone", ret.into()) {
        Err(error) => error,
        Ok(pid) => {
            // SAFETY: CLONE_PIDFD stored a new descriptor (close-on-exec by definition) that nobody else owns.
            let pidfd = unsafe { OwnedFd::from_raw_fd(pidfd) };
            let told = tell(shared, &Child { pid: pid as i32, pidfd });
            exit_now(i32::from(told.is_err()))
        }
    }
}

extern "C" fn enter<T>(entry: *mut c_void) -> c_int {
    // SAFETY: `give_birth` passes an `Entry` of this type that outlives both processes' use of it.
    let entry = unsafe { &mut *entry.cast::<Entry<T>>() };
    // SAFETY: as above; what the maker still reads, `life` leaves alone.
    let shared = unsafe { &mut *entry.shared };
    (entry.life)(shared)
}

/// The top of a new stack.
fn stack() -> Result<*mut c_void> {
    let (access, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let flags = flags | libc::MAP_NORESERVE | libc::MAP_STACK;
    // SAFETY: a new mapping, anywhere.
    let base = unsafe { libc::mmap(core::ptr::null_mut(), GUARD + STACK, access, flags, -1, 0) };
    if base == libc::MAP_FAILED {
        return Err(SysError::last("mmap"));
    }
    // SAFETY: the lowest part of the mapping, which nobody uses yet.
    let ret = unsafe { libc::mprotect(base, GUARD, libc::PROT_NONE) };
    check("mprotect", ret.into())?;
    // SAFETY: one past its end, to which the stack grows down from.
    Ok(unsafe { base.add(GUARD + STACK) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::Exit;
    use crate::process::{Cloned, clone_process, wait};
    use crate::socket;
    use crate::testing::{Outcome, heap_free, in_a_child};
    use std::os::fd::AsFd;

    struct Shared {
        maker: OwnedFd,
        sibling: OwnedFd,
        mark: u64,
    }

    fn tell(shared: &Shared, child: &Child) -> Result<()> {
        socket::send(shared.maker.as_fd(), &child.pid.to_ne_bytes(), &[child.pidfd.as_fd()])
    }

    /// Waits until its maker is gone, and answers from the memory that it has from there.
    fn live(shared: &mut Shared) -> ! {
        let mut go = [0];
        let heard = socket::receive(shared.sibling.as_fd(), &mut go);
        let told = socket::send(shared.sibling.as_fd(), &shared.mark.to_ne_bytes(), &[]);
        exit_now(if heard.is_ok() && told.is_ok() { 7 } else { 1 })
    }

    #[test]
    fn a_sibling_outlives_its_maker_as_a_child_of_the_makers_parent() {
        in_a_child(|| -> Outcome {
            let (ours, maker) = socket::pair()?;
            let (talk, sibling) = socket::pair()?;
            let mut shared = Shared { maker, sibling, mark: 1 };
            let made = match clone_process(0, None)? {
                Cloned::Child => {
                    shared.mark = 4711;
                    heap_free(|| give_birth(&mut shared, tell, live));
                    exit_now(1)
                }
                Cloned::Runtime(maker) => maker,
            };
            let mut pid = [0; 4];
            let [pidfd, ..] = socket::receive(ours.as_fd(), &mut pid)?.fds;
            let pidfd = pidfd.ok_or("no pidfd")?;
            assert_eq!(wait(made.pidfd.as_fd())?, Exit::Status(0));
            let status = std::fs::read_to_string(format!("/proc/{}/status", i32::from_ne_bytes(pid)))?;
            assert!(status.contains(&format!("PPid:\t{}\n", std::process::id())), "{status}");
            socket::send(talk.as_fd(), b"G", &[])?;
            let mut mark = [0; 8];
            socket::receive(talk.as_fd(), &mut mark)?;
            assert_eq!(u64::from_ne_bytes(mark), 4711);
            assert_eq!(wait(pidfd.as_fd())?, Exit::Status(7));
            Ok(())
        });
    }
}
