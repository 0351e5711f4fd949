//! A process of the host that enters a container past the runtime, and stays in it.

use std::ffi::CString;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use ocirt_integration::bundle::Container;
use ocirt_integration::host;

/// All that it enters, unless it is told otherwise.
const KINDS: [(&str, i32); 4] =
    [("mnt", libc::CLONE_NEWNS), ("net", libc::CLONE_NEWNET), ("ipc", libc::CLONE_NEWIPC), ("uts", libc::CLONE_NEWUTS)];

/// What it will be.
pub struct Intruder {
    namespaces: Vec<(OwnedFd, i32)>,
    pids: Option<OwnedFd>,
    /// The files by which it enters the container's cgroups.
    cgroups: Vec<OwnedFd>,
    capabilities: bool,
}

/// One that is there. Dropped, it is not.
pub struct Entered(u32);

impl Drop for Entered {
    fn drop(&mut self) {
        host::kill(self.0);
        host::reap(self.0);
    }
}

/// Where the files of a controller are.
pub fn cgroup(container: &Container, controller: &str) -> PathBuf {
    container.cgroup(if host::is_cgroup2() { "" } else { controller })
}

fn open(path: &str) -> OwnedFd {
    std::fs::File::open(path).unwrap_or_else(|error| panic!("{path}: {error}")).into()
}

/// Fails the child, and with it the test.
fn check(ret: libc::c_long) {
    if ret < 0 {
        // SAFETY: no memory is passed.
        unsafe { libc::_exit(1) };
    }
}

impl Intruder {
    pub fn new(container: &Container) -> Self {
        let pid = container.pid();
        let namespaces = KINDS.iter().map(|(name, flag)| (open(&format!("/proc/{pid}/ns/{name}")), *flag)).collect();
        let directories = container.proc_file("cgroup");
        let controllers = directories.lines().filter_map(|line| line.split(':').nth(1));
        let names = controllers.filter_map(|list| list.split(',').next());
        let file = |name: &str| {
            let own = container.cgroup(name);
            let directory = match name {
                "" if !host::is_cgroup2() => Path::new("/sys/fs/cgroup/unified").join(own.file_name()?),
                "name=systemd" => Path::new("/sys/fs/cgroup/systemd").join(own.file_name()?),
                _ => own,
            };
            std::fs::OpenOptions::new().write(true).open(directory.join("cgroup.procs")).ok().map(OwnedFd::from)
        };
        let cgroups = names.filter_map(file).collect();
        Self { namespaces, pids: Some(open(&format!("/proc/{pid}/ns/pid"))), cgroups, capabilities: true }
    }

    /// Not into namespaces of this kind.
    pub fn outside(mut self, kind: &str) -> Self {
        if kind == "pid" {
            self.pids = None;
        }
        let flag = KINDS.iter().find(|(name, _)| *name == kind).map_or(0, |(_, flag)| *flag);
        self.namespaces.retain(|(_, own)| *own != flag);
        self
    }

    pub fn without_cgroup(mut self) -> Self {
        self.cgroups.clear();
        self
    }

    /// With none but what the container may have: none.
    pub fn without_capabilities(mut self) -> Self {
        self.capabilities = false;
        self
    }

    pub fn enter(self) -> Entered {
        self.enter_and(|| {})
    }

    /// In a user namespace of its own, and in others that belong to that.
    pub fn nested(self) -> Entered {
        // SAFETY: no memory is passed.
        self.enter_and(|| check(unsafe { libc::unshare(libc::CLONE_NEWUSER | libc::CLONE_NEWNET) }.into()))
    }

    /// Enters, and does `work` there. Nothing in it may allocate.
    pub fn enter_and(self, work: impl FnOnce()) -> Entered {
        let mut ready = [0; 2];
        // SAFETY: room for two descriptors.
        assert_eq!(unsafe { libc::pipe2(ready.as_mut_ptr(), libc::O_CLOEXEC) }, 0);
        if let Some(pids) = &self.pids {
            // SAFETY: no memory is passed. It holds for the processes that are made from now on.
            assert_eq!(unsafe { libc::setns(pids.as_raw_fd(), libc::CLONE_NEWPID) }, 0);
        }
        // SAFETY: the child makes system calls alone.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            self.child(work, ready[1]);
        }
        let own = open("/proc/self/ns/pid");
        let mut byte = [0u8; 1];
        // SAFETY: `byte` has room for one; the descriptors are ours.
        let read = unsafe {
            assert_eq!(libc::setns(own.as_raw_fd(), libc::CLONE_NEWPID), 0);
            libc::close(ready[1]);
            let read = libc::read(ready[0], byte.as_mut_ptr().cast(), 1);
            libc::close(ready[0]);
            read
        };
        let entered = Entered(u32::try_from(pid).expect("a child"));
        assert_eq!(read, 1, "the intruder did not enter");
        entered
    }

    fn child(&self, work: impl FnOnce(), ready: i32) -> ! {
        // SAFETY: system calls on descriptors and buffers that outlive them.
        unsafe {
            for file in &self.cgroups {
                check(libc::write(file.as_raw_fd(), b"0".as_ptr().cast(), 1) as libc::c_long);
            }
            for (namespace, flag) in &self.namespaces {
                check(libc::setns(namespace.as_raw_fd(), *flag).into());
            }
            if !self.capabilities {
                // Bounding, ambient, and the other three.
                for number in 0..64 {
                    libc::prctl(libc::PR_CAPBSET_DROP, number, 0, 0, 0);
                }
                let header: [u32; 2] = [0x2008_0522, 0];
                let none = [0u32; 6];
                check(libc::syscall(libc::SYS_capset, header.as_ptr(), none.as_ptr()));
                check(libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0).into());
            }
            work();
            check(libc::write(ready, b"x".as_ptr().cast(), 1) as libc::c_long);
            loop {
                libc::pause();
            }
        }
    }
}

/// Does `work` in the container's mount namespace; nothing in it may allocate.
pub fn in_mounts(container: &Container, work: impl FnOnce()) {
    let namespace = open(&format!("/proc/{}/ns/mnt", container.pid()));
    // SAFETY: the child makes system calls alone.
    let pid = unsafe { libc::fork() };
    if pid == 0 {
        // SAFETY: no memory is passed.
        check(unsafe { libc::setns(namespace.as_raw_fd(), libc::CLONE_NEWNS) }.into());
        work();
        // SAFETY: it ends here.
        unsafe { libc::_exit(0) };
    }
    assert_eq!(host::reap(u32::try_from(pid).expect("a child")), 0, "what was to be done in the container failed");
}

pub fn umount(path: &std::ffi::CStr) {
    // SAFETY: `path` is NUL-terminated.
    check(unsafe { libc::umount2(path.as_ptr(), libc::MNT_DETACH) }.into());
}

pub fn mount(source: &std::ffi::CStr, path: &std::ffi::CStr, kind: &std::ffi::CStr, flags: libc::c_ulong) {
    // SAFETY: the strings are NUL-terminated.
    check(unsafe { libc::mount(source.as_ptr(), path.as_ptr(), kind.as_ptr(), flags, std::ptr::null()) }.into());
}

/// A directory of the host, mounted in the container.
pub fn mount_from_outside(container: &Container, source: &str, path: &std::ffi::CStr) {
    /// linux/mount.h.
    const OPEN_TREE_CLONE: libc::c_uint = 1;
    const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
    let source = CString::new(source).expect("a path");
    // SAFETY: the string is NUL-terminated.
    let tree = unsafe { libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, source.as_ptr(), OPEN_TREE_CLONE) };
    assert!(tree >= 0, "open_tree");
    in_mounts(container, || {
        let (empty, flags) = (c"".as_ptr(), MOVE_MOUNT_F_EMPTY_PATH);
        // SAFETY: the strings are NUL-terminated.
        check(unsafe { libc::syscall(libc::SYS_move_mount, tree, empty, libc::AT_FDCWD, path.as_ptr(), flags) });
    });
    // SAFETY: the descriptor is ours.
    unsafe { libc::close(i32::try_from(tree).expect("a descriptor")) };
}
