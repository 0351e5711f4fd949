//! What a container must be like once it is there, for [`verify`](crate::container::verify): config.json as it is planned.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType, Mount, PosixRlimitType, Process, Spec};

use super::Plan;
use crate::container::process::capabilities::Capabilities;
use crate::container::process::rlimits;
use crate::container::seccomp::Filter;
use crate::container::verify::id_maps::IdRanges;
use crate::container::verify::{self, MountKind, Namespace, Propagation, Share, User, Wanted};
use crate::error::field;
use crate::init::step::Step;
use crate::sys::sched;

/// The kinds of namespaces whose being config.json decides alone: a restored container has a time namespace anyway, in
/// which the clocks go on.
const KINDS: [LinuxNamespaceType; 7] = [
    LinuxNamespaceType::Mount,
    LinuxNamespaceType::Cgroup,
    LinuxNamespaceType::Uts,
    LinuxNamespaceType::Ipc,
    LinuxNamespaceType::User,
    LinuxNamespaceType::Pid,
    LinuxNamespaceType::Network,
];

/// asm-generic/resource.h.
const RLIMIT_NICE: u32 = 13;
const RLIMIT_RTPRIO: u32 = 14;

/// What can be forbidden on a mount, with the options of config.json that forbid it, and those that allow it.
const RESTRICTIONS: [(&str, [&str; 2], [&str; 2]); 4] = [
    ("ro", ["ro", "rro"], ["rw", "rrw"]),
    ("nosuid", ["nosuid", "rnosuid"], ["suid", "rsuid"]),
    ("nodev", ["nodev", "rnodev"], ["dev", "rdev"]),
    ("noexec", ["noexec", "rnoexec"], ["exec", "rexec"]),
];

impl Wanted {
    /// Of the bundle in `directory`, whose config.json and plan these are.
    pub fn of(spec: &Spec, plan: &Plan, directory: &Path) -> Result<Self> {
        let process = spec.process().as_ref().context(field!("process"; "missing"))?;
        let linux = spec.linux().clone().unwrap_or_default();
        let groups = (!plan.keep_groups).then(|| process.user().additional_gids().clone().unwrap_or_default());
        let label = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let paths = |list: &Option<Vec<String>>| list.iter().flatten().map(Into::into).collect();
        let propagation = linux.rootfs_propagation().as_deref();
        Ok(Self {
            namespaces: namespaces(&linux),
            capabilities: plan.capabilities().map(Capabilities::masks).unwrap_or_default().into(),
            no_new_privileges: process.no_new_privileges() == Some(true),
            user: User { uid: process.user().uid(), gid: process.user().gid(), groups },
            seccomp: plan.filter().map(|filter| filter.instructions().collect()),
            seccomp_flags: plan.filter().map_or(0, Filter::flags),
            share: share(process, plan)?,
            limits: process
                .rlimits()
                .iter()
                .flatten()
                .map(|limit| (rlimits::number(limit.typ()), limit.hard()))
                .collect(),
            own_session: true,
            hostname: label(spec.hostname()),
            domainname: label(spec.domainname()),
            apparmor: label(process.apparmor_profile()),
            selinux: label(process.selinux_label()),
            oom_score_adj: process.oom_score_adj(),
            terminal: process.terminal() == Some(true),
            rootfs: plan.rootfs.clone(),
            read_only_root: spec.root().as_ref().and_then(|root| root.readonly()) == Some(true),
            shared_root: matches!(propagation, Some("shared" | "rshared")),
            mounts: spec.mounts().iter().flatten().map(|entry| mount(entry, directory)).collect(),
            masked: paths(linux.masked_paths()),
            read_only: paths(linux.readonly_paths()),
            devices: plan.devices(),
            id_maps: id_maps(&linux),
            sysctls: plan.sysctls(),
        })
    }
}

impl Plan {
    /// Where device nodes are made, or mounted where none can be made.
    fn devices(&self) -> Vec<PathBuf> {
        let paths = self.steps.iter().filter_map(|planned| match &planned.step {
            Step::Device(device) => Some(device.path()),
            _ => None,
        });
        paths.map(|path| PathBuf::from(OsStr::from_bytes(path.to_bytes()))).collect()
    }

    fn sysctls(&self) -> BTreeMap<String, String> {
        let all = self.steps.iter().filter_map(|planned| match &planned.step {
            Step::Sysctl(sysctl) => Some(sysctl),
            _ => None,
        });
        all.map(|sysctl| (sysctl.path().to_string_lossy().into_owned(), sysctl.value().to_owned())).collect()
    }

    fn capabilities(&self) -> Option<&Capabilities> {
        self.steps.iter().find_map(|planned| match &planned.step {
            Step::Capabilities(capabilities) => Some(capabilities),
            _ => None,
        })
    }
}

/// What a process begins with, or what its limits let it take (getrlimit(2)).
fn share(process: &Process, plan: &Plan) -> Result<Share> {
    let own = plan.steps.iter().find_map(|planned| match &planned.step {
        Step::Scheduler(scheduler) => Some(*scheduler.attr()),
        _ => None,
    });
    let own = own.map_or_else(sched::scheduler, Ok).context(field!("process.scheduler"))?;
    let limit = |kind, number| -> Result<u64> {
        let limit = process.rlimits().iter().flatten().find(|limit| limit.typ() == kind);
        Ok(limit.map_or_else(|| sched::limit(number).map(|limit| limit.hard), |limit| Ok(limit.hard()))?)
    };
    // From 1, which stands for 19, to 40, for -20.
    let nice = 20 - limit(PosixRlimitType::RlimitNice, RLIMIT_NICE)?.min(40) as i32;
    let priority = limit(PosixRlimitType::RlimitRtprio, RLIMIT_RTPRIO)?.min(99) as u32;
    Ok(Share { policy: own.policy, nice: own.nice.min(nice), priority: own.priority.max(priority) })
}

impl From<[u64; 3]> for verify::Capabilities {
    fn from([bounding, permitted, inheritable]: [u64; 3]) -> Self {
        Self { bounding, permitted, inheritable }
    }
}

fn namespaces(linux: &oci_spec::runtime::Linux) -> BTreeMap<String, Namespace> {
    let entries = linux.namespaces().as_deref().unwrap_or_default();
    let place = |kind: LinuxNamespaceType| {
        let entry = entries.iter().find(|entry| entry.typ() == kind);
        let path = entry.map(|entry| entry.path().clone().filter(|path| !path.as_os_str().is_empty()));
        match path {
            None => Namespace::Runtime,
            Some(None) => Namespace::New,
            Some(Some(path)) => Namespace::Path(path),
        }
    };
    KINDS.into_iter().map(|kind| (kind.to_string(), place(kind))).collect()
}

fn mount(entry: &Mount, directory: &Path) -> verify::Mount {
    let options = entry.options().as_deref().unwrap_or_default();
    let has = |name: &str| options.iter().any(|option| option == name);
    let kind = entry.typ().as_deref().unwrap_or_default();
    let kind = if has("remount") {
        MountKind::Remount
    } else if has("bind") || has("rbind") || kind == "bind" {
        let source = directory.join(entry.source().as_deref().unwrap_or(Path::new("")));
        let is_link = || fs::symlink_metadata(&source).is_ok_and(|found| found.is_symlink());
        if has("copy-symlink") && is_link() { MountKind::Link } else { MountKind::Bind(source) }
    } else if matches!(kind, "cgroup" | "cgroup2") {
        MountKind::Cgroup
    } else {
        MountKind::Filesystem(kind.to_owned())
    };
    let restrictions = RESTRICTIONS.iter().filter(|(_, forbid, allow)| {
        let last = options.iter().rfind(|option| [forbid, allow].iter().any(|words| words.contains(&option.as_str())));
        last.is_some_and(|option| forbid.contains(&option.as_str()))
    });
    let restrictions = restrictions.map(|(name, ..)| (*name).to_owned()).collect();
    let propagation = options.iter().rev().find_map(|option| propagation(option));
    verify::Mount { destination: entry.destination().clone(), kind, restrictions, propagation }
}

fn id_maps(linux: &oci_spec::runtime::Linux) -> IdRanges {
    let entries = linux.namespaces().as_deref().unwrap_or_default();
    let is_new = |entry: &oci_spec::runtime::LinuxNamespace| {
        entry.typ() == LinuxNamespaceType::User && entry.path().as_ref().is_none_or(|path| path.as_os_str().is_empty())
    };
    if !entries.iter().any(is_new) {
        return IdRanges::default();
    }
    let ranges = |maps: &Option<Vec<LinuxIdMapping>>| {
        maps.iter().flatten().map(|map| (map.container_id(), map.host_id(), map.size())).collect()
    };
    IdRanges { uids: ranges(linux.uid_mappings()), gids: ranges(linux.gid_mappings()) }
}

fn propagation(option: &str) -> Option<Propagation> {
    match option {
        "shared" | "rshared" => Some(Propagation::Shared),
        "slave" | "rslave" => Some(Propagation::Slave),
        "private" | "rprivate" | "unbindable" | "runbindable" => Some(Propagation::Private),
        _ => None,
    }
}
