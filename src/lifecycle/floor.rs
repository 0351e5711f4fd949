//! The node's floor, read anew by every command that makes a process or a mount: what an administrator writes there holds
//! from the next container and the next exec on.

use std::ffi::CString;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use anyhow::{Context, Result, bail, ensure};

use super::disk::trusted;
use super::host::Host;
use crate::container::bundle;
use crate::container::floor::{Floor, Rules};
use crate::container::seccomp::{self, Filter};
use crate::sys::file::Stat;
use crate::sys::regular::{self, Unfit};
use crate::sys::{Errno, file};

/// Where it is, unless a packager has chosen another place.
pub const FILE: &str = match option_env!("OCIRT_FLOOR") {
    Some(path) => path,
    None => "/etc/ocirt/floor.json",
};

/// What it may hold, in bytes.
const LIMIT: u64 = 1 << 20;

/// The floor, and the filter that its rules come to.
pub struct Loaded {
    pub floor: Floor,
    pub filter: Option<Filter>,
}

/// The floor; none where there is no such file. One that cannot be trusted or understood is an error: a container without
/// what the administrator has asked for is never made.
pub fn load(host: &Host) -> Result<Option<Loaded>> {
    let file = host.floor.unwrap_or(Path::new(FILE));
    read(file, host.floor.is_some()).with_context(|| format!("the floor of this host: {}", file.display()))
}

fn read(file: &Path, must_be_there: bool) -> Result<Option<Loaded>> {
    let (Some(parent), Some(name)) = (file.parent(), file.file_name()) else { bail!("not a file") };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let absent = |errno| errno == Errno::ENOENT && !must_be_there;
    let directory = match file::open_path(&CString::new(parent.as_os_str().as_bytes())?) {
        Err(error) if absent(error.errno) => return Ok(None),
        directory => directory?,
    };
    let (text, stat) = match regular::read(directory.as_fd(), &CString::new(name.as_bytes())?, LIMIT) {
        Err(Unfit::Call(error)) if absent(error.errno) => return Ok(None),
        read => read?,
    };
    check_owner(&stat)?;
    check_owner(&file::stat(directory.as_fd())?).context("its directory")?;
    let rules: Rules = bundle::parse_own(&text)?;
    let floor = Floor { file: file.to_owned(), rules };
    floor.check()?;
    let syscalls = floor.syscalls();
    let filter = if syscalls.is_empty() { None } else { Some(seccomp::floor::compile(&syscalls)?) };
    Ok(Some(Loaded { floor, filter }))
}

/// Root's alone.
fn check_owner(stat: &Stat) -> Result<()> {
    ensure!(trusted::is_roots(stat.uid), "belongs to user {}, not to root", stat.uid);
    trusted::check_mode(stat.mode)
}
