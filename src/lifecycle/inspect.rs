//! inspect: everything about one container in one place, as the kernel and the state directory have it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

use anyhow::{Result, ensure};
use serde::Serialize;

use super::disk::found::Found;
use super::disk::roots;
use super::disk::state::{Ended, State};
use super::host::Host;
use super::id::Id;
use super::process::members;
use super::refusal::Refusal;
use super::status::Status;
use super::view::{StateView, user_name, view};
use crate::container::cgroup::Layout;
use crate::container::cgroup::stats::Stats;
use crate::container::verify::status;
use crate::plan::Saved;
use crate::sys::mountinfo;

/// So many processes and mounts are shown at most: how many there are is the container's choice.
const MOST: usize = 10_000;

/// Everything about a container. What cannot be known, since it has ended or we may not look, is null or left out.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Inspected {
    #[serde(flatten)]
    pub state: StateView,
    /// Who made it, as far as its annotations or its root directory say.
    pub engine: Option<&'static str>,
    /// How it ended, where somebody has kept that.
    pub exit: Option<Ended>,
    pub namespaces: Vec<NamespaceView>,
    pub cgroup: CgroupSummary,
    pub processes: Vec<ProcessView>,
    pub mounts: Vec<MountView>,
    /// What `exec` takes from the configuration, as `create` has saved it.
    pub configuration: Option<Saved<'static>>,
}

/// A namespace of init.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub struct NamespaceView {
    /// `pid`, `net`, as in /proc/PID/ns.
    #[serde(rename = "type")]
    pub kind: String,
    pub inode: u64,
    /// Whether it is that of the one who asks.
    pub shared: bool,
}

#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub struct CgroupSummary {
    pub layout: Layout,
    /// The unit of systemd.
    pub unit: Option<String>,
    /// By controller; on v2, the one path has an empty name.
    pub paths: BTreeMap<String, String>,
    pub frozen: bool,
    /// As `events --stats` has it.
    pub stats: Option<Stats>,
}

/// A process of the container, as proc_pid_status(5) has it.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub struct ProcessView {
    pub pid: i32,
    pub parent: i32,
    /// The number of its user on the host.
    pub uid: u32,
    /// `S`, `R`, `Z`…
    pub state: char,
    pub threads: u64,
    /// Bytes.
    pub resident: u64,
    /// The name of its first thread, which it may choose.
    pub name: String,
}

/// A mount in init's mount namespace, as proc_pid_mountinfo(5) has it.
#[derive(Serialize, Debug)]
#[serde(rename_all = "camelCase")]
pub struct MountView {
    pub destination: String,
    #[serde(rename = "type")]
    pub kind: String,
    /// What of the file system is mounted.
    pub root: String,
    /// Major and minor number of the file system's device.
    pub device: String,
    pub options: String,
    /// `shared:7`, `master:1`; empty for a private one.
    pub propagation: String,
}

/// Looks at a container; nothing is changed, and nobody is waited for.
pub fn inspect(host: &Host, id: &Id) -> Result<Inspected> {
    let found = Found::open(host, id)?;
    let configuration = found.directory.load_for_exec().ok();
    // Held, so that the number is nobody else's as long as the process is there.
    let pidfd = found.state.init.map(|init| init.open()).transpose()?.flatten();
    let pid = found.state.init.filter(|_| pidfd.is_some()).map(|init| init.pid);
    let (namespaces, mounts) = pid.map(|pid| (namespaces(pid), mounts(pid))).unwrap_or_default();
    let is_over = matches!(found.status, Status::Creating | Status::Stopped);
    let pids = if is_over { Vec::new() } else { members::pids(&found.state)? };
    let processes = pids.into_iter().take(MOST).filter_map(process).collect();
    let cgroup = summary(&found.state, is_over);
    // A cgroup of its path may be a later container's.
    ensure!(found.directory.is_there()?, Refusal::DoesNotExist);
    let exit = found.state.exit;
    let engine = roots::engine(&host.root, &found.state.annotations);
    let owner = user_name(&fs::read_to_string("/etc/passwd").unwrap_or_default(), found.state.owner);
    let state = StateView { owner, root: Some(host.root.clone()), ..view(found) };
    Ok(Inspected { state, engine, exit, namespaces, cgroup, processes, mounts, configuration })
}

/// Those that we may look at; of another user's process, none.
fn namespaces(pid: i32) -> Vec<NamespaceView> {
    const KINDS: [&str; 8] = ["cgroup", "ipc", "mnt", "net", "pid", "time", "user", "uts"];
    let inode =
        |process: &str, kind: &str| fs::metadata(format!("/proc/{process}/ns/{kind}")).map(|file| file.ino()).ok();
    let of = |kind: &str| {
        let found = inode(&pid.to_string(), kind)?;
        Some(NamespaceView { kind: kind.to_owned(), inode: found, shared: inode("self", kind) == Some(found) })
    };
    KINDS.into_iter().filter_map(of).collect()
}

fn summary(state: &State, is_over: bool) -> CgroupSummary {
    let cgroup = &state.cgroup;
    let is_there = !is_over && !cgroup.directories.is_empty();
    CgroupSummary {
        layout: cgroup.layout,
        unit: cgroup.unit.as_ref().map(|unit| unit.name.clone()),
        paths: cgroup.directories.clone().into_iter().collect(),
        frozen: is_there && cgroup.is_frozen().unwrap_or(false),
        stats: if is_there { Stats::read(cgroup).ok() } else { None },
    }
}

/// `None`: it has ended meanwhile.
fn process(pid: i32) -> Option<ProcessView> {
    let status = status::Status::of(pid, pid).ok()?;
    // In kB; a kernel thread and a process that has ended have none.
    let resident = status.line("VmRSS").ok().and_then(|line| line.strip_suffix(" kB")?.parse::<u64>().ok());
    Some(ProcessView {
        pid,
        parent: status.line("PPid").ok()?.parse().ok()?,
        uid: *status.ids("Uid").ok()?.first()?,
        state: status.line("State").ok()?.chars().next()?,
        threads: status.number("Threads").unwrap_or_default(),
        resident: resident.unwrap_or_default().saturating_mul(1024),
        name: status.line("Name").unwrap_or_default().to_owned(),
    })
}

fn mounts(pid: i32) -> Vec<MountView> {
    let text = mountinfo::of_pid(pid).unwrap_or_default();
    let words = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let one = |mount: mountinfo::Mounted| MountView {
        destination: words(&mount.at),
        kind: words(mount.kind),
        root: words(&mount.root),
        device: words(mount.device),
        options: words(mount.flags),
        propagation: words(mount.tags),
    };
    mountinfo::parse(&text).take(MOST).map(one).collect()
}
