//! What the files of a container's cgroup are to say: what `create` has written, and `update` since. It is kept beside the
//! state, so that it can be compared with what they say later.

mod compared;
mod devices;
mod value;

use oci_spec::runtime::{LinuxDeviceCgroup, LinuxResources};
use serde::{Deserialize, Serialize};

use super::paths::Paths;
use super::prepared::Cgroup;
use super::update::LimitUpdate;
use super::wanted::resources::{Write, is_device_rule};
pub use compared::Compared;
use value::ExpectedValue;

/// The values and the device rules that hold.
#[derive(Serialize, Deserialize, Clone, PartialEq, Debug, Default)]
#[serde(rename_all = "camelCase")]
pub struct Expected {
    values: Vec<ExpectedValue>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    devices: Vec<LinuxDeviceCgroup>,
}

impl Expected {
    /// Of a cgroup that is made by `resources`.
    pub fn of(cgroup: &Cgroup, resources: Option<&LinuxResources>) -> Self {
        let mut expected = Self::default();
        expected.take_devices(resources);
        for group in &cgroup.groups {
            expected.take(group.writes.iter(), &super::host::layout::absolute(&group.directory()));
        }
        expected
    }

    /// After an update by `resources`.
    pub fn change(&mut self, update: &LimitUpdate, resources: &LinuxResources) {
        self.take_devices(Some(resources));
        for (directory, write) in update.writes() {
            self.take(std::iter::once(write), directory);
        }
    }

    fn take_devices(&mut self, resources: Option<&LinuxResources>) {
        let devices = resources.and_then(|resources| resources.devices().as_deref());
        if let Some(devices) = devices.filter(|devices| !devices.is_empty()) {
            devices.clone_into(&mut self.devices);
        }
    }

    /// What is written last holds.
    fn take<'a>(&mut self, writes: impl Iterator<Item = &'a Write>, directory: &str) {
        for write in writes.filter(|write| !is_device_rule(write)) {
            let value = ExpectedValue::new(write, directory);
            self.values.retain(|known| !known.is_replaced_by(&value));
            self.values.push(value);
        }
    }

    /// What the cgroup at `paths` says.
    pub fn compare(&self, paths: &Paths) -> Vec<Compared> {
        if paths.directories.is_empty() {
            return Vec::new();
        }
        self.values.iter().filter_map(ExpectedValue::compare).chain(devices::compare(&self.devices, paths)).collect()
    }
}
