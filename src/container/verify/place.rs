//! What is at a path of a container, by its table of mounts: which mount begins there, and whether one may look into what
//! leads there. A file system that the container has made itself, such as one of FUSE, need never answer.

use std::path::{Path, PathBuf};

use super::table::{Host, Line};

/// File systems of the kernel's own: to look something up in them waits for nobody.
const QUIET: [&str; 9] = ["proc", "sysfs", "tmpfs", "devtmpfs", "devpts", "mqueue", "cgroup", "cgroup2", "securityfs"];

/// Whether a file system may be asked: it is the kernel's own, or the host has it mounted, too.
pub fn is_quiet(host: &Host, line: &Line) -> bool {
    QUIET.contains(&line.kind.as_str()) || host.has_device(&line.shown.device)
}

/// Where a path leads, as far as mounts alone tell.
pub struct Led {
    /// The mount in which it ends.
    pub last: usize,
    /// Whether that begins there.
    pub is_mount: bool,
    /// Whether all mounts on the way may be asked.
    pub is_quiet: bool,
}

/// Follows `path`, which begins at the mount with the number `root`, from mount to mount as the kernel does. A symlink on
/// the way is not seen. None: there is no such mount.
pub fn follow(lines: &[Line], root: u64, path: &Path, is_quiet: impl Fn(&Line) -> bool) -> Option<Led> {
    let mut last = lines.iter().position(|line| line.id == root)?;
    let mut led = Led { last, is_mount: true, is_quiet: true };
    let mut at = PathBuf::from("/");
    for part in path.components().filter(|part| matches!(part, std::path::Component::Normal(_))) {
        led.is_quiet = led.is_quiet && lines.get(last).is_some_and(&is_quiet);
        at.push(part);
        led.is_mount = false;
        // One may be mounted over the other.
        while let Some(above) = mounted_at(lines, last, &at) {
            (last, led.is_mount) = (above, true);
        }
    }
    led.last = last;
    Some(led)
}

fn mounted_at(lines: &[Line], below: usize, at: &Path) -> Option<usize> {
    let below = lines.get(below)?;
    lines.iter().position(|line| line.parent == below.id && line.id != below.id && line.at == at)
}

#[cfg(test)]
mod tests {
    use super::super::table::Shown;
    use super::*;

    fn line(id: u64, parent: u64, at: &str, kind: &str) -> Line {
        let shown = Shown { device: format!("0:{id}"), root: PathBuf::from("/") };
        let (at, kind) = (PathBuf::from(at), kind.to_owned());
        Line { id, parent, shown, at, flags: Vec::new(), shared: None, master: None, kind }
    }

    fn led(lines: &[Line], path: &str) -> (u64, bool, bool) {
        let led = follow(lines, 1, Path::new(path), |line| !line.kind.starts_with("fuse")).unwrap();
        (lines[led.last].id, led.is_mount, led.is_quiet)
    }

    #[test]
    fn a_path_is_followed_from_mount_to_mount() {
        let lines = [
            line(1, 0, "/", "overlay"),
            line(2, 1, "/proc", "proc"),
            line(3, 2, "/proc/kcore", "tmpfs"),
            line(4, 1, "/data", "fuse.x"),
            line(5, 4, "/data/in", "tmpfs"),
        ];
        assert_eq!(led(&lines, "/"), (1, true, true));
        assert_eq!(led(&lines, "/proc/kcore"), (3, true, true));
        assert_eq!(led(&lines, "/proc/keys"), (2, false, true));
        assert_eq!(led(&lines, "/data"), (4, true, true));
        assert_eq!(led(&lines, "/data/in"), (5, true, false));
        assert_eq!(led(&lines, "/data/x/y"), (4, false, false));
        assert!(follow(&lines, 9, Path::new("/"), |_| true).is_none());
    }

    #[test]
    fn what_is_covered_is_not_there() {
        let mut lines = vec![
            line(1, 0, "/", "overlay"),
            line(2, 1, "/proc", "proc"),
            line(3, 2, "/proc/kcore", "tmpfs"),
            line(4, 3, "/proc/kcore", "proc"),
        ];
        assert_eq!(led(&lines, "/proc/kcore"), (4, true, true));
        lines.push(line(5, 2, "/proc", "proc"));
        assert_eq!(led(&lines, "/proc/kcore"), (5, false, true));
    }
}
