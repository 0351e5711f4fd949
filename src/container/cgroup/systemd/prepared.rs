//! A unit before it is started: its name, its cgroup, its properties.

use std::collections::HashMap;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use super::bus::Bus;
use super::name::UnitName;
use super::properties::{self, Property};
use super::unit::{Unit, with_connection};
use super::wire::Value;
use crate::container::cgroup::host::layout::Layout;
use crate::container::cgroup::wanted::device_rules::Rules;
use crate::container::cgroup::wanted::resources::Write;
use crate::error::field;

/// A unit that is prepared.
#[derive(Debug)]
pub struct PreparedUnit {
    pub unit: Unit,
    name: UnitName,
    /// Its cgroup, as an absolute path in the hierarchy.
    pub cgroup: String,
    properties: Vec<Property>,
    /// Which annotation asked for a property.
    annotations: Vec<(String, Property)>,
}

impl PreparedUnit {
    /// Names the unit for `linux.cgroupsPath` and asks systemd where it will be. `rootless`: it is the user's systemd.
    pub fn compile(
        cgroups_path: Option<&Path>,
        id: &str,
        annotations: &HashMap<String, String>,
        rootless: bool,
    ) -> Result<Self> {
        const FLAG: &str = "--systemd-cgroup";
        let slice = if rootless { "user.slice" } else { "system.slice" };
        let name = UnitName::compile(cgroups_path, id, slice)?;
        let annotations = properties::of_annotations(annotations)?;
        // sd_booted(3).
        let booted = std::fs::symlink_metadata("/run/systemd/system").is_ok_and(|it| it.is_dir());
        ensure!(booted, "{FLAG}: systemd is not running on this host, it cannot make the container's cgroup");
        let bus = if rootless { Bus::user().context(FLAG)? } else { Bus::System };
        let mut cgroup = name.cgroup()?;
        if rootless {
            // The user's units are below the cgroup that the user's systemd is in.
            let own = with_connection(&bus, |connection| connection.manager_property("ControlGroup"));
            cgroup = format!("{}{cgroup}", own.map_err(anyhow::Error::from).context(FLAG)?);
        }
        let unit = Unit { name: name.unit.clone(), bus };
        Ok(Self { unit, name, cgroup, properties: Vec::new(), annotations })
    }

    /// The same unit with limits and device rules.
    pub fn with_limits(mut self, writes: &[Write], devices: &Rules, layout: Layout) -> Self {
        let flag = |name: &str, value| Property::new(name, Value::Bool(value));
        let mut all =
            vec![Property::new("Description", Value::text(format!("libcontainer container {}", self.name.container)))];
        if self.name.is_slice() {
            let slices = vec![Value::text(self.name.slice.as_str())];
            all.push(Property::new("Wants", Value::Array("s".to_owned(), slices)));
        } else {
            all.push(Property::new("Slice", Value::text(self.name.slice.as_str())));
            all.push(flag("Delegate", true));
        }
        let io = if layout == Layout::V2 { "IOAccounting" } else { "BlockIOAccounting" };
        all.extend(["MemoryAccounting", "CPUAccounting", io, "TasksAccounting"].map(|name| flag(name, true)));
        all.push(flag("DefaultDependencies", false));
        all.extend(properties::of_limits(writes));
        all.extend(properties::oom_policy(writes));
        all.extend(properties::of_devices(devices, layout));
        // What the annotations say is meant to win.
        for (_, property) in &self.annotations {
            all.retain(|earlier| earlier.name != property.name);
            all.push(property.clone());
        }
        self.properties = all;
        self
    }

    /// Whether the unit begins with a process, and is where that process is from then on.
    pub fn takes_process(&self) -> bool {
        !self.name.is_slice()
    }

    /// Starts the unit with this process in it, and waits until systemd has done so. On an error there is no unit.
    pub fn start(&self, pid: Option<i32>) -> Result<()> {
        let mut properties = self.properties.clone();
        if let Some(pid) = pid {
            let pids = vec![Value::Uint32(pid.unsigned_abs())];
            properties.push(Property::new("PIDs", Value::Array("u".to_owned(), pids)));
        }
        let started = self.unit.start(&properties, pid);
        started.map_err(|error| self.explain(error))
    }

    /// The error with the annotation whose property systemd refuses by name, or else with the unit.
    fn explain(&self, error: anyhow::Error) -> anyhow::Error {
        let text = format!("{error:#}");
        let names =
            |property: &Property| text.split(|c: char| !c.is_ascii_alphanumeric()).any(|word| word == property.name);
        match self.annotations.iter().find(|(_, property)| names(property)) {
            Some((annotation, _)) => error.context(field!("annotations"; "{annotation}")),
            None => error.context(format!("systemd unit {}", self.unit.name)),
        }
    }
}
