//! Where in a container's cgroup an exec process goes: into the container's own, into one below it (`--cgroup`), or
//! where init is.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result, anyhow, bail, ensure};

use super::host::layout::{self, Layout, ROOT};
use super::host::{file, tree};
use super::join::CgroupJoin;
use super::paths::Paths;
use crate::sys::{Errno, SysError, beneath, cgroup};

impl Paths {
    /// These cgroups, each replaced by the one below it that an argument names: `PATH` for all hierarchies, or
    /// `CONTROLLER[,CONTROLLER]:PATH` for that of a controller, as in runc.
    pub fn below(&self, arguments: &[String]) -> Result<Self> {
        let mut paths = self.clone();
        let mut done: Vec<&str> = Vec::new();
        for argument in arguments {
            let Some((controllers, path)) = argument.split_once(':') else {
                if arguments.len() > 1 {
                    bail!("{argument}: a path for all controllers must be the only one");
                }
                paths.directories.values_mut().try_for_each(|directory| descend(directory, path_of(argument)))?;
                break;
            };
            for controller in controllers.split(',') {
                let names = self.hierarchy_of(controller).with_context(|| format!("{argument}: {controller:?}"))?;
                if done.contains(&names) {
                    bail!("{argument}: a second path in the hierarchy of {controller:?}");
                }
                done.push(names);
                paths.directories.get_mut(names).map_or(Ok(()), |directory| descend(directory, path_of(path)))?;
            }
        }
        Ok(paths)
    }

    /// Only the one that memory is charged to, and that which decides about devices; as far as the container has them.
    /// Not the freezer of v1: what enters it may stop there.
    pub fn of_memory_and_devices(&self) -> Self {
        let has = |names: &str, wanted| names.split(',').any(|name| name == wanted);
        let is_v1 = self.directories.keys().any(|names| has(names, "memory"));
        let is_charged = |names: &str| if is_v1 { has(names, "memory") } else { names.is_empty() };
        let mut paths = self.clone();
        paths.directories.retain(|names, _| has(names, "devices") || is_charged(names));
        paths
    }

    /// The hierarchy of a controller, as the keys of `directories` have it. On v2 there is one, without a name.
    fn hierarchy_of(&self, controller: &str) -> Result<&str> {
        let found = self.directories.keys().find(|names| {
            !controller.is_empty() && self.layout != Layout::V2 && names.split(',').any(|name| name == controller)
        });
        found.map(String::as_str).context("the container is in no hierarchy of that controller")
    }

    /// As [`Paths::join`], but in the cgroup v2 that process `pid` is in. A container that made cgroups below its own
    /// and enabled controllers there has moved its processes down: nobody can enter its own any more (cgroups(7), "no
    /// internal processes").
    pub fn join_like(&self, pid: i32) -> Result<CgroupJoin> {
        let directory = self.directories.get("").map(|own| self.directory_with(own, pid));
        self.join_in(directory.transpose()?)
    }

    /// The same of a container whose own cgroup is gone: wherever the process is by now. Only a user of the host with the
    /// right to that has moved it.
    pub fn join_wherever(&self, pid: i32) -> Result<CgroupJoin> {
        let path = self.of_process(pid)?.with_context(|| format!("process {pid} is in no cgroup v2"))?;
        let path = String::from_utf8(path).with_context(|| format!("cgroup of process {pid}"))?;
        ensure!(!path.starts_with("/.."), "process {pid} is in {path}, outside of the runtime's cgroup namespace");
        let at = format!("{}{path}", self.unified());
        let opened = cgroup::open_location(cgroup::here(), &CString::new(at.as_str())?);
        self.join_in(Some(opened.with_context(|| at)?))
    }

    /// Where the v2 hierarchy is mounted.
    fn unified(&self) -> String {
        if self.layout == Layout::V2 { ROOT.to_owned() } else { format!("{ROOT}/{}", layout::UNIFIED) }
    }

    /// The path of process `pid` in the v2 hierarchy.
    fn of_process(&self, pid: i32) -> Result<Option<Vec<u8>>> {
        let name = format!("/proc/{pid}/cgroup");
        let text = file::read_bytes(cgroup::here(), &CString::new(name.as_str())?).with_context(|| name.clone())?;
        Ok(text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(b"0::")).map(<[u8]>::to_vec))
    }

    /// The v2 directory, `own` or below, that process `pid` is in.
    fn directory_with(&self, own: &str, pid: i32) -> Result<OwnedFd> {
        let below = self.below_own(own, pid).and_then(|below| {
            let own = cgroup::open_location(cgroup::here(), &CString::new(own)?)?;
            if below.is_empty() { Ok(own) } else { Ok(beneath::directory_beneath(own.as_fd(), &CString::new(below)?)?) }
        });
        match below {
            // The kernel tells no path longer than PATH_MAX; or the container moved the process meanwhile.
            Err(error) if matches!(errno(&error), Some(Errno::ENAMETOOLONG | Errno::ENOENT)) => {
                tree::of_process(own, pid)?.with_context(|| format!("process {pid} is in no cgroup below {own}"))
            }
            below => below,
        }
    }

    /// Where below `own` process `pid` is in the v2 hierarchy: nothing, or a relative path. A pid that is another
    /// process's by now is outside.
    fn below_own(&self, own: &str, pid: i32) -> Result<Vec<u8>> {
        let unified = self.unified();
        let own = own.strip_prefix(unified.as_str()).unwrap_or(own);
        let path = self.of_process(pid)?;
        let below = path.as_deref().and_then(|path| path.strip_prefix(own.as_bytes()));
        match below {
            Some([]) => Ok(Vec::new()),
            Some([b'/', below @ ..]) => Ok(below.to_vec()),
            _ => bail!("process {pid} is outside of the container's cgroup {own}"),
        }
    }

    /// Has systemd move process `pid` into these cgroups, which are a unit's `own` or below them; into that of `instead`
    /// where nobody can enter. A user whose process is outside of what is delegated to him may not enter by himself
    /// (cgroups(7), "Delegation containment"), but his systemd has it done by the system's.
    pub fn move_in(&self, own: &Self, pid: i32, instead: Option<i32>) -> Result<()> {
        let unit = self.unit.as_ref().context("the container is no unit of systemd")?;
        let below = |paths: &Self| {
            let [to, own] = [paths, own].map(|paths| paths.directories.get("").map_or("", String::as_str));
            to.strip_prefix(own).unwrap_or_default().to_owned()
        };
        match (unit.attach(&below(self), pid), instead) {
            (Err(error), Some(other)) => {
                let own = own.directories.get("").map_or("", String::as_str);
                // Messages of D-Bus are UTF-8.
                let below = String::from_utf8(self.below_own(own, other)?)
                    .context("systemd moves no process into a cgroup whose name is not UTF-8")?;
                if below.is_empty() { Err(error) } else { unit.attach(&format!("/{below}"), pid) }
            }
            (attached, _) => attached,
        }
    }
}

fn errno(error: &anyhow::Error) -> Option<Errno> {
    error.root_cause().downcast_ref::<SysError>().map(|error| error.errno)
}

fn path_of(argument: &str) -> impl Iterator<Item = &str> {
    argument.split('/').filter(|name| !matches!(*name, "" | "."))
}

/// Goes down from `directory`, component by component; never above it (runc before 1.5.2 compared text, and let siblings through).
fn descend<'a>(directory: &mut String, names: impl Iterator<Item = &'a str>) -> Result<()> {
    let mut below: Vec<&str> = Vec::new();
    for name in names {
        match name {
            ".." => drop(below.pop().ok_or_else(|| anyhow!("leads out of the container's cgroup {directory}"))?),
            name => below.push(name),
        }
    }
    for name in below {
        directory.push('/');
        directory.push_str(name);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn paths(layout: Layout, controllers: &[&str]) -> Paths {
        let directories = controllers.iter().map(|names| ((*names).to_owned(), format!("/sys/fs/cgroup/{names}/web")));
        Paths { layout, directories: directories.collect(), unit: None }
    }

    fn below(paths: &Paths, arguments: &[&str]) -> Result<String> {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        let directories = paths.below(&arguments)?.directories;
        Ok(directories
            .values()
            .map(|directory| directory.trim_start_matches("/sys/fs/cgroup/"))
            .collect::<Vec<_>>()
            .join(" "))
    }

    #[test]
    fn a_path_is_for_every_hierarchy_or_for_one() {
        let v1 = paths(Layout::V1, &["cpu,cpuacct", "memory"]);
        assert_eq!(below(&v1, &["a/./b"]).unwrap(), "cpu,cpuacct/web/a/b memory/web/a/b");
        assert_eq!(below(&v1, &["/"]).unwrap(), "cpu,cpuacct/web memory/web");
        assert_eq!(below(&v1, &["cpu:a", "memory:b"]).unwrap(), "cpu,cpuacct/web/a memory/web/b");
        assert_eq!(below(&v1, &["memory,cpuacct:x/../y"]).unwrap(), "cpu,cpuacct/web/y memory/web/y");
        assert_eq!(below(&paths(Layout::V2, &[""]), &["a"]).unwrap(), "/web/a");
    }

    #[test]
    fn memory_is_charged_in_one_hierarchy_and_devices_are_refused_by_one() {
        let of = |layout, controllers: &[&str]| {
            paths(layout, controllers).of_memory_and_devices().directories.into_keys().collect::<Vec<_>>()
        };
        assert_eq!(of(Layout::V1, &["cpu,cpuacct", "memory"]), ["memory"]);
        assert_eq!(of(Layout::Hybrid, &["", "memory"]), ["memory"]);
        assert_eq!(of(Layout::V1, &["devices", "freezer", "memory", "pids"]), ["devices", "memory"]);
        assert_eq!(of(Layout::Hybrid, &["", "devices", "freezer"]), ["", "devices"]);
        assert_eq!(of(Layout::V2, &[""]), [""]);
        assert_eq!(of(Layout::V1, &["pids"]), [""; 0]);
    }

    #[test]
    fn no_path_leaves_the_containers_cgroup() {
        let v1 = paths(Layout::V1, &["memory"]);
        for path in ["..", "../web2", "a/../..", "/../web-2", "memory:../other", "a/../../web"] {
            let error = format!("{:#}", below(&v1, &[path]).unwrap_err());
            assert!(error.contains("leads out of the container's cgroup"), "{path}: {error}");
        }
    }

    #[test]
    fn an_argument_that_means_nothing_is_an_error() {
        let v1 = paths(Layout::V1, &["cpu,cpuacct", "memory"]);
        let cases = [
            (&["a", "b"][..], "must be the only one"),
            (&["a", "memory:b"], "must be the only one"),
            (&[":a"], "in no hierarchy of that controller"),
            (&["nope:a"], "in no hierarchy of that controller"),
            (&["cpu:a", "cpuacct:b"], "a second path in the hierarchy"),
            (&["cpu,:a"], "in no hierarchy of that controller"),
        ];
        for (arguments, words) in cases {
            let error = format!("{:#}", below(&v1, arguments).unwrap_err());
            assert!(error.contains(words), "{arguments:?}: {error}");
        }
        let error = format!("{:#}", below(&paths(Layout::V2, &[""]), &["memory:a"]).unwrap_err());
        assert!(error.contains("in no hierarchy of that controller"), "{error}");
    }
}
