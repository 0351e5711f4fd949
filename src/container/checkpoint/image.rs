//! What ocirt itself keeps beside CRIU's images: which mount of the container is which of the bundle's, and what its
//! standard descriptors were.
//!
//! ```text
//! mounts.json        every mount point, and the name under which CRIU knows those that come from the host
//! descriptors.json   what init's descriptors 0, 1 and 2 lead to; runc's file
//! ```
//!
//! No path of the host is in them: at a restore, only the bundle's config.json says what of the host is shown.

use std::ffi::CStr;
use std::fs::File;
use std::io::Write;
use std::os::fd::BorrowedFd;

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, Serialize};

use crate::sys::regular::{self, Unfit};
use crate::sys::{Errno, file};

const MOUNTS: &CStr = c"mounts.json";
const DESCRIPTORS: &CStr = c"descriptors.json";

/// What a file may hold, in bytes: a mount takes some hundred.
const LIMIT: u64 = 16 << 20;

/// Where what a mount shows comes from, if not from the container.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub enum Origin {
    /// The entry of `mounts` with this destination.
    Mount(String),
    /// The host's device node of the same path.
    Device(String),
    /// The container's cgroup in the hierarchy with these controllers.
    Cgroup(String),
}

/// The flags of a mount by which it can do less, as mountinfo has them.
pub const RESTRICTIONS: [&str; 4] = ["ro", "nosuid", "nodev", "noexec"];

/// A mount of the container, other than its root.
#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct Point {
    /// Its mount point as the kernel has it: from the container's root, without symlinks.
    pub at: String,
    pub directory: bool,
    /// What is forbidden on it, of [`RESTRICTIONS`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub flags: Vec<String>,
    /// CRIU's name for it, a number: no path, which symlinks could make mean something else (CVE-2026-119101).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub external: Option<External>,
}

#[derive(Serialize, Deserialize, Clone, PartialEq, Eq, Debug)]
pub struct External {
    pub name: String,
    pub origin: Origin,
}

/// Writes both files into the image directory, in place of whatever is there: a link is not followed.
pub fn save(directory: BorrowedFd, points: &[Point], descriptors: &[String; 3]) -> Result<()> {
    let write = |name: &CStr, text: Vec<u8>| {
        let write = || -> Result<()> {
            match file::unlink_at(directory, name) {
                Err(error) if error.errno != Errno::ENOENT => return Err(error.into()),
                _ => {}
            }
            Ok(File::from(file::create_at(directory, name, 0o600)?).write_all(&text)?)
        };
        write().with_context(|| format!("--image-path: {}", name.to_string_lossy()))
    };
    write(MOUNTS, serde_json::to_vec(points)?)?;
    write(DESCRIPTORS, serde_json::to_vec(descriptors)?)
}

/// Removes both files: what a failed dump leaves is no checkpoint.
pub fn forget(directory: BorrowedFd) {
    for name in [MOUNTS, DESCRIPTORS] {
        // The dump's own error is the one to tell.
        let _ = file::unlink_at(directory, name);
    }
}

/// Reads both files. A directory without them is not a checkpoint, or not one of ocirt.
pub fn load(directory: BorrowedFd) -> Result<(Vec<Point>, [String; 3])> {
    let read = |name: &CStr| {
        let text = regular::read(directory, name, LIMIT);
        text.map(|(text, _)| text).map_err(|unfit| match unfit {
            Unfit::Call(error) => anyhow::Error::from(error),
            unfit => unfit.into(),
        })
    };
    let field = |name: &CStr| format!("--image-path: {}", name.to_string_lossy());
    let read = |name: &CStr| read(name).with_context(|| format!("{}: not a checkpoint of ocirt", field(name)));
    let points = parse(&read(MOUNTS)?).with_context(|| field(MOUNTS))?;
    let descriptors = serde_json::from_slice(&read(DESCRIPTORS)?).with_context(|| field(DESCRIPTORS))?;
    Ok((points, descriptors))
}

/// The mount points of a file that is as it should be.
pub fn parse(text: &[u8]) -> Result<Vec<Point>> {
    let points: Vec<Point> = serde_json::from_slice(text)?;
    check(&points)?;
    Ok(points)
}

/// The files may come from another machine: nothing in them is trusted.
fn check(points: &[Point]) -> Result<()> {
    for point in points {
        let at = &point.at;
        let clean = at.starts_with('/') && at.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."));
        ensure!(clean && !at.contains('\0'), "{at:?} is not a mount point");
        let unknown = point.flags.iter().find(|flag| !RESTRICTIONS.contains(&flag.as_str()));
        ensure!(unknown.is_none(), "{:?} is no flag of a mount", unknown.map_or("", String::as_str));
        if let Some(external) = &point.external {
            let is_name = !external.name.is_empty() && external.name.bytes().all(|byte| byte.is_ascii_digit());
            ensure!(is_name, "{:?} is not the name of a mount", external.name);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::fd::AsFd;

    #[test]
    fn what_is_saved_is_loaded_and_holds_no_path_of_the_host() {
        let directory = std::env::temp_dir().join(format!("ocirt-image-{}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let points = [
            Point { at: "/proc".to_owned(), directory: true, flags: Vec::new(), external: None },
            Point {
                at: "/etc/hosts".to_owned(),
                directory: false,
                flags: vec!["ro".to_owned()],
                external: Some(External { name: "0".to_owned(), origin: Origin::Mount("/etc/hosts".to_owned()) }),
            },
        ];
        let descriptors = ["pipe:[1]", "pipe:[2]", ""].map(str::to_owned);
        let fd = File::open(&directory).unwrap();
        save(fd.as_fd(), &points, &descriptors).unwrap();
        let text = std::fs::read_to_string(directory.join("mounts.json")).unwrap();
        let loaded = load(fd.as_fd()).unwrap();
        std::fs::remove_dir_all(&directory).unwrap();
        assert_eq!(loaded, (points.to_vec(), descriptors));
        assert_eq!(
            text,
            r#"[{"at":"/proc","directory":true},{"at":"/etc/hosts","directory":false,"flags":["ro"],"external":{"name":"0","origin":{"mount":"/etc/hosts"}}}]"#
        );
    }

    #[test]
    fn a_forged_file_is_refused() {
        let point = |at: &str, name: &str| Point {
            at: at.to_owned(),
            directory: true,
            flags: Vec::new(),
            external: Some(External { name: name.to_owned(), origin: Origin::Mount("/x".to_owned()) }),
        };
        check(&[point("/a/b", "12")]).unwrap();
        for (at, name) in
            [("/a/../b", "0"), ("a", "0"), ("/", "0"), ("/a//b", "0"), ("/a", "x"), ("/a", ""), ("/a", "1]:/")]
        {
            let error = format!("{:#}", check(&[point(at, name)]).unwrap_err());
            assert!(error.contains(at) || error.contains(name), "{at} {name}: {error}");
        }
        let error = load(File::open("/").unwrap().as_fd()).unwrap_err().to_string();
        assert_eq!(error, "--image-path: mounts.json: not a checkpoint of ocirt");
    }
}
