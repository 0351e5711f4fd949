//! Deciding what the container's cgroup will be: which directories in which hierarchies, and which value goes into which
//! file. Nothing is touched.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::Path;

use anyhow::{Result, bail, ensure};
use oci_spec::runtime::{Linux, LinuxResources};

use super::host::layout::{CgroupHost, Hierarchy, Layout};
use super::host::path::{CgroupPath, CgroupPlace};
use super::paths::Paths;
use super::systemd::prepared::PreparedUnit;
use super::wanted::applied::Applied;
use super::wanted::device_filter::{self, DEVICES};
use super::wanted::device_rules::Rules;
use super::wanted::resources::{self, Author, Missing, Write, Writes};
use super::wanted::{v1, v2};
use crate::error::{Faults, field};
use crate::sys::bpf::EbpfInstruction;

/// A prepared cgroup: every directory and every write. Nothing is touched before [`Cgroup::create`].
#[derive(Debug)]
pub struct Cgroup {
    pub(super) root: OwnedFd,
    pub(super) layout: Layout,
    pub(super) groups: Vec<Group>,
    /// For v2; empty where the device rules are writes of v1.
    pub(super) device_filter: Vec<EbpfInstruction>,
    /// Who asks for the filter; config.json, if it has a rule.
    pub(super) device_author: Author,
    pub(super) paths: Paths,
    /// The unit of systemd that it is.
    pub(super) unit: Option<PreparedUnit>,
    /// Whether a directory that may not be made is left out, since nobody asked for it by name.
    pub(super) optional: bool,
    pub(super) rootless: fn() -> bool,
    pub(super) check_before_update: Option<i64>,
    pub(super) applied: Applied,
    pub(super) owner: Option<u32>,
    pub(super) warnings: Vec<String>,
}

/// The container's directory in one hierarchy, and what is written there.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) hierarchy: Hierarchy,
    pub(super) path: CgroupPath,
    pub(super) writes: Vec<Write>,
}

impl Group {
    /// The directory, below [`ROOT`](super::host::layout::ROOT).
    pub(super) fn directory(&self) -> String {
        self.path.under(&self.hierarchy.mount)
    }
}

/// Prepares the cgroup of container `id` for this host. `rootless` says whether the runtime may lack the right to make
/// cgroups, and is asked only when it does;
/// then a container without cgroupsPath and limits goes without, as with runc.
pub fn compile(linux: &Linux, id: &str, rootless: fn() -> bool, faults: &mut Faults) -> Result<Cgroup> {
    let place = CgroupPlace::compile(linux.cgroups_path().as_deref(), id)?;
    let host = CgroupHost::look(&place)?;
    let mut cgroup = compile_for(host, &place, linux, rootless, None, faults)?;
    cgroup.warnings.extend(looks_like_a_unit(linux.cgroups_path().as_deref()));
    Ok(cgroup)
}

/// Engines that have systemd make their cgroups write slice:prefix:name. As a path, as runc takes it too, it is one directory
/// of that name at the root of the hierarchy, outside of the slice that has the limits of a pod.
fn looks_like_a_unit(path: Option<&Path>) -> Option<String> {
    let text = path?.to_str()?;
    let is_unit = text.split(':').count() == 3 && !text.contains('/');
    is_unit.then(|| {
        format!(
            "linux.cgroupsPath: {text:?} is a unit of systemd by its form, and is made as a directory of that name (for a \
             unit: --systemd-cgroup; in containerd's configuration SystemdCgroup = true)"
        )
    })
}

/// The same as a unit of systemd: the user's with `rootless`, which has to be there. `annotations` have more properties
/// of it.
pub fn compile_unit(
    linux: &Linux,
    id: &str,
    annotations: &HashMap<String, String>,
    rootless: fn() -> bool,
    faults: &mut Faults,
) -> Result<Cgroup> {
    let unit = PreparedUnit::compile(linux.cgroups_path().as_deref(), id, annotations, rootless())?;
    let place = CgroupPlace::Root(CgroupPath::clean(Path::new(&unit.cgroup))?);
    let host = CgroupHost::look(&place)?;
    ensure!(
        !rootless() || host.layout == Layout::V2,
        "--systemd-cgroup: a user's systemd manages cgroups on cgroup v2 only"
    );
    compile_for(host, &place, linux, rootless, Some(unit), faults)
}

pub(super) fn compile_for(
    host: CgroupHost,
    place: &CgroupPlace,
    linux: &Linux,
    rootless: fn() -> bool,
    unit: Option<PreparedUnit>,
    faults: &mut Faults,
) -> Result<Cgroup> {
    let CgroupHost { root, layout, hierarchies } = host;
    let none = LinuxResources::default();
    let resources = linux.resources().as_ref().unwrap_or(&none);
    let compile = if layout == Layout::V2 { v2::compile } else { v1::compile };
    let Writes { list, warnings } = compile(resources, faults)?;
    let mut groups: Vec<Group> = hierarchies.into_iter().map(|hierarchy| group(hierarchy, layout, place)).collect();
    let rules = Rules::compile(resources.devices().as_deref().unwrap_or_default())?;
    let unit = unit.map(|unit| unit.with_limits(&list, &rules, layout));
    distribute(&mut groups, layout, list, faults)?;
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
        optional: matches!(place, CgroupPlace::Default(_)),
        unit,
        rootless,
        applied: Applied::new(resources, &rules),
        check_before_update: memory.and_then(|memory| resources::set(memory.limit())),
        owner: None,
        warnings,
    })
}

impl Cgroup {
    /// Whether it begins with a process: init is cloned first, and waits for [`CreatedCgroup::start`].
    pub fn takes_process(&self) -> bool {
        self.unit.as_ref().is_some_and(PreparedUnit::takes_process)
    }

    /// What the container's cgroup will be; for the state before it is created. What it became: [`CreatedCgroup::keep`].
    pub fn paths(&self) -> &Paths {
        &self.paths
    }

    /// What an update has to know; for the state.
    pub fn applied(&self) -> Applied {
        self.applied
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

pub(super) fn group(hierarchy: Hierarchy, layout: Layout, place: &CgroupPlace) -> Group {
    let path = match place {
        CgroupPlace::Root(path) => path.clone(),
        // A v2 cgroup with processes in it, such as the runtime's, gives no controllers to cgroups below it. So the
        // container becomes its sibling, as in runc.
        CgroupPlace::Own(path) | CgroupPlace::Default(path) if layout == Layout::V2 => {
            hierarchy.own.parent().join(path)
        }
        CgroupPlace::Own(path) | CgroupPlace::Default(path) => hierarchy.own.join(path),
    };
    Group { hierarchy, path, writes: Vec::new() }
}

/// Gives each write to the hierarchy of its controller. On v2 there is one; whether it has the controller shows when
/// the file is opened.
pub(super) fn distribute(groups: &mut [Group], layout: Layout, writes: Vec<Write>, faults: &mut Faults) -> Result<()> {
    for write in writes {
        let fits = |group: &&mut Group| layout == Layout::V2 || group.hierarchy.has(&write.controller);
        match groups.iter_mut().find(fits) {
            Some(group) => group.writes.push(write),
            None if write.missing == Missing::Ignore => {}
            None => drop(faults.keep(Err::<(), _>(write.not_available()))?),
        }
    }
    Ok(())
}

/// The device rules: as a program for v2, as writes among the others for v1. `asked_for`: somebody wrote some.
fn device_rules(groups: &mut [Group], layout: Layout, rules: &Rules, asked_for: bool) -> Result<Vec<EbpfInstruction>> {
    if layout == Layout::V2 {
        return device_filter::limited(rules);
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
