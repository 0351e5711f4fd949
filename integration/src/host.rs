//! The host around a test: where its things are and what they are called, its processes and cgroups, and the proof that
//! nothing is left. Cgroups carry the test's tag in their names.

use crate::wait::eventually;
use std::collections::BTreeSet;
use std::ffi::CString;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

struct Corner {
    place: PathBuf,
    mounts: String,
}

/// Where cgroups are mounted.
pub const CGROUPS: &str = "/sys/fs/cgroup";

/// Tells the process of a test the name of its run.
pub const RUN: &str = "OCIRT_SUITE_RUN";

static CORNER: OnceLock<Corner> = OnceLock::new();

/// The name of this run of the suite, which no other run on this machine has: in the names of all that its tests make.
pub fn run() -> String {
    std::env::var(RUN).expect("run by the runner")
}

/// A name for a new run.
pub fn new_run() -> String {
    let mut bytes = [0; 4];
    File::open("/dev/urandom").and_then(|mut file| file.read_exact(&mut bytes)).expect("/dev/urandom");
    format!("ocit{:08x}", u32::from_ne_bytes(bytes))
}

/// Part of each container id of this test, and so of each cgroup's name; none begins another one. A letter behind the run, and
/// no dash: a slice's name would be a path of systemd's.
pub fn tag() -> String {
    tag_of(&run(), std::process::id())
}

/// Of one length, since pids have seven digits at most (proc_sys_kernel(5), pid_max).
fn tag_of(run: &str, pid: u32) -> String {
    format!("{run}t{pid:07}")
}

/// A fresh container id.
pub fn new_id() -> String {
    static COUNT: AtomicUsize = AtomicUsize::new(0);
    format!("{}-{}", tag(), COUNT.fetch_add(1, Ordering::Relaxed))
}

/// A path short enough for a socket (unix(7): 108 bytes).
pub fn socket() -> PathBuf {
    suite().join(format!("{}.sock", tag()))
}

/// This test's directory from here on; what is mounted now is not left by the test.
pub fn settle(place: PathBuf) {
    CORNER.set(Corner { place, mounts: mounts() }).ok().expect("isolate() comes once");
}

/// This test's directory.
pub fn place() -> &'static Path {
    &CORNER.get().expect("isolate() comes first").place
}

/// Where each call of this test is noted, with the name of its outputs.
pub fn calls_file() -> PathBuf {
    place().join("calls")
}

/// The runtime's `--root`.
pub fn root() -> PathBuf {
    place().join("root")
}

/// The probe's program on the host, for hooks; a copy per suite, on the file system of the bundles.
pub fn probe() -> PathBuf {
    suite().join("probe")
}

/// The directory of this run of the suite.
pub fn suite() -> PathBuf {
    PathBuf::from(std::env::var_os("OCIRT_SUITE_PLACE").expect("run by the runner"))
}

/// The device nodes that containers bind and runtimes open; a runtime that changes their owner must not reach the host's.
pub const NODES: [(&str, u32, u32); 6] =
    [("null", 1, 3), ("zero", 1, 5), ("full", 1, 7), ("random", 1, 8), ("urandom", 1, 9), ("tty", 5, 0)];

/// A path as the kernel takes it.
pub fn c_path(path: &Path) -> CString {
    CString::new(path.as_os_str().as_encoded_bytes()).expect("no NUL")
}

fn mounts() -> String {
    std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()
}

/// Panics with the list of what is left of this test's containers: state, cgroups, mounts, processes.
#[track_caller]
pub fn assert_nothing_left() {
    // A killed process needs a moment to leave its cgroup, as does the kernel to take the mounts away.
    let end = Instant::now() + Duration::from_secs(3);
    loop {
        let left = left();
        if left.is_empty() {
            return;
        }
        assert!(Instant::now() < end, "left behind: {left:#?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn left() -> Vec<String> {
    let mut all = Vec::new();
    for entry in std::fs::read_dir(root()).into_iter().flatten().flatten() {
        // Shared caches of a runtime are hidden files; containers are not.
        if !entry.file_name().to_string_lossy().starts_with('.') {
            all.push(format!("state {}", entry.path().display()));
        }
    }
    for (name, ..) in NODES {
        let facts = owner(&Path::new("/dev").join(name));
        if facts != "0:0 20666" {
            all.push(format!("/dev/{name} changed: {facts}"));
        }
    }
    all.extend(cgroups(&tag()).iter().map(|path| format!("cgroup {}", path.display())));
    all.extend(units(&tag()).iter().map(|name| format!("systemd unit {name}")));
    let before: BTreeSet<&str> = CORNER.get().map(|corner| corner.mounts.lines().collect()).unwrap_or_default();
    all.extend(mounts().lines().filter(|line| !before.contains(line)).map(|line| format!("mount {line}")));
    all.extend(descendants(std::process::id()).iter().map(|&pid| format!("process {}", describe(pid))));
    all
}

fn describe(pid: u32) -> String {
    let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    format!("{pid} {}", String::from_utf8_lossy(&line).replace('\0', " "))
}

/// Each cgroup directory, in any hierarchy, whose path contains `part`.
pub fn cgroups(part: &str) -> Vec<PathBuf> {
    fn walk(directory: &Path, part: &str, depth: usize, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                let name = entry.file_name();
                if name.to_string_lossy().contains(part) && is_cgroup(&entry.path()) {
                    found.push(entry.path());
                }
                if depth > 0 {
                    walk(&entry.path(), part, depth - 1, found);
                }
            }
        }
    }
    let mut found = Vec::new();
    walk(Path::new(CGROUPS), part, 5, &mut found);
    found
}

/// By the file system's magic: crun makes files named as cgroup's where it thinks a hierarchy is.
pub fn is_cgroup(path: &Path) -> bool {
    // SAFETY: an all-zero statfs is a valid value.
    let mut buffer: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path is NUL-terminated; the buffer is ours.
    let found = unsafe { libc::statfs(c_path(path).as_ptr(), &mut buffer) } == 0;
    found && [libc::CGROUP_SUPER_MAGIC, libc::CGROUP2_SUPER_MAGIC].contains(&buffer.f_type)
}

/// The pids below `pid` that are no zombies.
pub fn descendants(pid: u32) -> Vec<u32> {
    let mut parents = Vec::new();
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Ok(child) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let text = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let mut fields = text.rsplit_once(") ").map_or("", |(_, rest)| rest).split(' ');
        let (state, parent) = (fields.next().unwrap_or("Z"), fields.next().unwrap_or("0"));
        parents.push((child, parent.parse().unwrap_or(0), matches!(state, "Z" | "X")));
    }
    let mut found = vec![pid];
    let mut index = 0;
    while let Some(&current) = found.get(index) {
        found.extend(parents.iter().filter(|(_, parent, _)| *parent == current).map(|(child, ..)| *child));
        index += 1;
    }
    found.retain(|found| *found != pid && parents.iter().any(|(child, _, dead)| child == found && !dead));
    found
}

pub fn kill(pid: u32) {
    // SAFETY: no memory is passed; the pid is a descendant of ours.
    unsafe { libc::kill(pid as i32, libc::SIGKILL) };
}

/// Sends a signal to a process of a container.
pub fn signal(pid: u32, number: i32) {
    // SAFETY: no memory is passed; the pid is a descendant of ours.
    unsafe { libc::kill(pid as i32, number) };
}

/// The letter of proc_pid_stat(5) for what a process does; nothing for one that is gone.
pub fn process_state(pid: u32) -> Option<char> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    text.rsplit_once(") ")?.1.chars().next()
}

/// Whether it runs, sleeps or is stopped: neither gone nor a zombie.
pub fn is_alive(pid: u32) -> bool {
    process_state(pid).is_some_and(|state| !matches!(state, 'Z' | 'X'))
}

/// Kills `pid` and all below it.
pub fn kill_tree(pid: u32) {
    let below = descendants(pid);
    kill(pid);
    below.into_iter().for_each(kill);
}

/// Reaps those that were left to this process and have ended, as a shim does all the time.
pub fn reap_zombies() {
    // SAFETY: a null status is allowed.
    while unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } > 0 {}
}

/// Waits until a container's init is the only living process below this one, and reaps the others: pid namespaces do not
/// end before those who were put into them are reaped.
#[track_caller]
pub fn reap_all_but_init() {
    // While a parent ends, a look at /proc may find its child to be nobody's.
    let mut looks = 0;
    eventually("only init is left", || {
        looks = if descendants(std::process::id()).len() < 2 { looks + 1 } else { 0 };
        reap_zombies();
        looks == 5
    });
}

/// The exit status (128 + signal) of a process that was left to this one, as to a shim; waits ten seconds at most.
#[track_caller]
pub fn reap(pid: u32) -> i32 {
    let mut result = -1;
    eventually(&format!("end of {}", describe(pid)), || {
        let mut status = 0;
        // SAFETY: the pointer is ours.
        let ret = unsafe { libc::waitpid(pid as i32, &mut status, libc::WNOHANG) };
        assert_ne!(ret, -1, "{pid} is not our child");
        result = if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) };
        ret > 0
    });
    result
}

/// Owner, mode and kind: what a runtime that follows a wrong path changes.
pub fn owner(path: &Path) -> String {
    std::fs::symlink_metadata(path)
        .map(|meta| format!("{}:{} {:o}", meta.uid(), meta.gid(), meta.mode()))
        .unwrap_or_default()
}

/// True for a control file that newer kernels keep without its effect: memory.soft_limit_in_bytes of v1, which takes
/// what is written and stays unlimited.
pub fn ignores_writes(path: &Path) -> bool {
    if !path.ends_with("memory.soft_limit_in_bytes") {
        return false;
    }
    let before = std::fs::read_to_string(path).unwrap_or_default();
    let _ = std::fs::write(path, "1048576");
    let after = std::fs::read_to_string(path).unwrap_or_default();
    let _ = std::fs::write(path, before.trim());
    after.trim() != "1048576"
}

/// Whether every container is to be made with the systemd driver: `OCIRT_SUITE_SYSTEMD=1`.
pub fn all_with_systemd() -> bool {
    std::env::var_os("OCIRT_SUITE_SYSTEMD").is_some_and(|value| value == "1")
}

/// Whether systemd runs this host.
pub fn is_systemd() -> bool {
    Path::new("/run/systemd/system").is_dir()
}

/// The names of transient units of systemd that contain `part`, failed ones included.
pub fn units(part: &str) -> Vec<String> {
    let entries = std::fs::read_dir("/run/systemd/transient").into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.filter(|name| name.contains(part)).collect()
}

/// True where /sys/fs/cgroup itself is cgroup v2.
pub fn is_cgroup2() -> bool {
    Path::new(CGROUPS).join("cgroup.controllers").exists()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_tag_is_part_of_another_one() {
        let (own, other) = (new_run(), new_run());
        assert_ne!(own, other);
        let pids = [1, 12, 120, 1200, 12_001, 120_012, 4_194_303];
        let tags: Vec<_> = [&own, &other].iter().flat_map(|run| pids.map(|pid| tag_of(run, pid))).collect();
        for tag in &tags {
            assert_eq!(tags.iter().filter(|one| one.contains(tag.as_str())).count(), 1, "{tag}");
        }
    }
}
