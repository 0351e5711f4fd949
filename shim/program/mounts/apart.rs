//! Mounts that are made in a mount namespace which goes with this child, so that nothing is left of them whenever it ends,
//! and nobody else sees them. Only a tree comes out of it.

use std::fs::{self, File};
use std::os::fd::OwnedFd;
use std::path::Path;

use nix::mount::{MsFlags, mount};

use crate::outcome::Outcome;
use crate::sys;

/// An empty file system of its own: /proc is surely there, and not this process's any more.
pub const PLACE: &str = "/proc";

/// What `make` mounts on the path that it is given.
pub fn mounted(make: impl FnOnce(&Path) -> Outcome<()>) -> Outcome<OwnedFd> {
    let home = File::open("/proc/self/ns/mnt")?;
    sys::mount::unshare(libc::CLONE_NEWNS)?;
    let tree = here(make);
    sys::mount::enter_mount_namespace(home)?;
    tree
}

fn here(make: impl FnOnce(&Path) -> Outcome<()>) -> Outcome<OwnedFd> {
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_PRIVATE | MsFlags::MS_REC, None::<&str>)?;
    mount(Some("tmpfs"), PLACE, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    let place = Path::new(PLACE).join("tree");
    fs::create_dir(&place)?;
    make(&place)?;
    Ok(sys::mount::clone_tree(&place, false)?)
}
