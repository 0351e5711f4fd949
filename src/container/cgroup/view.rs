//! What a mount of type `cgroup` shows inside the container (config-linux.md, "Control groups"; runc's rootfs): on v2
//! its own directory, on v1 one directory for each hierarchy, named as on the host.

use std::path::PathBuf;

use oci_spec::runtime::{LinuxIdMapping, LinuxNamespaceType, Spec};

use super::host::layout::{Layout, absolute};
use super::prepared::Cgroup;

/// The container's part of the host's cgroup mounts.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MountView {
    pub layout: Layout,
    /// The v1 hierarchies; empty on v2.
    pub hierarchies: Vec<HierarchyView>,
    /// The container's v2 directory; on a hybrid host, what is mounted at `unified`.
    pub unified: Option<PathBuf>,
}

/// One v1 hierarchy.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HierarchyView {
    /// The name of the mount point: `cpu,cpuacct`, `memory`, `systemd`.
    pub name: String,
    /// Names that are symbolic links to it: `cpu` and `cpuacct`, if they are mounted together.
    pub links: Vec<String>,
    /// The container's own directory, as the host sees it: to be bound where there is no cgroup namespace.
    pub directory: PathBuf,
    /// Options with which the kernel mounts this hierarchy in a new cgroup namespace: `cpu`, `cpuacct`, or `none` and
    /// `name=systemd`.
    pub options: Vec<String>,
}

impl Cgroup {
    /// What mounts of type `cgroup` inside the container are made of.
    pub fn mount_view(&self) -> MountView {
        MountView::new(self)
    }
}

impl MountView {
    fn new(cgroup: &Cgroup) -> Self {
        let (v2, v1): (Vec<_>, Vec<_>) = cgroup.groups.iter().partition(|group| group.hierarchy.is_v2());
        let hierarchies = v1.into_iter().map(|group| {
            let controllers = &group.hierarchy.controllers;
            let named = controllers.starts_with("name=");
            let parts: Vec<String> = controllers.split(',').map(str::to_owned).collect();
            let name = if named { controllers.trim_start_matches("name=") } else { controllers };
            HierarchyView {
                name: name.to_owned(),
                links: if parts.len() > 1 { parts.clone() } else { Vec::new() },
                directory: absolute(&group.directory()).into(),
                options: if named { vec!["none".to_owned(), controllers.clone()] } else { parts },
            }
        });
        Self {
            layout: cgroup.layout,
            hierarchies: hierarchies.collect(),
            unified: v2.first().map(|group| absolute(&group.directory()).into()),
        }
    }
}

/// The host's user to whom the cgroup belongs, for [`Cgroup::delegated_to`]: the container's user, if the container has
/// a cgroup namespace of its own and a writable cgroup mount (config-linux.md, "Cgroup ownership").
///
/// `is_read_only` tells whether a mount with these options is.
pub fn owner(spec: &Spec, is_read_only: fn(&[String]) -> bool) -> Option<u32> {
    let linux = spec.linux().as_ref()?;
    let namespaces = linux.namespaces().as_deref().unwrap_or_default();
    let is_new = |kind| namespaces.iter().any(|namespace| namespace.typ() == kind && namespace.path().is_none());
    let mounts = spec.mounts().as_deref().unwrap_or_default();
    let writable = mounts.iter().any(|mount| {
        let options = mount.options().as_deref().unwrap_or_default();
        mount.typ().as_deref() == Some("cgroup")
            && mount.destination().components().eq(std::path::Path::new("/sys/fs/cgroup").components())
            && !is_read_only(options)
    });
    if !is_new(LinuxNamespaceType::Cgroup) || !writable {
        return None;
    }
    let user = spec.process().as_ref().map_or(0, |process| process.user().uid());
    let shared_users = namespaces.iter().all(|namespace| namespace.typ() != LinuxNamespaceType::User);
    let owner =
        if shared_users { Some(user) } else { host_id(linux.uid_mappings().as_deref().unwrap_or_default(), user) };
    // The host's root owns it already.
    owner.filter(|owner| *owner != 0)
}

fn host_id(mappings: &[LinuxIdMapping], id: u32) -> Option<u32> {
    mappings.iter().find_map(|mapping| {
        let offset = id.checked_sub(mapping.container_id()).filter(|offset| *offset < mapping.size())?;
        mapping.host_id().checked_add(offset)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(mount_options: &[&str], namespaces: &[&str]) -> Spec {
        let namespaces: Vec<_> = namespaces.iter().map(|kind| serde_json::json!({ "type": kind })).collect();
        let json = serde_json::json!({
            "ociVersion": "1.3.0",
            "process": { "cwd": "/", "user": { "uid": 5, "gid": 0 }, "args": ["true"] },
            "mounts": [{ "destination": "/sys/fs/cgroup/", "type": "cgroup", "source": "cgroup", "options": mount_options }],
            "linux": {
                "namespaces": namespaces,
                "uidMappings": [{ "containerID": 0, "hostID": 100_000, "size": 1000 }]
            }
        });
        serde_json::from_value(json).unwrap()
    }

    fn owner(spec: &Spec) -> Option<u32> {
        super::owner(spec, |options| options.iter().any(|option| option == "ro"))
    }

    #[test]
    fn only_a_private_and_writable_cgroup_is_given_to_the_containers_user() {
        assert_eq!(owner(&spec(&["nosuid", "rw"], &["cgroup", "user"])), Some(100_005));
        assert_eq!(owner(&spec(&["ro"], &["cgroup", "user"])), None);
        assert_eq!(owner(&spec(&["rw"], &["user"])), None);
        assert_eq!(owner(&spec(&["rw"], &["cgroup"])), Some(5));
    }

    #[test]
    fn a_user_that_is_not_mapped_owns_nothing() {
        let mappings: Vec<LinuxIdMapping> =
            serde_json::from_str(r#"[{ "containerID": 0, "hostID": 1000, "size": 1 }]"#).unwrap();
        assert_eq!([host_id(&mappings, 0), host_id(&mappings, 1)], [Some(1000), None]);
    }
}
