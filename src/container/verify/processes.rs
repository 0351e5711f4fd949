//! What is true of each process of a container: namespaces, cgroups, root, credentials.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::fs;
use std::io::ErrorKind;
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result};
use caps::Capability;

use super::life::Life;
use super::row::Row;
use super::status::{Status, living, threads};
use super::table::View;
use super::{Namespace, Wanted, bounds, credentials, nested, scheduler};
use crate::error::field;
use crate::sys::file;

/// The login id of who has not logged in, in /proc/PID/loginuid.
const NO_LOGIN: u32 = u32::MAX;

/// What a container's processes have in common, and where they are looked at from.
pub struct Processes<'a> {
    pub wanted: &'a Wanted,
    pub life: Life,
    pub init: i32,
    /// The container's cgroups as /proc/PID/cgroup writes them: path by controllers.
    pub cgroups: &'a BTreeMap<String, String>,
    /// None for a container that has the runtime's mount namespace.
    pub view: Option<&'a View>,
}

impl Processes<'_> {
    /// Where a process is: namespaces, cgroups, root and working directory.
    pub fn place(&self, pid: i32) -> Result<Vec<Row>> {
        let Some(pid) = living(pid)? else { return Ok(Vec::new()) };
        let mut rows = namespaces(self.wanted, self.life, self.init, pid)?;
        rows.extend(self.cgroup(pid)?);
        if let Some(view) = self.view.filter(|_| self.sees_the_containers_mounts(pid)) {
            rows.extend(self.directories(pid, view)?);
        }
        Ok(rows)
    }

    /// One that has made a mount namespace of its own has mounts that are not in the container's table.
    fn sees_the_containers_mounts(&self, pid: i32) -> bool {
        let namespace = |pid: i32| fs::read_link(format!("/proc/{pid}/ns/mnt")).ok();
        self.life == Life::Restored || namespace(pid) == namespace(self.init)
    }

    /// A process is in the container's cgroup, or below it, in every hierarchy.
    fn cgroup(&self, pid: i32) -> Result<Vec<Row>> {
        let path = format!("/proc/{pid}/cgroup");
        // The names are the container's to choose.
        let text = fs::read(&path).context(path)?;
        let mut rows = Vec::new();
        for (controllers, found) in cgroups(&String::from_utf8_lossy(&text)) {
            let wanted = self.cgroups.get(&controllers).map(String::as_str);
            if wanted.is_none() && self.life == Life::Running {
                // A hierarchy that containers do not join.
                continue;
            }
            let wanted = wanted.unwrap_or_default();
            let holds = is_below(&found, wanted);
            let wanted = format!("{wanted:?} or below ({controllers})");
            rows.push(Row::new("linux.cgroupsPath", wanted, format!("{found:?}"), holds).of(pid));
        }
        Ok(rows)
    }

    /// Root and working directory are on mounts of the container, which are looked at by themselves.
    fn directories(&self, pid: i32, view: &View) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        let root = file::stat(view.root.as_fd())?;
        for (name, field) in [("root", "root.path"), ("cwd", "process.cwd")] {
            let path = CString::new(format!("/proc/{pid}/{name}"))?;
            let fd = file::open_path(&path).with_context(|| path.to_string_lossy().into_owned())?;
            let mount = file::mount_of(fd.as_fd())?;
            let is_inside = view.lines.iter().any(|line| line.id == mount);
            let holds = if name == "root" && pid == self.init {
                mount == root.mount && file::stat(fd.as_fd())?.inode == root.inode
            } else {
                is_inside
            };
            let found = fs::read_link(format!("/proc/{pid}/{name}"));
            let found = format!("{} on mount {mount}", found.unwrap_or_default().display());
            rows.push(Row::new(field, "a directory of the container", found, holds).of(pid));
        }
        Ok(rows)
    }

    /// Who a process is and what it may do, thread by thread.
    pub fn credentials(&self, pid: i32) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for thread in threads(pid)? {
            match self.of_thread(pid, thread) {
                // It has ended, and the others go on.
                Err(error) if self.life.is_over(&error) => {}
                found => rows.extend(found?.into_iter().map(|row| row.of(thread))),
            }
        }
        rows.extend(self.oom_score_adj(pid)?);
        if living(pid)?.is_some() {
            rows.extend(bounds::compare(self.wanted, self.life, pid)?);
        }
        Ok(rows)
    }

    fn of_thread(&self, pid: i32, thread: i32) -> Result<Vec<Row>> {
        let status = Status::of(pid, thread)?;
        if status.has_ended() {
            return Ok(Vec::new());
        }
        let mut rows = credentials::restrictions(self.wanted, &status)?;
        // In a user namespace of its own, a process has all capabilities, for what belongs to that.
        if !(self.life == Life::Running && nested::is_in_own_users(self.init, pid)?) {
            rows.extend(credentials::capabilities(self.wanted, &status)?);
            rows.extend(credentials::user(self.wanted, &status)?);
        }
        rows.extend(self.labels(pid, thread)?);
        rows.extend(scheduler::compare(self.wanted, pid, thread)?);
        if self.life == Life::Restored {
            rows.extend(login(pid, thread)?);
        }
        Ok(rows)
    }

    fn labels(&self, pid: i32, thread: i32) -> Result<Vec<Row>> {
        let Wanted { apparmor, selinux, .. } = self.wanted;
        let wanted = [("process.apparmorProfile", apparmor, "apparmor/"), ("process.selinuxLabel", selinux, "")];
        let mut rows = Vec::new();
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
            let holds = found == *wanted;
            rows.push(Row::new(field, wanted.clone(), found, holds));
        }
        Ok(rows)
    }

    /// A lower score has others killed in the place of this process.
    fn oom_score_adj(&self, pid: i32) -> Result<Vec<Row>> {
        let score = |process: &str| -> Result<i32> {
            let path = format!("/proc/{process}/oom_score_adj");
            Ok(fs::read_to_string(&path).context(path)?.trim().parse()?)
        };
        if self.wanted.can_have(Capability::CAP_SYS_RESOURCE) {
            return Ok(Vec::new());
        }
        let wanted = match (self.wanted.oom_score_adj, self.life) {
            (Some(wanted), _) => wanted,
            // It is what whoever created the container had.
            (None, Life::Running) => return Ok(Vec::new()),
            (None, Life::Restored) => score("self")?,
        };
        let found = score(&pid.to_string())?;
        let row = Row::new("process.oomScoreAdj", format!("{wanted} or more"), found.to_string(), found >= wanted);
        Ok(vec![row.of(pid)])
    }
}

/// Audit's login id is the runtime's, or there is none: the acts of a process are put down to it.
fn login(pid: i32, thread: i32) -> Result<Option<Row>> {
    let login = |process: &str| match fs::read_to_string(format!("/proc/{process}/loginuid")) {
        // The kernel is without audit.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        text => text.map(Some),
    };
    let (own, found) = (login("self")?, login(&format!("{pid}/task/{thread}"))?);
    let Some(found) = found.filter(|found| own.as_ref() != Some(found) && *found != NO_LOGIN.to_string()) else {
        return Ok(None);
    };
    let wanted = format!("login id {}", own.unwrap_or_default());
    Ok(Some(Row::new("--image-path", wanted, format!("login id {found}"), false)))
}

/// The namespaces of a process are config.json's, and the same for all, but for what a process that runs has made itself.
pub fn namespaces(wanted: &Wanted, life: Life, init: i32, pid: i32) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (kind, namespace) in &wanted.namespaces {
        let found = identity(&format!("/proc/{pid}/ns/{kind}"))?;
        let runtime = identity(&format!("/proc/thread-self/ns/{kind}"))?;
        let inits = identity(&format!("/proc/{init}/ns/{kind}"))?;
        let (expected, holds) = match namespace {
            Namespace::New => ("a namespace of the container's own".to_owned(), found != runtime && found == inits),
            Namespace::Runtime => ("the runtime's".to_owned(), found == runtime),
            Namespace::Path(path) => {
                let metadata = fs::metadata(path).map(|metadata| (metadata.dev(), metadata.ino()));
                let at = match metadata {
                    // The process that it was taken from has ended; it stays what it is.
                    Err(error) if error.kind() == ErrorKind::NotFound && life == Life::Running => inits,
                    metadata => metadata.with_context(|| path.display().to_string())?,
                };
                (path.display().to_string(), found == at)
            }
        };
        let holds = holds || life == Life::Running && nested::is_own(wanted, init, pid, kind)?;
        let which = if found == runtime { "the runtime's" } else { "another one" };
        let found = format!("{which} ({kind}:[{}])", found.1);
        rows.push(Row::new("linux.namespaces", format!("{kind}: {expected}"), found, holds).of(pid));
    }
    Ok(rows)
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
