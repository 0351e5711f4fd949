//! A container's cgroup as metrics and signals need it.

use std::fs;
use std::path::{Path, PathBuf};

use containerd_shim_ocirt::api::known::Any;
use containerd_shim_ocirt::stats;

/// A container's cgroup, found at its init's birth: later there may be no process to ask.
#[derive(Clone, Default, Debug)]
pub(super) struct Cgroup {
    /// The directories of v1's hierarchies by their controllers; of v2 there is one, without a name.
    pub(super) directories: Vec<(String, PathBuf)>,
}

impl Cgroup {
    /// That of a process, by /proc/PID/cgroup (cgroups(7)).
    pub(super) fn of(pid: u32) -> Self {
        let text = fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
        let line = |line: &str| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?.trim_start_matches("name="), parts.next()?);
            let directory = Path::new("/sys/fs/cgroup").join(controllers).join(path.trim_start_matches('/'));
            // The root has no container; and beside v1's hierarchies v2's is mounted elsewhere, or not at all.
            let is_there = path != "/" && (!controllers.is_empty() || directory.join("cgroup.procs").exists());
            is_there.then(|| (controllers.to_owned(), directory))
        };
        Self { directories: text.lines().filter_map(line).collect() }
    }

    /// The directory of the memory controller, and whether that is in a hierarchy of v1.
    pub(super) fn memory(&self) -> Option<(bool, &Path)> {
        let is_memory = |controllers: &str| controllers.split(',').any(|own| own == "memory");
        let v1 = self.directories.iter().find(|(controllers, _)| is_memory(controllers));
        let found = v1.or_else(|| self.directories.iter().find(|(controllers, _)| controllers.is_empty()))?;
        Some((!found.0.is_empty(), &found.1))
    }

    /// True where a controller is in a hierarchy of v1.
    pub(super) fn is_v1(&self) -> bool {
        self.directories.iter().any(|(controllers, _)| !controllers.is_empty())
    }

    pub(super) fn read(&self, name: &str) -> Option<String> {
        let controller = name.split('.').next()?;
        let has_it = |controllers: &str| controllers.is_empty() || controllers.split(',').any(|own| own == controller);
        let found = self.directories.iter().filter(|(controllers, _)| has_it(controllers));
        found.filter_map(|(_, directory)| fs::read_to_string(directory.join(name)).ok()).next()
    }

    /// `2MB` of each file hugetlb.2MB.SUFFIX.
    pub(super) fn page_sizes(&self, suffix: &str) -> Vec<String> {
        let entries = self.directories.iter().filter_map(|(_, directory)| fs::read_dir(directory).ok()).flatten();
        let size =
            |name: String| Some(name.strip_prefix("hugetlb.")?.strip_suffix(suffix)?.trim_end_matches('.').to_owned());
        let mut found: Vec<String> =
            entries.flatten().filter_map(|entry| size(entry.file_name().to_string_lossy().into_owned())).collect();
        found.retain(|size| !size.contains('.'));
        found
    }

    pub(super) fn metrics(&self) -> Any {
        let read = |name: &str| self.read(name);
        if self.is_v1() {
            Any::pack(&stats::v1::metrics(&read, &self.page_sizes(".max_usage_in_bytes")))
        } else {
            Any::pack(&stats::v2::metrics(&read, &self.page_sizes(".current")))
        }
    }

    pub(super) fn pids(&self) -> Vec<u32> {
        let mut pids = Vec::new();
        let is_mounted = |directory: &Path| directory.join("cgroup.procs").exists();
        if let Some((_, directory)) = self.directories.iter().find(|(_, directory)| is_mounted(directory)) {
            collect(directory, &mut pids);
        }
        pids
    }
}

pub(super) fn collect(cgroup: &Path, pids: &mut Vec<u32>) {
    let text = fs::read_to_string(cgroup.join("cgroup.procs")).unwrap_or_default();
    pids.extend(text.lines().filter_map(|line| line.parse::<u32>().ok()));
    for entry in fs::read_dir(cgroup).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            collect(&entry.path(), pids);
        }
    }
}
