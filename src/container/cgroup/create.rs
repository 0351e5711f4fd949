//! Making the directories, which `limit` then fills. On success everything is in force and nobody is inside; on an error
//! everything that was made is gone again.

use std::ffi::CString;
use std::os::fd::AsFd;

use anyhow::{Context, Result, anyhow, bail};

use super::host::layout::{Layout, absolute};
use super::host::path::CgroupPath;
use super::host::{file, tree};
use super::join::CgroupJoin;
use super::maker::Maker;
use super::paths::Paths;
use super::prepared::{Cgroup, Group};
use super::wanted::resources::is_device_rule;
use crate::error::field;
use crate::sys::{self, Errno, SysError, cgroup};

/// A cgroup that exists. Dropping it removes every directory that was made for it, missing parents included; what was
/// there before stays.
#[must_use]
#[derive(Debug)]
pub struct CreatedCgroup {
    /// In the order in which they were made.
    made: Vec<CString>,
    paths: Paths,
    /// Whether the paths' unit was started, and not kept.
    started: bool,
    /// Where init enters by itself.
    entered: Paths,
}

impl Cgroup {
    /// Makes the directories and writes the limits; of a scope of systemd, only what is made before it starts.
    pub fn create(&self) -> Result<CreatedCgroup> {
        CreatedCgroup::new(self)
    }
}

impl CreatedCgroup {
    fn new(prepared: &Cgroup) -> Result<Self> {
        let paths = prepared.paths.clone();
        let entered = if prepared.takes_process() { paths.without_those_of_systemd() } else { paths.clone() };
        let mut created = Self { made: Vec::new(), paths, started: false, entered };
        if let Some(unit) = &prepared.unit {
            created.before_the_unit(prepared)?;
            if prepared.layout == Layout::V2 {
                // systemd would start the unit, and nobody would ever hear of init.
                prepared.groups.iter().try_for_each(|group| {
                    let maker = Maker { root: prepared.root.as_fd(), group, rootless: prepared.rootless };
                    group.path.prefixes().try_for_each(|path| maker.refuse_if_frozen(&path))
                })?;
            }
            if !unit.takes_process() {
                created.start(prepared, None)?;
            }
            return Ok(created);
        }
        for group in &prepared.groups {
            match created.make(prepared, group) {
                Ok(()) => {}
                Err(NotMade::Forbidden(_))
                    if prepared.optional && group.writes.iter().all(is_device_rule) && (prepared.rootless)() =>
                {
                    created.paths.forget(&group.hierarchy.controllers);
                    created.entered.forget(&group.hierarchy.controllers);
                }
                Err(failed) => return Err(failed.into_error(group)),
            }
        }
        Ok(created)
    }

    /// How init enters: descriptors that it uses before it unshares the cgroup namespace.
    pub fn join(&self) -> Result<CgroupJoin> {
        self.entered.join()
    }

    /// v1 with systemd: the directories of the hierarchies that init enters by itself.
    fn before_the_unit(&mut self, prepared: &Cgroup) -> Result<()> {
        let entered = self.entered.directories.clone();
        for group in prepared
            .groups
            .iter()
            .filter(|group| prepared.layout != Layout::V2 && entered.contains_key(&group.hierarchy.controllers))
        {
            let made = self.directory(prepared, group);
            made.map_err(|failed| failed.into_error(group))?;
        }
        Ok(())
    }

    /// Starts the unit with this process in it, and writes what systemd has no property for. Nothing is left to do where
    /// there is no unit, or one that has started without a process.
    pub fn start(&mut self, prepared: &Cgroup, pid: Option<i32>) -> Result<()> {
        let Some(unit) = prepared.unit.as_ref().filter(|_| !self.started) else { return Ok(()) };
        unit.start(pid)?;
        self.started = true;
        for group in &prepared.groups {
            let maker = Maker { root: prepared.root.as_fd(), group, rootless: prepared.rootless };
            maker.check_exists()?;
            maker.limit(prepared, false)?;
        }
        Ok(())
    }

    /// Gives a v2 cgroup to the container's user. With init inside: whoever makes init from inside a user namespace that
    /// exists has no right to put it into a cgroup that is not the host's root's.
    pub fn hand_over(&self, prepared: &Cgroup) -> Result<()> {
        let Some(owner) = prepared.owner else { return Ok(()) };
        prepared.groups.iter().try_for_each(|group| {
            Maker { root: prepared.root.as_fd(), group, rootless: prepared.rootless }.delegate(owner)
        })
    }

    /// What there is now, for later commands.
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// The cgroup stays.
    pub fn keep(&mut self) {
        self.made.clear();
        self.started = false;
    }

    /// One hierarchy: directory, what it needs before it works, limits.
    fn make(&mut self, prepared: &Cgroup, group: &Group) -> core::result::Result<(), NotMade> {
        let is_new = self.directory(prepared, group)?;
        let maker = Maker { root: prepared.root.as_fd(), group, rootless: prepared.rootless };
        maker.limit(prepared, is_new).map_err(NotMade::Other)
    }

    /// Makes the directory; whether it is new.
    fn directory(&mut self, prepared: &Cgroup, group: &Group) -> core::result::Result<bool, NotMade> {
        let maker = Maker { root: prepared.root.as_fd(), group, rootless: prepared.rootless };
        let is_new = maker.directories(&mut self.made)?;
        if !is_new {
            maker.refuse_if_in_use()?;
        }
        if group.hierarchy.has("cpuset") {
            maker.seed_cpuset(&group.path)?;
        }
        Ok(is_new)
    }
}

impl Drop for CreatedCgroup {
    fn drop(&mut self) {
        if self.started {
            // The first error is the one to tell.
            let _ = self.paths.remove();
        }
        // Of all together: who does not die for the first directory, does not die for the others.
        let deadline = Paths::dies_within();
        for directory in self.made.iter().rev() {
            let directory = absolute(&directory.to_string_lossy());
            if self.paths.directories.values().any(|own| *own == directory) {
                // A hook of a container that shares our pid namespace may have left processes; they end here.
                let _ = self.paths.remove_within(&directory, &deadline);
            } else {
                // A parent can be in use by another container meanwhile; then it has to stay.
                let _ = CString::new(directory).map(|path| cgroup::remove_directory(cgroup::here(), &path));
            }
        }
    }
}

/// Why a hierarchy could not be set up; a missing right matters less to rootless runtimes.
enum NotMade {
    Forbidden(SysError),
    Other(anyhow::Error),
}

impl From<anyhow::Error> for NotMade {
    fn from(error: anyhow::Error) -> Self {
        Self::Other(error)
    }
}

impl NotMade {
    fn into_error(self, group: &Group) -> anyhow::Error {
        match self {
            Self::Forbidden(error) => forbidden(group, &error),
            Self::Other(error) => error,
        }
    }
}

fn forbidden(group: &Group, error: &SysError) -> anyhow::Error {
    let directory = absolute(&group.directory());
    let limit = group.writes.iter().find(|write| !is_device_rule(write));
    let field = limit.map_or("linux.cgroupsPath", |write| write.field.as_str());
    field!("{field}"; "make cgroup {directory}: {}", file::reason(error.errno)).by(*error).into()
}

/// How often to start over when somebody else removes a parent between our two calls.
const RACES: usize = 16;

impl Maker<'_> {
    /// What systemd said it made is here.
    fn check_exists(&self) -> Result<()> {
        if !cgroup::exists(self.root, &self.name(&self.group.path, "")?) {
            let directory = absolute(&self.group.directory());
            bail!(field!("linux.cgroupsPath"; "systemd made the unit, but not at {directory}"));
        }
        Ok(())
    }

    /// Makes the directory and its missing parents; whether it is new.
    fn directories(&self, made: &mut Vec<CString>) -> core::result::Result<bool, NotMade> {
        for _ in 0..RACES {
            match self.make_directory(&self.group.path, made) {
                Err(error) if error.errno == Errno::ENOENT => self.make_parents(made)?,
                Err(error) => return self.failed(error),
                Ok(is_new) => return Ok(is_new),
            }
        }
        Err(anyhow!("make cgroup {}: its parent vanishes again and again", absolute(&self.group.directory())).into())
    }

    fn failed<T>(&self, error: SysError) -> core::result::Result<T, NotMade> {
        if file::is_forbidden(&error) {
            return Err(NotMade::Forbidden(error));
        }
        let directory = absolute(&self.group.directory());
        let error = field!("linux.cgroupsPath"; "make cgroup {directory}: {}", file::reason(error.errno)).by(error);
        Err(anyhow::Error::from(error).into())
    }

    fn make_parents(&self, made: &mut Vec<CString>) -> core::result::Result<(), NotMade> {
        for path in self.group.path.parent().prefixes() {
            match self.make_directory(&path, made) {
                Ok(true) if self.group.hierarchy.has("cpuset") => self.seed_cpuset(&path)?,
                Ok(_) => {}
                Err(error) if error.errno == Errno::ENOENT => return Ok(()),
                Err(error) => return self.failed(error),
            }
        }
        Ok(())
    }

    fn make_directory(&self, path: &CgroupPath, made: &mut Vec<CString>) -> sys::Result<bool> {
        let name = self.name(path, "")?;
        match cgroup::make_directory(self.root, &name) {
            Ok(()) => {
                made.push(name);
                Ok(true)
            }
            Err(error) if error.errno == Errno::EEXIST => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// A cgroup that is there already must be empty and awake, as runc 1.2 has it: two containers in one cgroup would
    /// share limits, and die together.
    fn refuse_if_in_use(&self) -> Result<()> {
        let directory = absolute(&self.group.directory());
        let count = tree::members(&directory)?.len();
        if count > 0 {
            bail!(
                field!("linux.cgroupsPath"; "container's cgroup is not empty: {count} process(es) found in {directory}")
            );
        }
        self.refuse_if_frozen(&self.group.path)
    }

    /// In a frozen cgroup nobody would hear of init again.
    fn refuse_if_frozen(&self, path: &CgroupPath) -> Result<()> {
        let (name, frozen) =
            if self.group.hierarchy.is_v2() { ("cgroup.freeze", "1") } else { ("freezer.self_freezing", "1") };
        let may_freeze = self.group.hierarchy.is_v2() || self.group.hierarchy.has("freezer");
        if may_freeze && file::read(self.root, &self.name(path, name)?).is_ok_and(|it| it.trim() == frozen) {
            let directory = absolute(&path.under(&self.group.hierarchy.mount));
            bail!(field!("linux.cgroupsPath"; "container's cgroup unexpectedly frozen: {directory}"));
        }
        Ok(())
    }

    /// A new v1 cpuset has no CPUs and no memory nodes, and nobody can join it: it gets its parent's, which may have to
    /// get its own first. What the configuration sets is written later, as it is.
    fn seed_cpuset(&self, path: &CgroupPath) -> Result<()> {
        for name in ["cpuset.cpus", "cpuset.mems"] {
            let is_set = *path == self.group.path && self.group.writes.iter().any(|write| write.file == name);
            if !is_set {
                self.seed(path, name)
                    .with_context(|| format!("{name} of {}", path.under(&self.group.hierarchy.mount)))?;
            }
        }
        Ok(())
    }

    fn seed(&self, path: &CgroupPath, name: &str) -> Result<String> {
        let parent = path.parent();
        let mut value = file::read(self.root, &self.name(&parent, name)?)?.trim().to_owned();
        if value.is_empty() && !parent.is_root() {
            value = self.seed(&parent, name)?;
        }
        file::write(self.root, &self.name(path, name)?, &value)?;
        Ok(value)
    }
}
