//! Namespaces that a process of a container has made itself: sandboxes and containers within it do. They are below the
//! container's, which somebody who comes from outside cannot be.

use std::ffi::CString;
use std::os::fd::{AsFd, OwnedFd};

use anyhow::{Context, Result};
use caps::Capability;

use super::Wanted;
use crate::sys::namespace::{self, Kind};

/// Whether the namespace of `kind` that `pid` is in, which is not init's, is one that a process of the container can have
/// made.
pub fn is_own(wanted: &Wanted, init: i32, pid: i32, kind: &str) -> Result<bool> {
    let (inits, own) = (open(init, "user")?, open(pid, kind)?);
    if namespace::is_own(own.as_fd(), kind_of(kind))? || !namespace::is_owned_by(own.as_fd(), inits.as_fd()) {
        return Ok(false);
    }
    // In init's user namespace itself, it takes a capability to make one.
    let can_make = wanted.reachable() & Capability::CAP_SYS_ADMIN.bitmask() != 0;
    Ok(can_make || kind == "user" || is_in_own_users(init, pid)?)
}

/// Whether the process has a user namespace below the container's.
pub fn is_in_own_users(init: i32, pid: i32) -> Result<bool> {
    let (inits, own) = (open(init, "user")?, open(pid, "user")?);
    let is_inits = namespace::is_same(inits.as_fd(), own.as_fd())?;
    Ok(!is_inits && namespace::is_owned_by(own.as_fd(), inits.as_fd()))
}

fn kind_of(name: &str) -> Kind {
    Kind::ALL.into_iter().find(|kind| kind.name() == name).unwrap_or(Kind::User)
}

fn open(pid: i32, kind: &str) -> Result<OwnedFd> {
    let path = format!("/proc/{pid}/ns/{kind}");
    namespace::open(&CString::new(path.as_str())?).context(path)
}
