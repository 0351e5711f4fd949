//! What the words of a root filesystem's mount mean: those of fstab(5), and containerd's own (core/mount of containerd).

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use nix::mount::MsFlags;

use crate::api::task::Mount;
use crate::call::{Refused, refuse};

/// The most that mount(2) takes of `data`, with its NUL byte. Beyond that the kernel cuts silently.
const PAGE: usize = 4096;

/// Words that are flags; `true` sets them.
const FLAGS: [(&str, bool, MsFlags); 24] = [
    ("async", false, MsFlags::MS_SYNCHRONOUS),
    ("atime", false, MsFlags::MS_NOATIME),
    ("bind", true, MsFlags::MS_BIND),
    ("dev", false, MsFlags::MS_NODEV),
    ("diratime", false, MsFlags::MS_NODIRATIME),
    ("dirsync", true, MsFlags::MS_DIRSYNC),
    ("exec", false, MsFlags::MS_NOEXEC),
    ("mand", true, MsFlags::MS_MANDLOCK),
    ("noatime", true, MsFlags::MS_NOATIME),
    ("nodev", true, MsFlags::MS_NODEV),
    ("nodiratime", true, MsFlags::MS_NODIRATIME),
    ("noexec", true, MsFlags::MS_NOEXEC),
    ("nomand", false, MsFlags::MS_MANDLOCK),
    ("norelatime", false, MsFlags::MS_RELATIME),
    ("nostrictatime", false, MsFlags::MS_STRICTATIME),
    ("nosuid", true, MsFlags::MS_NOSUID),
    ("rbind", true, MsFlags::MS_BIND.union(MsFlags::MS_REC)),
    ("relatime", true, MsFlags::MS_RELATIME),
    ("remount", true, MsFlags::MS_REMOUNT),
    ("ro", true, MsFlags::MS_RDONLY),
    ("rw", false, MsFlags::MS_RDONLY),
    ("strictatime", true, MsFlags::MS_STRICTATIME),
    ("suid", false, MsFlags::MS_NOSUID),
    ("sync", true, MsFlags::MS_SYNCHRONOUS),
];

/// What mount_setattr(2) calls the flags that a mount has for itself; the others are those of its file system.
const ATTRIBUTES: [(MsFlags, u64); 7] = [
    (MsFlags::MS_RDONLY, libc::MOUNT_ATTR_RDONLY),
    (MsFlags::MS_NOSUID, libc::MOUNT_ATTR_NOSUID),
    (MsFlags::MS_NODEV, libc::MOUNT_ATTR_NODEV),
    (MsFlags::MS_NOEXEC, libc::MOUNT_ATTR_NOEXEC),
    (MsFlags::MS_NODIRATIME, libc::MOUNT_ATTR_NODIRATIME),
    (MsFlags::MS_NOATIME, libc::MOUNT_ATTR_NOATIME),
    (MsFlags::MS_STRICTATIME, libc::MOUNT_ATTR_STRICTATIME),
];

/// Words that change propagation, which takes a call of its own.
const PROPAGATION: [(&str, MsFlags); 8] = [
    ("private", MsFlags::MS_PRIVATE),
    ("rprivate", MsFlags::MS_PRIVATE.union(MsFlags::MS_REC)),
    ("shared", MsFlags::MS_SHARED),
    ("rshared", MsFlags::MS_SHARED.union(MsFlags::MS_REC)),
    ("slave", MsFlags::MS_SLAVE),
    ("rslave", MsFlags::MS_SLAVE.union(MsFlags::MS_REC)),
    ("unbindable", MsFlags::MS_UNBINDABLE),
    ("runbindable", MsFlags::MS_UNBINDABLE.union(MsFlags::MS_REC)),
];

/// One mount, and how it is made.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Plan {
    pub source: String,
    /// Below the root filesystem; empty: that itself.
    pub target: PathBuf,
    pub way: Way,
    pub flags: MsFlags,
    pub propagation: MsFlags,
    /// The words that are the filesystem's own.
    pub data: Vec<String>,
    pub maps: Option<Maps>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Way {
    /// By mount(2), with this type.
    Kernel(String),
    /// The source is a file, and gets a loop device.
    Loop(String),
    /// The program `helper` mounts it, as this type, with these words.
    Helper { helper: &'static str, kind: String, options: Vec<String> },
}

/// The ids of files, as /proc/PID/uid_map and gid_map have them: first id of the file system's, first of the mount's, how
/// many.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Maps {
    pub uids: String,
    pub gids: String,
}

impl Plan {
    pub fn of(mount: &Mount) -> Result<Self, Refused> {
        let helper = [("fuse.", "mount.fuse"), ("fuse3.", "mount.fuse3")];
        let helped = helper.iter().find_map(|(prefix, helper)| Some((helper, mount.r#type.strip_prefix(prefix)?)));
        let mut plan = Self {
            source: mount.source.clone(),
            target: relative(&mount.target)?,
            way: Way::Kernel(mount.r#type.clone()),
            flags: MsFlags::empty(),
            propagation: MsFlags::empty(),
            data: Vec::new(),
            maps: None,
        };
        if let Some((helper, kind)) = helped {
            let options = mount.options.iter().filter(|word| !is_containerds(word)).cloned().collect();
            plan.way = Way::Helper { helper, kind: kind.to_owned(), options };
            return Ok(plan);
        }
        let (mut uids, mut gids) = (None, None);
        for word in mount.options.iter().filter(|word| !is_containerds(word)) {
            if let Some((_, set, flag)) = FLAGS.iter().find(|(name, ..)| name == word) {
                plan.flags.set(*flag, *set);
            } else if let Some((_, flag)) = PROPAGATION.iter().find(|(name, _)| name == word) {
                plan.propagation |= *flag;
            } else if let Some(map) = word.strip_prefix("uidmap=") {
                uids = Some(id_map(map)?);
            } else if let Some(map) = word.strip_prefix("gidmap=") {
                gids = Some(id_map(map)?);
            } else if word == "loop" {
                plan.way = Way::Loop(mount.r#type.clone());
            } else if word != "defaults" && !word.is_empty() {
                plan.data.push(word.clone());
            }
        }
        plan.maps = match (uids, gids) {
            (None, None) => None,
            (Some(uids), Some(gids)) => Some(Maps { uids, gids }),
            _ => refuse!("uidmap and gidmap: one without the other"),
        };
        Ok(plan)
    }

    pub fn is_overlay(&self) -> bool {
        self.way == Way::Kernel("overlay".to_owned())
    }

    /// Its flags, as mount_setattr(2) has them.
    pub fn attributes(&self) -> u64 {
        let set = ATTRIBUTES.iter().filter(|(flag, _)| self.flags.contains(*flag));
        set.fold(0, |all, (_, attribute)| all | attribute)
    }

    /// The data for mount(2), and the directory in which that has to be called: lower directories are named from one that
    /// they share, if they take more than a page otherwise.
    pub fn data(&self) -> Result<(Option<PathBuf>, String), Refused> {
        let data = self.data.join(",");
        if data.len() < PAGE {
            return Ok((None, data));
        }
        let shorter = if self.is_overlay() { self.relative() } else { None };
        match shorter {
            Some((directory, data)) if data.len() < PAGE => Ok((Some(directory), data)),
            Some((_, data)) => {
                refuse!("{} bytes of options: more than a page, also from a common directory", data.len())
            }
            None => refuse!("{} bytes of options: more than a page", data.len()),
        }
    }

    fn relative(&self) -> Option<(PathBuf, String)> {
        let lower = self.lower();
        let common = common_directory(&lower)?;
        let short: Option<Vec<&str>> = lower.iter().map(|path| path.strip_prefix(&common).ok()?.to_str()).collect();
        // A relative name with this would be another list.
        let short = short.filter(|names| names.iter().all(|name| !name.is_empty()))?;
        Some((common, self.with_lower(&short)))
    }

    /// The lower directories, in their order. Those behind a double colon are for data only, and no list of paths.
    pub fn lower(&self) -> Vec<PathBuf> {
        let value = self.data.iter().find_map(|word| word.strip_prefix("lowerdir=")).unwrap_or_default();
        value.split(':').filter(|path| !path.is_empty()).map(PathBuf::from).collect()
    }

    /// The data with other names for the lower directories.
    pub fn with_lower(&self, names: &[&str]) -> String {
        let mut names = names.iter();
        let word = |word: &String| match word.strip_prefix("lowerdir=") {
            None => word.clone(),
            Some(value) => {
                let renamed =
                    value.split(':').map(|path| if path.is_empty() { "" } else { names.next().copied().unwrap_or("") });
                format!("lowerdir={}", renamed.collect::<Vec<_>>().join(":"))
            }
        };
        self.data.iter().map(word).collect::<Vec<_>>().join(",")
    }
}

/// Words for containerd itself.
fn is_containerds(word: &str) -> bool {
    word.starts_with("X-containerd.")
}

/// A target, which is a subdirectory.
fn relative(target: &str) -> Result<PathBuf, Refused> {
    let path = Path::new(target);
    if path.components().any(|part| part == Component::ParentDir) || target.contains('\0') {
        refuse!("target {target:?}: not below the root filesystem");
    }
    Ok(path.components().filter(|part| matches!(part, Component::Normal(_))).collect())
}

/// `0:100000:65536`, or several of that with commas, as lines of uid_map (user_namespaces(7)).
fn id_map(text: &str) -> Result<String, Refused> {
    let mut lines = String::new();
    for map in text.split(',') {
        let numbers: Vec<u32> = map.split(':').map_while(|number| number.parse().ok()).collect();
        match numbers.as_slice() {
            [inside, outside, size] if map.split(':').count() == 3 && *size > 0 => {
                lines += &format!("{inside} {outside} {size}\n");
            }
            _ => refuse!("id map {map:?}: not INSIDE:OUTSIDE:SIZE"),
        }
    }
    Ok(lines)
}

/// The mount points below a directory, in a text of /proc/PID/mountinfo (proc(5)), which is bytes: whoever may mount on the host
/// chooses names. Of several at one place each is one.
pub fn below(text: &[u8], directory: &Path) -> Vec<PathBuf> {
    let lines = text.split(|byte| *byte == b'\n');
    let points = lines.filter_map(|line| line.split(|byte| *byte == b' ').nth(4)).map(unescape);
    points.filter(|point| point.starts_with(directory) && point != directory).collect()
}

/// Blanks, tabs, newlines and backslashes are three octal digits there.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, behind)) = rest.split_first() {
        let digits = behind.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match digits.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = behind.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = behind;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

/// The deepest directory that all paths are below.
fn common_directory(paths: &[PathBuf]) -> Option<PathBuf> {
    let mut common = paths.first()?.parent()?.to_owned();
    for path in paths {
        while !path.starts_with(&common) || path == &common {
            common = common.parent()?.to_owned();
        }
    }
    common.is_absolute().then_some(common)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mount(kind: &str, options: &[&str]) -> Mount {
        Mount {
            r#type: kind.to_owned(),
            source: "s".to_owned(),
            options: options.iter().map(|word| (*word).to_owned()).collect(),
            ..Mount::default()
        }
    }

    fn plan(kind: &str, options: &[&str]) -> Plan {
        Plan::of(&mount(kind, options)).unwrap()
    }

    fn error(options: &[&str]) -> String {
        Plan::of(&mount("bind", options)).unwrap_err().0
    }

    #[test]
    fn words_are_flags_propagation_or_data() {
        let plan =
            plan("bind", &["rbind", "ro", "nosuid", "suid", "rslave", "defaults", "index=off", "X-containerd.x=y"]);
        assert_eq!(plan.flags, MsFlags::MS_BIND | MsFlags::MS_REC | MsFlags::MS_RDONLY);
        assert_eq!(plan.propagation, MsFlags::MS_SLAVE | MsFlags::MS_REC);
        assert_eq!(plan.data().unwrap(), (None, "index=off".to_owned()));
        assert_eq!(plan.way, Way::Kernel("bind".to_owned()));
    }

    #[test]
    fn each_word_is_in_the_table_once_and_in_order() {
        assert!(FLAGS.windows(2).all(|pair| pair[0].0 < pair[1].0));
    }

    #[test]
    fn helpers_get_the_words_as_they_are() {
        let plan = plan("fuse3.overlayfs", &["ro", "lowerdir=/a", "X-containerd.x"]);
        let options = vec!["ro".to_owned(), "lowerdir=/a".to_owned()];
        assert_eq!(plan.way, Way::Helper { helper: "mount.fuse3", kind: "overlayfs".to_owned(), options });
        let Way::Helper { helper, .. } = self::plan("fuse.x", &[]).way else { panic!() };
        assert_eq!(helper, "mount.fuse");
        assert_eq!(self::plan("fuse", &[]).way, Way::Kernel("fuse".to_owned()), "the kernel's own type");
    }

    #[test]
    fn a_file_gets_a_loop_device() {
        let plan = plan("ext4", &["loop", "ro"]);
        assert_eq!((plan.way, plan.flags), (Way::Loop("ext4".to_owned()), MsFlags::MS_RDONLY));
    }

    #[test]
    fn id_maps_are_lines() {
        let maps = plan("overlay", &["uidmap=0:100000:65536", "gidmap=0:5:1,1:7:2"]).maps.unwrap();
        assert_eq!((maps.uids.as_str(), maps.gids.as_str()), ("0 100000 65536\n", "0 5 1\n1 7 2\n"));
        assert_eq!(error(&["uidmap=0:1:1"]), "uidmap and gidmap: one without the other");
        for map in ["", "0:1", "0:1:0", "0:1:2:3", "a:b:c", "-1:0:1"] {
            assert!(error(&[&format!("uidmap={map}")]).contains("not INSIDE:OUTSIDE:SIZE"), "{map}");
        }
    }

    #[test]
    fn a_target_is_below_the_root() {
        let target =
            |target: &str| Plan::of(&Mount { target: target.to_owned(), ..Mount::default() }).map(|it| it.target);
        assert_eq!(target("/a/./b/").unwrap(), Path::new("a/b"));
        assert_eq!(target("").unwrap(), Path::new(""));
        assert_eq!(target("a/../../b").unwrap_err().0, "target \"a/../../b\": not below the root filesystem");
    }

    /// containerd's snapshots/N/fs: 128 layers of them are more than a page.
    #[test]
    fn lower_directories_beyond_a_page_are_named_from_where_they_are() {
        let directory = "/var/lib/containerd/io.containerd.snapshotter.v1.overlayfs/snapshots";
        let long: Vec<String> = (1000..1128).map(|number| format!("{directory}/{number}/fs")).collect();
        let lower = format!("lowerdir={}", long.join(":"));
        let upper = format!("upperdir={directory}/1/fs");
        let plan = plan("overlay", &["index=off", &lower, &upper]);
        let (from, data) = plan.data().unwrap();
        assert_eq!(from.as_deref(), Some(Path::new(directory)));
        assert!(
            data.starts_with("index=off,lowerdir=1000/fs:1001/fs:") && data.ends_with(&format!(":1127/fs,{upper}"))
        );
        // A directory that holds the others cannot be named so.
        let nested = format!("{lower}:{directory}");
        let (from, data) = self::plan("overlay", &[&nested]).data().unwrap();
        assert_eq!(from.as_deref(), Path::new(directory).parent());
        assert!(data.ends_with(":snapshots/1127/fs:snapshots"), "{data}");
    }

    #[test]
    fn data_only_layers_stay_behind_their_colons() {
        let plan = plan("overlay", &["lowerdir=/a/b:/a/c::/a/d", "metacopy=on"]);
        assert_eq!(plan.lower(), ["/a/b", "/a/c", "/a/d"].map(PathBuf::from));
        assert_eq!(plan.with_lower(&["x", "y", "z"]), "lowerdir=x:y::z,metacopy=on");
    }

    #[test]
    fn mount_points_below_a_directory_are_found() {
        let text = b"22 1 0:20 / / rw - ext4 /dev/x rw\n23 22 0:21 / /b/rootfs rw shared:1 - overlay o rw\n\
                     24 23 0:22 / /b/rootfs/a\\040b\\134 rw - tmpfs t rw\n25 22 0:23 / /b/rootfs2 rw - tmpfs t rw\n\
                     26 23 0:24 / /b/rootfs/\xff rw - tmpfs t rw\n27 22 0:25 / /home/u/\xfe rw - fuse f rw\n";
        let bytes = OsString::from_vec(b"/b/rootfs/\xff".to_vec());
        assert_eq!(below(text, Path::new("/b/rootfs")), [PathBuf::from("/b/rootfs/a b\\"), bytes.into()]);
    }

    #[test]
    fn what_no_directory_shortens_is_an_error() {
        let long: Vec<String> = (0..600).map(|number| format!("/d{number}/fs")).collect();
        let error = plan("overlay", &[&format!("lowerdir={}", long.join(":"))]).data().unwrap_err().0;
        assert!(error.ends_with("more than a page, also from a common directory"), "{error}");
        let error = plan("tmpfs", &[&"x".repeat(4096)]).data().unwrap_err().0;
        assert_eq!(error, "4096 bytes of options: more than a page");
    }
}
