//! Work in one hierarchy, which `create` and `limit` do.

use std::ffi::CString;
use std::os::fd::BorrowedFd;

use super::host::path::CgroupPath;
use super::prepared::Group;
use crate::sys::{self, Errno, SysError};

/// One hierarchy's work, relative to the cgroup root.
pub(super) struct Maker<'a> {
    pub(super) root: BorrowedFd<'a>,
    pub(super) group: &'a Group,
    pub(super) rootless: fn() -> bool,
}

impl Maker<'_> {
    /// A file (or, without a name, the directory) of a cgroup in this hierarchy, relative to the cgroup root.
    pub(super) fn name(&self, path: &CgroupPath, file: &str) -> sys::Result<CString> {
        let mut name = path.under(&self.group.hierarchy.mount);
        if !file.is_empty() {
            name.push('/');
            name.push_str(file);
        }
        CString::new(name).map_err(|_| SysError::new("openat", Errno::EINVAL))
    }
}
