//! A private box for an engine: namespaces of its own (pid, mount, network, ipc, uts, cgroup), cgroups of its own, a
//! /run and an /etc that are thrown away. When its first process ends, so does all in it, and the cgroups go.

use std::ffi::CString;
use std::fs;
use std::io::{Read, Write};
use std::os::fd::{FromRawFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use ocirt_integration::host;

use crate::walk::Tally;

const CGROUPS: &str = "/sys/fs/cgroup";

pub struct Sandbox {
    place: PathBuf,
    /// The tree of a distribution that the box has for its root; none: the host's.
    root: Option<PathBuf>,
    /// The box's cgroup in each hierarchy, and where that hierarchy is mounted.
    cgroups: Vec<(PathBuf, PathBuf)>,
}

impl Sandbox {
    /// Runs `walk` in a box of its own with a directory of its own; a box that breaks counts as a failed step.
    pub fn run(name: &str, root: Option<&Path>, walk: impl FnOnce(&Path) -> Result<Tally, String>) -> Tally {
        // The run's name is in those of all that a box makes on the host.
        let tag = format!("{}-{}-{name}", host::run(), std::process::id());
        let place = std::env::temp_dir().join(&tag);
        fs::create_dir_all(&place).expect("directory of the box");
        let sandbox = Sandbox { cgroups: make_cgroups(&tag), place, root: root.map(Path::to_owned) };
        let (mut reader, writer) = pipe();
        // SAFETY: this process has one thread.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            drop(reader);
            sandbox.enter();
            let status = sandbox.live(walk, writer);
            // SAFETY: ends the process at once; the parent's guards are not ours to run.
            unsafe { libc::_exit(status) };
        }
        drop(writer);
        let mut text = String::new();
        // An empty answer is that of a box that broke.
        let _ = reader.read_to_string(&mut text);
        wait(pid);
        Tally::read(&text).unwrap_or_else(|| {
            println!("   FAILED  the box of {name} broke: {text}");
            Tally { failed: 1, ..Tally::default() }
        })
    }

    /// Moves this process into the cgroups and new namespaces; its next child is the first of the pid namespace.
    fn enter(&self) {
        for (directory, _) in &self.cgroups {
            write(&directory.join("cgroup.procs"), "0");
        }
        // The namespaces end with the runner, whatever becomes of it.
        // SAFETY: no memory is passed.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        let kinds = libc::CLONE_NEWNS
            | libc::CLONE_NEWNET
            | libc::CLONE_NEWPID
            | libc::CLONE_NEWIPC
            | libc::CLONE_NEWUTS
            | libc::CLONE_NEWCGROUP;
        // SAFETY: no memory is passed.
        check("unshare", unsafe { libc::unshare(kinds) });
        let unified = self.cgroups.iter().find(|(_, mountpoint)| mountpoint == Path::new(CGROUPS));
        unified.iter().for_each(|(directory, _)| delegate(directory));
    }

    /// Makes the first process of the box, and waits for it.
    fn live(&self, walk: impl FnOnce(&Path) -> Result<Tally, String>, writer: OwnedFd) -> i32 {
        // SAFETY: this process has one thread.
        let first = unsafe { libc::fork() };
        if first != 0 {
            drop(writer);
            return wait(first);
        }
        // SAFETY: no memory is passed.
        unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) };
        self.furnish();
        // SAFETY: this process has one thread.
        let walker = unsafe { libc::fork() };
        if walker == 0 {
            let text = match walk(&self.place) {
                Ok(Tally { passed, failed, skipped }) => format!("{passed} {failed} {skipped}"),
                Err(error) => error,
            };
            fs::File::from(writer).write_all(text.as_bytes()).expect("answer");
            return 0;
        }
        drop(writer);
        // The first process of a pid namespace is the parent of all orphans.
        loop {
            let mut status = 0;
            // SAFETY: the pointer is ours.
            let pid = unsafe { libc::waitpid(-1, &mut status, 0) };
            if pid == walker || pid < 0 {
                return 0;
            }
        }
    }

    /// Mounts what the box has of its own, and brings its loopback device up.
    fn furnish(&self) {
        mount("none", Path::new("/"), "", libc::MS_PRIVATE | libc::MS_REC, "");
        match &self.root {
            Some(root) => self.move_into(root),
            None => ["/etc", "/var"].iter().for_each(|directory| self.overlay(Path::new(directory), directory)),
        }
        // CRIU reads it before all else.
        if Path::new("/etc/criu").is_dir() {
            mount("tmpfs", Path::new("/etc/criu"), "tmpfs", 0, "");
        }
        mount("proc", Path::new("/proc"), "proc", libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC, "");
        for (directory, mountpoint) in &self.cgroups {
            bind(directory, mountpoint);
        }
        mount("tmpfs", Path::new("/run"), "tmpfs", 0, "mode=755");
        for name in ["lock", "user"] {
            fs::create_dir(Path::new("/run").join(name)).expect("mkdir");
        }
        // Volumes of Docker are slaves of their source.
        mount("none", Path::new("/"), "", libc::MS_SHARED | libc::MS_REC, "");
        let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(up.is_ok_and(|status| status.success()), "ip link set lo up");
    }

    /// What is written below `target` lands in the box's directory.
    fn overlay(&self, target: &Path, lower: &str) {
        let [upper, work] = ["upper", "work"].map(|kind| self.place.join(format!("{kind}{lower}")));
        fs::create_dir_all(&upper).and_then(|()| fs::create_dir_all(&work)).expect("overlay directories");
        let data = format!("lowerdir={lower},upperdir={},workdir={}", upper.display(), work.display());
        mount("overlay", target, "overlay", 0, &data);
    }

    /// Makes `root` the root, with the host's devices, /sys, and the two directories of ours at their usual paths.
    fn move_into(&self, root: &Path) {
        let new = self.place.join("newroot");
        fs::create_dir_all(&new).expect("mkdir");
        self.overlay(&new, &root.display().to_string());
        let checkout = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().expect("checkout");
        for path in [Path::new("/dev"), Path::new("/sys"), &self.place, &checkout] {
            let target = new.join(path.strip_prefix("/").expect("absolute"));
            fs::create_dir_all(&target).expect("mkdir");
            mount(&path.display().to_string(), &target, "", libc::MS_BIND | libc::MS_REC, "");
        }
        std::env::set_current_dir(&new).expect("chdir");
        // SAFETY: both paths are NUL-terminated. The old root is stacked on the new one, and taken off it.
        check("pivot_root", unsafe { libc::syscall(libc::SYS_pivot_root, c".".as_ptr(), c".".as_ptr()) } as i32);
        // SAFETY: the path is NUL-terminated.
        check("umount2", unsafe { libc::umount2(c".".as_ptr(), libc::MNT_DETACH) });
        std::env::set_current_dir("/").expect("chdir");
    }
}

impl Drop for Sandbox {
    fn drop(&mut self) {
        for (directory, _) in &self.cgroups {
            remove_cgroup(directory);
        }
        if let Err(error) = fs::remove_dir_all(&self.place) {
            println!("   {}: {error}", self.place.display());
        }
    }
}

/// A cgroup called `tag` in each hierarchy that is mounted, below the one that this process is in.
fn make_cgroups(tag: &str) -> Vec<(PathBuf, PathBuf)> {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    let mut cgroups = Vec::new();
    for line in mounts.lines() {
        let mut fields = line.split(' ');
        let (mountpoint, kind) = (fields.nth(1).unwrap_or_default(), fields.next().unwrap_or_default());
        if !matches!(kind, "cgroup" | "cgroup2") || !mountpoint.starts_with(CGROUPS) {
            continue;
        }
        let mountpoint = PathBuf::from(mountpoint);
        let directory = mountpoint.join(tag);
        fs::create_dir(&directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
        for file in ["cpuset.cpus", "cpuset.mems"] {
            // A cpuset of v1 takes no process before it has both.
            if let Ok(value) = fs::read_to_string(mountpoint.join(file)) {
                write(&directory.join(file), value.trim());
            }
        }
        cgroups.push((directory, mountpoint));
    }
    cgroups
}

/// With cgroup v2, hands the controllers to what engines make below `cgroup`, and moves this process, which is in it, into
/// a child of its own: none may be in a cgroup whose children have controllers.
fn delegate(cgroup: &Path) {
    let own = cgroup.join("walk");
    fs::create_dir(&own).unwrap_or_else(|error| panic!("{}: {error}", own.display()));
    write(&own.join("cgroup.procs"), "0");
    let controllers = fs::read_to_string(cgroup.join("cgroup.controllers")).expect("cgroup.controllers");
    for controller in controllers.split_whitespace() {
        write(&cgroup.join("cgroup.subtree_control"), &format!("+{controller}"));
    }
}

/// Removes a cgroup and those below it; their processes have ended, or are about to.
fn remove_cgroup(directory: &Path) {
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_cgroup(&entry.path());
        }
    }
    let end = Instant::now() + Duration::from_secs(5);
    while let Err(error) = fs::remove_dir(directory) {
        if Instant::now() > end {
            println!("   {}: {error}", directory.display());
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Makes `source` visible at `target` as well.
pub fn bind(source: &Path, target: &Path) {
    mount(&source.display().to_string(), target, "", libc::MS_BIND, "");
}

fn pipe() -> (fs::File, OwnedFd) {
    let mut fds = [0; 2];
    // SAFETY: the array is ours.
    check("pipe2", unsafe { libc::pipe2(fds.as_mut_ptr(), libc::O_CLOEXEC) });
    // SAFETY: the kernel has just made both for us.
    unsafe { (fs::File::from(OwnedFd::from_raw_fd(fds[0])), OwnedFd::from_raw_fd(fds[1])) }
}

fn wait(pid: i32) -> i32 {
    let mut status = 0;
    // SAFETY: the pointer is ours.
    unsafe { libc::waitpid(pid, &mut status, 0) };
    libc::WEXITSTATUS(status)
}

#[track_caller]
fn check(call: &str, ret: libc::c_int) {
    assert_eq!(ret, 0, "{call}: {}", std::io::Error::last_os_error());
}

#[track_caller]
fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}

#[track_caller]
fn mount(source: &str, target: &Path, kind: &str, flags: libc::c_ulong, data: &str) {
    let c = |text: &str| CString::new(text).expect("no NUL");
    let at = c(&target.display().to_string());
    let (source, kind, data) = (c(source), c(kind), c(data));
    // SAFETY: all strings are NUL-terminated and outlive the call.
    let ret = unsafe { libc::mount(source.as_ptr(), at.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast()) };
    check(&format!("mount {}", target.display()), ret);
}
