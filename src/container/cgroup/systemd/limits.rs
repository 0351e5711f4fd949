//! Other limits for a unit that is there: the properties are read before they are set, so that an update that fails
//! elsewhere can set the old ones back.

use anyhow::{Context, Result};

use super::bus::{Answer, Connection};
use super::properties::{self, DEVICE_ALLOW, Property};
use super::unit::{Unit, argument, known, with_connection};
use super::wire::Value;
use crate::container::cgroup::host::layout::Layout;
use crate::container::cgroup::wanted::device_rules::Rules;
use crate::container::cgroup::wanted::resources::Write;

/// What systemd is told of an update: limits, and device rules, which it would bring back otherwise whenever it changes
/// anything of the unit.
#[derive(Debug)]
pub struct NewLimits(Vec<Property>);

impl NewLimits {
    pub fn of(writes: &[Write], devices: Option<&Rules>, layout: Layout) -> Self {
        let devices = devices.map(|rules| properties::of_other_devices(rules, layout)).unwrap_or_default();
        Self(properties::of_limits(writes).into_iter().chain(devices).collect())
    }
}

/// The properties of a unit as they were before an update.
#[derive(Debug)]
pub struct OldLimits {
    unit: Unit,
    properties: Vec<Property>,
}

impl Unit {
    /// What an update is going to change; None where systemd has no property for any of it.
    pub fn limits(&self, new: &NewLimits) -> Result<Option<OldLimits>> {
        let NewLimits(properties) = new;
        if properties.is_empty() {
            return Ok(None);
        }
        let mut version = None;
        let old = with_connection(&self.bus, |connection| {
            let list = known(properties, connection, &mut version)?;
            let path = self.manager_call(connection, "GetUnit", &[])?.body().text()?;
            let mut is_emptied = false;
            let mut read = |property: &Property| {
                // The list of devices comes twice: first as empty.
                if property.name == DEVICE_ALLOW && !std::mem::replace(&mut is_emptied, true) {
                    return Ok(property.clone());
                }
                self.read(connection, &path, property)
            };
            list.into_iter().map(&mut read).collect()
        });
        let properties = old.map_err(anyhow::Error::from).with_context(|| format!("systemd unit {}", self.name))?;
        Ok(Some(OldLimits { unit: self.clone(), properties }))
    }

    /// The same property with the value that the unit has.
    fn read(&self, connection: &mut Connection, path: &str, property: &Property) -> Answer<Property> {
        let kind = if self.name.ends_with(".slice") { "Slice" } else { "Scope" };
        let interface = format!("org.freedesktop.systemd1.{kind}");
        Ok(Property { value: connection.limit(path, &interface, &property.name)?, ..property.clone() })
    }

    /// Tells systemd of them, until the next boot.
    pub fn set_limits(&self, new: &NewLimits) -> Result<()> {
        self.set(&new.0).with_context(|| format!("systemd unit {}", self.name))
    }

    fn set(&self, properties: &[Property]) -> Result<()> {
        let mut version = None;
        let set = with_connection(&self.bus, |connection| {
            let list = argument(known(properties, connection, &mut version)?);
            self.manager_call(connection, "SetUnitProperties", &[Value::Bool(true), list])?;
            // systemd writes to the cgroup after it has answered, but before it answers the next call.
            connection.manager_property("Version").map(drop)
        });
        Ok(set?)
    }
}

impl OldLimits {
    /// Sets the properties back. It is the undoing of something that failed already, whose error is the one to tell.
    pub fn restore(self) {
        let _ = self.unit.set(&self.properties);
    }
}
