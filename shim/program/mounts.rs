//! The root filesystem's mounts, in a child of the shim. What containerd's snapshotters give: bind mounts, overlay, and
//! filesystems with options of their own.
#![expect(
    clippy::disallowed_methods,
    reason = "the paths are containerd's, and no container has run that could have exchanged what they lead to"
)]

use std::path::Path;

use containerd_shim_ocirt::api::task::{CreateTaskRequest, Mount};
use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Words of fstab(5) that are flags; `true` sets them.
const FLAGS: [(&str, bool, MsFlags); 14] = [
    ("ro", true, MsFlags::MS_RDONLY),
    ("rw", false, MsFlags::MS_RDONLY),
    ("nosuid", true, MsFlags::MS_NOSUID),
    ("suid", false, MsFlags::MS_NOSUID),
    ("nodev", true, MsFlags::MS_NODEV),
    ("dev", false, MsFlags::MS_NODEV),
    ("noexec", true, MsFlags::MS_NOEXEC),
    ("exec", false, MsFlags::MS_NOEXEC),
    ("noatime", true, MsFlags::MS_NOATIME),
    ("nodiratime", true, MsFlags::MS_NODIRATIME),
    ("relatime", true, MsFlags::MS_RELATIME),
    ("sync", true, MsFlags::MS_SYNCHRONOUS),
    ("bind", true, MsFlags::MS_BIND),
    ("rbind", true, MsFlags::MS_BIND.union(MsFlags::MS_REC)),
];

/// Mounts what the request has.
pub fn mount_all(request: &CreateTaskRequest) -> Outcome<()> {
    let rootfs = Path::new(&request.bundle).join("rootfs");
    std::fs::create_dir_all(&rootfs)?;
    for item in &request.rootfs {
        mount_one(item, &rootfs)
            .map_err(|error| format!("mount {} of type {:?}: {error}", item.source, item.r#type))?;
    }
    Ok(())
}

fn mount_one(item: &Mount, rootfs: &Path) -> Outcome<()> {
    if !item.target.is_empty() {
        return Err(format!("target {:?}: subdirectories are not supported yet", item.target).into());
    }
    let mut flags = MsFlags::empty();
    let mut data: Vec<&str> = Vec::new();
    for option in item.options.iter().filter(|option| !option.starts_with("X-containerd.")) {
        match option.as_str() {
            "loop" => return Err("loop devices are not supported yet".into()),
            word if word.starts_with("uidmap=") || word.starts_with("gidmap=") => {
                return Err("id-mapped mounts are not supported yet".into());
            }
            word => match FLAGS.iter().find(|(name, ..)| *name == word) {
                Some((_, true, flag)) => flags |= *flag,
                Some((_, false, flag)) => flags &= !*flag,
                None => data.push(word),
            },
        }
    }
    let data = data.join(",");
    if data.len() > 4095 {
        return Err(format!("{} bytes of options: more than a page is not supported yet", data.len()).into());
    }
    let (source, kind) = (item.source.as_str(), item.r#type.as_str());
    mount(Some(source), rootfs, Some(kind), flags, (!data.is_empty()).then_some(data.as_str()))?;
    // A bind mount is made with the flags of its source; only a remount changes them.
    if flags.contains(MsFlags::MS_BIND) && flags.intersects(!(MsFlags::MS_BIND | MsFlags::MS_REC)) {
        mount(None::<&str>, rootfs, None::<&str>, flags | MsFlags::MS_REMOUNT, None::<&str>)?;
    }
    Ok(())
}

/// Unmounts everything on a directory. Busy is what a process is for a moment after its end.
pub fn unmount(rootfs: &Path) -> Outcome<()> {
    let mut tries = 0;
    loop {
        match umount2(rootfs, MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(Errno::EBUSY) if tries < 50 => {
                tries += 1;
                std::thread::sleep(std::time::Duration::from_millis(50));
            }
            Err(error) => return Err(format!("unmount {}: {error}", rootfs.display()).into()),
        }
    }
}
