//! What the caller decides, besides config.json.

use std::path::Path;

use crate::container::cgroup::Manager;
use crate::container::hooks::HookDefaults;
use crate::container::seccomp::Filter;

/// Who tells init to start its program.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gate {
    /// `ocirt start`, through a socket in the state directory.
    Socket,
    /// The runtime that made it, over the link.
    Link,
}

/// Descriptors that a supervisor has for the program, from 3 on: sd_listen_fds(3).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Listening {
    pub count: u32,
    /// LISTEN_FDNAMES.
    pub names: Option<String>,
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
    /// How many descriptors the program gets behind stdio and those of `listening`.
    pub preserve_fds: u32,
    pub listening: Option<&'a Listening>,
    /// Whether somebody waits for READY=1 at the runtime's NOTIFY_SOCKET.
    pub notify: bool,
    pub gate: Gate,
    /// Whether the runtime itself passes on what comes out of the container's terminal.
    pub relays_terminal: bool,
    /// Whether the runtime may lack the right to make cgroups; asked when it does.
    pub rootless: fn() -> bool,
    /// What hooks of the host get where they say nothing.
    pub hook_defaults: &'a HookDefaults,
    /// The filter of the node's floor.
    pub floor: Option<&'a Filter>,
}
