//! `linux.sysctl`: kernel parameters of the container's own namespaces (config-linux.md, "Sysctl"). One that is not in
//! a namespace of the container's would change the host, and is refused.

use std::ffi::CString;
use std::fmt;

use anyhow::{Result, bail};

use crate::sys::namespace::Kind;
use crate::sys::path::ProcFd;
use crate::sys::Fault;

/// Parameters of the ipc namespace, besides those below fs.mqueue (ipc_namespaces(7)).
const IPC: [&str; 9] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
    "kernel/msg_next_id",
];

/// One parameter.
#[derive(PartialEq, Eq, Debug)]
pub struct Sysctl {
    /// The place in config.json, e.g. `linux.sysctl.net.ipv4.ip_forward`.
    pub field: String,
    /// Below the root of a procfs: `sys/net/ipv4/ip_forward`.
    path: CString,
    value: CString,
}

/// Prepares the parameter `name`; `has` tells which namespaces the container has for itself, and `host_net` that its
/// network namespace is the runtime's, named by path.
pub fn compile(name: &str, value: &str, has: impl Fn(Kind) -> bool) -> Result<Sysctl> {
    let field = format!("linux.sysctl.{name}");
    let path = path(name);
    if path.split('/').any(|part| matches!(part, "" | "." | "..")) || path.contains('\0') {
        bail!("{field}: not a sysctl name");
    }
    match owner(&path) {
        Owner::Hostname => bail!("{field}: the hostname is set by the config field hostname"),
        Owner::Host => bail!("{field}: not in a namespace, it would change the host"),
        Owner::Namespace(kind) if !has(kind) => {
            bail!("{field}: not in a separate kernel namespace (needs a {kind} namespace in linux.namespaces)")
        }
        Owner::Namespace(_) => {}
    }
    let Ok(value) = CString::new(value) else { bail!("{field}: {value:?} holds a NUL byte") };
    Ok(Sysctl { field, path: CString::new(format!("sys/{path}"))?, value })
}

enum Owner {
    Namespace(Kind),
    /// uts too, but config.json has a field of its own for it.
    Hostname,
    Host,
}

fn owner(path: &str) -> Owner {
    let first = path.split('/').next().unwrap_or_default();
    match (first, path) {
        ("net", _) => Owner::Namespace(Kind::Net),
        ("user", _) => Owner::Namespace(Kind::User),
        (_, "kernel/domainname") => Owner::Namespace(Kind::Uts),
        (_, "kernel/hostname") => Owner::Hostname,
        (_, path) if IPC.contains(&path) || path.starts_with("fs/mqueue/") => Owner::Namespace(Kind::Ipc),
        _ => Owner::Host,
    }
}

/// The path below /proc/sys. The separator is the one that comes first, so that the other can be part of a name, as in
/// `net/ipv4/conf/eno2.100/forwarding` or `net.ipv4.conf.eno2/100.forwarding` (sysctl(8)).
fn path(name: &str) -> String {
    match name.find(['.', '/']) {
        Some(at) if name[at..].starts_with('.') => {
            name.chars().map(|c| if c == '.' { '/' } else if c == '/' { '.' } else { c }).collect()
        }
        _ => name.to_owned(),
    }
}

impl Sysctl {
    /// Writes the value through a procfs of our own: /proc in the container may be anything (CVE-2025-52881).
    pub fn apply(&self, proc: &ProcFd) -> core::result::Result<(), Fault> {
        proc.write(&self.path, self.value.to_bytes())
    }
}

impl fmt::Display for Sysctl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.path.to_string_lossy();
        write!(f, "sysctl {} = {}", name.trim_start_matches("sys/"), self.value.to_string_lossy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_separator_counts() {
        assert_eq!(path("net.ipv4.ip_forward"), "net/ipv4/ip_forward");
        assert_eq!(path("net/ipv4/conf/eno2.100/forwarding"), "net/ipv4/conf/eno2.100/forwarding");
        assert_eq!(path("net.ipv4.conf.eno2/100.forwarding"), "net/ipv4/conf/eno2.100/forwarding");
    }

    #[test]
    fn each_parameter_needs_its_namespace() {
        for (name, kind) in [
            ("net.ipv4.ip_forward", Kind::Net),
            ("net/ipv4/ip_forward", Kind::Net),
            ("kernel.shmmax", Kind::Ipc),
            ("fs.mqueue.msg_max", Kind::Ipc),
            ("kernel.domainname", Kind::Uts),
            ("user.max_net_namespaces", Kind::User),
        ] {
            assert!(compile(name, "1", |has| has == kind).is_ok(), "{name}");
            let error = compile(name, "1", |has| has != kind).unwrap_err().to_string();
            assert!(error.starts_with(&format!("linux.sysctl.{name}: not in a separate kernel namespace")), "{error}");
        }
    }

    #[test]
    fn the_hosts_parameters_and_paths_that_leave_are_refused() {
        for name in ["vm.swappiness", "kernel.hostname", "kernel.core_pattern", "net/../kernel/core_pattern", "net..x", ""] {
            let error = compile(name, "1", |_| true).unwrap_err().to_string();
            assert!(error.starts_with(&format!("linux.sysctl.{name}: ")), "{error}");
        }
    }
}
