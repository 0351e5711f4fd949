//! Throw-away namespaces for tests: what a test mounts is gone with it, the machine keeps its state.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::new_without_default,
    clippy::unwrap_used,
    reason = "a test that cannot go on panics"
)]

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, unshare};

use super::file;
use super::mount::{Depth, Sharing, set_sharing};
use super::path::RootFd;

/// Runs `test` in a thread with a mount namespace, root, working directory, umask and descriptors of its own.
///
/// A thread, not a fork: namespaces belong to threads, and a failing assertion reports as any other.
#[expect(clippy::disallowed_methods, reason = "a namespace for one thread")]
pub fn in_mount_namespace<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_FILES).expect("a mount namespace of our own");
        let root = file::open_directory(c"/").unwrap();
        set_sharing(root.as_fd(), Sharing::Private, Depth::Tree).expect("private mounts");
        // As the runtime has it.
        super::credentials::set_umask(0);
        test()
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Runs `test` in a thread with a copy of the caller's mount namespace, its mounts' peers.
pub fn in_copied_mount_namespace(test: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace of our own");
            test();
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

/// Exchanges the files `one` and `other` in one step.
pub fn exchange(one: &Path, other: &Path) {
    use nix::fcntl::{AT_FDCWD, RenameFlags, renameat2};
    renameat2(AT_FDCWD, one, AT_FDCWD, other, RenameFlags::RENAME_EXCHANGE).expect("renameat2");
}

/// A directory that is removed with all its contents when dropped.
pub struct Directory(PathBuf);

impl Directory {
    pub fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("ocirt-test-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a scratch directory");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    pub fn join(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The directory as a container's root.
    pub fn root(&self) -> RootFd {
        RootFd::new(file::open_directory(&c_path(&self.0)).unwrap())
    }
}

impl Drop for Directory {
    /// What is still mounted below goes first: removing it would remove what is bound there.
    fn drop(&mut self) {
        let table = std::fs::read_to_string("/proc/thread-self/mountinfo").unwrap_or_default();
        let points = table.lines().rev().filter_map(|line| line.split(' ').nth(4).map(PathBuf::from));
        let all_gone = points.filter(|point| point.starts_with(&self.0)).all(|point| {
            // Other mounts may cover it.
            super::mount::detach(&c_path(&point)).is_ok() || !point.exists()
        });
        if !all_gone {
            return;
        }
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// `path` as the kernel takes it.
pub fn c_path(path: &Path) -> std::ffi::CString {
    std::ffi::CString::new(path.to_str().expect("a UTF-8 path")).expect("no NUL")
}

/// The mount at `path` as the calling thread sees it: its options, type and superblock options, in mountinfo's words.
pub fn mount_line(path: &Path) -> Option<String> {
    let table = std::fs::read_to_string("/proc/thread-self/mountinfo").expect("mountinfo");
    let path = path.to_str().expect("a UTF-8 path");
    table.lines().rfind(|line| line.split(' ').nth(4) == Some(path)).map(str::to_owned)
}

/// The host's id of root in [`in_user_namespace`].
pub const ROOT_INSIDE: u32 = 100_000;

/// Runs `test` as root of a new user namespace with a mount namespace of its own, in a process of its own: a process
/// with threads cannot have another user namespace.
#[expect(clippy::disallowed_methods, reason = "the child goes on as a test")]
pub fn in_user_namespace(test: impl FnOnce()) {
    use nix::sys::wait::{WaitStatus, waitpid};
    use nix::unistd::{ForkResult, fork, setgid, setgroups, setuid};
    let (unshared_reader, unshared) = std::io::pipe().unwrap();
    let (mapped_reader, mapped) = std::io::pipe().unwrap();
    // SAFETY: the child uses no lock of other threads but the allocator's, which glibc makes usable after a fork.
    match unsafe { fork() }.expect("fork") {
        ForkResult::Child => {
            drop((unshared_reader, mapped));
            let run = std::panic::AssertUnwindSafe(|| {
                unshare(CloneFlags::CLONE_NEWUSER | CloneFlags::CLONE_NEWNS).expect("a user namespace");
                drop(unshared);
                let _ = std::io::Read::read(&mut &mapped_reader, &mut [0]);
                setgroups(&[]).and(setgid(0.into())).and(setuid(0.into())).expect("root inside");
                test();
            });
            let status = i32::from(std::panic::catch_unwind(run).is_err());
            // SAFETY: ends the child without the parent's exit handlers.
            unsafe { libc::_exit(status) }
        }
        ForkResult::Parent { child } => {
            drop((unshared, mapped_reader));
            let _ = std::io::Read::read(&mut &unshared_reader, &mut [0]);
            for map in ["uid_map", "gid_map"] {
                let line = format!("0 {ROOT_INSIDE} 65536");
                std::fs::write(format!("/proc/{child}/{map}"), line).expect("an id map");
            }
            drop(mapped);
            assert_eq!(waitpid(child, None), Ok(WaitStatus::Exited(child, 0)), "the test in the user namespace failed");
        }
    }
}
