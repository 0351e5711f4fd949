//! An ordinary user, whose containers are rootless: who he is, what he may map, and his own cgroup where there is one.
//!
//! He exists in the mount namespace of a test alone: `/etc` is covered there by a directory that knows him. With
//! `OCIRT_SUITE_USER=1` every call of the suite is his, every bundle has his user namespace, and on cgroup v2 he has a
//! cgroup that was delegated to him.

use crate::host;
use crate::wait::eventually;
use serde_json::{Value, json};
use std::ffi::CString;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// His user and group id, which no distribution gives to anybody.
pub const USER: u32 = 54_321;
/// The first of the 65536 ids that /etc/subuid and /etc/subgid give to him; root's tests of user namespaces map the same.
pub const RANGE: u32 = 100_000;

/// Whether the whole suite runs as the user.
pub fn has_suite() -> bool {
    std::env::var_os("OCIRT_SUITE_USER").is_some_and(|value| !value.is_empty())
}

/// Makes the user known in this test's mount namespace, and gives him the test's directory.
pub fn introduce(place: &Path) {
    // Root's are not his, and he inherits what the test sets.
    // SAFETY: no memory is passed.
    unsafe { libc::setgroups(0, std::ptr::null()) };
    let etc = place.join("etc");
    std::fs::create_dir_all(&etc).expect("etc");
    let range = format!("tester:{RANGE}:65536\n");
    let passwd = format!("root:x:0:0:root:/root:/bin/sh\ntester:x:{USER}:{USER}::/:/bin/sh\n");
    let group = format!("root:x:0:\ntester:x:{USER}:\n");
    let files = [("passwd", &passwd), ("group", &group), ("subuid", &range), ("subgid", &range)];
    files.iter().for_each(|(name, text)| std::fs::write(etc.join(name), text).expect("etc"));
    for name in ["login.defs", "nsswitch.conf", "ld.so.cache", "alternatives"] {
        let from = Path::new("/etc").join(name);
        if from.is_file() {
            std::fs::copy(from, etc.join(name)).expect("etc");
        }
    }
    let (from, to) = (CString::new(etc.as_os_str().as_encoded_bytes()).expect("no NUL"), c"/etc");
    let none = std::ptr::null();
    // SAFETY: the strings are NUL-terminated and outlive the call.
    let ret = unsafe { libc::mount(from.as_ptr(), to.as_ptr(), none, libc::MS_BIND, none.cast()) };
    assert_eq!(ret, 0, "bind /etc: {}", std::io::Error::last_os_error());
    std::fs::create_dir_all(runtime_directory(place)).expect("runtime directory");
    for path in [place, &runtime_directory(place)] {
        chown(path, Some(USER), Some(USER)).expect("chown");
    }
}

/// His `XDG_RUNTIME_DIR`.
pub fn runtime_directory(place: &Path) -> PathBuf {
    place.join("xdg")
}

/// His own id as the only one.
pub fn one_id() -> Value {
    json!([{ "containerID": 0, "hostID": USER, "size": 1 }])
}

/// His own id as root, and his range above it: what engines give to a rootless container.
pub fn range() -> Value {
    json!([{ "containerID": 0, "hostID": USER, "size": 1 }, { "containerID": 1, "hostID": RANGE, "size": 65536 }])
}

/// The host's id for id `inside` of a container: the same, or what [`range`] maps it to in the user's suite.
pub fn host_id(inside: u32) -> u32 {
    match inside {
        id if !has_suite() => id,
        0 => USER,
        id => RANGE + id - 1,
    }
}

/// Gives him what a test has made for the runtime, if the whole suite is his.
pub fn give_in_suite(path: &Path) {
    if has_suite() {
        give(path);
    }
}

/// Gives him what is root's in `directory`; not the probe, which is every test's, and not where links lead.
pub fn give(directory: &Path) {
    let Ok(meta) = std::fs::symlink_metadata(directory) else { return };
    if meta.uid() == 0 && (meta.is_dir() || meta.nlink() == 1) {
        match std::os::unix::fs::lchown(directory, Some(USER), Some(USER)) {
            // A mount that the test has made.
            Err(error) if error.raw_os_error() == Some(libc::EROFS) => {}
            given => given.expect("chown"),
        }
    }
    if meta.is_dir() {
        std::fs::read_dir(directory).into_iter().flatten().flatten().for_each(|entry| give(&entry.path()));
    }
}

/// A cgroup v2 that is the user's (cgroups(7), "Delegation"), and where the test was before.
struct Delegated {
    base: PathBuf,
    before: PathBuf,
}

static DELEGATED: Mutex<Option<Delegated>> = Mutex::new(None);

/// Gives the user a cgroup v2 with every controller that there is, below one that stays root's, and moves this process,
/// and so all that it calls, into one below it: then the containers are made beside that one, as in a login session.
pub fn delegate() {
    // Not the test's tag, since it is there before the test's containers and behind them.
    let above = Path::new(host::CGROUPS).join(format!("{}user{}", host::run(), std::process::id()));
    let base = above.join("user");
    let calls = base.join("calls");
    std::fs::create_dir_all(&base).expect("cgroup");
    let controllers =
        std::fs::read_to_string(Path::new(host::CGROUPS).join("cgroup.controllers")).expect("controllers");
    for controller in controllers.split_whitespace() {
        for directory in [Path::new(host::CGROUPS), &above, &base] {
            std::fs::write(directory.join("cgroup.subtree_control"), format!("+{controller}")).expect(controller);
        }
    }
    std::fs::create_dir(&calls).expect("cgroup");
    [&base, &calls].into_iter().for_each(|directory| give_cgroup(directory));
    let before = own_cgroup().expect("cgroup v2");
    enter(&calls);
    *DELEGATED.lock().expect("delegated") = Some(Delegated { base, before });
}

/// Gives the user a cgroup, as the kernel has it (/sys/kernel/cgroup/delegate).
fn give_cgroup(directory: &Path) {
    for name in ["", "cgroup.procs", "cgroup.threads", "cgroup.subtree_control"] {
        chown(directory.join(name), Some(USER), Some(USER)).expect("chown");
    }
}

/// A cgroup v2 of the test's own, which is the user's if the suite is.
pub fn make_cgroup(directory: &Path) {
    std::fs::create_dir(directory).expect("cgroup");
    if has_suite() && host::is_cgroup2() {
        give_cgroup(directory);
    }
}

/// Takes the delegated cgroup away again: the calls to come are where the test was before.
pub fn undelegate() {
    let Some(Delegated { base, before }) = DELEGATED.lock().expect("delegated").take() else { return };
    enter(&before);
    // What was killed there needs a moment to leave.
    eventually("the delegated cgroup is empty", || std::fs::remove_dir(base.join("calls")).is_ok());
    for directory in base.ancestors().take(2) {
        std::fs::remove_dir(directory).unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
    }
}

/// What an absolute cgroupsPath of this test begins with: nothing, or the delegated cgroup.
pub fn cgroup_prefix() -> String {
    let delegated = DELEGATED.lock().expect("delegated");
    let below = delegated.as_ref().and_then(|it| it.base.strip_prefix(host::CGROUPS).ok());
    below.map_or_else(String::new, |path| format!("/{}", path.display()))
}

fn enter(directory: &Path) {
    std::fs::write(directory.join("cgroup.procs"), "0")
        .unwrap_or_else(|error| panic!("{}: {error}", directory.display()));
}

/// This process's cgroup v2.
fn own_cgroup() -> Option<PathBuf> {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let path = own.lines().find_map(|line| line.strip_prefix("0::")).filter(|_| host::is_cgroup2())?;
    Some(Path::new(host::CGROUPS).join(path.trim_start_matches('/')))
}

/// Whether the runtime finds a cgroup v2 that is the user's, and may make others beside its own.
pub fn has_cgroup() -> bool {
    own_cgroup().is_some_and(|path| std::fs::metadata(path.join("..")).is_ok_and(|meta| meta.uid() == USER))
}
