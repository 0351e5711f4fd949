//! What CRIU's images say of mounts and files, before it acts on them: as root, in a copy of the host's mount namespace,
//! it mounts, makes and removes what they name. What a look at the restored processes finds comes too late for that.
//!
//! Field numbers of images/mnt.proto, images/fdinfo.proto and images/regfile.proto.

use std::os::fd::BorrowedFd;

use anyhow::{Context, Result, bail, ensure};
use prost::Message;

use super::entries::{names, of};
use super::image::Point;

/// `fstype` of images/mnt.proto: proc, sysfs, tmpfs, devpts, cgroup, mqueue, cgroup2. Their options name nothing of the
/// host; those of others do.
const KINDS: [u32; 7] = [1, 2, 5, 6, 12, 14, 23];

/// `mnt_entry`.
#[derive(Clone, PartialEq, Message)]
struct Mount {
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(uint32, tag = "2")]
    id: u32,
    #[prost(uint32, tag = "4")]
    parent: u32,
    #[prost(string, tag = "6")]
    root: String,
    #[prost(string, tag = "7")]
    at: String,
    #[prost(bool, tag = "12")]
    with_plugin: bool,
    #[prost(string, optional, tag = "14")]
    fsname: Option<String>,
    #[prost(string, optional, tag = "18")]
    ext_key: Option<String>,
}

/// `file_entry`.
#[derive(Clone, PartialEq, Message)]
struct File {
    #[prost(message, optional, tag = "3")]
    regular: Option<Regular>,
}

/// `reg_file_entry`.
#[derive(Clone, PartialEq, Message)]
struct Regular {
    /// Any bytes.
    #[prost(bytes = "vec", tag = "6")]
    name: Vec<u8>,
}

/// `remap_file_path_entry`.
#[derive(Clone, PartialEq, Message)]
struct Remap {
    #[prost(uint32, tag = "1")]
    file: u32,
}

/// Fails where the images have CRIU mount or make something outside of the container. `points`: ocirt's own of the mounts.
pub fn check(images: BorrowedFd, points: &[Point]) -> Result<()> {
    for name in names(images)? {
        let image = || format!("--image-path: {name}");
        match name.as_str() {
            "remap-fpath.img" => ensure!(of::<Remap>(images, &name)?.is_empty(), deleted(&name)),
            _ if name.starts_with("ghost-file-") => bail!(deleted(&name)),
            "files.img" => {
                let mut files = of::<File>(images, &name)?.into_iter().filter_map(|file| file.regular);
                files.try_for_each(|file| regular(&file)).with_context(image)?;
            }
            "reg-files.img" => {
                of(images, &name)?.iter().try_for_each(regular).with_context(image)?;
            }
            _ if name.starts_with("mountpoints-") => mounts(&of(images, &name)?, points).with_context(image)?,
            _ => {}
        }
    }
    Ok(())
}

/// CRIU makes such a file anew by its path from the host's root, and removes it again.
fn deleted(name: &str) -> String {
    format!("--image-path: {name}: files that were deleted while they were open cannot be restored")
}

fn regular(file: &Regular) -> Result<()> {
    ensure!(!leaves(&file.name), "{:?}: a path with \"..\" or a NUL byte", String::from_utf8_lossy(&file.name));
    Ok(())
}

fn mounts(mounts: &[Mount], points: &[Point]) -> Result<()> {
    let is_root = |mount: &Mount| mounts.iter().all(|parent| parent.id != mount.parent);
    ensure!(mounts.iter().filter(|mount| is_root(mount)).count() == 1, "not one root");
    for mount in mounts {
        check_mount(mount, is_root(mount), points).with_context(|| format!("mount {:?}", mount.at))?;
    }
    Ok(())
}

fn check_mount(mount: &Mount, is_root: bool, points: &[Point]) -> Result<()> {
    for path in [&mount.root, &mount.at] {
        ensure!(path.starts_with('/') && !leaves(path.as_bytes()), "{path:?} is not an absolute path without \"..\"");
    }
    ensure!(mount.fsname.is_none(), "a file system by its name, {:?}", mount.fsname.as_deref().unwrap_or_default());
    ensure!(!mount.with_plugin, "a mount of a plugin");
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
