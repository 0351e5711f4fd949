//! What CRIU's images say of mounts and files, before it acts on them: as root, it mounts, makes and removes what they
//! name. What a look at the restored processes finds comes too late for that.
//!
//! Field numbers of images/mnt.proto, images/fdinfo.proto, images/regfile.proto and images/apparmor.proto.

use std::os::fd::BorrowedFd;

use anyhow::{Context, Result, ensure};
use prost::Message;

use super::deleted::{self, Deleted};
use super::entries::{names, of, with_data};
use super::image::Point;

/// `fstype` of images/mnt.proto: proc, sysfs, tmpfs, devpts, cgroup, mqueue, cgroup2. Their options name nothing of the
/// host; those of others do.
const KINDS: [u32; 7] = [1, 2, 5, 6, 12, 14, 23];

/// `mnt_entry`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Mount {
    #[prost(uint32, tag = "1")]
    pub kind: u32,
    #[prost(uint32, tag = "2")]
    pub id: u32,
    #[prost(uint32, tag = "3")]
    pub device: u32,
    #[prost(uint32, tag = "4")]
    parent: u32,
    /// Of mount(2).
    #[prost(uint32, tag = "5")]
    pub flags: u32,
    #[prost(string, tag = "6")]
    pub root: String,
    #[prost(string, tag = "7")]
    at: String,
    #[prost(bool, tag = "12")]
    with_plugin: bool,
    #[prost(string, optional, tag = "14")]
    fsname: Option<String>,
    /// Whether its mount point was removed: CRIU would make it anew by its path.
    #[prost(bool, tag = "16")]
    deleted: bool,
    #[prost(string, optional, tag = "18")]
    pub ext_key: Option<String>,
}

/// `file_entry`.
#[derive(Clone, PartialEq, Message)]
struct File {
    #[prost(message, optional, tag = "3")]
    regular: Option<Regular>,
}

/// `reg_file_entry`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Regular {
    #[prost(uint32, tag = "1")]
    pub id: u32,
    /// Any bytes.
    #[prost(bytes = "vec", tag = "6")]
    pub name: Vec<u8>,
    #[prost(sint32, optional, tag = "7")]
    pub mount: Option<i32>,
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

/// Fails where the images have CRIU mount or make something outside of the container, or where it could not write; the
/// files that it makes although they were deleted. `points`: ocirt's own of the mounts; `is_writable`: see `deleted::check`.
pub fn check(images: BorrowedFd, points: &[Point], is_writable: &dyn Fn(Option<&str>) -> bool) -> Result<Vec<Deleted>> {
    let (mut files, mut all_mounts) = (Vec::new(), Vec::new());
    for name in names(images)? {
        let image = || format!("--image-path: {name}");
        match name.as_str() {
            "files.img" | "reg-files.img" => {
                let found = match name.as_str() {
                    "files.img" => of::<File>(images, &name)?.into_iter().filter_map(|file| file.regular).collect(),
                    _ => of::<Regular>(images, &name)?,
                };
                found.iter().try_for_each(regular).with_context(image)?;
                files.extend(found);
            }
            // Nobody could look at them before the container receives them.
            "sk-queues.img" => {
                let packets = with_data::<Packet>(images, &name, |packet| packet.length as usize)?;
                let has_none = packets.iter().all(|packet| packet.rights.is_empty());
                ensure!(has_none, "{}: descriptors in the queue of a socket cannot be restored", image());
            }
            "apparmor.img" => {
                let has_none = of::<AppArmor>(images, &name)?.iter().all(|entry| entry.namespaces.is_empty());
                ensure!(has_none, "{}: namespaces of AppArmor cannot be restored", image());
            }
            _ if name.starts_with("mountpoints-") => {
                let found = of(images, &name)?;
                mounts(&found, points).with_context(image)?;
                all_mounts.extend(found);
            }
            _ => {}
        }
    }
    deleted::check(images, &files, &all_mounts, is_writable)
}

fn regular(file: &Regular) -> Result<()> {
    ensure!(!leaves(&file.name), "{:?}: a path with \"..\" or a NUL byte", String::from_utf8_lossy(&file.name));
    Ok(())
}

fn mounts(mounts: &[Mount], points: &[Point]) -> Result<()> {
    ensure!(mounts.iter().filter(|mount| is_root(mount, mounts)).count() == 1, "not one root");
    for mount in mounts {
        check_mount(mount, is_root(mount, mounts), points).with_context(|| format!("mount {:?}", mount.at))?;
    }
    Ok(())
}

/// Whether none of `mounts` is the one that it is mounted on.
pub(super) fn is_root(mount: &Mount, mounts: &[Mount]) -> bool {
    mounts.iter().all(|parent| parent.id != mount.parent)
}

fn check_mount(mount: &Mount, is_root: bool, points: &[Point]) -> Result<()> {
    for path in [&mount.root, &mount.at] {
        ensure!(path.starts_with('/') && !leaves(path.as_bytes()), "{path:?} is not an absolute path without \"..\"");
    }
    ensure!(mount.fsname.is_none(), "a file system by its name, {:?}", mount.fsname.as_deref().unwrap_or_default());
    ensure!(!mount.with_plugin, "a mount of a plugin");
    ensure!(!mount.deleted, "what is mounted on was removed, and cannot be restored");
    let names = || points.iter().filter_map(|point| Some(point.external.as_ref()?.name.as_str()));
    if let Some(key) = &mount.ext_key {
        ensure!(names().any(|name| name == key), "{key:?} is not the name of an external mount");
        return Ok(());
    }
    // CRIU makes a file system where it shows the root of it; else a bind mount of one that it has. The root is ours.
    let is_made = !is_root && mount.root == "/";
    ensure!(!is_made || KINDS.contains(&mount.kind), "a file system of kind {} cannot be restored", mount.kind);
    Ok(())
}

/// Whether a path leads out of what it is looked up in. For CRIU, it ends at a NUL byte.
fn leaves(path: &[u8]) -> bool {
    path.contains(&0) || path.split(|byte| *byte == b'/').any(|part| part == b"..")
}
