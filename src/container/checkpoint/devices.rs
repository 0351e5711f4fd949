//! Network devices of an image. CRIU makes them in the container's network namespace, but some with a part elsewhere.
//!
//! Field numbers of images/netdev.proto.

use anyhow::{Context, Result, ensure};
use prost::Message;

/// `nd_type`: LOOPBACK, VETH, TUN, EXTLINK, BRIDGE, SIT. VENET is made in the namespace of CRIU, and MACVLAN on a device there.
const KINDS: [u32; 6] = [1, VETH, 3, 4, 6, 8];
const VETH: u32 = 2;

/// A name and its NUL byte: linux/if.h.
const IFNAMSIZ: usize = 16;

/// `net_device_entry`.
#[derive(Clone, PartialEq, Message)]
pub struct NetDeviceEntry {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(string, tag = "5")]
    name: String,
    /// The namespace of the other end of a veth pair, as images number them.
    #[prost(uint32, optional, tag = "13")]
    peer_namespace: Option<u32>,
}

/// Those of image `name`: `netdev-NAMESPACE.img`.
pub fn check(name: &str, devices: &[NetDeviceEntry]) -> Result<()> {
    let number = name.strip_prefix("netdev-").and_then(|name| name.strip_suffix(".img"));
    let namespace: u32 = number.and_then(|number| number.parse().ok()).context("no number of a network namespace")?;
    for NetDeviceEntry { kind, name, peer_namespace } in devices {
        // It becomes a part of a path below /proc/sys, and of one that CRIU cuts off.
        let is_name = !name.is_empty() && name.len() < IFNAMSIZ && !name.contains('/') && name != "." && name != "..";
        ensure!(is_name, "{name:?} is no name of a device");
        ensure!(KINDS.contains(kind), "{name:?}: a device of kind {kind} cannot be restored");
        let is_pair = *peer_namespace == Some(namespace);
        ensure!(*kind != VETH || is_pair, "{name:?}: the other end of the veth pair is not in the container");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_has_no_part_outside_of_the_container() {
        let device = |kind, peer_namespace| [NetDeviceEntry { kind, name: "a".to_owned(), peer_namespace }];
        check("netdev-10.img", &[device(1, Some(10)), device(VETH, Some(10)), device(6, None)].concat()).unwrap();
        for (kind, peer) in [(VETH, None), (VETH, Some(11)), (5, None), (7, None), (0, None), (9, None)] {
            check("netdev-10.img", &device(kind, peer)).expect_err("a device");
        }
        check("netdev-x.img", &[]).expect_err("a name");
    }
}
