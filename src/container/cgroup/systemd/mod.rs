//! The systemd driver: systemd makes the container's cgroup, as a transient scope (or slice) unit, and knows its limits
//! as properties of it. A scope begins with a process that is there already, so init is cloned first, waits, and systemd
//! moves it; all that systemd has no property for is written to the cgroup afterwards, as by the cgroupfs driver.

mod bus;
mod gvariant;
mod limits;
mod name;
mod properties;
mod wire;

use std::collections::HashMap;
use std::os::fd::AsFd;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};

use super::device_rules::Rules;
use super::layout::Layout;
use super::resources::Write;
use crate::error::field;
use crate::sys::{process, signal};
use bus::{Bus, Connection, Failed};
pub use limits::OldLimits;
use name::Name;
use properties::Property;
use wire::Value;

/// How long a job of systemd may take; runc's figure.
const JOB_WITHIN: Duration = Duration::from_secs(30);
/// How long to wait before a connection that broke is made anew, and how often, each time twice as long: systemd drops
/// all when it is executed anew. 6.3 s in all.
const RECONNECT_AFTER: Duration = if cfg!(test) { Duration::from_millis(1) } else { Duration::from_millis(100) };
const RECONNECTIONS: usize = 6;

/// A unit that exists or is about to: what state.json keeps, so that later commands need no flag for it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Unit {
    pub name: String,
    bus: Bus,
}

/// A unit that is prepared.
#[derive(Debug)]
pub struct Prepared {
    pub unit: Unit,
    name: Name,
    /// Its cgroup, as an absolute path in the hierarchy.
    pub cgroup: String,
    properties: Vec<Property>,
    /// Which annotation asked for a property.
    annotations: Vec<(String, Property)>,
}

impl Prepared {
    /// Names the unit for `linux.cgroupsPath` and asks systemd where it will be. `rootless`: it is the user's systemd.
    pub fn compile(
        cgroups_path: Option<&Path>,
        id: &str,
        annotations: &HashMap<String, String>,
        rootless: bool,
    ) -> Result<Self> {
        const FLAG: &str = "--systemd-cgroup";
        let slice = if rootless { "user.slice" } else { "system.slice" };
        let name = Name::compile(cgroups_path, id, slice)?;
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

/// Does `work` on a connection, and on another if it breaks.
fn with_connection<T>(
    bus: &Bus,
    mut work: impl FnMut(&mut Connection) -> core::result::Result<T, Failed>,
) -> core::result::Result<T, Failed> {
    let mut attempt = || Connection::open(bus).and_then(|mut connection| work(&mut connection));
    let mut wait = RECONNECT_AFTER;
    for _ in 0..RECONNECTIONS {
        match attempt() {
            Err(Failed::Disconnected(_)) => std::thread::sleep(wait),
            result => return result,
        }
        wait *= 2;
    }
    attempt()
}

impl Unit {
    fn start(&self, properties: &[Property], pid: Option<i32>) -> Result<()> {
        let deadline = Instant::now() + JOB_WITHIN;
        let mut version = None;
        let mut reset = false;
        let started = with_connection(&self.bus, |connection| {
            let list = argument(known(properties, connection, &mut version)?);
            loop {
                match self.start_once(connection, &list, deadline) {
                    // Of a start that broke off: it may have come through.
                    Err(error) if error.is(".UnitExists") && self.holds(pid) => {
                        return self.wait_active(connection, deadline);
                    }
                    Err(error) if error.is(".UnitExists") && !reset => {
                        // Most likely one that failed once, which systemd keeps for somebody to see.
                        reset = true;
                        let _ = self.manager_call(connection, "ResetFailedUnit", &[]);
                    }
                    result => return result,
                }
            }
        });
        if started.is_err() {
            // Whatever there is of it is not wanted; the first error is the one to tell.
            let exists = matches!(&started, Err(error) if error.is(".UnitExists"));
            if !exists {
                if let Some(pid) = pid {
                    // It would only be asked to end, and the first of a pid namespace does not hear that: systemd would
                    // wait for TimeoutStopSec. It may have ended by itself.
                    let _ = process::pidfd_open(pid)
                        .and_then(|pidfd| process::pidfd_send_signal(pidfd.as_fd(), signal::KILL));
                }
                let _ = self.stop();
            }
        }
        Ok(started?)
    }

    fn start_once(&self, connection: &mut Connection, properties: &Value, deadline: Instant) -> Answer<()> {
        let arguments = [properties.clone(), Value::Array("(sa(sv))".to_owned(), Vec::new())];
        let answer =
            self.manager_call(connection, "StartTransientUnit", &[&[Value::text("replace")], &arguments[..]].concat())?;
        let job = answer.body().text()?;
        match connection.job_result(&job, deadline)?.as_deref() {
            Some("done") => Ok(()),
            Some(result) => Err(anyhow!("systemd did not start it: the job ended as {result:?}").into()),
            None => Err(anyhow!("systemd did not start it within {} s", JOB_WITHIN.as_secs()).into()),
        }
    }

    fn manager_call(&self, connection: &mut Connection, method: &str, more: &[Value]) -> Answer<wire::Message> {
        connection.manager(method, &[&[Value::text(self.name.as_str())], more].concat())
    }

    /// Whether the process is in a cgroup of the unit's name.
    fn holds(&self, pid: Option<i32>) -> bool {
        let cgroups = pid.and_then(|pid| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).ok());
        cgroups.is_some_and(|text| text.lines().any(|line| line.ends_with(&format!("/{}", self.name))))
    }

    /// Waits for a unit whose job was lost from sight.
    fn wait_active(&self, connection: &mut Connection, deadline: Instant) -> Answer<()> {
        loop {
            let path = self.manager_call(connection, "GetUnit", &[])?.body().text()?;
            match connection.property(&path, "org.freedesktop.systemd1.Unit", "ActiveState")?.as_str() {
                "active" => return Ok(()),
                "activating" if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
                state => return Err(anyhow!("systemd did not start it: it is {state}").into()),
            }
        }
    }

    /// Stops the unit, if there is one, and waits until systemd has forgotten it. Its processes should be gone already:
    /// systemd would give them time to end.
    pub fn stop(&self) -> Result<()> {
        let stopped = with_connection(&self.bus, |connection| {
            let deadline = Instant::now() + JOB_WITHIN;
            let result = match self.manager_call(connection, "StopUnit", &[Value::text("replace")]) {
                Ok(answer) => connection.job_result(&answer.body().text()?, deadline)?,
                Err(error) if error.is(".NoSuchUnit") => return Ok(()),
                Err(error) => return Err(error),
            };
            // One that failed stays until this. That there is none any more is what we want.
            let _ = self.manager_call(connection, "ResetFailedUnit", &[]);
            match result {
                Some(_) => Ok(()),
                None => Err(anyhow!("systemd did not stop it within {} s", JOB_WITHIN.as_secs()).into()),
            }
        });
        stopped.map_err(anyhow::Error::from).with_context(|| format!("systemd unit {}", self.name))
    }

    /// Moves a process into the unit, into its cgroup `below`: nothing, or a path that begins with a slash.
    pub fn attach(&self, below: &str, pid: i32) -> Result<()> {
        let pids = Value::Array("u".to_owned(), vec![Value::Uint32(pid.unsigned_abs())]);
        let attached = with_connection(&self.bus, |connection| {
            self.manager_call(connection, "AttachProcessesToUnit", &[Value::text(below), pids.clone()]).map(drop)
        });
        attached.map_err(anyhow::Error::from).with_context(|| format!("systemd unit {}", self.name))
    }
}

type Answer<T> = core::result::Result<T, Failed>;

/// The properties that this systemd knows. Its version is asked for only where it matters.
fn known<'a>(
    properties: &'a [Property],
    connection: &mut Connection,
    version: &mut Option<u32>,
) -> Answer<Vec<&'a Property>> {
    if version.is_none() && properties.iter().any(|property| property.since > 0) {
        *version = Some(parse_version(&connection.manager_property("Version")?)?);
    }
    let version = version.unwrap_or_default();
    Ok(properties.iter().filter(|property| property.since <= version).collect())
}

/// Properties as the argument of a method.
fn argument<'a>(properties: impl IntoIterator<Item = &'a Property>) -> Value {
    let pair = |property: &Property| {
        Value::Struct(vec![Value::text(property.name.as_str()), Value::Variant(Box::new(property.value.clone()))])
    };
    Value::Array("(sv)".to_owned(), properties.into_iter().map(pair).collect())
}

/// `257.9-1~deb13u1` and `v245` are both names of a release.
fn parse_version(text: &str) -> Result<u32> {
    let digits = text.trim_start_matches(['"', 'v']);
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    match digits.get(..end).unwrap_or_default().parse() {
        Ok(version) => Ok(version),
        Err(_) => bail!("systemd says that its version is {text:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_numbers() {
        for (text, version) in [("257.9-1~deb13u1", 257), ("v245.4-1.fc32", 245), ("\"v250\"", 250), ("249", 249)] {
            assert_eq!(parse_version(text).unwrap(), version);
        }
        assert!(parse_version("").is_err() && parse_version("x1").is_err());
    }
}
