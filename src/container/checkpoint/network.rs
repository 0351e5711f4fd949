//! The network of a container in CRIU's images: its devices, with their addresses, routes and rules. A device whose other end is
//! outside of the container, as that of a container on a bridge, is made by whoever has made it before: the engine, in its hooks.
//! Then the images are as if by `--empty-ns network`.

use std::ffi::CString;
use std::os::fd::BorrowedFd;

use anyhow::{Context, Error, Result};

use super::devices;
use super::entries::{names, of};
use crate::sys::file;

/// Each has the number of a network namespace behind its name; `netns-` also has connections (`netns-ct-`, `netns-exp-`).
const KINDS: [&str; 9] =
    ["netns-", "netdev-", "ifaddr-", "route-", "route6-", "rule-", "iptables-", "ip6tables-", "nftables-"];

/// Whether an image is of the network.
pub fn is_image(name: &str) -> bool {
    KINDS.iter().any(|kind| name.starts_with(kind))
}

/// Whether the images have no network.
pub fn is_left_out(images: BorrowedFd) -> Result<bool> {
    let is_namespace = |name: &String| {
        let number = name.strip_prefix("netns-").and_then(|name| name.strip_suffix(".img"));
        number.is_some_and(|number| number.parse::<u32>().is_ok())
    };
    Ok(!names(images)?.iter().any(is_namespace))
}

/// Removes the network from the images where a device of it cannot be restored. Returns why, and None where all can.
pub fn leave_out_unfit(images: BorrowedFd) -> Result<Option<Error>> {
    let names = names(images)?;
    let unfit = |name: &String| of(images, name).and_then(|devices| devices::check(name, &devices)).err();
    let reason = names.iter().filter(|name| name.starts_with("netdev-")).find_map(unfit);
    if reason.is_some() {
        for name in names.iter().filter(|name| is_image(name)) {
            file::unlink_at(images, &CString::new(name.as_str())?).with_context(|| format!("--image-path: {name}"))?;
        }
    }
    Ok(reason)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_of_the_network_are_told_from_others() {
        for name in ["netns-10.img", "netns-ct-10.img", "route6-10.img", "netdev-2.img"] {
            assert!(is_image(name), "{name}");
        }
        for name in ["netlinksk.img", "core-1.img", "utsns-12.img", "ids-1.img"] {
            assert!(!is_image(name), "{name}");
        }
    }
}
