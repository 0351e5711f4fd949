//! What CRIU's images say of mounts and files, before it acts on them: as root, it mounts, makes and removes what they
//! name. What a look at the restored processes finds comes too late for that.
//!
//! Field numbers of images/mnt.proto, images/apparmor.proto and images/sk-packet.proto.

use std::collections::BTreeSet;
use std::os::fd::BorrowedFd;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use prost::Message;

use super::deleted::{self, Deleted};
use super::devices;
use super::entries::{names, of, raw, with_data};
use super::firewall;
use super::image::Point;
use super::mount_call;
use super::mount_entry::{MountEntry, is_root};
use super::names::{
    Fanotify, File, Inotify, InotifyWdEntry, Mark, MmEntry, Regular, Socket, TtyFileEntry, VmaEntry, leaves,
};
use super::netlink;

/// `fstype` of images/mnt.proto: proc, sysfs, tmpfs, devpts, mqueue. Their options name nothing of the host; those of others
/// do, and those of cgroups are the host's own.
const KINDS: [(u32, &str); 5] = [(PROC, "proc"), (2, "sysfs"), (5, "tmpfs"), (6, "devpts"), (14, "mqueue")];
const PROC: u32 = 1;

/// The kernel's name for a kind of file system that CRIU may make.
pub fn kind_name(kind: u32) -> Option<&'static str> {
    KINDS.iter().find(|(number, _)| *number == kind).map(|(_, name)| *name)
}

/// `apparmor_entry`.
#[derive(Clone, PartialEq, Message)]
struct AppArmor {
    #[prost(bytes = "vec", repeated, tag = "1")]
    namespaces: Vec<Vec<u8>>,
}

/// `sk_packet_entry` of images/sk-packet.proto; its data follows.
#[derive(Clone, PartialEq, Message)]
struct Packet {
    #[prost(uint32, tag = "2")]
    length: u32,
    /// Descriptors that were sent and not yet received.
    #[prost(bytes = "vec", repeated, tag = "4")]
    rights: Vec<Vec<u8>>,
}

/// What the images name.
pub struct Named {
    /// Files that CRIU makes although they were deleted.
    pub deleted: Vec<Deleted>,
    pub mounts: Vec<MountEntry>,
}

/// Fails where the images have CRIU mount, make or run something outside of the container, or where it could not write.
/// `points`: ocirt's own of the mounts; `is_writable`: see `deleted::check`.
pub fn check(images: BorrowedFd, points: &[Point], is_writable: &dyn Fn(Option<&str>) -> bool) -> Result<Named> {
    let (mut files, mut all_mounts) = (Vec::new(), Vec::new());
    for name in names(images)? {
        let image = || format!("--image-path: {name}");
        if name.starts_with("mountpoints-") {
            let found = of(images, &name)?;
            mounts(&found, points).with_context(image)?;
            all_mounts.extend(found);
        } else {
            files.extend(regular_files(images, &name).with_context(image)?);
            other(images, &name).with_context(image)?;
        }
    }
    let deleted = deleted::check(images, &files, &all_mounts, is_writable)?;
    Ok(Named { deleted, mounts: all_mounts })
}

/// The regular files of an image of open files.
fn regular_files(images: BorrowedFd, name: &str) -> Result<Vec<Regular>> {
    match name {
        "files.img" => {
            let files = of::<File>(images, name)?;
            files.iter().try_for_each(File::check)?;
            Ok(files.into_iter().filter_map(|file| file.regular).collect())
        }
        "reg-files.img" => {
            let files = of::<Regular>(images, name)?;
            files.iter().try_for_each(Regular::check)?;
            Ok(files)
        }
        _ => Ok(Vec::new()),
    }
}

/// An image that is about something else. CRIU takes those of older versions, too, of which each has one kind of files.
fn other(images: BorrowedFd, name: &str) -> Result<()> {
    match name.split('-').next().unwrap_or_default() {
        "unixsk.img" => of::<Socket>(images, name)?.iter().try_for_each(Socket::check),
        "tty.img" => of::<TtyFileEntry>(images, name)?.iter().try_for_each(TtyFileEntry::check),
        "inotify.img" => of::<Inotify>(images, name)?.iter().try_for_each(Inotify::check),
        "fanotify.img" => of::<Fanotify>(images, name)?.iter().try_for_each(Fanotify::check),
        "inotify" if name == "inotify-wd.img" => {
            of::<InotifyWdEntry>(images, name)?.iter().try_for_each(InotifyWdEntry::check)
        }
        "fanotify" if name == "fanotify-mark.img" => of::<Mark>(images, name)?.iter().try_for_each(Mark::check),
        "mm" => of::<MmEntry>(images, name)?.iter().flat_map(|memory| &memory.mappings).try_for_each(VmaEntry::check),
        "vmas" => of::<VmaEntry>(images, name)?.iter().try_for_each(VmaEntry::check),
        "iptables" | "ip6tables" => firewall::iptables(&raw(images, name)?),
        "nftables" => firewall::nftables(&raw(images, name)?),
        "netdev" => devices::check(name, &of(images, name)?),
        "route" | "route6" => netlink::routes(&raw(images, name)?),
        "ifaddr" => netlink::addresses(&raw(images, name)?),
        "rule" => netlink::rules(&raw(images, name)?),
        "netns" if name.starts_with("netns-ct-") || name.starts_with("netns-exp-") => {
            netlink::tracked(&raw(images, name)?)
        }
        // Nobody could look at them before the container receives them.
        "sk" if name == "sk-queues.img" => {
            let packets = with_data::<Packet>(images, name, |packet| packet.length as usize)?;
            let has_none = packets.iter().all(|packet| packet.rights.is_empty());
            ensure!(has_none, "descriptors in the queue of a socket cannot be restored");
            Ok(())
        }
        "apparmor.img" => {
            let has_none = of::<AppArmor>(images, name)?.iter().all(|entry| entry.namespaces.is_empty());
            ensure!(has_none, "namespaces of AppArmor cannot be restored");
            Ok(())
        }
        _ => Ok(()),
    }
}

fn mounts(mounts: &[MountEntry], points: &[Point]) -> Result<()> {
    ensure!(mounts.iter().filter(|mount| is_root(mount, mounts)).count() == 1, "not one root");
    let ids: BTreeSet<u32> = mounts.iter().map(|mount| mount.id).collect();
    ensure!(ids.len() == mounts.len(), "two mounts of one number");
    for mount in mounts {
        check_mount(mount, mounts, points).with_context(|| format!("mount {:?}", mount.at))?;
    }
    Ok(())
}

fn check_mount(mount: &MountEntry, mounts: &[MountEntry], points: &[Point]) -> Result<()> {
    for path in [&mount.root, &mount.at] {
        ensure!(path.starts_with('/') && !leaves(path.as_bytes()), "{path:?} is not an absolute path without \"..\"");
    }
    ensure!(mount.fsname.is_none(), "a file system by its name, {:?}", mount.fsname.as_deref().unwrap_or_default());
    ensure!(!mount.with_plugin, "a mount of a plugin");
    ensure!(!mount.deleted, "what is mounted on was removed, and cannot be restored");
    mount_call::check_flags(mount)?;
    let names = || points.iter().filter_map(|point| Some(point.external.as_ref()?.name.as_str()));
    if let Some(key) = &mount.ext_key {
        ensure!(names().any(|name| name == key), "{key:?} is not the name of an external mount");
        return Ok(());
    }
    // CRIU makes a file system where it shows the root of it; else a bind mount of one that it has. The root is ours.
    if is_root(mount, mounts) {
        return Ok(());
    }
    if mount.root == "/" {
        let kind = kind_name(mount.kind);
        let kind = kind.with_context(|| format!("a file system of kind {} cannot be restored", mount.kind))?;
        return mount_call::check_new(mount, kind);
    }
    let base = mounts.iter().find(|base| mount.is_part_of(base, mounts));
    let base = base.with_context(|| format!("{:?} is no part of a file system of the container", mount.root))?;
    let first = mount.root.split('/').nth(1).unwrap_or_default();
    let is_process = first.parse::<u32>().is_ok() || ["self", "thread-self"].contains(&first);
    ensure!(base.kind != PROC || !is_process, "{:?} of a procfs may lead anywhere, and cannot be restored", mount.root);
    Ok(())
}

impl MountEntry {
    /// Whether it shows a part of what `base` shows, which CRIU does not take from another mount.
    pub fn is_part_of(&self, base: &MountEntry, mounts: &[MountEntry]) -> bool {
        let is_first =
            base.ext_key.is_some() || is_root(base, mounts) || base.root == "/" && kind_name(base.kind).is_some();
        is_first && base.id != self.id && base.device == self.device && self.below(base).is_some()
    }

    /// Where in `base` it begins, if it is of the same file system.
    pub fn below(&self, base: &MountEntry) -> Option<&Path> {
        Path::new(&self.root).strip_prefix(&base.root).ok()
    }
}
