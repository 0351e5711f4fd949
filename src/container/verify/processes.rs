//! What is true of each process of a container: namespaces, cgroups, root, credentials.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result};
use caps::Capability;

use super::status::{Status, living, threads};
use super::table::View;
use super::{Difference, Namespace, Wanted, bounds, scheduler};
use crate::error::field;
use crate::sys::file;

/// The login id of who has not logged in, in /proc/PID/loginuid.
const NO_LOGIN: u32 = u32::MAX;

/// What a container's processes have in common, and where they are looked at from.
pub struct Processes<'a> {
    wanted: &'a Wanted,
    init: i32,
    /// The container's cgroups as /proc/PID/cgroup writes them: path by controllers.
    cgroups: &'a BTreeMap<String, String>,
    view: &'a View,
}

impl<'a> Processes<'a> {
    pub fn new(wanted: &'a Wanted, init: i32, cgroups: &'a BTreeMap<String, String>, view: &'a View) -> Self {
        Self { wanted, init, cgroups, view }
    }

    /// Where a process is: namespaces, cgroups, root and working directory.
    pub fn place(&self, pid: i32) -> Result<Vec<Difference>> {
        let Some(pid) = living(pid)? else { return Ok(Vec::new()) };
        let mut found = namespaces(self.wanted, self.init, pid)?;
        found.extend(self.cgroup(pid)?);
        found.extend(self.directories(pid)?);
        Ok(found)
    }

    /// A process is in the container's cgroup, or below it, in every hierarchy.
    fn cgroup(&self, pid: i32) -> Result<Vec<Difference>> {
        let path = format!("/proc/{pid}/cgroup");
        let text = fs::read_to_string(&path).context(path)?;
        let mut differences = Vec::new();
        for (controllers, found) in cgroups(&text) {
            let wanted = self.cgroups.get(&controllers).map(String::as_str).unwrap_or_default();
            if !is_below(&found, wanted) {
                let (field, wanted) = ("linux.cgroupsPath".to_owned(), format!("{wanted:?} or below ({controllers})"));
                differences.push(Difference { field, wanted, found: format!("{found:?}"), pid: Some(pid) });
            }
        }
        Ok(differences)
    }

    /// Root and working directory are on mounts of the container, which are looked at by themselves.
    fn directories(&self, pid: i32) -> Result<Vec<Difference>> {
        let mut differences = Vec::new();
        let root = file::stat(self.view.root.as_fd())?;
        for (name, field) in [("root", "root.path"), ("cwd", "process.cwd")] {
            let path = CString::new(format!("/proc/{pid}/{name}"))?;
            let fd = file::open_path(&path).with_context(|| path.to_string_lossy().into_owned())?;
            let stat = file::stat(fd.as_fd())?;
            let is_root = (stat.mount, stat.inode) == (root.mount, root.inode);
            let is_inside = self.view.lines.iter().any(|line| line.id == stat.mount);
            let holds = if name == "root" && pid == self.init { is_root } else { is_inside };
            if !holds {
                let found = fs::read_link(format!("/proc/{pid}/{name}"));
                let found = format!("{} on mount {}", found.unwrap_or_default().display(), stat.mount);
                let wanted = "a directory of the container".to_owned();
                differences.push(Difference { field: field.to_owned(), wanted, found, pid: Some(pid) });
            }
        }
        Ok(differences)
    }

    /// Who a process is and what it may do, thread by thread.
    pub fn credentials(&self, pid: i32) -> Result<Vec<Difference>> {
        let mut differences = Vec::new();
        for thread in threads(pid)? {
            let status = Status::of(pid, thread)?;
            if status.has_ended() {
                continue;
            }
            let mut found = capabilities(self.wanted, &status)?;
            found.extend(user(self.wanted, &status)?);
            found.extend(restrictions(self.wanted, &status)?);
            found.extend(self.labels(pid, thread)?);
            found.extend(scheduler::compare(self.wanted, pid, thread)?);
            found.extend(login(pid, thread)?);
            differences.extend(found.into_iter().map(|difference| Difference { pid: Some(thread), ..difference }));
        }
        differences.extend(self.oom_score_adj(pid)?);
        if living(pid)?.is_some() {
            differences.extend(bounds::compare(self.wanted, pid)?);
        }
        Ok(differences)
    }

    fn labels(&self, pid: i32, thread: i32) -> Result<Vec<Difference>> {
        let Wanted { apparmor, selinux, .. } = self.wanted;
        let wanted = [("process.apparmorProfile", apparmor, "apparmor/"), ("process.selinuxLabel", selinux, "")];
        let mut differences = Vec::new();
        for (field, wanted, directory) in wanted {
            let Some(wanted) = wanted else { continue };
            let read = |directory| fs::read_to_string(format!("/proc/{pid}/task/{thread}/attr/{directory}current"));
            let text = match read(directory) {
                // Before Linux 5.8 there is one file for the one module.
                Err(error) if error.kind() == ErrorKind::NotFound => read(""),
                text => text,
            };
            let text = text.with_context(|| field!("{field}"; "label of process {pid}"))?;
            // AppArmor has its mode behind the profile.
            let found = text.trim_end_matches(['\0', '\n']).split(" (").next().unwrap_or_default().to_owned();
            if found != *wanted {
                differences.push(difference(field, wanted.clone(), found));
            }
        }
        Ok(differences)
    }

    /// A lower score has others killed in the place of this process.
    fn oom_score_adj(&self, pid: i32) -> Result<Vec<Difference>> {
        let score = |process: &str| -> Result<i32> {
            let path = format!("/proc/{process}/oom_score_adj");
            Ok(fs::read_to_string(&path).context(path)?.trim().parse()?)
        };
        let wanted = self.wanted.oom_score_adj.map_or_else(|| score("self"), Ok)?;
        let found = score(&pid.to_string())?;
        if found >= wanted || self.wanted.can_have(Capability::CAP_SYS_RESOURCE) {
            return Ok(Vec::new());
        }
        let difference = difference("process.oomScoreAdj", format!("{wanted} or more"), found.to_string());
        Ok(vec![Difference { pid: Some(pid), ..difference }])
    }
}

/// Audit's login id is the runtime's, or there is none: the acts of a process are put down to it.
fn login(pid: i32, thread: i32) -> Result<Option<Difference>> {
    let login = |process: &str| match fs::read_to_string(format!("/proc/{process}/loginuid")) {
        // The kernel is without audit.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        text => text.map(Some),
    };
    let (own, found) = (login("self")?, login(&format!("{pid}/task/{thread}"))?);
    let Some(found) = found.filter(|found| own.as_ref() != Some(found) && *found != NO_LOGIN.to_string()) else {
        return Ok(None);
    };
    Ok(Some(difference("--image-path", format!("login id {}", own.unwrap_or_default()), format!("login id {found}"))))
}

/// The namespaces of a process are config.json's, and the same for all: nobody has one beside.
pub fn namespaces(wanted: &Wanted, init: i32, pid: i32) -> Result<Vec<Difference>> {
    let mut differences = Vec::new();
    for (kind, namespace) in &wanted.namespaces {
        let found = identity(&format!("/proc/{pid}/ns/{kind}"))?;
        let runtime = identity(&format!("/proc/thread-self/ns/{kind}"))?;
        let inits = identity(&format!("/proc/{init}/ns/{kind}"))?;
        let (expected, holds) = match namespace {
            Namespace::New => ("a namespace of the container's own".to_owned(), found != runtime && found == inits),
            Namespace::Runtime => ("the runtime's".to_owned(), found == runtime),
            Namespace::Path(path) => {
                let metadata = fs::metadata(path).with_context(|| path.display().to_string())?;
                (path.display().to_string(), found == (metadata.dev(), metadata.ino()))
            }
        };
        if !holds {
            let which = if found == runtime { "the runtime's" } else { "another one" };
            let field = "linux.namespaces".to_owned();
            let (wanted, found) = (format!("{kind}: {expected}"), format!("{which} ({kind}:[{}])", found.1));
            differences.push(Difference { field, wanted, found, pid: Some(pid) });
        }
    }
    Ok(differences)
}

/// Path by controllers, of the text of /proc/PID/cgroup.
pub fn cgroups(text: &str) -> BTreeMap<String, String> {
    let line = |line: &str| {
        let mut fields = line.splitn(3, ':').skip(1);
        Some((fields.next()?.to_owned(), fields.next()?.to_owned()))
    };
    text.lines().filter_map(line).collect()
}

/// Below the root are all cgroups: who is there, is not in a container's.
fn is_below(found: &str, wanted: &str) -> bool {
    let below = || found.strip_prefix(wanted).is_some_and(|rest| rest.starts_with('/'));
    found == wanted || wanted.len() > 1 && below() && !found.split('/').any(|part| part == "..")
}

fn identity(path: &str) -> Result<(u64, u64)> {
    let metadata = fs::metadata(path).with_context(|| path.to_owned())?;
    Ok((metadata.dev(), metadata.ino()))
}

fn difference(field: &str, wanted: String, found: String) -> Difference {
    Difference { field: field.to_owned(), wanted, found, pid: None }
}

/// No set has more than config.json gives, or than a program could get by execve(2).
fn capabilities(wanted: &Wanted, status: &Status) -> Result<Vec<Difference>> {
    let own = wanted.capabilities;
    let reachable = wanted.reachable();
    let sets = [
        ("bounding", "CapBnd", own.bounding),
        ("effective", "CapEff", reachable),
        ("permitted", "CapPrm", reachable),
        ("inheritable", "CapInh", own.bounding | own.permitted | own.inheritable),
        ("ambient", "CapAmb", reachable),
    ];
    let mut differences = Vec::new();
    for (set, line, limit) in sets {
        let found = status.mask(line)?;
        if found & !limit != 0 {
            let field = format!("process.capabilities.{set}");
            differences.push(difference(&field, format!("at most {limit:#x}"), format!("{found:#x}")));
        }
    }
    Ok(differences)
}

/// Where nothing lets a process change its ids, they are still those of config.json.
fn user(wanted: &Wanted, status: &Status) -> Result<Vec<Difference>> {
    let user = &wanted.user;
    let mut differences = Vec::new();
    let mut compare = |field: &str, allowed: &[u32], found: Vec<u32>| {
        if found.iter().any(|id| !allowed.contains(id)) {
            differences.push(difference(field, format!("{allowed:?}"), format!("{found:?}")));
        }
    };
    if wanted.keeps_user() {
        compare("process.user.uid", &[user.uid], status.ids("Uid")?);
    }
    if wanted.no_new_privileges && !wanted.can_have(Capability::CAP_SETGID) {
        compare("process.user.gid", &[user.gid], status.ids("Gid")?);
        if let Some(groups) = &user.groups {
            let groups = [&[user.gid][..], groups].concat();
            compare("process.user.additionalGids", &groups, status.ids("Groups")?);
        }
    }
    Ok(differences)
}

fn restrictions(wanted: &Wanted, status: &Status) -> Result<Vec<Difference>> {
    let mut differences = Vec::new();
    if wanted.no_new_privileges && status.number("NoNewPrivs")? != 1 {
        differences.push(difference("process.noNewPrivileges", "true".to_owned(), "false".to_owned()));
    }
    // 2: a filter, prctl(2).
    if wanted.seccomp.is_some() && status.number("Seccomp")? != 2 {
        let mode = format!("mode {}", status.number("Seccomp")?);
        differences.push(difference("linux.seccomp", "a filter".to_owned(), mode));
    }
    Ok(differences)
}
