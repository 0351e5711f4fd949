//! `linux.intelRdt`: a share of cache and memory bandwidth, and their monitoring, as a group of the resctrl filesystem
//! (config-linux.md, "IntelRdt"; Documentation/filesystems/resctrl.rst).
//!
//! Terminology: a *group* (CTRL_MON) has a `schemata` file with what its tasks get; a *monitoring group* is one below
//! `mon_groups` of it. The filesystem's root is the default group.

pub mod stats;

use std::ffi::OsString;
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime::LinuxIntelRdt;
use serde::{Deserialize, Serialize};

use crate::error::{Field, field};
use crate::sys::{SysError, mountinfo};

/// What create makes of it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct IntelRdt {
    groups: Groups,
    /// Lines for `schemata`, each with its field, in the order in which they are written.
    schemata: Vec<(&'static str, String)>,
    kind: GroupKind,
}

/// Where the container's processes are, as state.json keeps it from before anything is made.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(rename_all = "camelCase")]
pub struct Groups {
    group: PathBuf,
    /// Whether the group is the container's, and ends with it.
    owned: bool,
    /// The monitoring group, which is always the container's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    monitoring: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum GroupKind {
    /// Somebody else's, which must be there.
    Existing,
    /// Named by closID: made if need be, compared if not, and left alone at the end.
    Named,
    /// Of the container's id.
    Own,
}

/// Made groups. Dropped before [`CreatedGroups::keep`], those that were not there before are removed.
#[derive(Debug, Default)]
pub struct CreatedGroups {
    made: Vec<PathBuf>,
}

/// What the kernel has in every group: no group can have such a name.
const RESERVED: [&str; 5] = [".", "..", "info", "mon_data", "mon_groups"];

/// The prepared groups of container `id`; the resctrl filesystem is found in `mountinfo` (proc_pid_mountinfo(5)).
pub fn compile(spec: &LinuxIntelRdt, id: &str, mountinfo: &[u8]) -> Result<IntelRdt> {
    let root = mount_point(mountinfo).context(field!("linux.intelRdt"; "no resctrl filesystem is mounted"))?;
    let clos = spec.clos_id().as_deref().filter(|clos| !clos.is_empty());
    let group = match clos {
        Some("/") => root,
        Some(clos) => root.join(checked(clos).context(field!("linux.intelRdt.closID"))?),
        None => root.join(
            checked(id)
                .context(field!("linux.intelRdt.closID"; "missing, and the container's id is no name for one"))?,
        ),
    };
    let schemata = schemata(spec)?;
    let kind = match clos {
        None => GroupKind::Own,
        Some("/") => GroupKind::Existing,
        Some(_) if schemata.is_empty() => GroupKind::Existing,
        Some(_) => GroupKind::Named,
    };
    let monitoring = (spec.enable_monitoring() == &Some(true)).then(|| group.join("mon_groups").join(id));
    // One that is there, say from a pod, is not the container's.
    let owned = kind == GroupKind::Own && !group.exists();
    Ok(IntelRdt { groups: Groups { group, owned, monitoring }, schemata, kind })
}

fn checked(name: &str) -> Result<&str> {
    let good = !RESERVED.contains(&name) && !name.contains(['/', '\n', '\0']);
    ensure!(good, "{name:?} cannot be the name of a group");
    Ok(name)
}

fn schemata(spec: &LinuxIntelRdt) -> Result<Vec<(&'static str, String)>> {
    let mut lines = Vec::new();
    if let Some(schema) = spec.l3_cache_schema().as_deref().filter(|schema| !schema.is_empty()) {
        lines.push(("linux.intelRdt.l3CacheSchema", l3_cache(schema)?));
    }
    if let Some(schema) = spec.mem_bw_schema().as_deref().filter(|schema| !schema.is_empty()) {
        lines.push(("linux.intelRdt.memBwSchema", memory_bandwidth(schema)?));
    }
    for line in spec.schemata().iter().flatten() {
        ensure!(!line.contains('\n'), field!("linux.intelRdt.schemata"; "{line:?} is more than one line"));
        lines.push(("linux.intelRdt.schemata", line.clone()));
    }
    Ok(lines)
}

fn l3_cache(schema: &str) -> Result<String> {
    ensure!(!schema.contains('\n'), field!("linux.intelRdt.l3CacheSchema"; "{schema:?} is more than one line"));
    Ok(schema.to_owned())
}

fn memory_bandwidth(schema: &str) -> Result<String> {
    let good = schema.starts_with("MB:") && !schema.contains('\n');
    ensure!(good, field!("linux.intelRdt.memBwSchema"; "{schema:?} is not a line that begins with MB:"));
    Ok(schema.to_owned())
}

/// Where a resctrl filesystem is mounted.
fn mount_point(text: &[u8]) -> Option<PathBuf> {
    let mounted = mountinfo::parse(text).find(|mounted| mounted.kind == b"resctrl")?;
    Some(OsString::from_vec(mounted.at.into_owned()).into())
}

impl IntelRdt {
    /// What state.json is to say before [`IntelRdt::create`].
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// Makes what is to be made, and writes the schemata.
    pub fn create(&self) -> Result<CreatedGroups> {
        let Groups { group, monitoring, .. } = &self.groups;
        let mut created = CreatedGroups::default();
        let is_new = match self.kind {
            GroupKind::Existing => {
                ensure!(
                    group.is_dir(),
                    field!("linux.intelRdt.closID"; "{} is no group that is there", group.display())
                );
                false
            }
            GroupKind::Named | GroupKind::Own => {
                created.make(group, IfExisting::Allowed).context(field!("linux.intelRdt.closID"))?
            }
        };
        for (field, line) in &self.schemata {
            // The specification compares these two with what a group has that is shared.
            if *field != "linux.intelRdt.schemata" && !is_new && self.kind != GroupKind::Own {
                compare(group, line).context(Field::new(*field))?;
            } else {
                write_schema(group, line).context(Field::new(*field))?;
            }
        }
        if let Some(monitoring) = monitoring {
            created.make(monitoring, IfExisting::Refused).context(field!("linux.intelRdt.enableMonitoring"))?;
        }
        Ok(created)
    }
}

/// A line of the group that is as `wanted`: of each cache the same value, in whatever order.
fn compare(group: &Path, wanted: &str) -> Result<()> {
    let path = group.join("schemata");
    let text =
        fs::read_to_string(&path).map_err(|error| SysError::io("read", &error)).context(path.display().to_string())?;
    let parts = |line: &str| -> Option<(String, Vec<String>)> {
        let (resource, values) = line.trim().split_once(':')?;
        // The kernel pads numbers, and prints masks without leading zeros.
        let plain = |value: &str| {
            let (cache, value) = value.split_once('=').unwrap_or((value, ""));
            format!("{}={}", cache.trim(), value.trim().trim_start_matches('0').to_ascii_lowercase())
        };
        let mut values: Vec<String> = values.split(';').map(plain).collect();
        values.sort();
        Some((resource.trim().to_owned(), values))
    };
    let Some((resource, values)) = parts(wanted) else { bail!("{wanted:?} is not a schema") };
    let found = text.lines().filter_map(parts).find(|(other, _)| *other == resource);
    match found {
        Some((_, found)) if values.iter().all(|value| found.contains(value)) => Ok(()),
        Some(_) => bail!("{} has another schema than {wanted:?}", path.display()),
        None => bail!("{} has no line for {resource}", path.display()),
    }
}

fn write_schema(group: &Path, line: &str) -> Result<()> {
    write(&group.join("schemata"), &format!("{line}\n")).with_context(|| {
        let status = group.ancestors().map(|directory| directory.join("info/last_cmd_status"));
        let said = status.filter_map(|path| fs::read_to_string(path).ok()).next().unwrap_or_default();
        format!("write {line:?} to {}/schemata ({})", group.display(), said.trim())
    })
}

fn write(path: &Path, text: &str) -> Result<()> {
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o644)
        .open(path)
        .map_err(|error| SysError::io("open", &error))?;
    Ok(file.write_all(text.as_bytes()).map_err(|error| SysError::io("write", &error))?)
}

/// Whether a group may be there already.
#[derive(Clone, Copy, PartialEq, Eq)]
enum IfExisting {
    Allowed,
    Refused,
}

impl CreatedGroups {
    /// Whether it was not there before.
    fn make(&mut self, group: &Path, existing: IfExisting) -> Result<bool> {
        match fs::DirBuilder::new().mode(0o755).create(group) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists && existing == IfExisting::Allowed => {
                return Ok(false);
            }
            result => {
                result.map_err(|error| SysError::io("mkdir", &error)).with_context(|| group.display().to_string())?
            }
        }
        self.made.push(group.to_owned());
        Ok(true)
    }

    /// The groups stay.
    pub fn keep(&mut self) {
        self.made.clear();
    }
}

impl Drop for CreatedGroups {
    fn drop(&mut self) {
        for group in self.made.iter().rev() {
            // The error that made us undo is the one to tell.
            let _ = fs::remove_dir(group);
        }
    }
}

impl Groups {
    /// Puts a process into the groups, with the children that it will have.
    pub fn add(&self, pid: i32) -> Result<()> {
        for group in std::iter::once(&self.group).chain(&self.monitoring) {
            let tasks = group.join("tasks");
            write(&tasks, &pid.to_string())
                .with_context(|| field!("linux.intelRdt"; "write {pid} to {}", tasks.display()))?;
        }
        Ok(())
    }

    /// Removes what is the container's. Groups that are gone are as good as removed.
    pub fn remove(&self) -> Result<()> {
        let own = self.owned.then_some(&self.group);
        for group in self.monitoring.iter().chain(own) {
            match fs::remove_dir(group) {
                Err(error) if error.kind() != ErrorKind::NotFound => {
                    return Err(SysError::io("rmdir", &error))
                        .with_context(|| field!("linux.intelRdt"; "{}", group.display()));
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Gives the group other schemata. The old ones are back once the returned value is dropped, unless it is kept.
    pub fn update(&self, l3_cache_schema: Option<&str>, mem_bw_schema: Option<&str>) -> Result<ChangedGroup> {
        // Both are checked before one is written.
        let lines = [l3_cache_schema.map(l3_cache).transpose()?, mem_bw_schema.map(memory_bandwidth).transpose()?];
        let path = self.group.join("schemata");
        let before = fs::read_to_string(&path).map_err(|error| SysError::io("read", &error));
        let before = before.with_context(|| path.display().to_string())?;
        let mut changed = ChangedGroup { group: self.group.clone(), old: Vec::new() };
        for line in lines.iter().flatten() {
            let same = |old: &&str| resource(old) == resource(line);
            changed.old.extend(before.lines().map(str::trim).find(same).map(str::to_owned));
            write_schema(&self.group, line)?;
        }
        Ok(changed)
    }
}

/// What a line of `schemata` is about: `L3`, `MB`.
fn resource(line: &str) -> &str {
    line.split(':').next().unwrap_or_default().trim()
}

/// Schemata that were changed.
#[must_use]
#[derive(Debug)]
pub struct ChangedGroup {
    group: PathBuf,
    /// The lines of before.
    old: Vec<String>,
}

impl ChangedGroup {
    /// The new ones stay.
    pub fn keep(mut self) {
        self.old.clear();
    }
}

impl Drop for ChangedGroup {
    fn drop(&mut self) {
        for line in self.old.iter().rev() {
            // The first error is the one to tell.
            let _ = write_schema(&self.group, line);
        }
    }
}

#[cfg(test)]
mod tests;
