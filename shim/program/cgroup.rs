//! The cgroup that the shim itself joins (`ShimCgroup`), so that its memory and time are counted where the administrator
//! wants them. It must exist: what is misspelt would else be another cgroup.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use crate::sys;

const MOUNTED: &str = "/sys/fs/cgroup";

/// Moves this process, and so the one that it will begin: with v2 into the cgroup, with v1 into that of each hierarchy
/// that has it.
pub fn join(cgroup: &Path) -> Result<(), String> {
    let mut joined = false;
    for hierarchy in hierarchies().map_err(|error| format!("{MOUNTED}: {error}"))? {
        match open(&hierarchy, cgroup) {
            // It means the process that writes.
            Ok(mut file) => file.write_all(b"0").map_err(|error| named(cgroup, &hierarchy, &error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) => return Err(named(cgroup, &hierarchy, &error)),
        }
        joined = true;
    }
    if joined { Ok(()) } else { Err(format!("ShimCgroup {}: no such cgroup", cgroup.display())) }
}

fn named(cgroup: &Path, hierarchy: &Path, error: &io::Error) -> String {
    format!("ShimCgroup {} in {}: {error}", cgroup.display(), hierarchy.display())
}

/// The one of v2, or those of v1. A link (`cpu`) is a hierarchy that is met by its own name as well.
fn hierarchies() -> io::Result<Vec<PathBuf>> {
    let root = Path::new(MOUNTED);
    if root.join("cgroup.procs").exists() {
        return Ok(vec![root.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(root)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            found.push(entry.path());
        }
    }
    Ok(found)
}

/// Its list of processes; the path stays below the hierarchy.
fn open(hierarchy: &Path, cgroup: &Path) -> io::Result<File> {
    let root = OpenOptions::new().read(true).custom_flags(libc::O_PATH | libc::O_DIRECTORY).open(hierarchy)?;
    let cgroup = cgroup.strip_prefix("/").unwrap_or(cgroup);
    Ok(sys::mount::open_in(root.as_fd(), &cgroup.join("cgroup.procs"), libc::O_WRONLY)?.into())
}
