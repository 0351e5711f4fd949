//! Mounts whose files have other ids (mount_setattr(2), MOUNT_ATTR_IDMAP).

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use containerd_shim_ocirt::mount::{Maps, Plan};
use nix::mount::mount;

use super::apart;
use crate::outcome::Outcome;
use crate::sys;

/// Gives a tree other ids, before it is anywhere.
pub fn map(tree: BorrowedFd<'_>, maps: &Maps, is_recursive: bool) -> Outcome<()> {
    let namespace = user_namespace(maps)?;
    Ok(sys::mount::map_ids(tree, namespace.as_fd(), is_recursive).map_err(|error| format!("id map: {error}"))?)
}

/// An overlay whose lower directories have other ids. The overlay cannot have them itself, and its lower directories have
/// to be mounted somewhere.
pub fn overlay(plan: &Plan, maps: &Maps) -> Outcome<OwnedFd> {
    let namespace = user_namespace(maps)?;
    let lower: Vec<OwnedFd> =
        plan.lower().iter().map(|path| sys::mount::clone_tree(path, false)).collect::<io::Result<_>>()?;
    for tree in &lower {
        sys::mount::map_ids(tree.as_fd(), namespace.as_fd(), false).map_err(|error| format!("id map: {error}"))?;
    }
    apart::mounted(|place| {
        let names: Vec<String> = (0..lower.len()).map(|number| number.to_string()).collect();
        for (name, tree) in names.iter().zip(&lower) {
            let directory = Path::new(apart::PLACE).join(name);
            fs::create_dir(&directory)?;
            sys::mount::attach(tree.as_fd(), File::open(&directory)?.as_fd())?;
        }
        nix::unistd::chdir(apart::PLACE)?;
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let data = plan.with_lower(&names);
        Ok(mount(Some("overlay"), place, Some("overlay"), plan.flags, Some(data.as_str()))?)
    })
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
