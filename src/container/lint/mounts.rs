//! The rules about `mounts`: what of the host is handed to the container, and may lead out of it.

use std::path::{Component, Path, PathBuf};

use oci_spec::runtime::{LinuxNamespaceType, Mount, Spec};

use super::code::Code;
use super::finding::{Finding, Surroundings, has_namespace};

/// Directories whose owner owns the host: kernel settings, accounts, programs that others start, devices.
const HOSTS: [&str; 14] = [
    "/",
    "/bin",
    "/boot",
    "/dev",
    "/etc",
    "/lib",
    "/proc",
    "/proc/sys",
    "/root",
    "/run",
    "/sbin",
    "/sys",
    "/usr",
    "/var/run",
];
/// Through these, anybody starts containers as they please.
const SOCKETS: [&str; 5] = ["docker.sock", "containerd.sock", "crio.sock", "podman.sock", "cri-dockerd.sock"];
const CGROUPS: &str = "/sys/fs/cgroup";

pub(super) fn rules(spec: &Spec, around: &Surroundings, found: &mut Vec<Finding>) {
    for (index, mount) in spec.mounts().iter().flatten().enumerate() {
        let kind = mount.typ().as_deref().unwrap_or_default();
        if is_bind(mount) {
            bind(index, mount, spec, around, found);
        } else if matches!(kind, "cgroup" | "cgroup2")
            && !is_read_only(mount)
            && !has_namespace(spec, LinuxNamespaceType::Cgroup)
        {
            let why = "writable, and without a cgroup namespace: the container can change its own limits";
            found.push(Finding::new(Code::CgroupWritable, format!("mounts[{index}].options"), why));
        }
    }
}

fn bind(index: usize, mount: &Mount, spec: &Spec, around: &Surroundings, found: &mut Vec<Finding>) {
    let Some(source) = mount.source().as_deref().map(clean) else { return };
    let field = format!("mounts[{index}].source");
    let name = source.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    if SOCKETS.contains(&name) {
        let why = format!("{}: whoever connects to it is root of the host", source.display());
        found.push(Finding::new(Code::BindRuntimeSocket, field, why));
        return;
    }
    // Of a user namespace without the host's root, nothing of root's can be written.
    if is_read_only(mount) || is_foreign(spec) {
        return;
    }
    if source.starts_with(CGROUPS) {
        if around.cgroup_v2 {
            let why = format!("{} of the host, writable: the container can change limits", source.display());
            found.push(Finding::new(Code::CgroupWritable, field, why));
        } else {
            let why = format!("{} of the host, writable: who writes to release_agent is root there", source.display());
            found.push(Finding::new(Code::BindCgroupV1Writable, field, why));
        }
    } else if HOSTS.iter().any(|host| source == Path::new(host)) || source.starts_with("/proc/sys") {
        let why = format!("{} of the host, writable: who writes there can become root of the host", source.display());
        found.push(Finding::new(Code::BindHostWritable, field, why));
    }
}

/// Whether it shows a file or directory of the host.
pub fn is_bind(mount: &Mount) -> bool {
    let has = |word: &str| mount.options().iter().flatten().any(|option| option == word);
    mount.typ().as_deref() == Some("bind") || has("bind") || has("rbind")
}

/// The last word counts.
fn is_read_only(mount: &Mount) -> bool {
    let words = mount.options().iter().flatten().rev();
    let mut deciding = words.filter(|word| matches!(word.as_str(), "ro" | "rro" | "rw" | "rrw"));
    deciding.next().is_some_and(|word| word.starts_with("ro") || word == "rro")
}

/// Whether the container's root is not the host's.
fn is_foreign(spec: &Spec) -> bool {
    let maps = spec.linux().as_ref().and_then(|linux| linux.uid_mappings().as_ref());
    let is_hosts = |maps: &Vec<_>| maps.iter().any(|map: &oci_spec::runtime::LinuxIdMapping| map.host_id() == 0);
    has_namespace(spec, LinuxNamespaceType::User) && !maps.is_some_and(is_hosts)
}

/// The path without `.`, `..` and slashes too many, by its words alone.
fn clean(path: &Path) -> PathBuf {
    let mut clean = PathBuf::new();
    for component in path.components() {
        match component {
            Component::ParentDir => drop(clean.pop()),
            Component::CurDir => {}
            other => clean.push(other),
        }
    }
    clean
}
