//! Mounts whose files have other ids (mount_setattr(2), MOUNT_ATTR_IDMAP).

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use containerd_shim_ocirt::mount::{Maps, Plan};
use nix::mount::{MntFlags, MsFlags, mount, umount2};

use crate::outcome::Outcome;
use crate::sys;

/// Exchanges a mount for one with other ids; `place` is what it is on.
pub fn remap(target: &Path, place: BorrowedFd<'_>, maps: &Maps, is_recursive: bool) -> Outcome<()> {
    let namespace = user_namespace(maps)?;
    let tree = sys::mount::clone_tree(target, is_recursive)?;
    sys::mount::map_ids(tree.as_fd(), namespace.as_fd(), is_recursive).map_err(|error| format!("id map: {error}"))?;
    umount2(target, MntFlags::MNT_DETACH)?;
    Ok(sys::mount::attach(tree.as_fd(), place)?)
}

/// An overlay whose lower directories have other ids. The overlay cannot have them itself, and its lower directories have
/// to be mounted somewhere: that is a mount namespace which goes with this child, so that nothing is left of them whenever
/// it ends. Only the overlay comes out of it.
pub fn overlay(plan: &Plan, place: BorrowedFd<'_>) -> Outcome<()> {
    let Some(maps) = &plan.maps else { return Ok(()) };
    let namespace = user_namespace(maps)?;
    let home = File::open("/proc/self/ns/mnt")?;
    let lower: Vec<OwnedFd> =
        plan.lower().iter().map(|path| sys::mount::clone_tree(path, false)).collect::<io::Result<_>>()?;
    for tree in &lower {
        sys::mount::map_ids(tree.as_fd(), namespace.as_fd(), false).map_err(|error| format!("id map: {error}"))?;
    }
    sys::mount::unshare(libc::CLONE_NEWNS)?;
    mount(None::<&str>, "/", None::<&str>, MsFlags::MS_PRIVATE | MsFlags::MS_REC, None::<&str>)?;
    let made = overlay_here(plan, &lower);
    sys::mount::enter_mount_namespace(home)?;
    sys::mount::attach(made?.as_fd(), place)?;
    Ok(())
}

/// The overlay, nowhere yet. It is made on /proc, which is surely there, and not this process's any more.
fn overlay_here(plan: &Plan, lower: &[OwnedFd]) -> Outcome<OwnedFd> {
    mount(Some("tmpfs"), "/proc", Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
    let names: Vec<String> = (0..lower.len()).map(|number| number.to_string()).collect();
    for (name, tree) in names.iter().zip(lower) {
        let place = Path::new("/proc").join(name);
        fs::create_dir(&place)?;
        sys::mount::attach(tree.as_fd(), File::open(&place)?.as_fd())?;
    }
    fs::create_dir("/proc/overlay")?;
    nix::unistd::chdir("/proc")?;
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let data = plan.with_lower(&names);
    mount(Some("overlay"), "overlay", Some("overlay"), plan.flags, Some(data.as_str()))?;
    Ok(sys::mount::clone_tree(Path::new("/proc/overlay"), false)?)
}

/// A user namespace with these maps, and with no process.
fn user_namespace(maps: &Maps) -> Outcome<OwnedFd> {
    let (mut ready, mut theirs) = io::pipe()?;
    let (end, ours) = io::pipe()?;
    let other = ours.as_raw_fd();
    let born = sys::fork(move || {
        // Else there would be no end of file.
        let closed = nix::unistd::close(other);
        if closed.is_err() || sys::mount::unshare(libc::CLONE_NEWUSER).is_err() || theirs.write_all(b"!").is_err() {
            return 1;
        }
        // Until the parent has what it needs, or is no more.
        let _ = (&end).read(&mut [0]);
        0
    })?;
    if ready.read(&mut [0])? == 0 {
        return Err("user namespace: none can be made".into());
    }
    let of = |name: &str| format!("/proc/{}/{name}", born.pid);
    let write = |name: &str, map: &str| {
        fs::write(of(name), map).map_err(|error| format!("{name} {:?}: {error}", map.trim_end()))
    };
    write("uid_map", &maps.uids)?;
    write("gid_map", &maps.gids)?;
    Ok(File::open(of("ns/user"))?.into())
}
