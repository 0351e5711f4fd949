//! `idmap`, `ridmap` and `mounts[].uidMappings`, `gidMappings`: a mount shows the owners of its files as other ids.
//! runtime-spec config.md, "Mounts" and "Linux mount options"; mount_setattr(2), "ID-mapped mounts".
//!
//! The mapping is that of a user namespace: the container's own, or one that the runtime makes for this mount alone.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use anyhow::{Context as _, Result, bail, ensure};
use core::ffi::CStr;
use oci_spec::runtime::{self, LinuxIdMapping, LinuxIdMappingBuilder};

use super::context::Context;
use super::options::IdMapOption;
use crate::sys::file::{self, magic};
use crate::sys::mount::{Depth, map_ids};
use crate::sys::{Errno, Fault};

/// How the ids of a mount are mapped.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IdMap {
    depth: Depth,
    from: From,
}

/// The user namespace that has the mapping.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum From {
    Container,
    /// One of those that the runtime makes for mounts, by its number.
    Listed(usize),
}

/// Uids and gids as they are stored, and what they become on the host.
#[derive(PartialEq, Debug)]
pub struct Mappings {
    pub uids: Vec<LinuxIdMapping>,
    pub gids: Vec<LinuxIdMapping>,
}

/// The user namespaces that mounts are mapped by.
#[derive(Clone, Copy)]
pub struct UserNamespaces<'a> {
    /// Made for single mounts.
    pub listed: &'a [OwnedFd],
    /// The container's own, for those who may use it: nobody inside of it.
    pub container: Option<BorrowedFd<'a>>,
}

/// Filesystems that are made for the namespaces of whoever mounts them, and cannot be mapped anyway.
const NEVER: &[&str] = &["proc", "sysfs", "mqueue", "devpts", "cgroup", "cgroup2"];

/// The mapping of `mount`, if it has one, and the mappings for the user namespace that it asks for, which will be the
/// one with number `next`.
///
/// Mappings without an option mean `idmap`, as in runc; an option without mappings means the container's, which must
/// have a user namespace then.
pub(super) fn compile(
    mount: &runtime::Mount,
    option: Option<&IdMapOption>,
    context: &Context,
    next: usize,
) -> Result<Option<(IdMap, Option<Mappings>)>> {
    let depth = option.map_or(Depth::One, |option| option.depth);
    let uids = mount.uid_mappings().as_deref().unwrap_or_default();
    let gids = mount.gid_mappings().as_deref().unwrap_or_default();
    ensure!(!uids.is_empty() || gids.is_empty(), "gidMappings: need uidMappings as well");
    ensure!(!gids.is_empty() || uids.is_empty(), "uidMappings: need gidMappings as well");
    let written = option.and_then(|option| option.mappings.as_deref());
    let mappings = match (written, uids.is_empty()) {
        (None, true) if option.is_none() => return Ok(None),
        (None, true) => None,
        (None, false) => Some(Mappings { uids: uids.to_vec(), gids: gids.to_vec() }),
        (Some(_), false) => bail!("options: idmap=: not together with uidMappings"),
        (Some(text), true) => Some(parse(text, context).with_context(|| format!("options: idmap={text}"))?),
    };
    let kind = mount.typ().as_deref().unwrap_or_default();
    ensure!(!NEVER.contains(&kind), "options: idmap: a {kind} cannot be id-mapped");
    let is_own = |mappings: &Mappings| (mappings.uids.as_slice(), mappings.gids.as_slice()) == context.id_mappings;
    match mappings.filter(|mappings| !(context.user_namespace && is_own(mappings))) {
        Some(mappings) => Ok(Some((IdMap { depth, from: From::Listed(next) }, Some(mappings)))),
        None => {
            let needs = "needs uidMappings and gidMappings, or a user namespace in linux.namespaces";
            ensure!(context.user_namespace, "options: idmap: {needs}");
            Ok(Some((IdMap { depth, from: From::Container }, None)))
        }
    }
}

/// crun's way to write mappings: `uids=0-1000-10#@10-20-5;gids=…`. Each triplet is an id as it is stored, the id that it
/// becomes on the host, and how many follow suit; behind an `@`, the second is one of the container's (crun(1)).
fn parse(text: &str, context: &Context) -> Result<Mappings> {
    let (mut uids, mut gids) = (Vec::new(), Vec::new());
    for part in text.split(';').filter(|part| !part.is_empty()) {
        let (list, triplets, own) = match part.split_once('=') {
            Some(("uids", triplets)) => (&mut uids, triplets, context.id_mappings.0),
            Some(("gids", triplets)) => (&mut gids, triplets, context.id_mappings.1),
            _ => bail!("{part}: neither uids= nor gids="),
        };
        for triplet in triplets.split('#').filter(|triplet| !triplet.is_empty()) {
            list.push(parse_triplet(triplet, own).with_context(|| triplet.to_owned())?);
        }
    }
    ensure!(!uids.is_empty() && !gids.is_empty(), "needs both uids= and gids=");
    Ok(Mappings { uids, gids })
}

fn parse_triplet(text: &str, own: &[LinuxIdMapping]) -> Result<LinuxIdMapping> {
    let (relative, numbers) = text.strip_prefix('@').map_or((false, text), |rest| (true, rest));
    let numbers: Vec<u32> = numbers.split('-').map(str::parse).collect::<Result<_, _>>()?;
    let [stored, shown, size] = numbers[..] else { bail!("not three numbers with - between them") };
    let shown = if relative { on_host(stored, shown, own)? } else { shown };
    Ok(LinuxIdMappingBuilder::default().container_id(stored).host_id(shown).size(size).build()?)
}

/// `shown` moved as far as the range of the container's mappings that has `stored` in it.
fn on_host(stored: u32, shown: u32, own: &[LinuxIdMapping]) -> Result<u32> {
    let has = |range: &&LinuxIdMapping| stored.checked_sub(range.container_id()).is_some_and(|at| at < range.size());
    let range = own.iter().find(has).context("no range of the container's user namespace has it")?;
    let moved = i64::from(shown) + i64::from(range.host_id()) - i64::from(range.container_id());
    u32::try_from(moved).context("beyond the last id")
}

impl IdMap {
    /// Maps the ids of the detached mount `tree`, of `source`.
    pub(super) fn apply(&self, tree: BorrowedFd, source: &CStr, namespaces: UserNamespaces) -> Result<(), Fault> {
        let namespace = match self.from {
            From::Container => namespaces.container,
            From::Listed(number) => namespaces.listed.get(number).map(AsFd::as_fd),
        };
        let missing = Fault::new("mount_setattr", Errno::EPERM, "only a privileged runtime may map ids");
        map_ids(tree, namespace.ok_or(missing)?, self.depth).map_err(|error| {
            let below: &[u8] = if self.depth == Depth::Tree { b" or what is mounted below" } else { b"" };
            let source = source.to_bytes();
            match error.errno {
                Errno::EINVAL => {
                    let name = file::fs_type(tree).map_or("", fs_name).as_bytes();
                    let parts: [&[u8]; 5] = [source, below, b": its filesystem", name, b" cannot be id-mapped"];
                    Fault::of_parts(error.call, error.errno, &parts)
                }
                Errno::EPERM => {
                    let why = b": id-mapped already, or the filesystem of another user namespace";
                    Fault::of_parts(error.call, error.errno, &[source, below, why])
                }
                _ => error.about(c"idmap"),
            }
        })
    }
}

/// The name of a filesystem that cannot be id-mapped, or could not always: docs/kernel.md has since when.
fn fs_name(kind: u32) -> &'static str {
    match kind {
        magic::PROC => " (proc)",
        magic::TMPFS => " (tmpfs, before Linux 6.3)",
        magic::OVERLAYFS => " (overlayfs, of which only the layers can be)",
        magic::SYSFS => " (sysfs)",
        magic::FUSE => " (fuse)",
        magic::NFS => " (nfs)",
        magic::V9FS => " (9p)",
        _ => "",
    }
}

#[cfg(test)]
mod tests;
