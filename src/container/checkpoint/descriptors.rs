//! The standard descriptors of a container's init that come from outside: at a restore they are what the restoring
//! runtime's are.

use std::fs;
use std::os::unix::fs::MetadataExt;

use anyhow::{Context, Result};

/// What descriptors 0, 1 and 2 of process `pid` lead to: `pipe:[INODE]`, and for a file that no mount of the container
/// shows `file[MOUNT:INODE]` in hexadecimal, both in CRIU's words; else where the link in /proc leads, and nothing for
/// one that is closed.
pub fn of(pid: i32) -> Result<[String; 3]> {
    let path = format!("/proc/{pid}/mountinfo");
    let mounts = fs::read_to_string(&path).context(path)?;
    let mut found = [const { String::new() }; 3];
    for (fd, text) in found.iter_mut().enumerate() {
        let link = format!("/proc/{pid}/fd/{fd}");
        let Ok(target) = fs::read_link(&link) else { continue };
        *text = target.to_string_lossy().into_owned();
        if text.starts_with('/')
            && let Some(external) = outside(pid, fd, &link, &mounts)?
        {
            *text = external;
        }
    }
    Ok(found)
}

fn outside(pid: i32, fd: usize, link: &str, mounts: &str) -> Result<Option<String>> {
    let path = format!("/proc/{pid}/fdinfo/{fd}");
    let info = fs::read_to_string(&path).with_context(|| path.clone())?;
    let mount: u64 = mount_of(&info).with_context(|| format!("{path}: no mnt_id"))?;
    if mounts.lines().any(|line| line.split(' ').next() == Some(mount.to_string().as_str())) {
        return Ok(None);
    }
    let inode = fs::metadata(link).with_context(|| link.to_owned())?.ino();
    Ok(Some(format!("file[{mount:x}:{inode:x}]")))
}

/// proc_pid_fdinfo(5).
fn mount_of(info: &str) -> Option<u64> {
    info.lines().find_map(|line| line.strip_prefix("mnt_id:"))?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_mount_of_a_descriptor_is_in_its_fdinfo() {
        assert_eq!(mount_of("pos:\t0\nflags:\t0100000\nmnt_id:\t27\nino:\t5\n"), Some(27));
        assert_eq!(mount_of("pos:\t0\n"), None);
    }
}
