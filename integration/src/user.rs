//! An ordinary user, whose containers are rootless: who he is, what he may map, and his own cgroup where there is one.
//!
//! He exists in the mount namespace of a test alone: `/etc` is covered there by a directory that knows him. With
//! `OCIRT_SUITE_USER=1` every call of the suite is his, and every bundle has his user namespace.

use crate::{host, runtime};
use serde_json::{Value, json};
use std::ffi::CString;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// His user and group id, which no distribution gives to anybody.
pub const USER: u32 = 54_321;
/// The first of the 65536 ids that /etc/subuid and /etc/subgid give to him.
pub const RANGE: u32 = 7_000_000;

/// Whether the whole suite runs as the user.
pub fn has_suite() -> bool {
    std::env::var_os("OCIRT_SUITE_USER").is_some_and(|value| !value.is_empty())
}

/// Makes the user known in this test's mount namespace, and gives him the test's directory.
pub fn introduce(place: &Path) {
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

/// The runtime under test where he can reach it, owned by root: the checkout may lie in a home directory.
pub fn program() -> PathBuf {
    let program = host::suite().join("runtime").join(runtime::path().file_name().expect("a file"));
    if !program.exists() {
        let directory = program.parent().expect("a directory");
        std::fs::create_dir_all(directory).expect("directory");
        // Tests run side by side.
        let new = directory.join(host::tag());
        std::fs::copy(runtime::path(), &new).expect("copy of the runtime");
        std::fs::set_permissions(&new, std::fs::Permissions::from_mode(0o755)).expect("chmod");
        std::fs::rename(new, &program).expect("rename");
    }
    program
}

/// His own id as the only one.
pub fn one_id() -> Value {
    json!([{ "containerID": 0, "hostID": USER, "size": 1 }])
}

/// His own id as root, and his range above it: what engines give to a rootless container.
pub fn range() -> Value {
    json!([{ "containerID": 0, "hostID": USER, "size": 1 }, { "containerID": 1, "hostID": RANGE, "size": 65536 }])
}

/// Gives him what is root's in `directory`; not the probe, which is every test's, and not where links lead.
pub fn give(directory: &Path) {
    let Ok(meta) = std::fs::symlink_metadata(directory) else { return };
    if meta.uid() == 0 && (meta.is_dir() || meta.nlink() == 1) {
        std::os::unix::fs::lchown(directory, Some(USER), Some(USER)).expect("chown");
    }
    if meta.is_dir() {
        std::fs::read_dir(directory).into_iter().flatten().flatten().for_each(|entry| give(&entry.path()));
    }
}

/// Whether the runtime finds a cgroup v2 that is his, and may make others beside its own.
pub fn has_cgroup() -> bool {
    let own = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let Some(path) = own.lines().find_map(|line| line.strip_prefix("0::")).filter(|_| host::is_cgroup2()) else {
        return false;
    };
    let parent = Path::new("/sys/fs/cgroup").join(path.trim_start_matches('/')).join("..");
    std::fs::metadata(parent).is_ok_and(|meta| meta.uid() == USER)
}
