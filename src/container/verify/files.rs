//! What each process of a container has open, mapped and as its program: files of the container's mounts, and what has no
//! place in any (pipes, sockets, memory). Nothing of the host but what it was given as standard streams.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{CString, OsStr};
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use caps::Capability::{self, CAP_BPF, CAP_DAC_READ_SEARCH, CAP_SYS_ADMIN};

use super::row::Row;
use super::status::{Status, living, threads};
use super::table::{Line, View, join};
use super::{Wanted, opener};
use crate::sys::Errno;
use crate::sys::file::{self, Stat, kind};
use crate::sys::file_rights::{self, FileRights};

/// How the kernel calls files of mounts that it has for itself: memfd_create(2), shared memory of System V and of
/// processes, huge pages, and the rings of io_setup(2).
const OF_THE_KERNEL: [&str; 5] = ["/memfd:", "/SYSV", "/dev/zero (deleted)", "/anon_hugepage", "/[aio]"];

/// What has no file, and needs no right: the kernel's names behind `anon_inode:`. Everything else can do things that a
/// container without capabilities cannot (seccomp's listener, perf, io_uring, KVM, a mount that is not attached).
const WITHOUT_A_FILE: [&str; 6] = ["[eventfd]", "[eventpoll]", "[signalfd]", "[timerfd]", "inotify", "[pidfd]"];

/// What needs capabilities: any one of each list.
const FANOTIFY: (&str, &[&[Capability]]) = ("[fanotify]", &[&[CAP_SYS_ADMIN], &[CAP_DAC_READ_SEARCH]]);
const BPF_MAP: (&str, &[&[Capability]]) = ("bpf-map", &[&[CAP_SYS_ADMIN, CAP_BPF]]);

/// Kinds of the kernel's own file systems, as they are before `:[`.
const KINDS: [&str; 3] = ["pipe", "socket", "pidfd"];

/// The kinds in /proc/PID/ns, as descriptors of namespaces are shown: `net:[4026531840]`.
const NAMESPACES: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];

/// What the container may have open.
pub struct Files {
    mounts: BTreeMap<u64, Line>,
    namespaces: BTreeSet<PathBuf>,
    /// Device and inode of the runtime's standard streams.
    streams: Vec<(u64, u64)>,
    capabilities: u64,
    /// Those of the container's user, where no process can come to have more.
    rights: Option<FileRights>,
}

impl Files {
    /// Those of the container of process `init`, which sees the mounts of `view`.
    pub fn new(init: i32, view: &View, wanted: &Wanted) -> Result<Self> {
        let mounts = view.lines.iter().map(|line| (line.id, line.clone())).collect();
        let own = NAMESPACES.iter().filter_map(|kind| fs::read_link(format!("/proc/{init}/ns/{kind}")).ok());
        let streams = (0..3).filter_map(|fd| fs::metadata(format!("/proc/self/fd/{fd}")).ok());
        let streams = streams.map(|stream| (stream.dev(), stream.ino())).collect();
        let (capabilities, rights) = (wanted.reachable(), wanted.file_rights());
        Ok(Self { mounts, namespaces: own.collect(), streams, capabilities, rights })
    }

    /// What process `pid` has of others.
    pub fn of(&self, pid: i32) -> Result<Vec<Row>> {
        // What is shown of a process that only its first thread has ended of, its others still show.
        let Some(pid) = living(pid)? else { return Ok(Vec::new()) };
        let mut links = vec![PathBuf::from(format!("/proc/{pid}/exe"))];
        for directory in ["fd", "map_files"] {
            let directory = format!("/proc/{pid}/{directory}");
            let entries = fs::read_dir(&directory).and_then(Iterator::collect::<io::Result<Vec<_>>>);
            links.extend(entries.context(directory)?.iter().map(fs::DirEntry::path));
        }
        let own = directories(pid)?;
        let mut differences = Vec::new();
        for link in &links {
            if let Some(found) = self.foreign(link, &own).with_context(|| link.display().to_string())? {
                let found = format!("{}: {found}", link.display());
                differences.push(Row::new("mounts", "a file of the container's mounts", found, false).of(pid));
            }
        }
        differences.extend(self.withheld(pid, &links)?);
        Ok(differences)
    }

    /// What process `pid` has open, by `links`, that the container's user may not open.
    fn withheld(&self, pid: i32, links: &[PathBuf]) -> Result<Vec<Row>> {
        let Some(rights) = &self.rights else { return Ok(Vec::new()) };
        let mut all = Vec::new();
        for link in links {
            // Bits of the owner, by how it was opened.
            let mode = fs::symlink_metadata(link).with_context(|| link.display().to_string())?.mode();
            let bits = [(0o400, file_rights::READ), (0o200, file_rights::WRITE)];
            let wanted = bits.iter().filter(|(bit, _)| mode & bit != 0).fold(0, |all, (_, one)| all | one);
            let fd = match file::open_path(&CString::new(link.as_os_str().as_bytes())?) {
                // Nothing behind it: it leads to no file.
                Err(error) if error.errno == Errno::ENOENT => continue,
                fd => fd?,
            };
            let stat = file::stat(fd.as_fd())?;
            let is_file =
                [kind::REGULAR, kind::DIRECTORY, kind::CHARACTER, kind::BLOCK, kind::FIFO].contains(&stat.kind());
            // Terminals are the runtime's, which had them opened.
            let is_ours = self.mounts.get(&stat.mount).is_some_and(|line| line.kind != "devpts");
            if is_file && is_ours {
                all.push((link, fd, stat, wanted));
            }
        }
        // The first is the program, which need not be readable for those that execute it.
        let program = all.first().map(|(_, _, stat, _)| (stat.mount, stat.inode));
        let refused = |(link, fd, stat, wanted): &(&PathBuf, OwnedFd, Stat, i32)| {
            let wanted = if program == Some((stat.mount, stat.inode)) { file_rights::EXECUTE } else { *wanted };
            let may = match file_rights::may(fd.as_fd(), wanted) {
                // It was written to before the mount was made read-only.
                Err(error) if error.errno == Errno::EROFS => true,
                may => may?,
            };
            Ok((!may).then(|| link.display().to_string()))
        };
        let found =
            rights.with(|| all.iter().map(refused).collect::<Result<Vec<_>>>()).context("rights to files")??;
        let difference =
            |found: String| Row::new("process.user", "a file that process.user may open", found, false).of(pid);
        Ok(found.into_iter().flatten().map(difference).collect())
    }

    /// What `link`, of a process that stands still, leads to, if that is not the container's.
    fn foreign(&self, link: &Path, own: &[String]) -> Result<Option<String>> {
        let target = match fs::read_link(link) {
            // A process without a program of its own: the kernel's.
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            target => target?,
        };
        if !target.is_absolute() {
            let is_known = self.namespaces.contains(&target) || self.is_harmless(target.as_os_str());
            return Ok((!is_known).then(|| target.display().to_string()));
        }
        if OF_THE_KERNEL.iter().any(|name| target.as_os_str().as_bytes().starts_with(name.as_bytes())) {
            return Ok(None);
        }
        // Only named: nothing is done to what is found.
        let fd = file::open_path(&CString::new(link.as_os_str().as_bytes())?)?;
        let mount = file::stat(fd.as_fd())?.mount;
        let Some(line) = self.mounts.get(&mount) else {
            let is_own = self.is_stream(fd.as_fd())?;
            return Ok((!is_own).then(|| format!("{} on mount {mount}", target.display())));
        };
        let capability = self.needed(line, &target, own).filter(|capability| !self.has(*capability));
        Ok(capability.map(|capability| format!("{}, which takes {capability} to open", target.display())))
    }

    /// What takes a capability to open: see [`opener`].
    fn needed(&self, line: &Line, target: &Path, own: &[String]) -> Option<Capability> {
        let inside = target.strip_prefix(&line.at).ok()?;
        opener::needed(&line.kind, &join(&line.shown.root, inside), own)
    }

    fn has(&self, capability: Capability) -> bool {
        self.capabilities & capability.bitmask() != 0
    }

    /// Whether a process of the container could have made what is in no file system that can be mounted.
    fn is_harmless(&self, target: &OsStr) -> bool {
        let target = target.to_string_lossy();
        let Some((kind, name)) = target.split_once(':') else { return false };
        if kind != "anon_inode" {
            return KINDS.contains(&kind);
        }
        let has = |any: &[Capability]| any.iter().any(|capability| self.has(*capability));
        let may = |(kind, all): (&str, &[&[Capability]])| name == kind && all.iter().all(|any| has(any));
        WITHOUT_A_FILE.contains(&name) || may(FANOTIFY) || may(BPF_MAP)
    }

    fn is_stream(&self, fd: BorrowedFd) -> Result<bool> {
        let metadata = fs::metadata(format!("/proc/thread-self/fd/{}", fd.as_raw_fd()))?;
        Ok(self.streams.contains(&(metadata.dev(), metadata.ino())))
    }
}

/// How the threads of a process are called in a procfs, in each pid namespace that they are in.
fn directories(pid: i32) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for thread in threads(pid)? {
        all.extend(Status::of(pid, thread)?.ids("NSpid")?.iter().map(u32::to_string));
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::super::table::Shown;
    use super::*;
    use crate::sys::namespace;
    use std::fs::File;

    fn found(files: &Files) -> Vec<String> {
        let own = i32::try_from(std::process::id()).unwrap();
        files.of(own).unwrap().into_iter().map(|difference| difference.found).collect()
    }

    fn proc_line() -> Line {
        let shown = Shown { device: "0:1".to_owned(), root: PathBuf::from("/") };
        let (at, kind, flags) = (PathBuf::from("/proc"), "proc".to_owned(), Vec::new());
        Line { id: 1, parent: 0, shown, at, flags, shared: None, master: None, kind }
    }

    #[test]
    fn what_its_opener_decides_about_takes_a_capability() {
        let own = i32::try_from(std::process::id()).unwrap();
        let file = File::open("/proc/kallsyms").unwrap();
        let mount = file::stat(file.as_fd()).unwrap().mount;
        let (mounts, namespaces) = (BTreeMap::from([(mount, proc_line())]), BTreeSet::new());
        let mut files = Files { mounts, namespaces, streams: Vec::new(), capabilities: 0, rights: None };
        let link = PathBuf::from(format!("/proc/{own}/fd/{}", file.as_raw_fd()));
        let words = "/proc/kallsyms, which takes CAP_SYSLOG to open";
        assert_eq!(files.foreign(&link, &[]).unwrap().as_deref(), Some(words));
        files.capabilities = Capability::CAP_SYSLOG.bitmask();
        assert_eq!(files.foreign(&link, &[]).unwrap(), None);
        assert!(directories(own).unwrap().contains(&own.to_string()));
    }

    #[test]
    fn a_file_of_another_mount_and_a_strange_namespace_are_found_and_memory_is_not() {
        let own = i32::try_from(std::process::id()).unwrap();
        let file = File::open("/proc/version").unwrap();
        let mount = file::stat(file.as_fd()).unwrap().mount;
        let namespaces = BTreeSet::from([fs::read_link("/proc/self/ns/net").unwrap()]);
        let mut files = Files {
            mounts: BTreeMap::from([(mount, proc_line())]),
            namespaces,
            streams: Vec::new(),
            capabilities: 0,
            rights: None,
        };
        let net = namespace::open(c"/proc/self/ns/net").unwrap();
        let (_reader, _writer) = io::pipe().unwrap();
        let [proc, net_link] = [file.as_fd(), net.as_fd()].map(|fd| format!("/proc/{own}/fd/{}:", fd.as_raw_fd()));
        let has = |files: &Files, link: &String| found(files).iter().any(|found| found.starts_with(link));
        assert!(!has(&files, &proc) && !has(&files, &net_link), "{:?}", found(&files));
        files.mounts.clear();
        files.namespaces.clear();
        assert!(has(&files, &proc) && has(&files, &net_link), "{:?}", found(&files));
        assert!(found(&files).iter().all(|found| !found.contains("pipe:")));
    }

    #[test]
    fn what_has_no_file_is_of_a_known_kind() {
        let mut files = Files {
            mounts: BTreeMap::new(),
            namespaces: BTreeSet::new(),
            streams: vec![],
            capabilities: 0,
            rights: None,
        };
        let is_harmless = |files: &Files, kind: &str| files.is_harmless(OsStr::new(kind));
        for kind in ["pipe:[1]", "socket:[1]", "pidfd:[1]", "anon_inode:inotify", "anon_inode:[eventfd]"] {
            assert!(is_harmless(&files, kind), "{kind}");
        }
        for kind in
            ["seccomp notify", "[perf_event]", "[io_uring]", "[userfaultfd]", "kvm-vm", "bpf-prog", "[fscontext]"]
        {
            assert!(!is_harmless(&files, &format!("anon_inode:{kind}")), "{kind}");
        }
        for kind in ["net:[1]", "dmabuf:[1]", "new"] {
            assert!(!is_harmless(&files, kind), "{kind}");
        }
        let groups = ["anon_inode:[fanotify]", "anon_inode:bpf-map"];
        for (capabilities, expected) in [
            (&[][..], [false, false]),
            (&[CAP_SYS_ADMIN], [false, true]),
            (&[CAP_SYS_ADMIN, CAP_DAC_READ_SEARCH], [true, true]),
            (&[CAP_BPF], [false, true]),
        ] {
            files.capabilities = capabilities.iter().fold(0, |all, capability| all | capability.bitmask());
            assert_eq!(groups.map(|kind| is_harmless(&files, kind)), expected, "{capabilities:?}");
        }
    }
}
