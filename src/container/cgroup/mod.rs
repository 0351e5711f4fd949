//! The container's cgroup: `linux.cgroupsPath` and `linux.resources` (config-linux.md, "Control groups"), with the
//! cgroupfs driver or by way of systemd, on cgroup v1, v2 and hybrid hosts.
//!
//! [`compile`] decides everything: which directories in which hierarchies, and which value goes into which file.
//! [`Cgroup::create`] makes the directories and writes all limits before anybody is in them, so that the container's
//! first page is accounted already. Init then enters by itself ([`Join`]): nobody is ever moved from outside, which
//! would wait for an RCU grace period. [`Paths`] is what later commands need, without config.json.

mod change;
mod create;
mod deadline;
mod device_change;
mod device_filter;
mod device_rules;
mod end;
mod file;
mod freezer;
mod hold;
mod inside;
mod join;
mod layout;
mod limit;
mod none;
mod oom;
mod path;
mod paths;
mod resources;
pub mod stats;
mod stats_v1;
mod stats_v2;
mod systemd;
mod tree;
pub mod update;
mod v1;
mod v2;
mod view;

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Result, bail, ensure};
use oci_spec::runtime::{Linux, LinuxResources};

pub use create::Created;
pub use join::{Join, TasksFile};
pub use layout::Layout;
pub use none::compile_none;
pub use paths::Paths;
pub use view::{HierarchyView, MountView, owner};

use device_rules::Rules;
use layout::{Hierarchy, Host, ROOT};
use path::{CgroupPath, Place};
use resources::{Author, Missing, Write, Writes};
use update::Applied;

use crate::error::field;
use crate::sys::bpf::Instruction;

/// Who makes the container's cgroup.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Manager {
    Cgroupfs,
    Systemd,
    Disabled,
}

/// A prepared cgroup: every directory and every write. Nothing is touched before [`Cgroup::create`].
#[derive(Debug)]
pub struct Cgroup {
    root: OwnedFd,
    layout: Layout,
    groups: Vec<Group>,
    /// For v2; empty where the device rules are writes of v1.
    device_filter: Vec<Instruction>,
    /// Who asks for the filter; config.json, if it has a rule.
    device_author: Author,
    paths: Paths,
    /// The unit of systemd that it is.
    unit: Option<systemd::Prepared>,
    /// Whether a directory that may not be made is left out, since nobody asked for it by name.
    optional: bool,
    rootless: fn() -> bool,
    check_before_update: Option<i64>,
    applied: Applied,
    owner: Option<u32>,
    warnings: Vec<String>,
}

/// The container's directory in one hierarchy, and what is written there.
#[derive(Debug)]
struct Group {
    hierarchy: Hierarchy,
    path: CgroupPath,
    writes: Vec<Write>,
}

impl Group {
    /// The directory, below [`ROOT`].
    fn directory(&self) -> String {
        self.path.under(&self.hierarchy.mount)
    }
}

/// Prepares the cgroup of container `id` for this host. `rootless` says whether the runtime may lack the right to make
/// cgroups, and is asked only when it does;
/// then a container without cgroupsPath and limits goes without, as with runc.
pub fn compile(linux: &Linux, id: &str, rootless: fn() -> bool) -> Result<Cgroup> {
    let place = Place::compile(linux.cgroups_path().as_deref(), id)?;
    let host = Host::look(&place)?;
    compile_for(host, &place, linux, rootless, None)
}

/// The same as a unit of systemd: the user's with `rootless`, which has to be there. `annotations` have more properties
/// of it.
pub fn compile_unit(
    linux: &Linux,
    id: &str,
    annotations: &HashMap<String, String>,
    rootless: fn() -> bool,
) -> Result<Cgroup> {
    let unit = systemd::Prepared::compile(linux.cgroups_path().as_deref(), id, annotations, rootless())?;
    let place = Place::Root(CgroupPath::clean(Path::new(&unit.cgroup))?);
    let host = Host::look(&place)?;
    ensure!(
        !rootless() || host.layout == Layout::V2,
        "--systemd-cgroup: a user's systemd manages cgroups on cgroup v2 only"
    );
    compile_for(host, &place, linux, rootless, Some(unit))
}

fn compile_for(
    host: Host,
    place: &Place,
    linux: &Linux,
    rootless: fn() -> bool,
    unit: Option<systemd::Prepared>,
) -> Result<Cgroup> {
    let Host { root, layout, hierarchies } = host;
    let none = LinuxResources::default();
    let resources = linux.resources().as_ref().unwrap_or(&none);
    let writes = if layout == Layout::V2 { v2::compile(resources)? } else { v1::compile(resources)? };
    let Writes { list, warnings } = writes;
    let mut groups: Vec<Group> = hierarchies.into_iter().map(|hierarchy| group(hierarchy, layout, place)).collect();
    let rules = Rules::compile(resources.devices().as_deref().unwrap_or_default())?;
    let unit = unit.map(|unit| unit.with_limits(&list, &rules, layout));
    distribute(&mut groups, layout, list)?;
    let asked_for = resources.devices().as_ref().is_some_and(|devices| !devices.is_empty());
    let device_filter = device_rules(&mut groups, layout, &rules, asked_for)?;
    let mut paths =
        Paths::new(layout, groups.iter().map(|group| (group.hierarchy.controllers.clone(), group.directory())));
    paths.unit = unit.as_ref().map(|unit| unit.unit.clone());
    let memory = resources.memory().filter(|memory| memory.check_before_update() == Some(true));
    Ok(Cgroup {
        root,
        layout,
        groups,
        device_filter,
        device_author: if asked_for { Author::Config } else { Author::Runtime },
        paths,
        optional: matches!(place, Place::Default(_)),
        unit,
        rootless,
        applied: Applied::new(resources, &rules),
        check_before_update: memory.and_then(|memory| resources::set(memory.limit())),
        owner: None,
        warnings,
    })
}

impl Cgroup {
    /// Makes the directories and writes the limits; of a scope of systemd, only what is made before it starts.
    pub fn create(&self) -> Result<Created> {
        Created::new(self)
    }

    /// Whether it begins with a process: init is cloned first, and waits for [`Created::start`].
    pub fn takes_process(&self) -> bool {
        self.unit.as_ref().is_some_and(systemd::Prepared::takes_process)
    }

    /// What the container's cgroup will be; for the state before it is created. What it became: [`Created::keep`].
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// What an update has to know; for the state.
    pub fn applied(&self) -> Applied {
        self.applied
    }

    /// What mounts of type `cgroup` inside the container are made of.
    pub fn mount_view(&self) -> MountView {
        MountView::new(self)
    }

    /// The same cgroup, owned by a user of the host, who may then make cgroups below it: see [`owner`].
    pub fn delegated_to(mut self, owner: Option<u32>) -> Self {
        self.owner = owner.filter(|_| self.layout == Layout::V2);
        self
    }

    /// What the user should know although nothing failed, each with its field.
    pub fn warnings(&self) -> &[String] {
        &self.warnings
    }
}

fn group(hierarchy: Hierarchy, layout: Layout, place: &Place) -> Group {
    let path = match place {
        Place::Root(path) => path.clone(),
        // A v2 cgroup with processes in it, such as the runtime's, gives no controllers to cgroups below it. So the
        // container becomes its sibling, as in runc.
        Place::Own(path) | Place::Default(path) if layout == Layout::V2 => hierarchy.own.parent().join(path),
        Place::Own(path) | Place::Default(path) => hierarchy.own.join(path),
    };
    Group { hierarchy, path, writes: Vec::new() }
}

/// Gives each write to the hierarchy of its controller. On v2 there is one; whether it has the controller shows when
/// the file is opened.
fn distribute(groups: &mut [Group], layout: Layout, writes: Vec<Write>) -> Result<()> {
    for write in writes {
        let fits = |group: &&mut Group| layout == Layout::V2 || group.hierarchy.has(&write.controller);
        match groups.iter_mut().find(fits) {
            Some(group) => group.writes.push(write),
            None if write.missing == Missing::Ignore => {}
            None => return Err(write.not_available()),
        }
    }
    Ok(())
}

const DEVICES: &str = "linux.resources.devices";

/// The device rules: as a program for v2, as writes among the others for v1. `asked_for`: somebody wrote some.
fn device_rules(groups: &mut [Group], layout: Layout, rules: &Rules, asked_for: bool) -> Result<Vec<Instruction>> {
    if layout == Layout::V2 {
        return filter(rules);
    }
    let Some(group) = groups.iter_mut().find(|group| group.hierarchy.has("devices")) else {
        // Only the rules that nobody wrote can do without.
        if !asked_for {
            return Ok(Vec::new());
        }
        bail!(field!("{DEVICES}"; "cgroup controller devices is not available"));
    };
    for (index, line) in rules.lines()?.into_iter().enumerate() {
        let allow = rules.default_allow == (index == 0);
        group.writes.push(Write {
            field: DEVICES.to_owned(),
            controller: "devices".to_owned(),
            file: if allow { "devices.allow" } else { "devices.deny" }.to_owned(),
            value: line.text,
            missing: Missing::Refuse,
            author: line.author,
        });
    }
    Ok(Vec::new())
}

/// The device rules as a program for v2.
fn filter(rules: &Rules) -> Result<Vec<Instruction>> {
    if rules.list.len() > device_filter::MOST_RULES {
        bail!(field!("{DEVICES}"; "more than {} rules", device_filter::MOST_RULES));
    }
    Ok(device_filter::compile(rules))
}

/// An absolute path of the host for a directory that is relative to [`ROOT`] or absolute.
fn absolute(directory: &str) -> String {
    if directory.starts_with('/') { directory.to_owned() } else { format!("{ROOT}/{directory}") }
}
