//! A test's private corner: made, and undone.
//!
//! A test process is a subreaper in a mount namespace of its own, so whatever a runtime leaves behind, a process or a
//! mount, is left in the test that caused it.

use crate::host::{
    self, NODES, assert_nothing_left, c_path, cgroups, descendants, is_cgroup2, kill, kill_tree, place, reap_zombies,
    root, suite, tag,
};
use crate::{runtime, user};
use std::ffi::CString;
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// Makes this process the reaper of all it starts, dies with the runner, and leaves the host's mount namespace.
pub fn isolate(name: &str) {
    // SAFETY: no memory is passed.
    unsafe {
        libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
        libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1);
        libc::umask(0o22);
        // Programs of containers show what they inherit.
        libc::setpriority(libc::PRIO_PROCESS, 0, 0);
        // What cargo or a shell left open is not the runtime's fault.
        libc::syscall(libc::SYS_close_range, 3, u32::MAX, libc::CLOSE_RANGE_CLOEXEC);
        if libc::unshare(libc::CLONE_NEWNS) == 0 {
            // Private first, or our mounts would reach the host; shared again, since engines need it.
            for flag in [libc::MS_PRIVATE, libc::MS_SHARED] {
                let none = std::ptr::null();
                libc::mount(c"none".as_ptr(), c"/".as_ptr(), none, flag | libc::MS_REC, none.cast());
            }
        }
    }
    let place = suite().join(name.replace("::", "."));
    std::fs::create_dir_all(&place).expect("test directory");
    shield(&place);
    if user::has_suite() || name.contains("rootless::") {
        user::introduce(&place);
    }
    if user::has_suite() && is_cgroup2() {
        user::delegate();
    }
    host::settle(place);
}

/// Covers, in this mount namespace only, the nodes of /dev with nodes of the test's own; CRIU's configuration; and for crun, which refuses the
/// hybrid layout, the cgroup v2 mount beside the v1 ones.
fn shield(place: &Path) {
    let nodes = place.join("nodes");
    std::fs::create_dir_all(&nodes).expect("test directory");
    mount("tmpfs", &nodes, Some("tmpfs"), 0);
    for (name, major, minor) in NODES {
        let path = nodes.join(name);
        // SAFETY: the path is NUL-terminated and outlives the call.
        let ret = unsafe { libc::mknod(c_path(&path).as_ptr(), libc::S_IFCHR | 0o666, libc::makedev(major, minor)) };
        assert_eq!(ret, 0, "mknod {}: {}", path.display(), std::io::Error::last_os_error());
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o666)).expect("chmod");
        mount(&path.display().to_string(), &Path::new("/dev").join(name), None, libc::MS_BIND);
    }
    // CRIU reads these before all else (criu(8), "Configuration files"), and the tests are not about what is in the host's.
    let home = std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".criu"));
    for directory in home.iter().map(PathBuf::as_path).chain([Path::new("/etc/criu")]) {
        if directory.is_dir() {
            mount("tmpfs", directory, Some("tmpfs"), 0);
        }
    }
    let unified = Path::new("/sys/fs/cgroup/unified");
    if runtime::kind() == "crun" && unified.exists() {
        mount("tmpfs", unified, Some("tmpfs"), 0);
    }
}

fn mount(source: &str, target: &Path, kind: Option<&str>, flags: libc::c_ulong) {
    let (source, kind) = (CString::new(source).expect("no NUL"), CString::new(kind.unwrap_or("")).expect("no NUL"));
    // SAFETY: all strings are NUL-terminated and outlive the call; no data.
    let ret = unsafe { libc::mount(source.as_ptr(), c_path(target).as_ptr(), kind.as_ptr(), flags, std::ptr::null()) };
    assert_eq!(ret, 0, "mount {}: {}", target.display(), std::io::Error::last_os_error());
}

/// Ends a test: undoes, then panics if anything is left.
pub fn finish() {
    undo();
    assert_nothing_left();
    user::undelegate();
    // SAFETY: as below, the path is NUL-terminated.
    unsafe { libc::umount2(c"/etc".as_ptr(), libc::MNT_DETACH) };
    // SAFETY: the path is NUL-terminated; the covered nodes of /dev stay, and end with this process.
    unsafe { libc::umount2(c_path(&place().join("nodes")).as_ptr(), libc::MNT_DETACH) };
    if !keeps() {
        let _ = std::fs::remove_dir_all(place());
    }
}

/// Whether the tests' directories stay: `OCIRT_KEEP=1`.
pub fn keeps() -> bool {
    std::env::var_os("OCIRT_KEEP").is_some_and(|value| value == "1")
}

/// Deletes each container below `root()`, and kills all that this process ever started.
pub fn undo() {
    for entry in std::fs::read_dir(root()).into_iter().flatten().flatten() {
        // Of what is the ordinary user's, nothing is root's to undo.
        let is_his = std::fs::symlink_metadata(entry.path()).is_ok_and(|meta| meta.uid() == user::USER);
        let mut command = Command::new(if is_his { runtime::program_of_user() } else { runtime::path() });
        if is_his {
            command.uid(user::USER).gid(user::USER);
        }
        command.arg("--root").arg(root()).args(["delete", "--force"]).arg(entry.file_name());
        command
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null());
        if let Ok(mut child) = command.spawn()
            && runtime::wait(&mut child, runtime::DEADLINE).is_none()
        {
            eprintln!("delete --force {:?} hangs", entry.file_name());
            kill_tree(child.id());
        }
    }
    let end = Instant::now() + Duration::from_secs(5);
    while let living @ [_, ..] = &descendants(std::process::id())[..] {
        for &pid in living {
            kill(pid);
        }
        reap_zombies();
        if Instant::now() > end {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Removes the cgroups that a failed test left, deepest first, so that the failure stays its own.
pub fn sweep() {
    for path in cgroups(&tag()).iter().rev() {
        // Some tests nest them deeper than a path is long.
        let _ = Command::new("find").arg(path).args(["-depth", "-type", "d", "-delete"]).output();
    }
    user::undelegate();
}
