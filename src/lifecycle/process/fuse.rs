//! The FUSE file systems of a container. A process that waits for one whose server does not answer cannot be killed: not even
//! at its end, when it closes its files, and the server may be that same process. The kernel ends the wait when the connection
//! to the server is aborted (Documentation/filesystems/fuse, "Aborting a filesystem connection").

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};
use std::path::PathBuf;

use anyhow::{Context, Result};

use super::members;
use crate::container::verify::status::threads;
use crate::lifecycle::disk::identity;
use crate::lifecycle::disk::state::State;
use crate::sys::mount::{FsContext, attr};
use crate::sys::{self, Errno, beneath, file, mountinfo};

/// Where the host has the control file system, if it has.
const CONTROL: &core::ffi::CStr = c"/sys/fs/fuse/connections";

/// Aborts each connection whose file system only processes of the container have mounted. One that the host or another
/// container has, too, is theirs.
pub fn cut_off_own(state: &State) -> Result<()> {
    let Seen { own, others } = look(state)?;
    let mut connections = own.difference(&others).peekable();
    if connections.peek().is_none() {
        return Ok(());
    }
    let control = control().context("fusectl")?;
    for connection in connections {
        let path = CString::new(format!("{connection}/abort"))?;
        match beneath::write_beneath(control.as_fd(), &path, b"1") {
            Err(error) if error.errno != Errno::ENOENT => return Err(error).context("fusectl"),
            _ => {}
        }
    }
    Ok(())
}

/// Which file systems its processes may wait for, in words.
pub fn explain(state: &State) -> Option<String> {
    let own = look(state).ok()?.own;
    let numbers: Vec<String> = own.iter().map(u32::to_string).collect();
    let which = match numbers.as_slice() {
        [] => return None,
        [one] => format!("FUSE file system {one} does"),
        more => format!("one of the FUSE file systems {} does", more.join(", ")),
    };
    Some(format!("{which} not answer (its server, or 1 in /sys/fs/fuse/connections/N/abort, can end the wait)"))
}

/// The control file system, which needs no mount point; an ordinary user takes the host's.
fn control() -> sys::Result<OwnedFd> {
    let made = FsContext::open(c"fusectl").and_then(|context| {
        context.create()?;
        context.mount(attr::NOSUID | attr::NODEV | attr::NOEXEC)
    });
    made.or_else(|error| file::open_directory(CONTROL).map_err(|_| error))
}

/// The numbers of the connections that are mounted where processes of the container are, and where others are.
struct Seen {
    own: BTreeSet<u32>,
    others: BTreeSet<u32>,
}

fn look(state: &State) -> Result<Seen> {
    let parents = parents()?;
    let seeds: BTreeSet<i32> = members::pids_with_dying(state)?.into_iter().collect();
    // Each mount namespace once, by a thread in it; one in which somebody else is, is not the container's.
    let mut namespaces: BTreeMap<PathBuf, (i32, bool)> = BTreeMap::new();
    for (pid, thread) in parents.keys().flat_map(|pid| threads_of(*pid)) {
        // Gone, or hidden from us; then it has not mounted what we could abort.
        let Ok(namespace) = fs::read_link(format!("/proc/{thread}/ns/mnt")) else { continue };
        let is_own = comes_from(pid, &parents, &seeds);
        namespaces.entry(namespace).and_modify(|(_, own)| *own &= is_own).or_insert((thread, is_own));
    }
    let mut seen = Seen { own: BTreeSet::new(), others: BTreeSet::new() };
    for (thread, is_own) in namespaces.into_values() {
        let Ok(text) = mountinfo::of_pid(thread) else { continue };
        let mounted = if is_own { &mut seen.own } else { &mut seen.others };
        mounted.extend(mountinfo::parse(&text).filter_map(|mount| connection(mount.kind, mount.device)));
    }
    Ok(seen)
}

/// Whether a process, or one that it descends from, is among `seeds`. The chain of a pid that has a new owner may be a circle.
fn comes_from(pid: i32, parents: &BTreeMap<i32, i32>, seeds: &BTreeSet<i32>) -> bool {
    let mut chain = std::iter::successors(Some(pid), |pid| parents.get(pid).copied()).take(parents.len());
    chain.any(|pid| seeds.contains(&pid))
}

/// The parent of each process.
fn parents() -> Result<BTreeMap<i32, i32>> {
    let mut parents = BTreeMap::new();
    for pid in members::of_the_host()? {
        if let Some(parent) = identity::parent_of(pid)? {
            parents.insert(pid, parent);
        }
    }
    Ok(parents)
}

/// The threads of a process, with its pid: the first one may have ended, and each may be in a mount namespace of its own.
fn threads_of(pid: i32) -> impl Iterator<Item = (i32, i32)> {
    threads(pid).unwrap_or_default().into_iter().map(move |thread| (pid, thread))
}

/// The number of the connection behind a mount of FUSE: the file system's device, whose major number is 0. fuseblk, which
/// needs a block device, has another.
fn connection(kind: &[u8], device: &[u8]) -> Option<u32> {
    let is_fuse = kind == b"fuse" || kind.starts_with(b"fuse.");
    is_fuse.then(|| std::str::from_utf8(device).ok()?.strip_prefix("0:")?.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_has_the_number_of_its_file_systems_device() {
        assert_eq!(connection(b"fuse", b"0:49"), Some(49));
        assert_eq!(connection(b"fuse.sshfs", b"0:1048577"), Some(1_048_577));
        for (kind, device) in
            [(&b"fusectl"[..], &b"0:49"[..]), (b"ext4", b"0:49"), (b"fuse", b"8:1"), (b"fuse", b"0:x")]
        {
            assert_eq!(connection(kind, device), None);
        }
    }

    #[test]
    fn who_descends_from_the_container_is_of_it_whatever_the_chain() {
        let parents = BTreeMap::from([(10, 1), (11, 10), (12, 11), (20, 21), (21, 20)]);
        let seeds = BTreeSet::from([10]);
        assert!(comes_from(10, &parents, &seeds) && comes_from(12, &parents, &seeds));
        assert!(!comes_from(1, &parents, &seeds) && !comes_from(20, &parents, &seeds));
    }
}
