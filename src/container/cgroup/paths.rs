//! A container's cgroup by its directories alone: what state.json keeps, so that kill, delete, pause and ps need no
//! config.json and no look at the host.

use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::fd::OwnedFd;

use anyhow::{Result, anyhow};
use serde::{Deserialize, Serialize};

use super::host::file::path;
use super::host::layout::{Layout, absolute};
use super::host::{file, tree};
use super::join::{CgroupJoin, TasksFile};
use super::systemd::unit::Unit;
use crate::sys::cgroup;

/// The directories of a container's cgroup, by the controllers of their hierarchy as /proc/PID/cgroup writes them
/// (`cpu,cpuacct`, `name=systemd`, and nothing for v2). None of them, if the container has no cgroup of its own.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Paths {
    pub layout: Layout,
    pub directories: BTreeMap<String, String>,
    /// The unit of systemd that they belong to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<Unit>,
}

impl Default for Paths {
    fn default() -> Self {
        Self { layout: Layout::V2, directories: BTreeMap::new(), unit: None }
    }
}

impl Paths {
    pub(super) fn new(layout: Layout, directories: impl Iterator<Item = (String, String)>) -> Self {
        let directories = directories.map(|(controllers, directory)| (controllers, absolute(&directory))).collect();
        Self { layout, directories, unit: None }
    }

    pub(super) fn forget(&mut self, controllers: &str) {
        self.directories.remove(controllers);
    }

    /// The directory in the hierarchy that has this controller; on v2, there is one for all.
    pub fn directory_of(&self, controller: &str) -> Option<&str> {
        let has = |names: &str| self.layout == Layout::V2 || names.split(',').any(|name| name == controller);
        self.directories.iter().find(|(names, _)| has(names)).map(|(_, directory)| directory.as_str())
    }

    /// Whether the cgroup is there.
    pub fn exists(&self) -> bool {
        self.main().is_some_and(|directory| path(directory).is_ok_and(|path| cgroup::exists(cgroup::here(), &path)))
    }

    /// Every process in the cgroup and those below it, each once; none if the cgroup is gone.
    pub fn pids(&self) -> Result<Vec<i32>> {
        let mut pids = self.members()?;
        pids.retain(|pid| *pid > 0);
        Ok(pids)
    }

    /// The same, and 0 if there is any that this pid namespace cannot name.
    pub(super) fn members(&self) -> Result<Vec<i32>> {
        self.main().map_or_else(|| Ok(Vec::new()), tree::members)
    }

    /// The hierarchies in which a process of the unit is put by systemd, and does not enter by itself, left out.
    pub(super) fn without_those_of_systemd(&self) -> Self {
        let ours = |names: &str| self.layout != Layout::V2 && !names.is_empty() && names != "name=systemd";
        let directories = self.directories.iter().filter(|(names, _)| ours(names));
        let directories = directories.map(|(names, directory)| (names.clone(), directory.clone())).collect();
        Self { layout: self.layout, directories, unit: self.unit.clone() }
    }

    /// How a process enters: `tasks` files and the v2 directory, opened. Memory comes last, so that the least of the
    /// runtime's own work is accounted to the container.
    pub fn join(&self) -> Result<CgroupJoin> {
        let own = self.directories.get("").map(|at| {
            let opened = cgroup::open_location(cgroup::here(), &path(at)?);
            opened.map_err(|error| anyhow!("{at}: {}", file::reason(error.errno)))
        });
        self.join_in(own.transpose()?)
    }

    /// The same, but of v2 with this directory.
    pub(super) fn join_in(&self, directory: Option<OwnedFd>) -> Result<CgroupJoin> {
        let mut tasks = Vec::with_capacity(self.directories.len());
        for (controllers, at) in self.directories.iter().filter(|(controllers, _)| !controllers.is_empty()) {
            let name = CString::new(format!("{at}/tasks"))?;
            let opened = TasksFile::open(name);
            let opened = opened.map_err(|error| anyhow!("{at}/tasks: {}", file::reason(error.errno)))?;
            tasks.push((controllers.split(',').any(|name| name == "memory"), opened));
        }
        tasks.sort_by_key(|(is_memory, _)| *is_memory);
        let tasks: Vec<TasksFile> = tasks.into_iter().map(|(_, file)| file).collect();
        Ok(match (tasks.is_empty(), directory) {
            (true, None) => CgroupJoin::None,
            (true, Some(directory)) => CgroupJoin::Directory(directory),
            (false, None) => CgroupJoin::Tasks(tasks),
            (false, Some(directory)) => CgroupJoin::Hybrid { tasks, directory },
        })
    }

    /// The hierarchy that stands for all: every process of the container is in each of them. runc asks `devices`.
    pub(super) fn main(&self) -> Option<&str> {
        ["devices", "pids", "freezer", "memory"]
            .iter()
            .find_map(|controller| self.directory_of(controller))
            .or_else(|| self.directories.values().next().map(String::as_str))
    }
}
