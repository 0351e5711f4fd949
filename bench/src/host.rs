//! The place to measure in: a private mount namespace with a tmpfs, and a parent cgroup, all gone afterwards.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::prctl;
use nix::unistd::Uid;

const CGROUPS: &str = "/sys/fs/cgroup";

pub struct Host {
    /// A tmpfs that only this process and its children see.
    pub work: PathBuf,
    /// cgroup v2 alone; otherwise v1, without its `unified` mount.
    pub unified: bool,
    /// The mounts of cgroup v1 by name, `cpu` or `cpu,cpuacct`; empty on v2.
    pub hierarchies: Vec<String>,
    /// The parent of every container's cgroup, as cgroupsPath has it.
    pub parent: String,
}

impl Host {
    /// Leaves the caller's mount namespace, becomes a subreaper and makes what every measurement needs.
    #[expect(clippy::disallowed_methods, reason = "nobody but the bench is in its mount namespace yet")]
    pub fn enter() -> Result<Self> {
        ensure!(Uid::effective().is_root(), "the bench makes containers and cgroups, so it runs as root");
        unshare(CloneFlags::CLONE_NEWNS).context("unshare")?;
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None::<&str>)
            .context("mount /")?;
        let unified = Path::new(CGROUPS).join("cgroup.controllers").exists();
        if !unified {
            // crun refuses a hybrid layout that lists both; hidden for all alike. Absent on a pure v1 host.
            let _ = umount2(&Path::new(CGROUPS).join("unified"), MntFlags::MNT_DETACH);
        }
        let work = std::env::temp_dir().join(format!("ocirt-bench.{}", std::process::id()));
        fs::create_dir(&work).with_context(|| format!("mkdir {work:?}"))?;
        mount(Some("bench"), &work, Some("tmpfs"), MsFlags::empty(), Some("mode=755")).context("mount tmpfs")?;
        prctl::set_child_subreaper(true).context("become a subreaper")?;
        let parent = format!("/ocirt-bench-{}", std::process::id());
        let host = Host { work, unified, hierarchies: hierarchies()?, parent };
        host.make_parents()?;
        Ok(host)
    }

    /// The directory of a cgroup path in every hierarchy.
    pub fn directories(&self, path: &str) -> Vec<PathBuf> {
        match self.unified {
            true => vec![PathBuf::from(format!("{CGROUPS}{path}"))],
            false => self.hierarchies.iter().map(|name| PathBuf::from(format!("{CGROUPS}/{name}{path}"))).collect(),
        }
    }

    fn make_parents(&self) -> Result<()> {
        for directory in self.directories(&self.parent) {
            fs::create_dir(&directory).with_context(|| format!("mkdir {directory:?}"))?;
            for file in ["cpuset.cpus", "cpuset.mems"].map(|file| directory.join(file)) {
                if !self.unified && file.exists() {
                    let above = Path::new(CGROUPS).join("cpuset").join(file.file_name().unwrap_or_default());
                    fs::write(&file, fs::read(above)?).with_context(|| format!("write {file:?}"))?;
                }
            }
        }
        if self.unified {
            for directory in [PathBuf::from(CGROUPS), PathBuf::from(format!("{CGROUPS}{}", self.parent))] {
                for controller in ["cpu", "cpuset", "io", "memory", "pids"] {
                    // One that the kernel lacks is missing for every runtime.
                    let _ = fs::write(directory.join("cgroup.subtree_control"), format!("+{controller}"));
                }
            }
        }
        Ok(())
    }

    /// Removes what `enter` made, and what is left of containers; returns what containers had left.
    pub fn leave(&self) -> Vec<String> {
        let mut left = Vec::new();
        for parent in self.directories(&self.parent) {
            let groups = fs::read_dir(&parent).into_iter().flatten().flatten().map(|entry| entry.path());
            for group in groups.filter(|path| path.is_dir()) {
                left.push(format!("cgroup {}", group.display()));
                // Reported above; what still holds a process is reported below.
                let _ = fs::remove_dir(&group);
            }
            if let Err(error) = fs::remove_dir(&parent) {
                left.push(format!("cgroup {}: {error}", parent.display()));
            }
        }
        if let Err(error) = umount2(&self.work, MntFlags::MNT_DETACH).and(Ok(())).map(|()| fs::remove_dir(&self.work)) {
            left.push(format!("{}: {error}", self.work.display()));
        }
        left
    }
}

/// The names below /sys/fs/cgroup at which a hierarchy of cgroup v1 is mounted.
fn hierarchies() -> Result<Vec<String>> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("read /proc/self/mounts")?;
    let of_v1 = mounts
        .lines()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .filter(|fields| fields.get(2) == Some(&"cgroup"));
    Ok(of_v1.filter_map(|fields| Some(fields.get(1)?.strip_prefix(CGROUPS)?.strip_prefix('/')?.to_owned())).collect())
}
