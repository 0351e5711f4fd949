//! The root filesystem's mounts, in a child of the shim, and their end. What the words mean is in
//! `containerd_shim_ocirt::mount`.
#![expect(
    clippy::disallowed_methods,
    reason = "the paths are containerd's, and no container has run that could have exchanged what they lead to"
)]

mod apart;
mod idmap;
mod loops;

use std::fs::{DirBuilder, OpenOptions};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use containerd_shim_ocirt::api::task::{CreateTaskRequest, Mount};
use containerd_shim_ocirt::mount::{Plan, Way};
use nix::errno::Errno;
use nix::fcntl::{OFlag, openat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::Mode;
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

/// The target is looked up once: a link in an image may lead elsewhere through what has just been mounted. What is to be
/// changed after it was mounted is a tree, which is nowhere yet, and is changed by its own descriptor.
fn mount_one(item: &Mount, rootfs: &Path) -> Outcome<()> {
    let plan = Plan::of(item)?;
    let place = open(&plan, rootfs)?;
    let device = match &plan.way {
        Way::Helper { helper, kind, options } => return help(helper, kind, options, &plan.source, &place),
        Way::Loop(_) => Some(loops::attach(Path::new(&plan.source), plan.flags.contains(MsFlags::MS_RDONLY))?),
        Way::Kernel(_) => None,
    };
    let source = device.as_ref().map_or_else(|| plan.source.clone(), |device| device.path.display().to_string());
    let is_bind = plan.flags.contains(MsFlags::MS_BIND);
    let is_remount = plan.flags.contains(MsFlags::MS_REMOUNT);
    if is_remount || !is_bind && plan.propagation.is_empty() && plan.maps.is_none() {
        call(&plan, &source, &by_descriptor(&place))?;
        return if is_remount { propagate(&plan, &place) } else { Ok(()) };
    }
    let tree = tree(&plan, &source)?;
    // A bind mount has the flags of its source. What it is to have besides it has before anybody finds it: containerd's own
    // code mounts, and remounts then, so that for an instant what is to be read-only is not.
    let attributes = plan.attributes();
    if is_bind && attributes != 0 {
        sys::mount::restrict(tree.as_fd(), attributes)?;
    }
    sys::mount::attach(tree.as_fd(), place.as_fd())?;
    propagate(&plan, &tree)
}

/// The mount, nowhere yet, with the ids that it is to have.
fn tree(plan: &Plan, source: &str) -> Outcome<OwnedFd> {
    let is_recursive = plan.flags.contains(MsFlags::MS_REC);
    let maps = match &plan.maps {
        Some(maps) if plan.is_overlay() => return idmap::overlay(plan, maps),
        maps => maps,
    };
    let tree = if plan.flags.contains(MsFlags::MS_BIND) {
        sys::mount::clone_tree(Path::new(source), is_recursive)?
    } else {
        apart::mounted(|place| call(plan, source, place))?
    };
    if let Some(maps) = maps {
        idmap::map(tree.as_fd(), maps, is_recursive)?;
    }
    Ok(tree)
}

fn propagate(plan: &Plan, mounted: &OwnedFd) -> Outcome<()> {
    if !plan.propagation.is_empty() {
        mount(None::<&str>, &by_descriptor(mounted), None::<&str>, plan.propagation, None::<&str>)?;
    }
    Ok(())
}

/// The root filesystem, or what is below it: links in it do not lead out.
fn open(plan: &Plan, rootfs: &Path) -> Outcome<OwnedFd> {
    let root = open_directory(rootfs)?;
    if plan.target.as_os_str().is_empty() {
        return Ok(root);
    }
    let fd = sys::mount::open_in(root.as_fd(), &plan.target, libc::O_PATH);
    Ok(fd.map_err(|error| format!("target {}: {error}", plan.target.display()))?)
}

fn open_directory(path: &Path) -> std::io::Result<OwnedFd> {
    Ok(OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(path)?.into())
}

fn by_descriptor(fd: &OwnedFd) -> PathBuf {
    format!("/proc/self/fd/{}", fd.as_raw_fd()).into()
}

fn call(plan: &Plan, source: &str, target: &Path) -> Outcome<()> {
    let (Way::Kernel(kind) | Way::Loop(kind)) = &plan.way else { return Ok(()) };
    let (directory, data) = plan.data()?;
    if plan.flags.contains(MsFlags::MS_REMOUNT) && data.is_empty() {
        return Ok(remount(target, plan.flags)?);
    }
    if let Some(directory) = &directory {
        // The target is absolute, and the child's other paths are too.
        nix::unistd::chdir(directory)?;
    }
    Ok(mount(Some(source), target, Some(kind.as_str()), plan.flags, (!data.is_empty()).then_some(data.as_str()))?)
}

/// A remount takes away what it does not name.
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
    let text = std::fs::read("/proc/self/mountinfo")?;
    let mut below = containerd_shim_ocirt::mount::below(&text, &rootfs);
    below.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    let root = open_directory(&rootfs)?;
    let mut any = false;
    for path in below.iter().filter_map(|path| path.strip_prefix(&rootfs).ok()) {
        // What is busy stays, and is met again.
        any |= unmount_in(root.as_fd(), path).is_ok();
    }
    Ok(any)
}

/// Unmounts what is on a path below `root`. Since mountinfo was read, another container with the same files may have put a
/// link there.
fn unmount_in(root: BorrowedFd<'_>, path: &Path) -> nix::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::EINVAL) };
    let mut directory = nix::unistd::dup(root)?;
    for part in parent {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        directory = openat(&directory, part, flags, Mode::empty())?;
    }
    umount2(&by_descriptor(&directory).join(name), MntFlags::UMOUNT_NOFOLLOW)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// EINVAL is what umount2(2) says of a directory that it has found, and that is no mount.
    #[test]
    fn what_is_behind_a_link_is_not_unmounted() {
        if !nix::unistd::geteuid().is_root() {
            return eprintln!("skipped: only root unmounts");
        }
        let place = std::env::temp_dir().join(format!("shim-below-{}", std::process::id()));
        std::fs::create_dir_all(place.join("root/a/d")).unwrap();
        std::fs::create_dir_all(place.join("outside/d")).unwrap();
        std::os::unix::fs::symlink(place.join("outside"), place.join("root/link")).unwrap();
        std::os::unix::fs::symlink("a", place.join("root/inside")).unwrap();
        let root = open_directory(&place.join("root")).unwrap();
        let unmount = |path: &str| unmount_in(root.as_fd(), Path::new(path)).unwrap_err();
        assert_eq!(["a", "a/d"].map(unmount), [Errno::EINVAL; 2]);
        assert_eq!(["link/d", "inside/d"].map(unmount), [Errno::ENOTDIR; 2]);
        std::fs::remove_dir_all(&place).unwrap();
    }

    /// What is to be read-only is so from its first instant: it is not mounted, and made so then, for somebody to be quicker.
    #[test]
    fn a_read_only_bind_mount_was_never_writable() {
        if !nix::unistd::geteuid().is_root() {
            return eprintln!("skipped: only root mounts");
        }
        let place = std::env::temp_dir().join(format!("shim-instant-{}", std::process::id()));
        let [rootfs, source] = ["rootfs", "source"].map(|name| place.join(name));
        [&rootfs, &source].iter().for_each(|directory| std::fs::create_dir_all(directory).unwrap());
        std::fs::write(source.join("file"), "").unwrap();
        sys::mount::unshare(libc::CLONE_NEWNS).unwrap();
        mount(None::<&str>, "/", None::<&str>, MsFlags::MS_PRIVATE | MsFlags::MS_REC, None::<&str>).unwrap();
        let options = ["rbind", "ro"].map(str::to_owned).to_vec();
        let item =
            Mount { r#type: "bind".to_owned(), source: source.display().to_string(), options, ..Mount::default() };
        let (file, is_over) = (rootfs.join("file"), AtomicBool::new(false));
        std::thread::scope(|scope| {
            // Below a mount that is not there yet, there is no such file.
            let watcher = scope.spawn(|| {
                let mut opened = 0;
                while !is_over.load(Ordering::Relaxed) {
                    opened += usize::from(OpenOptions::new().write(true).open(&file).is_ok());
                }
                opened
            });
            let once = || {
                mount_one(&item, &rootfs)?;
                Ok(umount2(&rootfs, MntFlags::MNT_DETACH)?)
            };
            let mounted: Outcome<()> = (0..300).try_for_each(|_| once());
            is_over.store(true, Ordering::Relaxed);
            // With a file that somebody could open to write, it could not become read-only any more: EBUSY.
            assert_eq!((watcher.join().unwrap(), mounted.map_err(|error| error.to_string())), (0, Ok(())));
        });
        std::fs::remove_dir_all(&place).unwrap();
    }
}
