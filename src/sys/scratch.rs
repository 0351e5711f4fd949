//! Throw-away namespaces for tests: what a test mounts is gone with it, the machine keeps its state.

use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use nix::sched::{CloneFlags, unshare};

use super::file;
use super::mount::{Depth, Sharing, set_sharing};
use super::path::RootFd;

/// Runs `test` in a thread with a mount namespace, root, working directory and umask of its own.
///
/// A thread, not a fork: namespaces belong to threads, and a failing assertion reports as any other.
pub fn in_mount_namespace<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    let thread = std::thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace of our own");
        let root = file::open_directory(c"/").unwrap();
        set_sharing(root.as_fd(), Sharing::Private, Depth::Tree).expect("private mounts");
        test()
    });
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

<<<<<<< HEAD
/// A directory that is removed with all its contents when dropped; mounts below must be gone by then.
=======
/// A directory that is removed with all its contents when dropped.
>>>>>>> rootfs
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
<<<<<<< HEAD
    fn drop(&mut self) {
=======
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
>>>>>>> rootfs
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
