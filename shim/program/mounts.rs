//! The root filesystem's mounts, in a child of the shim, and their end. What the words mean is in
//! `containerd_shim_ocirt::mount`.
#![expect(
    clippy::disallowed_methods,
    reason = "the paths are containerd's, and no container has run that could have exchanged what they lead to"
)]

mod idmap;
mod loops;

use std::fs::{DirBuilder, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use containerd_shim_ocirt::api::task::{CreateTaskRequest, Mount};
use containerd_shim_ocirt::mount::{Plan, Way};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::statvfs::{FsFlags, statvfs};

use crate::outcome::Outcome;
use crate::sys;

/// Busy is what a root is for a moment after the end of its last process: as long as in Go's shim.
const TRIES: u32 = 50;
const PAUSE: Duration = Duration::from_millis(50);

/// What a mount has of its source, and in a user namespace nobody may take from it (mount_namespaces(7)).
const LOCKED: [(FsFlags, MsFlags); 5] = [
    (FsFlags::ST_NOSUID, MsFlags::MS_NOSUID),
    (FsFlags::ST_NODEV, MsFlags::MS_NODEV),
    (FsFlags::ST_NOEXEC, MsFlags::MS_NOEXEC),
    (FsFlags::ST_NOATIME, MsFlags::MS_NOATIME),
    (FsFlags::ST_NODIRATIME, MsFlags::MS_NODIRATIME),
];

/// Mounts what the request has.
pub fn mount_all(request: &CreateTaskRequest) -> Outcome<()> {
    let rootfs = Path::new(&request.bundle).join("rootfs");
    DirBuilder::new().recursive(true).mode(0o711).create(&rootfs)?;
    for item in &request.rootfs {
        mount_one(item, &rootfs)
            .map_err(|error| format!("mount {} of type {:?}: {error}", item.source, item.r#type))?;
    }
    Ok(())
}

fn mount_one(item: &Mount, rootfs: &Path) -> Outcome<()> {
    let plan = Plan::of(item)?;
    let place = open(&plan, rootfs)?;
    let target = by_descriptor(&place);
    match &plan.way {
        Way::Helper { helper, kind, options } => return help(helper, kind, options, &plan.source, &place),
        Way::Loop(kind) => {
            let device = loops::attach(Path::new(&plan.source), plan.flags.contains(MsFlags::MS_RDONLY))?;
            call(&plan, kind, &device.path.display().to_string(), &target)?;
        }
        Way::Kernel(_) if plan.is_overlay() && plan.maps.is_some() => idmap::overlay(&plan, place.as_fd())?,
        Way::Kernel(kind) => call(&plan, kind, &plan.source, &target)?,
    }
    let is_bind = plan.flags.contains(MsFlags::MS_BIND);
    if plan.propagation.is_empty() && !is_bind && plan.maps.is_none() {
        return Ok(());
    }
    // What is on the place now.
    let mounted = open(&plan, rootfs)?;
    let target = by_descriptor(&mounted);
    if !plan.propagation.is_empty() {
        mount(None::<&str>, &target, None::<&str>, plan.propagation, None::<&str>)?;
    }
    if is_bind && !only_binds(plan.flags) {
        remount(&target, plan.flags)?;
    }
    match &plan.maps {
        Some(maps) if !plan.is_overlay() => {
            idmap::remap(&target, place.as_fd(), maps, plan.flags.contains(MsFlags::MS_REC))
        }
        _ => Ok(()),
    }
}

/// The root filesystem, or what is below it: links in it do not lead out.
fn open(plan: &Plan, rootfs: &Path) -> Outcome<OwnedFd> {
    let root = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(rootfs)?;
    if plan.target.as_os_str().is_empty() {
        return Ok(root.into());
    }
    let fd = sys::mount::open_in(root.as_fd(), &plan.target, libc::O_PATH);
    Ok(fd.map_err(|error| format!("target {}: {error}", plan.target.display()))?)
}

fn by_descriptor(fd: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

fn call(plan: &Plan, kind: &str, source: &str, target: &Path) -> Outcome<()> {
    let (directory, data) = plan.data()?;
    if plan.flags.contains(MsFlags::MS_REMOUNT) && data.is_empty() {
        return Ok(remount(target, plan.flags)?);
    }
    if let Some(directory) = &directory {
        // The target is absolute, and the child's other paths are too.
        nix::unistd::chdir(directory)?;
    }
    Ok(mount(Some(source), target, Some(kind), plan.flags, (!data.is_empty()).then_some(data.as_str()))?)
}

fn only_binds(flags: MsFlags) -> bool {
    (flags & !(MsFlags::MS_BIND | MsFlags::MS_REC)).is_empty()
}

/// A bind mount is made with the flags of its source; only a remount changes them, and takes away what it does not name.
fn remount(target: &Path, flags: MsFlags) -> nix::Result<()> {
    let has = statvfs(target)?.flags();
    let locked = LOCKED.iter().filter(|(flag, _)| has.contains(*flag)).fold(flags, |all, (_, flag)| all | *flag);
    mount(None::<&str>, target, None::<&str>, locked | MsFlags::MS_REMOUNT, None::<&str>)
}

/// Has another program mount it: mount.fuse(8). What that says goes to the child's errors.
fn help(helper: &str, kind: &str, options: &[String], source: &str, place: &OwnedFd) -> Outcome<()> {
    let mut command = Command::new(helper);
    // It knows no descriptor of ours.
    command.arg(source).arg(std::fs::read_link(by_descriptor(place))?);
    command.args(options.iter().flat_map(|option| ["-o", option]));
    let status = command.args(["-t", kind]).status().map_err(|error| format!("{helper}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("{helper}: {status}").into()) }
}

/// Unmounts all that is on a directory and below it, the deepest first. Nothing is detached: the snapshotter removes what
/// is below next.
pub fn unmount(rootfs: &Path) -> Outcome<()> {
    let mut tries = 0;
    loop {
        match umount2(rootfs, MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(Errno::EBUSY) if unmount_below(rootfs)? => {}
            Err(Errno::EBUSY) if tries < TRIES => {
                tries += 1;
                std::thread::sleep(PAUSE);
            }
            Err(error) => return Err(format!("unmount {}: {error}", rootfs.display()).into()),
        }
    }
}

/// True if there was something. The list is read only when it is needed: a node may have thousands.
fn unmount_below(rootfs: &Path) -> Outcome<bool> {
    let rootfs = rootfs.canonicalize()?;
    let text = std::fs::read_to_string("/proc/self/mountinfo")?;
    let mut below = containerd_shim_ocirt::mount::below(&text, &rootfs);
    below.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    let mut any = false;
    for path in below {
        // What is busy stays, and is met again.
        any |= umount2(&path, MntFlags::UMOUNT_NOFOLLOW).is_ok();
    }
    Ok(any)
}
