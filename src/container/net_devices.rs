//! `linux.netDevices`: network devices of the host that move into the container's network namespace, with their permanent
//! global addresses, and are up there (config-linux.md, "Network Devices").
//!
//! The runtime moves them, since only it has rights in both namespaces. What happens to them when the container ends is
//! the kernel's: virtual devices go with their namespace, physical ones come back.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context, Result, bail, ensure};
use oci_spec::runtime::LinuxNetDevice;

use crate::error::{Field, field};
use crate::sys::netlink::{DeviceAddress, Link, Netlink};

/// The devices to move, in the order of their names on the host.
#[derive(Debug, Default)]
pub struct NetDevices {
    devices: Vec<NetDevice>,
    /// The network namespace that is joined; None: the one that init is born in.
    namespace: Option<OwnedFd>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
struct NetDevice {
    /// On the host.
    name: String,
    /// In the container; one `%d` in it is for the kernel to choose.
    name_inside: String,
}

/// The devices that were moved. Dropped before [`Moved::keep`], they are moved back, and are as they were.
#[derive(Debug)]
pub struct Moved {
    ends: Ends,
    devices: Vec<MovedDevice>,
}

/// Both namespaces.
#[derive(Debug)]
struct Ends {
    own: Netlink,
    own_namespace: OwnedFd,
    inside: Netlink,
}

#[derive(Debug)]
struct MovedDevice {
    name: String,
    before: Link,
    index_inside: u32,
    addresses: Vec<DeviceAddress>,
}

/// The kernel's IFNAMSIZ without the NUL.
const LONGEST_NAME: usize = 15;

/// The prepared devices. `namespace` is the network namespace to join, if it is not a new one; `is_private` whether the
/// container has one that is not the runtime's.
pub fn compile(
    spec: Option<&HashMap<String, LinuxNetDevice>>,
    namespace: Option<BorrowedFd>,
    is_private: bool,
) -> Result<NetDevices> {
    let Some(spec) = spec.filter(|spec| !spec.is_empty()) else { return Ok(NetDevices::default()) };
    ensure!(is_private, field!("linux.netDevices"; "needs a network namespace of the container's in linux.namespaces"));
    let mut devices = Vec::with_capacity(spec.len());
    for (name, device) in spec {
        check(name, false).with_context(|| field!("linux.netDevices.{name}"))?;
        let name_inside = device.name().as_deref().filter(|name| !name.is_empty()).unwrap_or(name);
        check(name_inside, true).with_context(|| field!("linux.netDevices.{name}.name"))?;
        devices.push(NetDevice { name: name.clone(), name_inside: name_inside.to_owned() });
    }
    devices.sort_by(|one, other| one.name.cmp(&other.name));
    let mut taken = BTreeSet::new();
    for device in devices.iter().filter(|device| !device.name_inside.contains('%')) {
        let is_first = taken.insert(device.name_inside.as_str());
        ensure!(
            is_first,
            Field::new(format!("linux.netDevices.{}.name", device.name))
                .is(format!("{:?} comes twice", device.name_inside))
        );
    }
    let namespace =
        namespace.map(|namespace| namespace.try_clone_to_owned()).transpose().context(field!("linux.netDevices"))?;
    Ok(NetDevices { devices, namespace })
}

/// What the kernel takes for the name of a device (dev_valid_name), and, for a new one, one `%d`.
fn check(name: &str, template: bool) -> Result<()> {
    ensure!(!name.is_empty(), "empty");
    ensure!(name.len() <= LONGEST_NAME, "{name:?} is longer than {LONGEST_NAME} bytes");
    ensure!(!matches!(name, "." | ".."), "{name:?} is not the name of a network device");
    let strange = |c: char| matches!(c, '/' | ':' | '\0') || c.is_ascii_whitespace() || c == '\x0b';
    ensure!(!name.contains(strange), "{name:?} is not the name of a network device");
    let rest = if template { name.replacen("%d", "", 1) } else { name.to_owned() };
    ensure!(!rest.contains('%'), "{name:?} has another % than one %d for a name in the container");
    Ok(())
}

impl NetDevices {
    pub fn is_empty(&self) -> bool {
        self.devices.is_empty()
    }

    /// Moves the devices from the runtime's network namespace to the container's; `born_in` is the one of init.
    ///
    /// An error leaves every device where it was.
    pub fn move_to(&self, born_in: BorrowedFd) -> Result<Moved> {
        let namespace = self.namespace.as_ref().map_or(born_in, AsFd::as_fd);
        let ends = || -> Result<Ends> {
            let own_namespace = File::open("/proc/self/ns/net")?.into();
            Ok(Ends { own: Netlink::open()?, own_namespace, inside: Netlink::open_in(namespace)? })
        };
        let ends = ends().context(field!("linux.netDevices"))?;
        let mut moved = Moved { ends, devices: Vec::with_capacity(self.devices.len()) };
        for device in &self.devices {
            moved.add(device, namespace).with_context(|| Field::new(format!("linux.netDevices.{}", device.name)))?;
        }
        Ok(moved)
    }
}

impl Moved {
    fn add(&mut self, device: &NetDevice, namespace: BorrowedFd) -> Result<()> {
        let Ends { own, inside, .. } = &self.ends;
        let Some(before) = own.link_by_name(&device.name)? else { bail!("no such network device on the host") };
        let is_taken = !device.name_inside.contains('%') && inside.link_by_name(&device.name_inside)?.is_some();
        ensure!(!is_taken, "the container has a network device {:?} already", device.name_inside);
        // Before the move: afterwards it has none.
        let addresses = own.global_addresses(before.index)?;
        let index_inside = free_index(inside, before.index)?;
        own.move_link(before.index, namespace, &device.name_inside, index_inside)?;
        self.devices.push(MovedDevice { name: device.name.clone(), before, index_inside, addresses });
        let Some(moved) = self.devices.last() else { return Ok(()) };
        for address in &moved.addresses {
            inside.add_address(index_inside, address)?;
        }
        Ok(inside.set_up(index_inside)?)
    }

    /// The devices are the container's.
    pub fn keep(&mut self) {
        self.devices.clear();
    }
}

/// The index itself, or the next one that no device has.
fn free_index(netlink: &Netlink, mut index: u32) -> Result<u32> {
    while netlink.has_index(index)? {
        index += 1;
    }
    Ok(index)
}

impl Drop for Moved {
    fn drop(&mut self) {
        let Ends { own, own_namespace, inside } = &self.ends;
        for device in self.devices.iter().rev() {
            let index = device.before.index;
            let back = || -> crate::sys::Result<()> {
                inside.move_link(device.index_inside, own_namespace.as_fd(), &device.name, index)?;
                for address in &device.addresses {
                    own.add_address(index, address)?;
                }
                if device.before.is_up { own.set_up(index) } else { Ok(()) }
            };
            // The error that made us undo is the one to tell.
            let _ = back();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(devices: serde_json::Value, is_private: bool) -> String {
        let spec = serde_json::from_value(devices).unwrap();
        compile(Some(&spec), None, is_private).map_or_else(
            |error| format!("{error:#}"),
            |devices| devices.devices.iter().map(|device| format!("{}>{} ", device.name, device.name_inside)).collect(),
        )
    }

    #[test]
    fn devices_keep_their_names_or_get_new_ones() {
        let devices = serde_json::json!({ "eth1": { "name": "lan%d" }, "eth0": {}, "wlan0": { "name": "" }, "a": { "name": "lan%d" } });
        assert_eq!(verdict(devices, true), "a>lan%d eth0>eth0 eth1>lan%d wlan0>wlan0 ");
        assert_eq!(verdict(serde_json::json!({}), false), "");
    }

    #[test]
    fn errors_name_the_device() {
        for (devices, expected) in [
            (serde_json::json!({ "": {} }), "linux.netDevices.: empty"),
            (serde_json::json!({ "a/b": {} }), "linux.netDevices.a/b: \"a/b\" is not the name of a network device"),
            (serde_json::json!({ "..": {} }), "linux.netDevices...: \"..\" is not the name of a network device"),
            (
                serde_json::json!({ "eth%d": {} }),
                "linux.netDevices.eth%d: \"eth%d\" has another % than one %d for a name in the container",
            ),
            (
                serde_json::json!({ "a": { "name": "b c" } }),
                "linux.netDevices.a.name: \"b c\" is not the name of a network device",
            ),
            (
                serde_json::json!({ "a": { "name": "%d%d" } }),
                "linux.netDevices.a.name: \"%d%d\" has another % than one %d for a name in the container",
            ),
            (
                serde_json::json!({ "a": { "name": "0123456789abcdef" } }),
                "linux.netDevices.a.name: \"0123456789abcdef\" is longer than 15 bytes",
            ),
            (
                serde_json::json!({ "a": { "name": "x" }, "b": { "name": "x" } }),
                "linux.netDevices.b.name: \"x\" comes twice",
            ),
            (serde_json::json!({ "a": { "name": "b" }, "b": {} }), "linux.netDevices.b.name: \"b\" comes twice"),
        ] {
            assert_eq!(verdict(devices, true), expected);
        }
        assert_eq!(
            verdict(serde_json::json!({ "a": {} }), false),
            "linux.netDevices: needs a network namespace of the container's in linux.namespaces"
        );
    }
}
