//! What the caller decides, besides config.json.

use std::path::Path;

use crate::container::cgroup::Manager;

/// Who tells init to start its program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gate {
    /// `ocirt start`, through a socket in the state directory.
    Socket,
    /// The runtime that made it, over the link.
    Link,
}

/// What the caller decides, besides config.json.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    pub id: &'a str,
    pub cgroup_manager: Manager,
    /// The bundle directory, absolute.
    pub bundle: &'a Path,
    pub no_pivot: bool,
    pub no_new_keyring: bool,
    pub preserve_fds: u32,
    pub gate: Gate,
    /// Whether the runtime may lack the right to make cgroups; asked when it does.
    pub rootless: fn() -> bool,
    /// The file mode creation mask of the runtime's caller, for hooks.
    pub umask: u32,
}
